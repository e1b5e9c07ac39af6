"""What the stages of a run hand on to each other: a bounded queue that ends, and can be cut off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

T = TypeVar("T")


class ClosedError(Exception):
    """Nobody takes any more."""


class Channel(Generic[T]):
    """A queue to one thread, which is not woken before there is enough for it.

    Who puts more than ``size`` items waits, and so memory stays bounded.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._wanted = 1
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Hand on an item; waits for room. Raises what the taker died of, or ClosedError."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._items) < self._size or self._closed)
            if self._closed:
                raise self._error or ClosedError
            self._items.append(item)
            if len(self._items) >= self._wanted:
                self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Say that nothing more comes; the taker meets the error after the last item."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def close(self, error: BaseException | None = None) -> None:
        """Take nothing more, which stops who puts."""
        with self._changed:
            self._closed = self._ended = True
            self._items.clear()
            self._error = self._error or error
            self._changed.notify_all()

    def batches(self, size: int, seconds: float | None = None) -> Iterator[list[T]]:
        """Take what comes, ``size`` items at a time, until the end; after so many seconds fewer."""
        while batch := self._take(size, seconds):
            yield batch
        if self._error is not None and not self._closed:
            raise self._error

    def _take(self, size: int, seconds: float | None) -> list[T]:
        batch: list[T] = []
        until: float | None = None
        with self._changed:
            while len(batch) < size:
                is_timed = seconds is not None and until is None  # from the first item on
                self._wanted = 1 if is_timed else min(size - len(batch), self._size)
                left = None if until is None else max(0.0, until - time.monotonic())
                is_enough = self._changed.wait_for(
                    lambda: len(self._items) >= self._wanted or self._ended, left
                )
                was_full = len(self._items) >= self._size
                while self._items and len(batch) < size:
                    batch.append(self._items.popleft())
                if was_full:
                    self._changed.notify_all()
                if self._ended or not is_enough:
                    break
                if is_timed and seconds is not None:
                    until = time.monotonic() + seconds
        return batch


def pump(executor: Executor, items: Iterable[T], channel: Channel[T]) -> Future[None]:
    """Put items into a channel, in a thread of the executor, until their end or the channel's."""

    def work() -> None:
        for item in items:
            try:
                channel.put(item)
            except ClosedError:
                return

    future = executor.submit(work)
    future.add_done_callback(lambda done: channel.end(done.exception()))
    return future
