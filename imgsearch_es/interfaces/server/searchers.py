"""Processes that search, so that cores share the work: one process of Python uses one of them.

They have neither the model nor uploads, and know of the index what its file or server says. What
they cannot answer, for whatever reason, the server answers itself, as it does without them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.settings import ServerSettings

if TYPE_CHECKING:
    from starlette.responses import Response

    from imgsearch_es.interfaces.server.services import Services

T = TypeVar("T")
Work: TypeAlias = "Callable[[Services, T], Response]"
"""A function of a module, which another process can import."""


class Searchers:
    """So many processes; none where there is one core only, or what is shown is logged."""

    def __init__(self, location: str, settings: ServerSettings) -> None:
        self._given = location, replace(settings, processes=0)
        self._processes = 0 if settings.log is not None else settings.processes
        self._pool: ProcessPoolExecutor | None = None
        self._ready = False

    def start(self) -> None:
        """Start the processes; until they are there nothing is given to them."""
        if self._processes:
            self._ready = False
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._processes, context, _begin, self._given)
            for _ in range(self._processes):
                self._pool.submit(os.getpid).add_done_callback(self._started)

    def _started(self, done: Future[int]) -> None:
        self._ready = not done.cancelled() and done.exception() is None

    def submit(self, work: Work[T], given: T) -> Future[Response | None] | None:
        """Have something done; None where there is nobody for it."""
        if self._pool is None or not self._ready:
            return None
        try:
            return self._pool.submit(_answer, work, given)
        except BrokenProcessPool:  # a process was killed, and so the others were
            log.warning("the processes that search have ended, and are started again")
            self.start()
            return None

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class _ElsewhereError(Exception):
    """The server has the model."""


class _Index(ServedIndex):
    @property
    def analyzer(self) -> Analyzer:
        raise _ElsewhereError


_here: list[Services] = []
"""Of this process."""


def _begin(location: str, settings: ServerSettings) -> None:
    from imgsearch_es.interfaces.server.services import Services

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    _here.append(Services(_Index(location), settings))


def _end_with_the_server() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)


def _answer(work: Work[T], given: T) -> Response | None:
    """The answer; None where the server has to look itself, which then says what is wrong."""
    try:
        found = work(_here[0], given)
    except Exception:  # noqa: BLE001
        return None
    return found if found.status_code == 200 else None
