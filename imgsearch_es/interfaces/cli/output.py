"""What the commands print: text for people, JSON for programs, hits, a sentence for mistakes."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from rich.console import Console

    from imgsearch_es.retrieval.queries import Query
    from imgsearch_es.search.hit import Hit
    from imgsearch_es.search.hits import Hits

_LISTED = 20
"""How many of a long list are printed."""

json_only = ContextVar("json_only", default=False)
"""Whether the command prints JSON: then all that is for people says nothing."""


def answer(value: Any, *, indent: int | None = 2) -> bool:
    """Print what --json asks for, readable by people and parsers, harmless to a terminal.

    A value may be a dataclass or have a ``to_dict``. Gives whether --json was asked for.
    """
    if not json_only.get():
        return False
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    is_utf = (sys.stdout.encoding or "utf").lower().startswith("utf")  # else Python's escapes come
    text = json.dumps(value, indent=indent, ensure_ascii=not is_utf, default=str)
    safe = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    try:
        print("".join(safe), flush=True)
    except BrokenPipeError:
        drop_output()
    return True


@cache
def console() -> Console:
    """Where text goes: colored on a terminal, plain in a pipe.

    A command whose reader goes away, as ``head`` does, does its work to the end.
    """
    from rich.console import Console

    class Patient(Console):
        def on_broken_pipe(self) -> None:
            drop_output()

    return Patient(highlight=False, emoji=False, width=None if sys.stdout.isatty() else 160)


def drop_output(descriptor: int = 1) -> None:
    """Let what was not written yet be forgotten; Python would try again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


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
    """Say something on stderr, if it can be written."""
    try:
        sys.stderr.write(f"imgsearch: {printable(sentence)}\n")
    except OSError:
        drop_output(2)


def printable(text: str) -> str:
    """Text that stays on its line of the terminal: control characters and the like are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@dataclass(frozen=True)
class Taken:
    """How hits leave.

    Output:
        --html FILE: Write a gallery page.
        --paths: Print nothing but the path of each picture, or its URI, a line each.
        --null, -0: The same with a null character after each, as xargs -0 reads them.
        --csv: Print the hits as CSV, which `imgsearch index --from` reads.
        --copy-to FOLDER: Copy the pictures into a folder; nothing is written over.
        --link-to FOLDER: Put symbolic links to the pictures into a folder.
    """

    html: str | None = None
    paths: bool = False
    null: bool = False
    csv: bool = False
    copy_to: str | None = None
    link_to: str | None = None

    @property
    def prints(self) -> bool:
        """Whether hits are printed for programs, in place of the table."""
        return self.paths or self.null or self.csv

    def take(self, hits: Hits) -> list[str]:
        """Write the page, copy and link; gives what to say of it."""
        said = []
        for folder, put in ((self.copy_to, hits.copy_to), (self.link_to, hits.link_to)):
            if folder is not None:
                said.append(f"{len(put(folder))} pictures in {folder}")
        return said if self.html is None else [*said, f"gallery: {hits.to_html(self.html)}"]

    def print(self, hits: Hits) -> None:
        sys.stdout.flush()
        if self.csv:
            sys.stdout.buffer.write(hits.to_csv().encode())
            return
        end = b"\0" if self.null else b"\n"
        for hit in hits:  # the path as the system has it: its bytes may be no text
            sys.stdout.buffer.write(os.fsencode(hit.path or hit.uri) + end)
        sys.stdout.buffer.flush()


def print_hit(hit: Hit, query: Query) -> None:
    """A line as hits come."""
    if not answer(hit, indent=None):
        print_line(f"{hit.rank:>7}  {_ranked_by(hit, query):>7}  {short(hit.path or hit.uri)}")


def print_hits(hits: Hits) -> None:
    """Print the ranked table."""
    from imgsearch_es.interfaces.html import counted

    if len(hits):
        query = hits.query
        rows = [
            (hit.rank, _ranked_by(hit, query), short(hit.path or hit.uri), _telling(hit, query))
            for hit in hits
        ]
        second = "score" if query.sort is None else query.sort.removeprefix("-")
        print_table(("rank", second, "picture", "synsets"), rows, right=("rank", "score"))
        exact = ", exact" if hits.exact else ", not exact"
        say(f"{counted(hits)}  ({hits.took_ms:.0f} ms{exact})")
    else:
        say(f"no picture matches {hits.query}")
    say(*(f"hint: {hint}" for hint in hits.query.hints))


def _ranked_by(hit: Hit, query: Query) -> str:
    from imgsearch_es.interfaces.html import number
    from imgsearch_es.retrieval.conditions import METADATA, order

    if query.sort is None:
        return number(hit.score)
    field, _ = order(query.sort)
    if field.startswith(METADATA):
        return str(hit.metadata.get(field.removeprefix(METADATA), ""))
    value = hit.photo.taken_at if field == "taken_at" else getattr(hit.document, field)
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value or "")


def _telling(hit: Hit, query: Query) -> str:
    """The three synsets that make most of the score, then the picture's best."""
    weights = {term.key: term.score for term in query.terms}
    terms = sorted(hit.synsets, key=lambda t: (-weights.get(t.key, 0.0) * t.score, -t.score))
    return ", ".join(f"{term.key} {term.score:.2f}" for term in terms[:3])


def short(place: Path | str) -> str:
    """A path as seen from here, when it is below here."""
    if isinstance(place, Path) and place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return str(place)
