"""One thread owns the model; queries that wait for it are analyzed in one forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models.base import Model, Prediction, WrappedModel
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.index import ImageIndex

MAX_TOGETHER = 32
"""Pictures in one forward pass."""


@dataclass(eq=False)
class _Request:
    pixels: NDArray[np.uint8]
    answer: Prediction | None = None


class BatchingModel(WrappedModel):
    """A `Model` for many threads at once: those that wait are answered together.

    While a forward pass runs, requests gather; the next pass takes them all. So nobody waits for
    others to come, and under load a picture costs what it costs in a batch. ``observe`` is called
    with the number of pictures of each pass.
    """

    def __init__(
        self, model: Model, observe: Callable[[int], None] = lambda pictures: None
    ) -> None:
        super().__init__(model)
        self._observe = observe
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []
        self._owner = ThreadPoolExecutor(1, thread_name_prefix="imgsearch-model")

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Classify pictures, perhaps together with those of other threads.

        Should a pass with others fail, it is tried again alone: nobody gets the error of another's
        picture.
        """
        request = _Request(pixels)
        with self._lock:
            self._waiting.append(request)
        return self._owner.submit(self._answer, request).result()

    def close(self) -> None:
        """Take no more requests."""
        self._owner.shutdown(wait=False, cancel_futures=True)

    def _answer(self, request: _Request) -> Prediction:
        """In the owner's thread: the answer to a request, with all those that can join it."""
        if request.answer is None:
            together = self._take(request)
            try:
                found = self._model.predict(np.concatenate([one.pixels for one in together]))
            except ImgsearchError:
                together = [request]  # the others are asked for again, each by its own thread
                found = self._model.predict(request.pixels)
            self._observe(len(found.posterior))
            start = 0
            for one in together:
                part = slice(start, start := start + len(one.pixels))
                one.answer = Prediction(found.posterior[part], found.embedding[part])
        assert request.answer is not None  # noqa: S101  (it is among those answered above)
        return request.answer

    def _take(self, first: _Request) -> list[_Request]:
        """A request and others of pictures of the same size, no longer waiting."""
        taken, room = [first], MAX_TOGETHER - len(first.pixels)
        with self._lock:
            for one in self._waiting:
                fits = one is not first and one.pixels.shape[1:] == first.pixels.shape[1:]
                if fits and len(one.pixels) <= room:
                    taken.append(one)
                    room -= len(one.pixels)
            gone = set(map(id, taken))
            self._waiting = [one for one in self._waiting if id(one) not in gone]
        return taken


class ElsewhereError(Exception):
    """Another process has the model."""


class ServedIndex(ImageIndex):
    """An index for many threads, whose model is a `BatchingModel`; takes what `ImageIndex` does."""

    observe: Callable[[int], None] = staticmethod(lambda pictures: None)
    """Called with the number of pictures of each forward pass."""
    has_analyzer = True
    """Whether pictures are analyzed here, and not by another process."""

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer of this index."""
        if not self.has_analyzer:
            raise ElsewhereError
        with self._lock:
            analyzer = super().analyzer
            if not isinstance(analyzer.model, BatchingModel):
                analyzer.model = BatchingModel(
                    analyzer.model, lambda pictures: self.observe(pictures)
                )
            return analyzer

    def close(self) -> None:
        """Let go of the index and of the model's thread."""
        if self._analyzer is not None and isinstance(self._analyzer.model, BatchingModel):
            self._analyzer.model.close()
            self._analyzer = None
        super().close()
