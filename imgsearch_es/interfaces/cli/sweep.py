"""``imgsearch sweep``: quality, time and size over numbers of terms, term filters and models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli import evaluating as shared
from imgsearch_es.interfaces.cli.headings import under_files, under_queries, under_statistics
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import JsonOption, RuntimeOption, fail

if TYPE_CHECKING:
    from imgsearch_es.evaluation.sweeps import Sweep


def sweep(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PICTURES",
            show_default=False,
            help="Files, folders, tar files or URLs. Without any, the pictures in --cache.",
        ),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="FILE", show_default=False, help="A list of pictures, with labels."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--models",
            "-m",
            metavar="A,B",
            show_default="vgg16",
            help="Models (`imgsearch models` lists them), or TOML files of analyzers.",
        ),
    ] = None,
    top_k: Annotated[
        str | None,
        typer.Option(
            metavar="N,N",
            show_default="1,2,5,10,20,50,100,1000",
            help="How many terms to keep of each picture.",
        ),
    ] = None,
    filters: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default="plain",
            help="Chains of term filters: plain, sqrt, l2_normalize, min_score=0.01+sqrt, "
            "hypernyms, hypernyms+top_k (cuts after the hypernyms).",
        ),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default="auto,dense-cosine",
            help="Strategies and fusions, as in `imgsearch evaluate`.",
        ),
    ] = None,
    judgements: shared.JudgementsOption = None,
    measures: shared.MeasuresOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Write tables, Parquet, Pareto plots and the manifest to this folder.",
        ),
    ] = None,
    queries: shared.QueriesOption = None,
    query_pictures: shared.QueryPicturesOption = None,
    depth: shared.DepthOption = None,
    sample: shared.SampleOption = None,
    timed: Annotated[
        int | None, under_queries(show_default="50", help="How many queries to time; 0 for none.")
    ] = None,
    compare: Annotated[
        str | None,
        under_statistics(
            metavar="POINT",
            show_default="the first dense-*",
            help="Test the other points of a model against this one: dense-cosine, auto/plain/10.",
        ),
    ] = None,
    confidence: shared.ConfidenceOption = None,
    interval: shared.IntervalOption = None,
    seed: shared.SeedOption = None,
    runtime: RuntimeOption = None,
    cache: Annotated[
        Path | None,
        under_files(
            metavar="DIR",
            show_default="OUT/posteriors",
            help="Keep what the models say of the pictures here, so that another sweep needs no "
            "model.",
        ),
    ] = None,
    plots: shared.PlotsOption = True,
    manifest: Annotated[
        Path | None,
        under_files(
            metavar="FILE",
            show_default=False,
            help="Repeat the sweep of this manifest and say what differs. Give pictures, "
            "judgements and queries again if they have moved.",
        ),
    ] = None,
    form: shared.FormOption = shared.Form.TABLE,
    json: JsonOption = False,
) -> None:
    """Find out how many terms are enough, at what size and time.

    Each model sees each picture once, and all its posteriors are kept. Every
    number of terms and chain of term filters is computed from them, as the
    analyzer would.
    """
    from imgsearch_es.pictures.manifests import PictureList

    pictures = [*(sources or ()), *map(PictureList, lists or ())] or None
    places = given(
        pictures=pictures, judgements=judgements, queries=queries, query_pictures=query_pictures
    )
    settings = given(
        models=model,
        top_k=top_k,
        filters=filters,
        systems=strategies,
        measures=measures,
        compare=compare,
        depth=depth,
        sample=sample,
        timed=timed,
        confidence=confidence,
        interval=interval,
        seed=seed,
    )
    keep = cache or (None if out is None else out / "posteriors")
    output = shared.Output(out, plots, form, json)

    def run(options: dict[str, Any], kept: dict[str, Any]) -> Sweep:
        from imgsearch_es.evaluation.sweeps import sweep as run

        with shared.progress_line("reading the pictures ...", quiet=json) as progress:
            return run(cache=keep, runtime=runtime, progress=progress, **options)

    try:
        if manifest is None:
            output.show(run({**places, **settings}, {}))
        else:
            shared.show_again(manifest, run, places, settings, output)
    except KeyboardInterrupt:
        kept = f" is kept in {keep}" if keep else " would be kept with --cache or --out"
        fail(f"stopped; what the models said of pictures{kept}", code=130)
