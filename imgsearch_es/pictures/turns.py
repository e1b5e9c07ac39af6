"""Large pictures wait for one another, lest their number multiply their memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


class Turns:
    """Lets threads hold so many pixels at once, first come, first served; one may have more."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._free = pixels
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def take(self, pixels: int) -> Iterator[None]:
        """Wait until there is room, and hold it."""
        wanted, ticket = min(pixels, self._pixels), object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and wanted <= self._free)
                self._free -= wanted
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


TURNS = Turns(50_000_000)
"""Of what this process decodes itself, one by one as people ask: query pictures, thumbnails."""


class Turn(ExitStack):
    """Holds the room of one picture for as long as its pixels are needed.

    A thread has one at a time: with two, threads would wait for one another.
    """

    def admit(self, pixels: int) -> None:
        """What `open_image` is to call; again when it decodes again."""
        self.close()
        self.enter_context(TURNS.take(pixels))
