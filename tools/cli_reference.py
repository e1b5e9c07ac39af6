"""Writes docs/cli.md, a page of the documentation's site, from the program itself.

python tools/cli_reference.py
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from imgsearch_es.interfaces.cli import app
from imgsearch_es.interfaces.cli.options import by_heading

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """\
# Command line

<!-- Written by tools/cli_reference.py; edit the help texts in imgsearch_es/interfaces/cli. -->

Every command has `--help`. What a command prints for people, `--json` prints for programs. Exit
codes: 0 done, 1 a mistake, said in one sentence on the standard error, 2 wrong usage, 130
interrupted. Options of several commands:
"""
COMMON = 3
"""An option that so many commands describe alike is described once, at the head of the page."""


def main() -> None:
    PAGE.write_text(reference(), encoding="utf-8")
    print(PAGE)


def reference() -> str:
    """The page."""
    program: Any = typer.main.get_command(app)
    below = {
        heading: [each for command in listed for each in commands("imgsearch", command)]
        for heading, listed in by_heading(program.commands.values(), "Commands").items()
    }
    counts = Counter(row(p) for found in below.values() for _, each in found for p in shown(each))
    shared = [text for text, count in counts.items() if count >= COMMON]
    parts = [HEAD, "\n".join(["| | |", "|---|---|", *shared]) + "\n"]
    for heading, found in below.items():
        parts.append(f"## {heading}\n")
        parts += [section(name, command, shared) for name, command in found]
    return "\n".join(parts)


def commands(above: str, command: Any) -> Iterator[tuple[str, Any]]:
    """A command, or those of a group, with their whole names."""
    name = f"{above} {command.name}"
    if not hasattr(command, "commands"):
        yield name, command
        return
    for below in command.commands.values():
        yield from commands(name, below)


def shown(command: Any) -> list[Any]:
    """The arguments and options of a command; the head of the page speaks of --json."""
    return [p for p in command.params if p.help and p.name != "json"]


def section(name: str, command: Any, shared: list[str]) -> str:
    """A command: usage, what it does, and a table of its options for each of their headings."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, "[OPTIONS]", *map(written, arguments)])
    text = [" ".join(part.split()) for part in command.help.split("\n\n")]
    lines = [f"### {name}", "", *(line for part in text for line in (part, "")), f"    {usage}"]
    own = [p for p in shown(command) if row(p) not in shared]
    own.sort(key=lambda p: p.rich_help_panel is not None)
    for heading, below in by_heading(own, "").items():
        lines += ["", *([f"{heading}:", ""] if heading else []), "| | |", "|---|---|"]
        lines += map(row, below)
    if more := [f"`{p.opts[0]}`" for p in shown(command) if row(p) in shared]:
        lines += ["", f"Also {', '.join(more)}."]
    return "\n".join(lines) + "\n"


def row(parameter: Any) -> str:
    """One argument or option as a line of the table."""
    cells = (written(parameter), help_text(parameter))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def written(parameter: Any) -> str:
    """How it is written on the line."""
    value = parameter.metavar
    if parameter.param_type_name == "argument":
        word = value + ("..." if parameter.nargs == -1 else "")
        return word if parameter.required else f"[{word}]"
    names = ", ".join(parameter.opts)
    if parameter.secondary_opts:
        names += "/" + ", ".join(parameter.secondary_opts)
    return f"`{names}`" if parameter.is_flag else f"`{names} {value}`"


def help_text(parameter: Any) -> str:
    """What it means, where else it is taken from, and what it is when it is not given."""
    parts = [" ".join(parameter.help.split()).replace("*", "\\*")]
    if parameter.envvar:
        parts.append(f"Or `{parameter.envvar}`.")
    if parameter.required:
        parts.append("Required.")
    elif default := shown_default(parameter):
        parts.append(f"Default: {default}.")
    return " ".join(parts)


def shown_default(parameter: Any) -> str:
    """What ``--help`` says of it."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    is_shown = parameter.show_default and parameter.default not in (None, False, ())
    return f"`{parameter.default}`" if is_shown and not parameter.is_flag else ""


if __name__ == "__main__":
    main()
