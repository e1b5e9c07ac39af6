"""The fourth stage: pictures become documents, by one forward pass for a batch of them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from imgsearch_es.analysis.analyzer import Analysis, Analyzer
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.analysis.filters import count_of
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.report import Stages
from imgsearch_es.retrieval.documents import Document

BATCH_SIZE = 32
"""Pictures per forward pass, unless told; views, where a picture has several."""
_AT_ONCE = 2
"""Batches that the model works on while the next one fills, so that no core waits for a batch to
end."""
_COPIES = 8
"""A batch waits for no more than so many times its size, however few contents these pictures have:
a folder may hold one picture a hundred thousand times."""
_RECENT = 2048
"""Analyses kept for copies that come soon after; older ones are asked of the store."""
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


class _Batch(NamedTuple):
    """A batch that the model has been given, and the pictures that wait for it."""

    analyses: Future[list[Analysis]]
    contents: dict[str, Decoded]
    waiting: list[tuple[Found, Decoded]]


class BatchAnalyzer:
    """Collects pictures until a batch is full; the model works on it while the next one fills.

    The analyzer is asked for when the first picture needs it, and adds its time to ``stages``.
    """

    def __init__(
        self, analyzer: Callable[[], Analyzer], batch_size: int | None, stages: Stages
    ) -> None:
        self._analyzer = analyzer
        self._size = batch_size or BATCH_SIZE
        self._stages = stages
        self._model: ThreadPoolExecutor | None = None
        self._given: deque[_Batch] = deque()
        self._waiting: list[tuple[Found, Decoded]] = []
        self._contents: dict[str, Decoded] = {}
        self._recent: OrderedDict[str, Analysis] = OrderedDict()
        self._lock = threading.Lock()
        self._busy = 0
        self._ended = self._idle = 0.0

    def add(self, found: Found, decoded: Decoded) -> Iterator[Found]:
        """Take a picture; give those that have their document with it, often none."""
        sha256, stored = decoded.sha256, found.stored
        known = self._recent.get(sha256)
        if stored is not None:
            known = Analysis(stored.terms, stored.embedding, stored.colors)
        if known is not None:
            yield self._complete(found, decoded, known, reused=True)
            return
        if found.analysis is not None:  # elsewhere
            yield self._complete(found, decoded, found.analysis, reused=False)
            return
        given = next((batch for batch in self._given if sha256 in batch.contents), None)
        if given is not None:
            given.waiting.append((found, decoded))
            if len(given.waiting) >= _COPIES * self._size:
                yield from self._take(0)
            return
        self._waiting.append((found, decoded))
        self._contents.setdefault(sha256, decoded)
        full = max(1, self._size // count_of(decoded.pixels))
        if len(self._contents) >= full or len(self._waiting) >= _COPIES * self._size:
            self._give()
            yield from self._take(_AT_ONCE)

    def flush(self) -> Iterator[Found]:
        """Analyze what waits, although the batch is not full."""
        self._give()
        yield from self._take(0)

    def idle(self) -> float:
        """For how many seconds the model had nothing to do since this was last asked."""
        with self._lock:
            idle, self._idle = self._idle, 0.0
        return idle

    def close(self, *, wait: bool = True) -> None:
        """End the model's threads, perhaps without waiting for the batches that it works on."""
        if self._model is not None:
            self._model.shutdown(wait=wait, cancel_futures=True)

    def _give(self) -> None:
        if self._waiting:
            if self._model is None:  # one thread for a model that need not be safe in many
                is_safe = getattr(self._analyzer().model, "is_safe_in_threads", False)
                self._model = ThreadPoolExecutor(_AT_ONCE if is_safe else 1, "imgsearch-model")
            analyses = self._model.submit(self._analyze, list(self._contents.values()))
            self._given.append(_Batch(analyses, self._contents, self._waiting))
        self._waiting, self._contents = [], {}

    def _take(self, left: int) -> Iterator[Found]:
        """Take batches from the model, until so many are left with it."""
        while len(self._given) > left:
            batch = self._given[0]
            analyses = dict(zip(batch.contents, batch.analyses.result(), strict=True))
            self._given.popleft()
            self._recent.update(analyses)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            for found, decoded in batch.waiting:
                sha256 = decoded.sha256
                reused = decoded is not batch.contents[sha256]
                yield self._complete(found, decoded, analyses[sha256], reused=reused)

    def _analyze(self, batch: Sequence[Decoded]) -> list[Analysis]:
        """In a thread of the model: the analyses; adds the seconds that they took alone."""
        analyzer = self._analyzer()
        with self._lock:
            started = time.perf_counter()
            if self._ended and not self._busy:
                self._idle += started - self._ended
            self._busy += 1
        try:
            analyses = analyzer.analyze_prepared([decoded.pixels for decoded in batch])
        finally:
            with self._lock:
                self._busy -= 1
                now = time.perf_counter()
                seconds = now - max(started, self._ended)
                self._ended = now
        self._stages.add("analyze", seconds, len(batch))
        return analyses

    def _complete(
        self, found: Found, decoded: Decoded, analysis: Analysis, *, reused: bool
    ) -> Found:
        found.document = Document.from_picture(
            decoded,
            analysis,
            labels=found.labels or (),
            metadata=found.metadata,
            photo=self._analyzer().photo,
        )
        found.decoded, found.analysis = replace(decoded, pixels=_NO_PIXELS), analysis
        found.reused = reused
        return found
