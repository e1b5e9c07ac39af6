"""How searches share a server: one thread owns the model, and processes share the cores.

The processes that search have neither the model nor uploads, and know of the index what its file or
server says. What they cannot answer, for whatever reason, the server answers itself, as it does
without them.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.models.base import Model, Prediction, WrappedModel
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.stores.base import ANSWER_SECONDS, READ_SECONDS

MAX_TOGETHER = 32
"""Pictures in one forward pass."""
_SHARE = 0.1
"""Of the time that an answer may take: another process waits so long for the index's file."""
AGAIN_SECONDS = 10.0
"""After which processes are started again that ended before they were there."""


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


class ServedIndex(ImageIndex):
    """An index for many threads, whose model is a `BatchingModel`; takes what `ImageIndex` does."""

    observe: Callable[[int], None] = staticmethod(lambda pictures: None)
    """Called with the number of pictures of each forward pass."""
    has_analyzer = True
    """Whether pictures are analyzed here, and not by another process."""

    @property
    def analyzer(self) -> Analyzer:
        if not self.has_analyzer:
            raise RuntimeError("another process has the model")
        with self._lock:
            analyzer = super().analyzer
            if not isinstance(analyzer.model, BatchingModel):
                analyzer.model = BatchingModel(
                    analyzer.model, lambda pictures: self.observe(pictures)
                )
            return analyzer

    def close(self) -> None:
        if self._analyzer is not None and isinstance(self._analyzer.model, BatchingModel):
            self._analyzer.model.close()
            self._analyzer = None
        super().close()


Work: TypeAlias = Callable[[Any, Any], Response]
"""A function of a module, which another process can import, of the parts of a server there."""
Make: TypeAlias = Callable[[ServedIndex, ServerSettings], Any]
"""Gives the parts of a server, in each process its own."""


class Searchers:
    """As many processes as the settings say, none where what is shown is logged."""

    def __init__(self, make: Make, index: ServedIndex, settings: ServerSettings) -> None:
        self._given = make, index, replace(settings, processes=0)
        self._many = 0 if settings.log is not None else settings.processes
        self._pool: ProcessPoolExecutor | None = None
        self.is_ready, self._again_at = False, math.inf

    @property
    def processes(self) -> list[BaseProcess]:
        known = set() if self._pool is None else set(self._pool._processes)
        return [one for one in multiprocessing.active_children() if one.pid in known]

    def start(self) -> None:
        """Start the processes; until they are there nothing is given to them."""
        if self._many:
            self.is_ready, self._again_at = False, math.inf
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._many, context, _begin, self._given)
            # Ctrl-C is for the server: what it starts never hears of it, from the first moment.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            for _ in range(self._many):
                self._pool.submit(os.getpid).add_done_callback(self._started)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _started(self, done: Future[int]) -> None:
        self.is_ready = not done.cancelled() and done.exception() is None
        if not self.is_ready:  # one was killed, say, before it was there
            self._again_at = time.monotonic() + AGAIN_SECONDS

    def submit(self, work: Work, given: Any) -> Future[Response | None] | None:
        """Have something done; None where there is nobody for it."""
        if self._pool is None or not self.is_ready:
            if time.monotonic() > self._again_at:
                self.start()
            return None
        try:
            return self._pool.submit(_answer, work, given)
        except BrokenProcessPool:  # a process was killed, and so the others were
            log.warning("the processes that search have ended, and are started again")
            self.start()
            return None

    def close(self) -> None:
        if self._pool is not None:
            for process in self.processes:
                process.kill()  # nobody waits any more for what it does
            self._pool.shutdown(cancel_futures=True)  # Python would end while its thread ends


_here: list[Any] = []
"""The parts of this process."""


def _begin(make: Make, index: ServedIndex, settings: ServerSettings) -> None:
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    index.has_analyzer = False
    log.disabled = True  # what goes wrong here the server does again, and then says
    in_hurry(settings, _SHARE)
    _here.append(make(index, settings))


def in_hurry(settings: ServerSettings, share: float) -> None:
    """Let this thread wait for the index's file that share of the time of an answer."""
    READ_SECONDS.set(share * settings.request_seconds)
    ANSWER_SECONDS.set(settings.request_seconds)


def _end_with_the_server() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)


def _answer(work: Work, given: Any) -> Response | None:
    """The answer; None where the server has to look itself, which then says what is wrong."""
    try:
        found = work(_here[0], given)
    except Exception:  # noqa: BLE001
        return None
    return found if found.status_code == 200 else None
