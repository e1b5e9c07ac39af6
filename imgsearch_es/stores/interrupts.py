"""Ctrl-C at any moment: what must be whole is finished first.

Python raises a KeyboardInterrupt between any two instructions of the main thread, also where
``finally`` begins; so a count that is put right there is wrong now and then. Here the signal waits.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPED = "stopped; what was done is stored, run the command again to go on"


def end(number: int, frame: FrameType | None) -> None:
    """The command line's handler before a command begins and after it: there is nothing to save."""
    os.write(2, f"imgsearch: {STOPPED}\n".encode())
    os._exit(interrupt.code)


def terminate(number: int, frame: FrameType | None) -> None:
    """The command line's handler of SIGTERM: as Ctrl-C, but for the exit code."""
    interrupt.code = 128 + number
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else end)(signal.SIGINT, frame)


class _Interrupt:
    """Its handler during a command: remembers that Ctrl-C came, as what it raises may get lost."""

    came = False
    code = 130

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise it again: for a command that only a signal ends, as an import may have lost it."""
        if self.came:
            raise KeyboardInterrupt


interrupt = _Interrupt()
RAISING: tuple[Any, ...] = (signal.default_int_handler, interrupt)
"""Handlers that do nothing but end what is going on."""


class Ending:
    """A handler that asks a program to end, and by the second Ctrl-C ends it at once.

    A run in between takes the signals, calls ``ask`` and ends in good order; so does one that
    begins when it was ``asked`` already.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.asked = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called by Python when the signal comes."""
        self.asked = True
        self.ask()
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Pending:
    """Ctrl-C that waits, as the handler of its signal, for its turn with another handler.

    ``hurry`` is called at once, where that handler ends what is going on.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._handler = handler
        self._came = False
        self.hurry: Callable[[], object] = lambda: None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Called by Python when the signal comes."""
        self._came = True
        if self._handler in RAISING:
            self.hurry()

    def check(self) -> None:
        """Let the signal have its effect now, if it came."""
        if self._came:
            self._came = False
            self._handler(signal.SIGINT, None)


@contextmanager
def deferred() -> Iterator[Pending]:
    """Within this block Ctrl-C is no exception but where ``check`` is called, and at its end."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(handler):
        yield Pending(lambda number, frame: None)
        return
    pending = Pending(handler)
    signal.signal(signal.SIGINT, pending)
    try:
        yield pending
    finally:
        signal.signal(signal.SIGINT, handler)
        pending.check()


def is_alive(process: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
