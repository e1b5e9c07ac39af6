"""The fourth stage: pictures become documents, by one forward pass for a batch of them."""

from __future__ import annotations

import statistics
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from imgsearch_es.analysis import Analysis, Analyzer
from imgsearch_es.documents import Document
from imgsearch_es.indexing.find import Task
from imgsearch_es.indexing.read import Ready
from imgsearch_es.indexing.report import Stages
from imgsearch_es.indexing.resolve import Resolved

BATCH_SIZE = 32
"""Pictures per forward pass, unless another size proves faster."""
_TRIED = (BATCH_SIZE, 64, 16, 8)
_TRIALS = 3
"""Batches of each size; the first is not timed, as a network may be compiled for a new size."""
_FASTER = 1.1
"""By how much another size must be faster to be taken."""
_RECENT = 2048
"""Analyses kept for copies that come soon after; older ones are asked of the store."""


class BatchSize:
    """Chooses the number of pictures per forward pass by timing the first ones of a run.

    Args:
        fixed: the number, when it is given.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self._trials = [] if fixed else [size for size in _TRIED for _ in range(_TRIALS)]
        self._rates: dict[int, list[float]] = {size: [] for size in _TRIED}
        self._chosen = fixed or BATCH_SIZE
        self._tried = 0

    @property
    def size(self) -> int:
        """The size of the next batch."""
        return self._trials[self._tried] if self._tried < len(self._trials) else self._chosen

    def took(self, pictures: int, seconds: float) -> None:
        """Take note of how long a batch took."""
        if self._tried >= len(self._trials) or pictures != self.size:
            return
        if self._tried % _TRIALS:
            self._rates[self.size].append(pictures / max(seconds, 1e-9))
        self._tried += 1
        if self._tried == len(self._trials):
            medians = {size: statistics.median(rates) for size, rates in self._rates.items()}
            best = max(medians, key=lambda size: medians[size])
            if medians[best] > _FASTER * medians[BATCH_SIZE]:
                self._chosen = best


class Made(NamedTuple):
    """A picture's document, and whether it was made without a forward pass of its own."""

    task: Task
    document: Document
    reused: bool


class BatchAnalyzer:
    """Collects pictures until a batch is full; in the order of their coming.

    Args:
        analyzer: gives the analyzer; asked when the first picture needs it.
        batch_size: pictures per forward pass; None chooses.
        stages: where to add the time.
    """

    def __init__(
        self, analyzer: Callable[[], Analyzer], batch_size: int | None, stages: Stages
    ) -> None:
        self._analyzer = analyzer
        self._size = BatchSize(batch_size)
        self._stages = stages
        self._waiting: list[tuple[Resolved, Ready]] = []
        self._contents: set[str] = set()
        self._recent: OrderedDict[str, Analysis] = OrderedDict()

    def add(self, resolved: Resolved, ready: Ready) -> Iterator[Made]:
        """Take a picture; give the documents that are done with it, often none."""
        sha256, stored = ready.picture.sha256, resolved.stored
        known = self._recent.get(sha256)
        if stored is not None:
            known = Analysis(stored.terms, stored.embedding)
        if known is not None:
            yield _made(resolved, ready, known, reused=True)
            return
        if ready.analysis is not None:
            yield _made(resolved, ready, ready.analysis, reused=False)
            return
        self._waiting.append((resolved, ready))
        self._contents.add(sha256)
        if len(self._contents) >= self._size.size:
            yield from self.flush()

    def flush(self) -> Iterator[Made]:
        """Analyze what waits, although the batch is not full."""
        waiting, self._waiting = self._waiting, []
        self._contents = set()
        if not waiting:
            return
        unique: dict[str, Ready] = {}
        for _, ready in waiting:
            unique.setdefault(ready.picture.sha256, ready)
        found = dict(zip(unique, self._analyze(list(unique.values())), strict=True))
        self._remember(found)
        for resolved, ready in waiting:
            sha256 = ready.picture.sha256
            yield _made(resolved, ready, found[sha256], reused=ready is not unique[sha256])

    def _analyze(self, batch: Sequence[Ready]) -> list[Analysis]:
        analyzer = self._analyzer()
        started = time.perf_counter()
        with self._stages.measure("analyze", len(batch)):
            analyses = analyzer.analyze_prepared([ready.pixels for ready in batch])
        self._size.took(len(batch), time.perf_counter() - started)
        return analyses

    def _remember(self, found: dict[str, Analysis]) -> None:
        self._recent.update(found)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)


def relabeled(resolved: Resolved) -> Document | None:
    """The stored document with new labels and metadata; None when it is as it should be."""
    if resolved.stored is None:
        return None
    return replace(resolved.stored, labels=resolved.labels, metadata=resolved.metadata)


def _made(resolved: Resolved, ready: Ready, analysis: Analysis, *, reused: bool) -> Made:
    document = Document.from_picture(
        ready.picture, analysis, labels=resolved.labels, metadata=resolved.metadata
    )
    return Made(ready.task, document, reused)
