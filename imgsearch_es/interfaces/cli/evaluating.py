"""What the commands that evaluate have in common: options, tables in other forms, progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from imgsearch_es.errors import EvaluationError
from imgsearch_es.interfaces.cli.headings import under_files, under_queries, under_statistics
from imgsearch_es.interfaces.cli.output import console, fail, print_line, say

if TYPE_CHECKING:
    from imgsearch_es.evaluation.asking import Progress
    from imgsearch_es.evaluation.manifest import Difference


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


class Tables(Protocol):
    """A result that is a table in several forms."""

    def to_markdown(self) -> str:
        """For Markdown."""
        ...

    def to_latex(self) -> str:
        """For the package booktabs."""
        ...

    def to_csv(self) -> str:
        """With all digits."""
        ...


def print_form(found: Tables, form: Form) -> None:
    """Print a table in another form than the terminal's own."""
    texts = {Form.MARKDOWN: found.to_markdown, Form.LATEX: found.to_latex, Form.CSV: found.to_csv}
    for line in texts[form]().rstrip("\n").split("\n"):
        print_line(line)


def say_files(files: list[str]) -> None:
    """Say where files were written, if any were."""
    if files:
        say(f"{len(files)} files in {Path(files[-1]).parent}")


def check_alone(settings: dict[str, Any]) -> None:
    """Refuse options beside a manifest, which says all of them.

    Raises:
        EvaluationError: there are some.
    """
    if settings:
        name = next(iter(settings))
        option = {"systems": "strategies"}.get(name, name).replace("_", "-")
        raise EvaluationError(f"the manifest says it all: leave out --{option}")


def repetition(differences: list[Difference]) -> dict[str, Any]:
    """As JSON values, whether a manifest's figures were found again, and what differs."""
    return {
        "identical_figures": not any(one.what.startswith("figures") for one in differences),
        "differences": [{"what": d.what, "was": d.was, "now": d.now} for d in differences],
    }


def say_repetition(
    manifest: Path, differences: list[Difference], more: list[str], *, json: bool
) -> None:
    """Say the same to people; ends the command where the figures are others."""
    for line in () if json else (*map(str, differences), *more):
        say(f"differs: {line}")
    if not repetition(differences)["identical_figures"]:
        fail(f"the figures are not those of {manifest}")
    if not json:
        say(f"the figures are those of {manifest}, to the last bit")


@contextmanager
def progress_line(first: str, counted: str = "", *, quiet: bool) -> Iterator[Progress | None]:
    """A line that says what is being done, on a terminal only.

    Args:
        first: what it says before anything is counted.
        counted: what is counted.
        quiet: say nothing.
    """
    if quiet:
        yield None
        return
    with console().status(first) as status:
        yield lambda what, done, total: status.update(f"{what}: {done:,} of {total:,}{counted}")


def asking_progress(*, quiet: bool) -> AbstractContextManager[Progress | None]:
    """A line that says which system is at work."""
    return progress_line("reading the index ...", " queries", quiet=quiet)
