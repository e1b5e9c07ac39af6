"""``imgsearch sweep``: quality, time and size over numbers of terms, term filters and models."""

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
    check_alone,
    print_form,
    progress_line,
    repetition,
    say_files,
    say_repetition,
)
from imgsearch_es.interfaces.cli.headings import under_files, under_queries, under_statistics
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import (
    JsonOption,
    RuntimeOption,
    fail,
    print_json,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from imgsearch_es.evaluation.manifest import Difference
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
    judgements: JudgementsOption = None,
    measures: MeasuresOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Write tables, Parquet, Pareto plots and the manifest to this folder.",
        ),
    ] = None,
    queries: QueriesOption = None,
    query_pictures: QueryPicturesOption = None,
    depth: DepthOption = None,
    sample: SampleOption = None,
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
    confidence: ConfidenceOption = None,
    interval: IntervalOption = None,
    seed: SeedOption = None,
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
    plots: PlotsOption = True,
    manifest: Annotated[
        Path | None,
        under_files(
            metavar="FILE",
            show_default=False,
            help="Repeat the sweep of this manifest and say what differs. Give pictures, "
            "judgements and queries again if they have moved.",
        ),
    ] = None,
    form: FormOption = Form.TABLE,
    json: JsonOption = False,
) -> None:
    """Find out how many terms are enough, at what size and time.

    Each model sees each picture once, and all its posteriors are kept. Every
    number of terms and chain of term filters is computed from them, as the
    analyzer would.
    """
    places = given(judgements=judgements, queries=queries, query_pictures=query_pictures)
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
    pictures = _pictures(sources, lists)
    try:
        if manifest is None:
            options = {"pictures": pictures, **places, **settings}
            found, differences = _sweep(options, keep, runtime, quiet=json), None
        else:
            check_alone(settings)
            found, differences = _again(manifest, pictures, places, keep, runtime, quiet=json)
    except KeyboardInterrupt:
        kept = f" is kept in {keep}" if keep else " would be kept with --cache or --out"
        fail(f"stopped; what the models said of pictures{kept}", code=130)
    files = [] if out is None else [str(path) for path in found.write(out, plots=plots)]
    extra: dict[str, Any] = {"files": files}
    if manifest is None or differences is None:
        _print(found, form, json, extra)
        return
    _print(found, form, json, extra | repetition(differences))
    say_repetition(manifest, differences, [], json=json)


def _pictures(sources: list[str] | None, lists: list[str] | None) -> list[Any] | None:
    from imgsearch_es.pictures.manifests import PictureList

    return [*(sources or ()), *map(PictureList, lists or ())] or None


def _sweep(
    options: dict[str, Any], cache: Path | None, runtime: str | None, *, quiet: bool
) -> Sweep:
    from imgsearch_es.evaluation.sweeps import sweep as run

    with progress_line("reading the pictures ...", quiet=quiet) as progress:
        return run(cache=cache, runtime=runtime, progress=progress, **options)


def _again(
    path: Path,
    pictures: list[Any] | None,
    places: dict[str, Any],
    cache: Path | None,
    runtime: str | None,
    *,
    quiet: bool,
) -> tuple[Sweep, list[Difference]]:
    """Do the sweep of a manifest again: what it found, and what differs."""
    from imgsearch_es.evaluation.sweeps.manifest import arguments_of, differences, read_manifest

    kept = read_manifest(path)
    options = arguments_of(kept, {name: str(place) for name, place in places.items()})
    if pictures is not None:
        options["pictures"] = pictures
    found = _sweep(options, cache, runtime, quiet=quiet)
    return found, differences(kept, found)


def _print(found: Sweep, form: Form, json: bool, extra: dict[str, Any]) -> None:
    from imgsearch_es.evaluation.sweeps import report

    for note in () if json else found.notes:
        warn(f"note: {note}")
    if json:
        print_json(report.to_dict(found) | extra)
    elif form is Form.TABLE:
        columns, rows = report.cells(found)
        print_table(columns, rows, right=("top_k", "terms", "bytes", "p50 ms"))
        say(report.caption(found))
        for number, line in enumerate(report.answers(found)):
            if not number:
                say(f"\n{report.ENOUGH}:")
            say(f"  {line}")
        say_files(extra["files"])
    else:
        print_form(found, form)
