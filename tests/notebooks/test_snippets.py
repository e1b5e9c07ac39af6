"""Runs the blocks of README and docs that are marked so, as printed there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgsearch_es.pictures.demo import make_photos
from tests.snippets import PAGES, ROOT, Block, blocks, check_printed

LOCATION = '"photos.duckdb"'
SERVER = "http://localhost:9200/photos"
ON_EMBEDDED = ("run",)
ON_ELASTICSEARCH = ("run", "run on elasticsearch")
SESSION = r"""
import json, subprocess, sys

names = {"__name__": "__main__"}
shell = 'imgsearch() { "$PYTHON" -m imgsearch_es "$@"; }\n[ ! -f env ] || . ./env\n'
for language, text, where in json.load(sys.stdin):
    print("=====", flush=True)
    if language == "python":
        exec(compile(text, where, "exec"), names)
    else:
        script = f"set -e\n{shell}{text}\nexport -p >env"
        subprocess.run(["bash", "-c", script], check=True, stdin=subprocess.DEVNULL)
"""
"""One reader's session: Python keeps its names from block to block, the shell its variables."""

PROGRESS = re.compile(r"[\d,]+ of [\d,]+ pictures: .*\n")
"""A line every ten seconds, which a busy machine may need."""

pytestmark = pytest.mark.model


def marked(page: Path, *marks: str) -> list[Block]:
    return [block for block in blocks(page) if block.mark in marks]


RUN = [page for page in PAGES if marked(page, *ON_EMBEDDED)]
RUN_ON_ELASTICSEARCH = [page for page in PAGES if marked(page, "run on elasticsearch")]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def run(page_blocks: list[Block], folder: Path, **replaced: str):
    """Run blocks one after the other, and check what each of them prints."""
    make_photos(folder / "demo" / "photos")
    session = [(b.language, script(b, replaced), str(b)) for b in page_blocks]
    done = subprocess.run(
        [sys.executable, "-c", SESSION],
        input=json.dumps(session), env={**os.environ, "PYTHON": sys.executable}, cwd=folder,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = PROGRESS.sub("", done.stderr)
    assert (done.returncode, complaints) == (0, "")
    stdout = done.stdout.replace(f"{folder}/", "")
    for old, new in replaced.items():
        stdout = stdout.replace(new, old)
    for block, text in zip(page_blocks, stdout.split("=====\n")[1:], strict=True):
        if block.prints is not None:
            check_printed(text, block.prints, str(block))


def script(block: Block, replaced: dict[str, str]) -> str:
    text = "\n".join(block.commands) if block.language == "console" else block.text
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def test_there_are_blocks_to_run():
    assert {"README.md", "docs/tutorial.md", "docs/migration.md"} <= set(map(page_id, RUN))


@pytest.mark.parametrize("page", RUN, ids=page_id)
def test_blocks_run_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("IMGSEARCH_INDEX", raising=False)
    run(marked(page, *ON_EMBEDDED), tmp_path)


@pytest.mark.node
@pytest.mark.parametrize("page", RUN_ON_ELASTICSEARCH, ids=page_id)
def test_blocks_run_as_printed_with_a_server(page, tmp_path, elasticsearch_url, fresh_index_name):
    server = {SERVER: f"{elasticsearch_url}/{fresh_index_name}"}
    run(marked(page, *ON_ELASTICSEARCH), tmp_path, **server)


@pytest.mark.node
def test_the_first_example_runs_on_elasticsearch(tmp_path, elasticsearch_url, fresh_index_name):
    first = next(b for b in marked(ROOT / "README.md", "run") if b.language == "python")
    assert LOCATION in first.text
    assert first.prints
    run([first], tmp_path, **{LOCATION: f'"{elasticsearch_url}/{fresh_index_name}"'})
