"""What the commands print: text for people or JSON for programs, and one sentence for mistakes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 160
"""Columns where there is no terminal."""
_LISTED = 20
"""How many of a long list are printed."""

json_only = ContextVar("json_only", default=False)
"""Whether the command prints JSON: then all that is for people says nothing."""


def answer(value: Any, *, indent: int | None = 2) -> bool:
    """Print what --json asks for, readable by people and parsers, harmless to a terminal.

    Args:
        value: JSON values, and others shown by ``str``; a dataclass; or what has a ``to_dict``.
        indent: None for all on one line.

    Returns:
        Whether it was asked for.
    """
    if not json_only.get():
        return False
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    safe = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write("".join(safe) + "\n")
    return True


@cache
def console() -> Console:
    """Where text goes: colored on a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH)


def say(*lines: str) -> None:
    """Print lines of text as they are."""
    for line in () if json_only.get() else lines:
        console().print(printable(line), markup=False)


def say_some(
    lines: Sequence[str], rest: str = "--json lists all", total: int | None = None
) -> None:
    """Print the first of many lines, and how many more there are, with where to see them."""
    say(*lines[:_LISTED])
    if (more := (total or len(lines)) - _LISTED) > 0:
        say(f"  ... and {more:,} more; {rest}")


def print_line(text: str) -> None:
    """Print a line as it is, however long and whatever the width of the terminal."""
    sys.stdout.write(f"{printable(text)}\n")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = ()
) -> None:
    """Print a table of cells that are shown by ``str``; ``right`` names columns of numbers."""
    if json_only.get():
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(table)


def now_and_then(shown: Callable[..., str] = "{:,} of {:,}".format) -> Callable[..., None]:
    """Says something every ten seconds."""
    due = time.monotonic() + 10

    def tell(*values: object) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += 10
            say(shown(*values))

    return tell


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, a line every ten seconds elsewhere; gives what takes (done, all)."""
    if json_only.get() or not console().is_terminal:
        yield now_and_then()
        return
    from rich.progress import Progress

    with Progress(console=console(), transient=True) as shown:
        task = shown.add_task(what)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def waiting(
    first: str = "searching ...", counted: str = ""
) -> Iterator[Callable[[str, int, int], None]]:
    """A line that says what is being done, on a terminal only; gives what changes it."""
    if json_only.get():
        yield lambda what, done, total: None
        return
    with console().status(first) as status:
        yield lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}{counted}")


def fail(sentence: str, *, code: int = 1) -> NoReturn:
    """Say on stderr what is wrong, and exit."""
    warn(sentence)
    sys.exit(code)


def warn(sentence: str) -> None:
    """Say something on stderr."""
    sys.stderr.write(f"imgsearch: {printable(sentence)}\n")


def printable(text: str) -> str:
    """Text that stays on its line of the terminal: control characters and the like are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
