"""The second stage: read, hash and decode files in worker processes; and what joins all stages.

Processes decode because a decoder that crashes, hangs or eats the memory must not end the run. They
read new files themselves, several at a time, so that threads here hardly run. What the index knows
is read here, as it has seldom changed; so is what is no local file. A few pictures are decoded in
threads, if they are not large: starting a worker costs as much as decoding a hundred.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain, islice
from typing import Generic, TypeVar

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.decoding import LARGE, Decoded, Large, LargeError, Refused, described
from imgsearch_es.analysis.decoding.process import NoWorkerError, WorkerLostError, WorkerProcess
from imgsearch_es.analysis.models.runtime import cores
from imgsearch_es.errors import ImageError, ShortageError
from imgsearch_es.indexing.find import Found, Options
from imgsearch_es.indexing.report import Stages
from imgsearch_es.pictures.files import read_bytes, to_path
from imgsearch_es.pictures.turns import Turn, Turns
from imgsearch_es.retrieval.ledger import Rejected

_AHEAD = 96
"""Pictures read and decoded before the next stage takes them; at least some for each thread."""
_CHUNK = 8
"""Pictures that a thread takes at a time, when they are small ..."""
_CHUNK_SECONDS = 0.05
"""... which means: that a worker decodes in this time."""
_FEW = 16
"""So many pictures are not worth a worker process."""
_PHOTO = 25_000_000
"""Pixels for each core, of the large pictures that are decoded at once: those of a good camera."""
_FIRST_WORKERS = 2
_WAITED = 0.1
"""When the model waits for more than this part of its time, another worker is started."""
_log = logging.getLogger(__name__)

T = TypeVar("T")


class ClosedError(Exception):
    """Nobody takes any more."""


class Channel(Generic[T]):
    """What a stage hands on: a queue to one thread, not woken before there is enough for it.

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
            self._closed = True
            self._items = deque()  # a signal handler may close it while its thread takes from it
            self.end(error)

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
                items = self._items
                was_full = len(items) >= self._size
                while items and len(batch) < size:
                    batch.append(items.popleft())
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


