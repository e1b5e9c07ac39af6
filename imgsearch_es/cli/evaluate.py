"""``imgsearch evaluate``: how well strategies find what is judged relevant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.cli.options import given
from imgsearch_es.cli.output import (
    IndexOption,
    JsonOption,
    console,
    fail,
    print_json,
    print_line,
    print_table,
    say,
    warn,
)
from imgsearch_es.errors import EvaluationError

if TYPE_CHECKING:
    from imgsearch_es.evaluation import Evaluation
    from imgsearch_es.evaluation.asking import Progress


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
        "holidays, oxford:DIR, paris:DIR, revisited-medium:FILE.json (-easy, -hard), or a file of "
        "TREC qrels or .csv.",
    ),
]
StrategiesOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        show_default="auto",
        help="What to compare: strategies, bm25:k1=1.5:b=0.3, and fusions: "
        "sqrt=1+dense-cosine=2, auto+dense-cosine:rrf.",
    ),
]
MeasuresOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        show_default="those of the judgements",
        help="P@10, nDCG@10, AP, Rprec, RR, Bpref, Success@1 and others of ir-measures; NS, NS% "
        "and AP-trapezoid.",
    ),
]


def evaluate(
    index: IndexOption = None,
    judgements: JudgementsOption = None,
    strategies: StrategiesOption = None,
    measures: MeasuresOption = None,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="SYSTEM", show_default=False, help="Test all others against this one."
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            show_default=False,
            help="Queries by column: query, and image, text or both; by default the pictures that "
            "the judgements name.",
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Query pictures that are not in the index."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            "--run", metavar="FILE", show_default=False, help="Another program's run, as TREC's."
        ),
    ] = None,
    depth: Annotated[
        int | None, typer.Option(show_default="1000", help="How many pictures of a ranking count.")
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(show_default=False, help="Ask only so many queries, chosen at random."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(show_default="0.95", help="Of the intervals.")
    ] = None,
    interval: Annotated[
        str | None, typer.Option(show_default="t", help="Of the means: t or bootstrap.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(show_default="0", help="Of all that is random.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Write tables, TREC runs and qrels, plots and the manifest there.",
        ),
    ] = None,
    plots: Annotated[bool, typer.Option(help="Draw plots (with --out).")] = True,
    manifest: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            show_default=False,
            help="Do this experiment again, and say what differs; files and folders may be given "
            "where they are elsewhere.",
        ),
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="Of the table that is printed.")
    ] = Form.TABLE,
    json: JsonOption = False,
) -> None:
    """Measure how well strategies find what is relevant.

    Pictures of the index are searched for and left out themselves, unless the judgements say
    otherwise. Names of pictures in files are their paths below the folder that all share, or the
    ends of their paths where these are unique.
    """
    places = given(judgements=judgements, queries=queries, pictures=pictures, runs=run)
    settings = given(
        systems=strategies,
        measures=measures,
        compare=compare,
        depth=depth,
        sample=sample,
        confidence=confidence,
        interval=interval,
        seed=seed,
    )
    try:
        if manifest is not None:
            _again(manifest, index, places, settings, out, plots, form, json)
        else:
            found = _evaluate(index, quiet=json, **places, **settings)
            _print(found, form, json, {"files": _write(found, out, plots)})
    except KeyboardInterrupt:
        fail("stopped; an evaluation keeps nothing until it is done", code=130)


def _evaluate(index: str | None, *, quiet: bool, **options: Any) -> Evaluation:
    from imgsearch_es.evaluation import evaluate as run
    from imgsearch_es.index import ImageIndex

    if "runs" in options and "systems" not in options:
        options["systems"] = ()
    with ImageIndex(index) as target, _progress(quiet=quiet) as progress:
        return run(target, progress=progress, **options)


def _again(
    path: Path,
    index: str | None,
    places: dict[str, Any],
    settings: dict[str, Any],
    out: Path | None,
    plots: bool,
    form: Form,
    json: bool,
) -> None:
    """Do the experiment of a manifest again."""
    from imgsearch_es.evaluation.manifest import differences, plan_of, read_manifest

    if settings:
        option = {"systems": "strategies"}.get(name := next(iter(settings)), name)
        raise EvaluationError(f"the manifest says it all: leave out --{option}")
    kept = read_manifest(path)
    options = plan_of(kept, places).to_dict()
    location = index or kept.get("index", {}).get("location")
    found = _evaluate(location, quiet=json, **options)
    different = differences(kept, found)
    more = _pictures(path, found) if any(d.what.startswith("data") for d in different) else []
    same = not any(d.what.startswith("figures") for d in different)
    extra = {
        "files": _write(found, out, plots),
        "identical_figures": same,
        "differences": [{"what": d.what, "was": d.was, "now": d.now} for d in different],
        "pictures_that_differ": more,
    }
    _print(found, form, json, extra)
    if not json:
        for difference in different:
            say(f"differs: {difference}")
        for line in more:
            say(f"differs: {line}")
    if not same:
        fail(f"the figures are not those of {path}")
    if not json:
        say(f"the figures are those of {path}, to the last bit")


def _write(found: Evaluation, out: Path | None, plots: bool) -> list[str]:
    return [] if out is None else [str(path) for path in found.write(out, plots=plots)]


def _pictures(manifest: Path, found: Evaluation) -> list[str]:
    from imgsearch_es.evaluation.manifest import picture_differences
    from imgsearch_es.evaluation.results import PICTURES

    beside = manifest.with_name(PICTURES)
    return picture_differences(beside, found) if beside.is_file() else []


def _print(found: Evaluation, form: Form, json: bool, extra: dict[str, Any]) -> None:
    from imgsearch_es.evaluation import report

    for note in () if json else found.notes:
        warn(f"note: {note}")
    if json:
        print_json(report.to_dict(found) | extra)
    elif form is Form.MARKDOWN:
        _lines(found.to_markdown())
    elif form is Form.LATEX:
        _lines(found.to_latex())
    elif form is Form.CSV:
        _lines(found.to_csv().rstrip("\n"))
    else:
        columns, rows = report.means(found)
        print_table(columns, rows)  # to the left, so that marks shift no number
        say(report.caption(found))
        if found.comparisons:
            say("")
            say(f"Differences to {found.plan.compare}; p-values by Holm's correction:")
            print_table(report.COMPARED, report.comparisons(found), right=report.COMPARED[2:])
        if extra["files"]:
            say(f"{len(extra['files'])} files in {Path(extra['files'][-1]).parent}")


def _lines(text: str) -> None:
    for line in text.split("\n"):
        print_line(line)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """A line that says which system is at work, on a terminal only."""
    if quiet:
        yield None
        return
    with console().status("reading the index ...") as status:
        yield lambda system, done, total: status.update(f"{system}: {done:,} of {total:,} queries")
