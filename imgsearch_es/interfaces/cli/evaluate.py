"""``imgsearch evaluate``: how well strategies find what is judged relevant."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli.evaluating import (
    ConfidenceOption,
    DepthOption,
    Form,
    FormOption,
    IntervalOption,
    JudgementsOption,
    MeasuresOption,
    PlotsOption,
    QueriesOption,
    QueryPicturesOption,
    SampleOption,
    SeedOption,
    asking_progress,
    check_alone,
    print_form,
    repetition,
    say_files,
    say_repetition,
)
from imgsearch_es.interfaces.cli.headings import under_files, under_statistics
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    fail,
    print_json,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.evaluation import Evaluation


StrategiesOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        show_default="auto",
        help="What to compare: strategies, with parameters as in bm25:k1=1.5:b=0.3, and fusions "
        "such as sqrt=1+dense-cosine=2 or auto+dense-cosine:rrf.",
    ),
]


def evaluate(
    index: IndexOption = None,
    judgements: JudgementsOption = None,
    strategies: StrategiesOption = None,
    measures: MeasuresOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Write tables, TREC runs and qrels, plots and the manifest to this folder.",
        ),
    ] = None,
    queries: QueriesOption = None,
    pictures: QueryPicturesOption = None,
    depth: DepthOption = None,
    sample: SampleOption = None,
    compare: Annotated[
        str | None,
        under_statistics(
            metavar="SYSTEM", show_default=False, help="Test all others against this system."
        ),
    ] = None,
    confidence: ConfidenceOption = None,
    interval: IntervalOption = None,
    seed: SeedOption = None,
    run: Annotated[
        list[Path] | None,
        under_files(
            "--run",
            metavar="FILE",
            show_default=False,
            help="A run file of another program, in TREC's format, to evaluate.",
        ),
    ] = None,
    plots: PlotsOption = True,
    manifest: Annotated[
        Path | None,
        under_files(
            metavar="FILE",
            show_default=False,
            help="Repeat the experiment of this manifest and say what differs. Give files and "
            "folders again if they have moved.",
        ),
    ] = None,
    form: FormOption = Form.TABLE,
    json: JsonOption = False,
) -> None:
    """Measure how well strategies find what is relevant.

    Each query picture of the index is left out of its own ranking, unless the judgements say
    otherwise. Files name a picture by its path below the folder that all pictures share, or by the
    end of its path where that is unique.
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
    with ImageIndex(index) as target, asking_progress(quiet=quiet) as progress:
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

    check_alone(settings)
    kept = read_manifest(path)
    options = plan_of(kept, places).to_dict()
    location = index or kept.get("index", {}).get("location")
    found = _evaluate(location, quiet=json, **options)
    different = differences(kept, found)
    more = _pictures(path, found) if any(d.what.startswith("data") for d in different) else []
    extra = {
        "files": _write(found, out, plots),
        **repetition(different),
        "pictures_that_differ": more,
    }
    _print(found, form, json, extra)
    say_repetition(path, different, more, json=json)


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
    elif form is not Form.TABLE:
        print_form(found, form)
    else:
        columns, rows = report.means(found)
        print_table(columns, rows)  # to the left, so that marks shift no number
        say(report.caption(found))
        if found.comparisons:
            say("")
            say(f"Differences to {found.plan.compare}; p-values by Holm's correction:")
            print_table(report.COMPARED, report.comparisons(found), right=report.COMPARED[2:])
        say_files(extra["files"])
