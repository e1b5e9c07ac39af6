"""Processes that search, so that cores share the work: one process of Python uses one of them.

They have neither the model nor uploads, and know of the index what its file or server says. What
they cannot answer, for whatever reason, the server answers itself, as it does without them.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeAlias, TypeVar

from starlette.responses import Response

from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.settings import ServerSettings

AGAIN_SECONDS = 10.0
"""After which processes are started again that ended before they were there."""
P = TypeVar("P")
T = TypeVar("T")
Work: TypeAlias = Callable[[P, T], Response]
"""A function of a module, which another process can import, of the parts of a server there."""
Make: TypeAlias = Callable[[ServedIndex, ServerSettings], P]


class Searchers(Generic[P]):
    """As many processes as the settings say, none where what is shown is logged.

    Args:
        make: gives the parts of a server, in each process its own.
        index: opened anew in each.
        settings: the server's.
    """

    def __init__(self, make: Make[P], index: ServedIndex, settings: ServerSettings) -> None:
        self._given = make, index, replace(settings, processes=0)
        self._many = 0 if settings.log is not None else settings.processes
        self._pool: ProcessPoolExecutor | None = None
        self.is_ready, self._again_at = False, math.inf

    @property
    def processes(self) -> list[BaseProcess]:
        """Those that there are."""
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

    def submit(self, work: Work[P, T], given: T) -> Future[Response | None] | None:
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
        """End the processes."""
        if self._pool is not None:
            for process in self.processes:
                process.kill()  # nobody waits any more for what it does
            self._pool.shutdown(wait=False, cancel_futures=True)


_here: list[Any] = []
"""The parts of this process."""


def _begin(make: Make[P], index: ServedIndex, settings: ServerSettings) -> None:
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    index.has_analyzer = False
    _here.append(make(index, settings))


def _end_with_the_server() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)


def _answer(work: Work[P, T], given: T) -> Response | None:
    """The answer; None where the server has to look itself, which then says what is wrong."""
    try:
        found = work(_here[0], given)
    except Exception:  # noqa: BLE001
        return None
    return found if found.status_code == 200 else None
