"""``imgsearch export``, ``import`` and ``reindex``: an index as a file, and an index built anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.errors import MissingPicturesError
from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.headings import under_elasticsearch
from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    IndexOption,
    JsonOption,
    ReplicasOption,
    RuntimeOption,
    ShardsOption,
    WeightsOption,
    fail,
    now_and_then,
    print_json,
    say,
)
from imgsearch_es.interfaces.cli.search import WhereOption

if TYPE_CHECKING:
    from imgsearch_es.indexing.exchange import FeatureExport

_LISTED = 20
"""Rows and pictures that are listed; all of them with --json."""

FileArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FILE", show_default=False, help="A file: .jsonl, .jsonl.gz or .parquet."
    ),
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="FILE",
        show_default=False,
        help="Deep features alone, instead of FILE: .csv (path,f1,f2,...), .h5, .parquet, or a "
        "folder for filenames.npy and vectors.npy.",
    ),
]


def export(
    file: FileArgument = None,
    index: IndexOption = None,
    features: FeaturesOption = None,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Put the pictures' bytes into the file, too.")
    ] = False,
    where: WhereOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Write the documents of an index into a file.

    With deep features and the settings of the index, so that
    `imgsearch import` makes the same index of it elsewhere. With --features
    the deep features alone, in files that other programs read.
    """
    from imgsearch_es.index import ImageIndex

    place = _one_of(file, features)
    if features is not None and pictures:
        fail("--pictures goes with FILE: --features has vectors alone", code=2)
    conditions = options.conditions(where)
    progress = None if json else now_and_then(lambda count: f"{count:,} exported")
    with ImageIndex(index) as source:
        if features is not None:
            _say_features(
                source.export_features(place, where=conditions, force=force, progress=progress),
                json=json,
            )
            return
        report = source.export(
            place, pictures=pictures, where=conditions, force=force, progress=progress
        )
    if json:
        print_json(report.to_dict())
        return
    say(f"{report.path}: {report.documents:,} documents")
    _list("without picture", report.without_picture)


def import_(
    file: FileArgument = None,
    index: IndexOption = None,
    features: FeaturesOption = None,
    folder: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="With --features: where relative paths in the file start; else in this folder.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            show_default=False,
            help="With --features, for a new index: the classifier that made them, so that it "
            "takes new pictures too.",
        ),
    ] = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    pictures: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            show_default=False,
            help="Write the pictures that are in the file into this folder.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Add the documents of a file to an index.

    The index is created with the file's settings when there is none. With
    --features it needs no model: search it by its pictures or by vectors.
    """
    from imgsearch_es.index import ImageIndex

    place = _one_of(file, features)
    if features is None and (folder or model or weights or analyzer):
        fail("--folder, --model, --weights and --analyzer go with --features", code=2)
    if features is not None and pictures is not None:
        fail("--pictures goes with FILE: --features has vectors alone", code=2)
    progress = None if json else now_and_then(str)
    with ImageIndex(index, model=model, weights=weights, analyzer=analyzer) as target:
        if features is not None:
            report = target.import_features(place, folder=folder, progress=progress)
        else:
            report = target.import_(place, pictures=pictures, progress=progress)
    if json:
        print_json(report.to_dict())
    else:
        say(f"{target.location}: {report} of {report.rows:,} rows")
        rows = [(f"row {row.row} {row.uri}", row.reason) for row in report.rejected_rows]
        _list("rejected", rows)
    if report.rejected and report.rejected == report.rows:
        fail("no row could be imported")


def reindex(
    index: IndexOption = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", show_default=False, help="Another classifier."),
    ] = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Leave out pictures that cannot be read any more."),
    ] = False,
    keep_old: Annotated[
        bool, typer.Option("--keep-old", help="Keep the replaced index under another name.")
    ] = False,
    shards: ShardsOption = None,
    replicas: ReplicasOption = None,
    vectors: Annotated[
        str | None,
        under_elasticsearch(
            show_default=False,
            metavar="KIND",
            help="How the new index indexes deep features, or none.",
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        under_elasticsearch(
            show_default=False, help="How --vectors compares: cosine, dot or euclidean."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Build an index anew and put it in the place of the old one.

    Searches find the old one until then. The pictures are read again; with
    the analyzer that the index has its documents are copied.
    """
    from imgsearch_es.index import ImageIndex

    layout = options.given(shards=shards, replicas=replicas, vectors=vectors, similarity=similarity)
    with ImageIndex(index, runtime=runtime, **layout) as target:
        try:
            report = target.reindex(
                model=model,
                weights=weights,
                analyzer=analyzer,
                allow_missing=allow_missing,
                keep_old=keep_old,
                progress=None
                if json
                else now_and_then(lambda done, total: f"{done:,} of {total:,}"),
            )
        except MissingPicturesError as error:
            if json:
                missing = [{"uri": uri, "reason": reason} for uri, reason in error.pictures]
                print_json({"error": str(error), "missing": missing})
            fail(str(error))
    if json:
        print_json(report.to_dict())
        return
    did = f"{report.analyzed:,} analyzed" if report.analyzed else f"{report.copied:,} copied"
    say(f"{target.location}: {report.documents:,} documents, {did}")
    _list("left out", report.missing)


def _one_of(file: str | None, features: str | None) -> str:
    """The one place that was given."""
    if (file is None) == (features is None):
        fail("give FILE, or --features FILE", code=2)
    return file or features or ""


def _say_features(report: FeatureExport, *, json: bool) -> None:
    if json:
        print_json(report.to_dict())
        return
    say(f"{report.path}: {report}")
    if report.without_feature:
        say(f"  {report.without_feature:,} pictures have none")


def _list(what: str, items: list[tuple[str, str]]) -> None:
    for name, reason in items[:_LISTED]:
        say(f"  {what}: {name}: {reason}")
    if len(items) > _LISTED:
        say(f"  ... and {len(items) - _LISTED:,} more; --json lists all")
