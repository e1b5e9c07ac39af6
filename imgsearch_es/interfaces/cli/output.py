"""What the commands print: tables for people, JSON for programs, one sentence for mistakes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from imgsearch_es.interfaces.cli.headings import under_analyzer, under_elasticsearch

if TYPE_CHECKING:
    from rich.console import Console

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        "-i",
        envvar="IMGSEARCH_INDEX",
        show_default=False,
        help="The index: a file such as pets.duckdb, or http://host:9200/pets.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        show_default=False,
        help="The classifier; `imgsearch models` lists them. A new index takes vgg16, an old one "
        "keeps its own.",
    ),
]
WeightsOption = Annotated[
    str | None,
    under_analyzer(
        "--weights", metavar="FILE", show_default=False, help="A file with the model's weights."
    ),
]
AnalyzerOption = Annotated[
    str | None,
    under_analyzer(
        "--analyzer",
        metavar="TOML",
        show_default=False,
        help="A TOML file with a whole analyzer instead of a model: image filters, model, term "
        "filters.",
    ),
]
RuntimeOption = Annotated[
    str | None,
    under_analyzer(
        "--runtime",
        show_default="IMGSEARCH_RUNTIME, else auto",
        help="What runs the classifier: tensorflow, openvino, or auto: openvino where both agree. "
        "`imgsearch doctor` tells which.",
    ),
]
ShardsOption = Annotated[
    int | None, under_elasticsearch(min=1, show_default=False, help="Shards of a new index.")
]
ReplicasOption = Annotated[
    int | None, under_elasticsearch(min=0, show_default=False, help="Copies of each shard.")
]
FolderLabelOption = Annotated[
    bool,
    typer.Option("--label-from-folder", help="Label each picture with the name of its folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


_WIDTH = 160
"""Columns where there is no terminal."""


@cache
def console() -> Console:
    """Where text goes: colored on a terminal, plain in a pipe."""
    from rich.console import Console

    return Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else _WIDTH)


def say(text: str) -> None:
    """Print a line of text as it is."""
    console().print(printable(text), markup=False)


def print_line(text: str) -> None:
    """Print a line as it is, however long and whatever the width of the terminal."""
    sys.stdout.write(f"{printable(text)}\n")


def now_and_then(shown: Callable[..., str]) -> Callable[..., None]:
    """Says something every ten seconds."""
    due = time.monotonic() + 10

    def tell(*values: object) -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += 10
            say(shown(*values))

    return tell


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print JSON, readable by people and by every parser, and harmless to a terminal.

    Args:
        value: JSON values, and others shown by ``str``.
        indent: None for all on one line.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, default=str)
    safe = (c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write("".join(safe) + "\n")


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Sequence[str] = (),
) -> None:
    """Print a table.

    Args:
        columns: the headings.
        rows: the cells; shown with ``str``.
        right: headings of columns that hold numbers.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console().print(table)


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