class Readers:
    """Threads, each with a worker process that reads, hashes and decodes.

    Unless their number is given there are two, and more when the model waits, one per core. The
    analyzer is asked for when a picture has to be decoded; so many as ``few`` are in threads.
    """

    def __init__(
        self,
        analyzer: Callable[[], Analyzer],
        options: Options,
        stages: Stages,
        *,
        few: int = _FEW,
    ) -> None:
        most = options.workers or cores()
        first = options.workers or min(_FIRST_WORKERS, most)
        self._analyzer, self._stages = analyzer, stages
        self._limits, self._retry = options.limits, options.retry
        self._tried_with = described(options.limits)
        self._few = few
        self._ahead = max(_AHEAD // _CHUNK, 2 * most)
        self._chunk = 1
        self._more = most - first
        self._permits = threading.Semaphore(first)
        self._threads = ThreadPoolExecutor(most + 1, "imgsearch-read")
        self._in_processes = False
        self._has_workers = True
        self._turns = Turns(most * _PHOTO)
        self._idle: list[WorkerProcess] = []
        self._all: list[WorkerProcess] = []
        self._lock = threading.Lock()
        self._closed = False
        self._pending: Channel[Future[Sequence[Found]]] = Channel(self._ahead)

    def read(self, pictures: Iterable[Found]) -> Iterator[Found]:
        """Each picture, decoded, rejected or neither, in the order given; works somewhat ahead."""
        self._pending = pending = Channel[Future[Sequence[Found]]](self._ahead)
        pump(self._threads, self._submit(pictures), pending)
        for futures in pending.batches(1):
            yield from futures[0].result()

    def waited(self, part: float) -> None:
        """Take note for which part of its time the model had to wait for pictures."""
        if part > _WAITED and self._more:
            self._more -= 1
            self._permits.release()

    def close(self, *, wait: bool = True) -> None:
        """End the threads and processes, whatever they are doing."""
        self._pending.close()
        with self._lock:
            self._closed = True
        for worker in self._all:
            worker.kill()
        self._threads.shutdown(wait=wait, cancel_futures=True)
        if wait:
            for worker in self._all:
                worker.close()

    def _submit(self, pictures: Iterable[Found]) -> Iterator[Future[Sequence[Found]]]:
        rest = iter(pictures)
        first = list(islice(rest, self._few + 1))
        self._in_processes = len(first) > self._few
        rest = chain(first, rest)
        while chunk := list(islice(rest, self._chunk)):
            yield self._threads.submit(self._look_at, chunk)

    def _look_at(self, pictures: Sequence[Found]) -> Sequence[Found]:
        """In a thread: read, hash, and decode where that is needed."""
        with self._permits:
            self._decode_new([found for found in pictures if _is_new_file(found)])
            for found in pictures:
                if found.decoded is None and found.rejected is None:
                    self._look_at_one(found)
            return pictures

    def _decode_new(self, pictures: Sequence[Found]) -> None:
        """Let a worker decode new files all at once, but large ones, and none if it crashes."""
        uris = [found.uri for found in pictures]
        if not uris or not self._in_processes:
            return
        try:
            decodings = self._with_worker(lambda worker: worker.decode_files(uris))
        except WorkerLostError:
            return
        if decodings is None:
            return
        for stage, seconds in decodings.seconds.items():
            self._stages.add(stage, seconds)
        each = sum(decodings.seconds.values()) / len(uris)
        most = max(1, _CHUNK // self._analyzer().preparation.count)  # their pixels wait in memory
        self._chunk = most if each * most <= _CHUNK_SECONDS else max(1, int(_CHUNK_SECONDS / each))
        for found, picture in zip(pictures, decodings.pictures, strict=True):
            if not isinstance(picture, Large):
                self._take(found, picture)

    def _look_at_one(self, found: Found) -> None:
        known, picture, data = found.known, found.picture, found.data
        found.picture = found.data = None
        if found.error is not None:
            self._take(found, Refused(found.error, ""))
            return
        if picture is not None:
            if not known or known.sha256 != picture.sha256:
                found.decoded = Decoded.of(picture, self._analyzer().prepare(picture.image))
            return
        sha256 = ""
        try:
            with self._stages.measure("read"):
                data = read_bytes(found.uri, self._limits) if data is None else data
                sha256 = hashlib.sha256(data).hexdigest()
            if known and known.sha256 == sha256:
                return
            before = found.before
            tried = before and (before.sha256, before.tried_with) == (sha256, self._tried_with)
            if tried and not self._retry:
                found.rejected, found.as_before = before, True
                return
            with self._stages.measure("decode"):
                self._take(found, self._decode(data, found.uri))
        except ShortageError as error:
            self._take(found, Refused(error.reason, "", is_shortage=True))
        except ImageError as error:
            self._take(found, Refused(error.reason, sha256))

    def _take(self, found: Found, picture: Decoded | Refused) -> None:
        if isinstance(picture, Refused):
            facts = dataclasses.asdict(picture)
            found.rejected = Rejected(found.uri, tried_with=self._tried_with, **facts)
        else:
            self._stages.add("decode", 0.0, 1)
            found.decoded = picture

    def _decode(self, data: bytes, uri: str) -> Decoded:
        """By a worker where there are many pictures, or the picture is large; else here."""

        def refuse_large(pixels: int) -> None:
            if pixels > LARGE:
                raise LargeError(uri, pixels)

        if not self._in_processes and self._has_workers:
            with suppress(LargeError):
                return self._decode_here(data, uri, refuse_large)
        found = self._with_worker(lambda worker: worker.decode(data, uri))
        if found is not None:
            return found
        with Turn() as turn:
            return self._decode_here(data, uri, turn.admit)

    def _decode_here(self, data: bytes, uri: str, admit: Callable[[int], None]) -> Decoded:
        analyzer = self._analyzer()
        picture = analyzer.open(data, uri=uri, limits=self._limits, admit=admit)
        return Decoded.of(picture, analyzer.prepare(picture.image))

    def _with_worker(self, use: Callable[[WorkerProcess], T]) -> T | None:
        """What a worker process gives; None where there is none."""
        if not self._has_workers:
            return None
        try:
            worker = self._worker()
            try:
                return use(worker)
            finally:
                self._idle.append(worker)
        except NoWorkerError as error:
            if self._closed:
                raise
            with self._lock:  # several threads find out at once, and one says so
                is_first, self._has_workers = self._has_workers, False
                self._in_processes = False
            if is_first:
                _log.warning("pictures are decoded in threads, as %s", error)
            return None

    def _worker(self) -> WorkerProcess:
        """One that nobody uses, or a new one; the permits bound their number."""
        try:
            return self._idle.pop()
        except IndexError:
            config = self._analyzer().config
            filters, views = config["image_filters"], config.get("views")
            worker = WorkerProcess(filters, self._limits, self._turns, views=views)
        with self._lock:
            if not self._closed:
                self._all.append(worker)
                return worker
        worker.kill()
        worker.close()
        raise NoWorkerError("the run ends")


def _is_new_file(found: Found) -> bool:
    """Whether a local file has to be decoded, whatever is in it."""
    is_known = found.picture is not None or found.known or found.before
    return found.error is None and not is_known and to_path(found.uri) is not None
