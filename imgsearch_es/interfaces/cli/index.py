"""``imgsearch index``, ``remove`` and ``stats``: what is in an index."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.headings import under_analyzer, under_elasticsearch, under_speed
from imgsearch_es.interfaces.cli.output import (
    AnalyzerOption,
    FolderLabelOption,
    IndexOption,
    JsonOption,
    ModelOption,
    ReplicasOption,
    RuntimeOption,
    ShardsOption,
    WeightsOption,
    console,
    fail,
    print_json,
    print_table,
    say,
    warn,
)
from imgsearch_es.stores.interrupts import STOPPED

if TYPE_CHECKING:
    from imgsearch_es.indexing import IndexReport, Progress

_LISTED = 20
"""Rejected pictures that are listed; all of them with --json."""


def index(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            show_default=False,
            help="Files, folders (with all below them), tar files or URLs.",
        ),
    ] = None,
    index: IndexOption = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="FILE",
            show_default=False,
            help="A list of pictures: a text file with a path or URL a line, or CSV or Parquet "
            "with a column uri or path, and optional columns label and metadata.NAME. "
            "Repeat it for more.",
        ),
    ] = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    analyzer: AnalyzerOption = None,
    runtime: RuntimeOption = None,
    fast_decode: Annotated[
        bool,
        under_analyzer(
            "--fast-decode",
            help="Decode large JPEG files at reduced scale: faster, with other scores. For a new "
            "index.",
        ),
    ] = False,
    label: Annotated[
        list[str] | None,
        typer.Option(show_default=False, help="A label for these pictures. Repeat it for more."),
    ] = None,
    label_from_folder: FolderLabelOption = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove pictures from the index when their files in these folders are gone.",
        ),
    ] = False,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry", help="Try rejected pictures again, even those that have not changed."
        ),
    ] = False,
    engine: Annotated[
        str, under_speed(help="Where to analyze: local, or ray for a cluster (docs/ray.md).")
    ] = "local",
    batch_size: Annotated[
        int | None,
        under_speed(
            min=1,
            show_default=False,
            help="Pictures in a forward pass. By default 32.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        under_speed(
            min=1,
            show_default=False,
            help="Processes that decode, or with --engine ray analyze. By default as many as help.",
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        under_elasticsearch(
            show_default=False,
            metavar="KIND",
            help="Also index deep features, for `imgsearch search --approximate`: int8_hnsw, "
            "bbq_hnsw, hnsw, flat, int8_flat or bbq_flat.",
        ),
    ] = None,
    similarity: Annotated[
        str | None,
        under_elasticsearch(
            show_default=False,
            help="How --vectors compares: cosine (the default), dot or euclidean.",
        ),
    ] = None,
    shards: ShardsOption = None,
    replicas: ReplicasOption = None,
    expected_pictures: Annotated[
        int | None,
        under_elasticsearch(
            min=1, show_default=False, help="Choose the number of shards for this many pictures."
        ),
    ] = None,
    lifecycle: Annotated[
        str | None,
        under_elasticsearch(
            metavar="POLICY", show_default=False, help="An index lifecycle policy of Elasticsearch."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Put pictures into an index, or bring it up to date.

    The index is created if there is none. Pictures that it has already,
    with the same content, are not analyzed again.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.indexing import StoppedError, folder_label
    from imgsearch_es.pictures.manifests import PictureList

    places = [*(sources or ()), *map(PictureList, lists or ())]
    if not places:
        fail("which pictures? Give files, folders or URLs, or --from FILE", code=2)
    if label and label_from_folder:
        fail("give either --label or --label-from-folder", code=2)
    layout = options.given(
        vectors=vectors,
        similarity=similarity,
        shards=shards,
        replicas=replicas,
        expected_pictures=expected_pictures,
        lifecycle=lifecycle,
    )
    with ImageIndex(
        index,
        model=model,
        weights=weights,
        analyzer=analyzer,
        runtime=runtime,
        fast_decode=fast_decode,
        **layout,
    ) as target:
        try:
            with show_progress(quiet=json) as progress:
                report = target.add(
                    places,
                    engine=engine,
                    labels=folder_label if label_from_folder else label,
                    prune=prune,
                    retry=retry,
                    batch_size=batch_size,
                    workers=workers,
                    progress=progress,
                )
        except StoppedError as stopped:
            _show(stopped.report, target.location, json=json)
            fail(STOPPED, code=130)
    _show(report, target.location, json=json)
    if report.shortages:
        fail(
            f"{report.shortages} pictures could not be decoded for want of memory or time: run the "
            "command again, which tries them again"
        )
    if report.found and report.found == len(report.rejected):
        fail("none of the pictures could be indexed")
    if not report.found:
        warn(f"there are no pictures in {', '.join([*(sources or ()), *(lists or ())])}")


def rejected(
    index: IndexOption = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try all of them again.")] = False,
    json: JsonOption = False,
) -> None:
    """List the pictures that could not be indexed, and why.

    A picture is tried again when its file has changed, or with --retry.
    """
    from imgsearch_es.index import ImageIndex

    with ImageIndex(index) as target:
        report = target.retry() if retry else None
        entries = target.rejected()
    if json:
        print_json([entry.to_dict() for entry in entries])
        return
    if report is not None:
        say(f"{target.location}: {report}")
    for entry in entries:
        say(f"{entry.rejected_at:%Y-%m-%d %H:%M}  {entry.uri}: {entry.reason}")
    if not entries:
        say(f"{target.location} has no rejected pictures")


def remove(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(metavar="PICTURE", help="Ids, URIs or paths.", show_default=False),
    ] = None,
    index: IndexOption = None,
    text: Annotated[
        str | None,
        typer.Option("--text", metavar="WORDS", help="Remove all pictures that match these words."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove pictures from an index; their files stay."""
    from imgsearch_es.index import ImageIndex

    if not pictures and text is None:
        fail("which pictures? Give ids, URIs or paths, or --text WORDS", code=2)
    with ImageIndex(index) as target:
        query = target.query(text=text) if text is not None else None
        if query is not None and not yes:
            matches = len(target.store.matching(query))
            if not typer.confirm(f"remove {matches} pictures from {target.location}?", err=True):
                fail("nothing was removed")
        removed = target.remove(pictures or (), query=query)
    print_json({"removed": removed}) if json else say(f"{removed} removed")


