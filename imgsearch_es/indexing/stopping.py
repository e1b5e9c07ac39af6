"""Ctrl-C and SIGTERM: the first ends a run in good order, the second at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from imgsearch_es.indexing.report import IndexReport
from imgsearch_es.stores.interrupts import RAISING


class StoppedError(KeyboardInterrupt):
    """A run was asked to stop, and has written all that it had analyzed.

    Attributes:
        report: what was done.
    """

    def __init__(self, report: IndexReport) -> None:
        super().__init__(
            f"stopped after {report.found} pictures ({report}); what was done is stored, "
            "run the command again to go on"
        )
        self.report = report


class Stop:
    """Whether the run shall end.

    Args:
        tell: each called when it shall, in the main thread, between any two of its instructions.
    """

    def __init__(self, *tell: Callable[[], None]) -> None:
        self._tell = tell
        self.requested = False
        self.at_once = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals that nobody else handles; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = {}
        for number, defaults in ((signal.SIGINT, RAISING), (signal.SIGTERM, (signal.SIG_DFL,))):
            if (handler := signal.getsignal(number)) in defaults:
                taken[number] = handler
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            self.at_once = True
            raise KeyboardInterrupt
        self.requested = True
        for tell in self._tell:
            tell()
