"""What the commands that evaluate have in common: options, tables in other forms, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from imgsearch_es.errors import EvaluationError
from imgsearch_es.interfaces.cli.headings import under_files, under_queries, under_statistics
from imgsearch_es.interfaces.cli.output import (
    console,
    fail,
    print_json,
    print_line,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.evaluation.manifest import Results
    from imgsearch_es.evaluation.systems import Progress
    from imgsearch_es.evaluation.tables import Tables

R = TypeVar("R", bound="Results")


class Form(str, Enum):
    """How the table is printed."""

    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"


JudgementsOption = Annotated[
    str | None,
    typer.Option(
        "--judgements",
        "-j",
        metavar="SOURCE",
        show_default="labels",
        help="What is relevant to what: labels, folder, name:{label}.{number}.jpg, ukbench, "
        "holidays, oxford:DIR, paris:DIR, revisited-medium:FILE.json (or -easy, -hard), or "
        "a file of TREC qrels or CSV.",
    ),
]
MeasuresOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        show_default="those of the judgements",
        help="P@10, nDCG@10, AP, Rprec, RR, Bpref, Success@1 and others of ir-measures; also NS, "
        "NS% and AP-trapezoid.",
    ),
]
QueriesOption = Annotated[
    Path | None,
    under_queries(
        metavar="CSV",
        show_default=False,
        help="A file with a column query and the columns image, text or both. By default every "
        "picture that the judgements name is a query.",
    ),
]
QueryPicturesOption = Annotated[
    Path | None,
    under_queries(
        metavar="DIR",
        show_default=False,
        help="A folder of query pictures that are not in the collection.",
    ),
]
DepthOption = Annotated[
    int | None, under_queries(show_default="1000", help="How many pictures of each ranking count.")
]
SampleOption = Annotated[
    int | None,
    under_queries(show_default=False, help="Ask only this many queries, chosen at random."),
]
ConfidenceOption = Annotated[
    float | None, under_statistics(show_default="0.95", help="The level of the intervals.")
]
IntervalOption = Annotated[
    str | None, under_statistics(show_default="t", help="Intervals of the means: t or bootstrap.")
]
SeedOption = Annotated[
    int | None, under_statistics(show_default="0", help="The seed of all that is random.")
]
PlotsOption = Annotated[bool, under_files(help="Draw plots, with --out.")]
FormOption = Annotated[Form, typer.Option("--format", help="How to print the table.")]


def print_tables(found: Tables, form: Form, json: bool, extra: dict[str, Any]) -> None:
    """Print a result in the form that was asked for."""
    if json:
        print_json(found.to_dict() | extra)
        return
    for note in found.notes:
        warn(f"note: {note}")
    if form is not Form.TABLE:
        texts = {Form.MARKDOWN: found.to_markdown, Form.LATEX: found.to_latex}
        for line in texts.get(form, found.to_csv)().rstrip("\n").split("\n"):
            print_line(line)
        return
    print_table(*found.cells(), right=found.numbers)
    say(found.caption)
    for title, columns, rows in found.sections():
        say("")
        say(f"{title}:")
        if columns:
            print_table(columns, rows, right=columns[2:])
        for row in () if columns else rows:
            say(f"  {row[0]}")
    if files := extra.get("files"):
        say(f"{len(files)} files in {Path(files[-1]).parent}")


@dataclass(frozen=True)
class Output:
    """What becomes of the result of `evaluate` and `sweep`."""

    out: Path | None
    plots: bool
    form: Form
    json: bool

    def show(self, found: Results, **extra: Any) -> None:
        """Write and print it."""
        files = [] if self.out is None else found.write(self.out, plots=self.plots)
        print_tables(found, self.form, self.json, {"files": list(map(str, files)), **extra})


def show_again(
    path: Path,
    run: Callable[[dict[str, Any], dict[str, Any]], R],
    places: dict[str, Any],
    settings: dict[str, Any],
    output: Output,
    details: Callable[[R], list[str]] | None = None,
) -> None:
    """Do what a manifest is of again, and say what differs; fails where the figures are others."""
    from imgsearch_es.evaluation.manifest import arguments_of, differences, read_manifest

    if settings:
        name = next(iter(settings))
        option = {"systems": "strategies"}.get(name, name).replace("_", "-")
        raise EvaluationError(f"the manifest says it all: leave out --{option}")
    kept = read_manifest(path, "sweep" if details is None else "evaluate")
    found = run(arguments_of(kept, places), kept)
    different = differences(kept, found)
    is_same = not any(one.what.startswith("figures") for one in different)
    extra: dict[str, Any] = {
        "identical_figures": is_same,
        "differences": [{"what": d.what, "was": d.was, "now": d.now} for d in different],
    }
    more: list[str] = []
    if details is not None:
        more = details(found) if any(d.what.startswith("data") for d in different) else []
        extra["pictures_that_differ"] = more
    output.show(found, **extra)
    for line in () if output.json else (*map(str, different), *more):
        say(f"differs: {line}")
    if not is_same:
        fail(f"the figures are not those of {path}")
    if not output.json:
        say(f"the figures are those of {path}, to the last bit")


@contextmanager
def progress_line(first: str, counted: str = "", *, quiet: bool) -> Iterator[Progress | None]:
    """A line that says what is being done, on a terminal only."""
    if quiet:
        yield None
        return
    with console().status(first) as status:
        yield lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}{counted}")


def asking_progress(*, quiet: bool) -> AbstractContextManager[Progress | None]:
    """A line that says which system is at work."""
    return progress_line("reading the index ...", " queries", quiet=quiet)