def stats(index: IndexOption = None, json: JsonOption = False) -> None:
    """Show what an index holds and which analyzer made it."""
    from imgsearch_es.index import ImageIndex

    with ImageIndex(index) as target:
        figures = target.stats()
    if json:
        print_json(figures)
        return
    _print_figures(figures)


def _print_figures(figures: dict[str, Any]) -> None:
    from imgsearch_es.analysis.analyzer import describe

    say(f"{figures['location']}  ({figures['store']}{_version(figures)})")
    say(f"  pictures  {figures['documents']:,}")
    say(f"  size      {figures['bytes'] / 1e6:,.1f} MB")
    say(f"  analyzer  {describe(figures['analyzer'])}")
    say(f"  weights   {figures['weights']}")
    if figures["synsets"]:
        rows = [
            (item["synset"], item["documents"], f"{item['mean_score']:.3f}")
            for item in figures["synsets"]
        ]
        right = ("pictures", "mean score")
        print_table(("synset", "pictures", "mean score"), rows, right=right)
    if figures["labels"]:
        labels = [(item["label"], item["documents"]) for item in figures["labels"]]
        print_table(("label", "pictures"), labels, right=("pictures",))


def _version(figures: dict[str, Any]) -> str:
    return f" {figures['server']}" if "server" in figures else ""


def _show(report: IndexReport, location: str, *, json: bool) -> None:
    if json:
        print_json(report.to_dict())
    elif report.found or report.removed:
        _summarize(report, location)


def _summarize(report: IndexReport, location: str) -> None:
    before = f" ({report.as_before} as before)" if report.as_before else ""
    say(f"{location}: {report}{before} in {report.seconds:.1f} s, {report.rate:.1f} pictures/s")
    shares = report.stages.shares().items()
    say("  work: " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares))
    for item in report.rejected[:_LISTED]:
        say(f"  rejected {item.uri}: {item.reason}")
    if len(report.rejected) > _LISTED:
        say(f"  ... and {len(report.rejected) - _LISTED} more; `imgsearch rejected` lists all")


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Progress]:
    """A bar with rate and time left on a terminal, a line now and then elsewhere."""
    from imgsearch_es.indexing.progress import suiting

    if quiet:
        yield lambda report, total: None
        return
    with suiting(console(), say) as progress:
        yield progress
