"""What README and docs show can be typed: Python compiles, names and commands exist."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
import typer

from imgsearch_es import ImageIndex
from imgsearch_es.interfaces.cli import app
from tests.snippets import PAGES, ROOT, Block, blocks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOCKS = [block for page in PAGES for block in blocks(page)]
LANGUAGES = {"", "console", "python", "toml", "sql", "json"}
PROGRAM = typer.main.get_command(app)
EXTRAS = re.compile(r"(?:imgsearch-es\[|'\.\[|pip_install\(')([\w,]+)")


def of(language: str, page: Path | None = None) -> list[Block]:
    """The blocks in a language, of one page or of all."""
    return [b for b in BLOCKS if b.language == language and page in (None, b.page)]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands() -> list[tuple[Block, list[str]]]:
    """All commands of console blocks, with where they stand."""
    found = []
    for block in of("console"):
        for line in block.commands:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|;>&")
            lexer.whitespace_split, lexer.commenters = True, "#"
            words = [word for word in lexer if not re.fullmatch(r"[A-Z_]+=\S*", word)]
            end = next((i for i, w in enumerate(words) if set(w) <= set("|;>&")), len(words))
            if words:
                found.append((block, words[:end]))
    return found


COMMANDS = commands()
OURS = [(where, words[1:]) for where, words in COMMANDS if words[0] == "imgsearch"]


def test_a_block_says_its_language():
    assert {block.language for block in BLOCKS} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_compiles_and_its_names_exist(page):
    for block in of("python", page):
        for node in ast.walk(ast.parse(block.text, str(block))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("imgsearch_es"):
                if node.module == "imgsearch_es.mteb" and sys.version_info < (3, 11):
                    continue  # for which there is no mteb
                module = import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{block}: {node.module}.{alias.name}"
            if isinstance(node, ast.Call):
                check_call(node)


def check_call(call: ast.Call):
    """A call of ``ImageIndex`` or of a method of ``index`` has only parameters that exist."""
    match call.func:
        case ast.Name(id="ImageIndex"):
            function = ImageIndex.__init__
        case ast.Attribute(value=ast.Name(id="index"), attr=method):
            assert hasattr(ImageIndex, method), f"index.{method}"
            function = getattr(ImageIndex, method)
        case _:
            return
    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for keyword in call.keywords:
            assert keyword.arg is None or keyword.arg in parameters, ast.unparse(call)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_data_can_be_read_and_command_lines_are_understood(page):
    for block in [*of("toml", page), *of("json", page)]:
        assert (tomllib if block.language == "toml" else json).loads(block.text), block
    for words in (words for where, words in OURS if where.page == page):
        command, rest = command_of(words)
        command.make_context("imgsearch", list(rest))


def command_of(words: list[str]):
    command = PROGRAM
    while hasattr(command, "commands"):
        assert words, "the line ends before a command"
        assert words[0] in command.commands, f"imgsearch has no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def test_the_check_of_command_lines_notices():
    with pytest.raises(AssertionError, match="no command find"):
        command_of(["find", "x"])
    command, rest = command_of(["search", "--picture", "x"])
    with pytest.raises(Exception, match="No such option"):
        command.make_context("imgsearch", rest)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_in_the_text_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in re.findall(r"`imgsearch ([a-z][^`]*)`", text):
        words = line.split()
        command, rest = command_of(words)
        options = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        for word in rest:
            option = word.partition("=")[0]
            assert not option.startswith("--") or option in {*options, "--help"}, line


def test_scripts_and_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for where, words in COMMANDS:
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word]
            assert set(named) <= targets, where
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), where


def test_extras_exist():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = set(setup["options.extras_require"])
    pages = [page for page in PAGES if page.parent.name != "decisions"]  # some say what is not
    places = [*pages, *(ROOT / "imgsearch_es").rglob("*.py"), ROOT / "setup.cfg"]
    named = [
        (name, place)
        for place in places
        for names in EXTRAS.findall(place.read_text(encoding="utf-8"))
        for name in names.split(",")
    ]
    assert len(named) > 20
    assert [one for one in named if one[0] not in extras] == []
