"""Large pictures wait for one another, so that their number does not multiply their memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from imgsearch_es.errors import ImageError

LARGE = 1 << 24
"""A picture of more pixels is decoded by a worker process that was told to, in its turn."""


class LargeError(ImageError):
    """A picture is large, and it is not its turn.

    Attributes:
        pixels: how many it has.
    """

    def __init__(self, uri: str, pixels: int) -> None:
        super().__init__(uri, f"its {pixels:,} pixels are to be decoded in turn")
        self.pixels = pixels


class Turns:
    """Lets threads hold so many pixels at once; who asks first is first. One picture may have more.

    Args:
        pixels: of all pictures together.
    """

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
