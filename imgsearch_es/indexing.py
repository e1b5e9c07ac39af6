"""The pipeline: find -> read, hash, decode -> analyze in batches -> write.

Reading and decoding run in threads (Pillow lets others run meanwhile), a bounded number of
pictures ahead of the model; the model and the store work on batches.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis import Analyzer
from imgsearch_es.documents import Document
from imgsearch_es.errors import ImageError
from imgsearch_es.files import in_memory, picture_id, read_bytes, to_path, to_uri
from imgsearch_es.images import ImageSource, Limits, Picture, open_image
from imgsearch_es.sources import find_images
from imgsearch_es.stores.base import Known, Store

BATCH_SIZE = 32
"""Pictures per forward pass."""
_WRITE_SIZE = 512
"""Documents per write; what an interruption can cost."""
_LOOKUP_SIZE = 2048
"""Pictures per question to the store which of them it knows."""
_AHEAD = 4
"""Batches read and decoded before the model needs them."""

_NO_IMAGE = Image.new("RGB", (1, 1))

DEFAULT_LIMITS = Limits()

Labels = Sequence[str] | str | Callable[[str], Sequence[str] | str] | None
T = TypeVar("T")


class Rejected(NamedTuple):
    """A picture that could not be indexed, and why."""

    uri: str
    reason: str


@dataclass(slots=True)
class IndexReport:
    """What a run did: found = added + updated + unchanged + rejected.

    Attributes:
        added: pictures new in the index.
        updated: pictures whose content, labels or metadata changed.
        unchanged: pictures that the index had already.
        removed: documents removed because their files are gone (only with ``prune``).
        rejected: pictures that could not be read or stored, with reasons.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def found(self) -> int:
        """How many pictures were looked at."""
        return self.added + self.updated + self.unchanged + len(self.rejected)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "removed": self.removed,
            "rejected": [{"uri": item.uri, "reason": item.reason} for item in self.rejected],
        }

    def __str__(self) -> str:
        parts = [f"{self.added} added", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.removed:
            parts.append(f"{self.removed} removed")
        return ", ".join([*parts, f"{len(self.rejected)} rejected"])


Progress = Callable[[IndexReport, int], None]
"""Called now and then with the report so far and the number of pictures to look at."""


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A picture to look at: a URI to read, or a picture from memory, opened already."""

    uri: str
    picture: Picture | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """A picture ready for the model; its full-size pixels are let go."""

    picture: Picture
    pixels: NDArray[np.uint8]


class Indexer:
    """One run of the pipeline.

    Args:
        store: an index; it need not exist.
        analyzer: gives the analyzer; called only when a picture has to be analyzed.
        create: creates the index; called before the first document is written, so that a run
            that finds no picture leaves nothing behind.
        labels: what to call the pictures; None leaves what is stored.
        metadata: fields for every picture; None leaves what is stored.
        batch_size: pictures per forward pass.
        workers: threads that read and decode; None for one per core.
        limits: the largest picture to accept.
        progress: told how far the run is.
    """

    def __init__(
        self,
        store: Store,
        analyzer: Callable[[], Analyzer],
        create: Callable[[], None],
        *,
        labels: Labels = None,
        metadata: Mapping[str, Any] | None = None,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._analyzer = analyzer
        self._create = create
        self._labels = labels
        self._metadata = metadata
        self._batch_size = batch_size
        self._workers = workers or os.cpu_count() or 1
        self._limits = limits
        self._progress = progress or (lambda report, total: None)
        self.report = IndexReport()
        self._known: dict[str, Known] = {}
        self._waiting: list[Document] = []

    def find(self, sources: Iterable[ImageSource]) -> list[Item]:
        """The pictures of these files, folders and pictures in memory; reads no file.

        Raises:
            SourceError: a file or folder named does not exist.
        """
        places = [source for source in sources if isinstance(source, str | os.PathLike)]
        items = {uri: Item(uri) for uri in find_images(places, on_error=self._reject)}
        for source in sources:
            if not isinstance(source, str | os.PathLike):
                try:
                    picture = open_image(source, limits=self._limits)
                    items.setdefault(picture.uri, Item(picture.uri, picture))
                except ImageError as error:
                    self._reject(error)
        return list(items.values())

    def run(self, items: Sequence[Item]) -> None:
        """Bring the index up to date with these pictures.

        What was analyzed before an interruption is stored; the next run goes on after it.
        """
        try:
            for part in _chunks(items, _LOOKUP_SIZE):
                ids = [picture_id(item.uri) for item in part]
                self._known = self._store.known(ids) if self._store.settings() else {}
                self._index(part, len(items))
                self._write()
        finally:
            self._write()
            if self._store.settings():
                self._store.finish()
        self._progress(self.report, len(items))

    def prune(self, sources: Iterable[ImageSource], items: Iterable[Item]) -> None:
        """Remove documents below the folders named whose files are gone."""
        found = {item.uri for item in items}
        for source in sources:
            if not isinstance(source, str | os.PathLike) or not Path(source).is_dir():
                continue
            inside = self._store.below(to_uri(source).rstrip("/") + "/")
            gone = [key for key, uri in inside if uri not in found and _is_gone(uri)]
            self.report.removed += self._store.remove(gone) if gone else 0

    def _index(self, items: Sequence[Item], total: int) -> None:
        batch: list[_Prepared] = []
        with ThreadPoolExecutor(self._workers, "imgsearch-read") as pool:
            for outcome in _ahead(pool, self._prepare, items, _AHEAD * self._batch_size):
                if isinstance(outcome, ImageError):
                    self._reject(outcome)
                elif isinstance(outcome, _Prepared):
                    batch.append(outcome)
                else:
                    self._keep(outcome)
                if len(batch) == self._batch_size:
                    self._analyze(batch)
                    batch = []
                self._progress(self.report, total)
        if batch:
            self._analyze(batch)

    def _prepare(self, item: Item) -> _Prepared | ImageError | Item:
        """In a thread: read and hash; decode and run the image filters when that is needed."""
        known = self._known.get(picture_id(item.uri))
        try:
            picture = item.picture
            if picture is None:
                data = read_bytes(item.uri, self._limits)
                if known and known.sha256 == hashlib.sha256(data).hexdigest():
                    return item
                picture = open_image(data, uri=item.uri, limits=self._limits)
            elif known and known.sha256 == picture.sha256:
                return item
            pixels = self._analyzer().prepare(picture.image)
            return _Prepared(replace(picture, image=_NO_IMAGE), pixels)
        except ImageError as error:
            return error

    def _analyze(self, batch: Sequence[_Prepared]) -> None:
        analyses = self._analyzer().analyze_prepared([item.pixels for item in batch])
        for item, analysis in zip(batch, analyses, strict=True):
            known = self._known.get(item.picture.id)
            self._waiting.append(
                Document.from_picture(
                    item.picture,
                    analysis,
                    labels=self._labels_of(item.picture.uri, known),
                    metadata=self._metadata_of(known),
                )
            )
        if len(self._waiting) >= _WRITE_SIZE:
            self._write()

    def _keep(self, item: Item) -> None:
        """The content is known; labels or metadata may still be new."""
        known = self._known[picture_id(item.uri)]
        labels, metadata = self._labels_of(item.uri, known), self._metadata_of(known)
        if (labels, metadata) == (known.labels, known.metadata):
            self.report.unchanged += 1
            return
        key = picture_id(item.uri)
        stored = self._store.get([key])[key]
        self._waiting.append(replace(stored, labels=labels, metadata=metadata))

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        if not self._store.settings():
            self._create()
        refused = dict(self._store.write(waiting).rejected)
        for document in waiting:
            if document.uri in refused:
                self.report.rejected.append(Rejected(document.uri, refused[document.uri]))
            elif document.id in self._known:
                self.report.updated += 1
            else:
                self.report.added += 1

    def _reject(self, error: ImageError) -> None:
        self.report.rejected.append(Rejected(error.uri, error.reason))

    def _labels_of(self, uri: str, known: Known | None) -> tuple[str, ...]:
        labels = self._labels(uri) if callable(self._labels) else self._labels
        if labels is None:
            return known.labels if known else ()
        return as_labels(labels)

    def _metadata_of(self, known: Known | None) -> Mapping[str, Any]:
        if self._metadata is None:
            return known.metadata if known else {}
        return dict(self._metadata)


def as_labels(labels: Sequence[str] | str) -> tuple[str, ...]:
    """One label or several, as several."""
    return (labels,) if isinstance(labels, str) else tuple(labels)


def folder_label(uri: str) -> tuple[str, ...]:
    """The name of the folder that a picture is in, as its label."""
    path = to_path(uri)
    name = path.parent.name if path else uri.rpartition("/")[0].rpartition("/")[2]
    return (os.fsencode(name).decode("utf-8", "replace"),) if name else ()


def _is_gone(uri: str) -> bool:
    path = to_path(uri)
    return not in_memory(uri) and path is not None and not os.path.lexists(path)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], T], items: Iterable[Item], limit: int
) -> Iterator[T]:
    """Results in order, with at most ``limit`` pieces of work under way or waiting."""
    rest = iter(items)
    pending: deque[Future[T]] = deque(pool.submit(work, item) for item in islice(rest, limit))
    try:
        while pending:
            result = pending.popleft().result()
            for item in islice(rest, 1):
                pending.append(pool.submit(work, item))
            yield result
    finally:
        for future in pending:
            future.cancel()
