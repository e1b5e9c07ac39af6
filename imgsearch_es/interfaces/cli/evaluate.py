"""``imgsearch evaluate``: how well strategies find what is judged relevant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli import evaluating as shared
from imgsearch_es.interfaces.cli.headings import under_files, under_statistics
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, fail

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
    judgements: shared.JudgementsOption = None,
    strategies: StrategiesOption = None,
    measures: shared.MeasuresOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Write tables, TREC runs and qrels, plots and the manifest to this folder.",
        ),
    ] = None,
    queries: shared.QueriesOption = None,
    pictures: shared.QueryPicturesOption = None,
    depth: shared.DepthOption = None,
    sample: shared.SampleOption = None,
    compare: Annotated[
        str | None,
        under_statistics(
            metavar="SYSTEM", show_default=False, help="Test all others against this system."
        ),
    ] = None,
    confidence: shared.ConfidenceOption = None,
    interval: shared.IntervalOption = None,
    seed: shared.SeedOption = None,
    run: Annotated[
        list[Path] | None,
        under_files(
            "--run",
            metavar="FILE",
            show_default=False,
            help="A run file of another program, in TREC's format, to evaluate.",
        ),
    ] = None,
    plots: shared.PlotsOption = True,
    manifest: Annotated[
        Path | None,
        under_files(
            metavar="FILE",
            show_default=False,
            help="Repeat the experiment of this manifest and say what differs. Give files and "
            "folders again if they have moved.",
        ),
    ] = None,
    form: shared.FormOption = shared.Form.TABLE,
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
    output = shared.Output(out, plots, form, json)

    def run_on(options: dict[str, Any], kept: dict[str, Any]) -> Evaluation:
        location = index or kept.get("index", {}).get("location")
        return _evaluate(location, quiet=json, **options)

    try:
        if manifest is None:
            output.show(run_on({**places, **settings}, {}))
        else:
            beside = partial(_pictures, manifest)
            shared.show_again(manifest, run_on, places, settings, output, beside)
    except KeyboardInterrupt:
        fail("stopped; an evaluation keeps nothing until it is done", code=130)


def _evaluate(index: str | None, *, quiet: bool, **options: Any) -> Evaluation:
    from imgsearch_es.evaluation import evaluate as run
    from imgsearch_es.index import ImageIndex

    if "runs" in options and "systems" not in options:
        options["systems"] = ()
    with ImageIndex(index) as target, shared.asking_progress(quiet=quiet) as progress:
        return run(target, progress=progress, **options)


def _pictures(manifest: Path, found: Evaluation) -> list[str]:
    """Which pictures differ from those of a manifest, where their list lies beside it."""
    from imgsearch_es.evaluation.manifest import PICTURES, picture_differences

    beside = manifest.with_name(PICTURES)
    return picture_differences(beside, found.collection) if beside.is_file() else []
