"""Pictures that people search by: checked in a process of their own, kept in memory for a while."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.analysis.decoding.process import NoWorkerError, WorkerProcess
from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.pictures.files import Limits

PREFIX = "upload-"
NAME = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{22}}")
"""What the id of an upload looks like; the end of it cannot be guessed."""
KEEP_SECONDS = 3600.0
_TOTAL_BYTES = 256 * 1024**2
LARGEST = 1280
"""The longer side of what a checked picture is shrunk to, in pixels."""
WORKERS = 2
"""Worker processes, so that one picture that takes its time does not stop all others."""
_SMALL = [{"name": "resize", "longer_side": LARGEST, "interpolation": "lanczos", "decode": "fast"}]


class UnknownPictureError(QueryError):
    """There is no picture of this id."""

    def __init__(self, name: str) -> None:
        what = "that upload is no longer kept: upload the picture again"
        if not name.startswith(PREFIX):
            what = f"the index has no picture with the id {name[:40]!r}"
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that was uploaded, and when it is forgotten, by the monotonic clock.

    ``pixels`` are as the model takes them; None where the index has no model.
    """

    id: str
    data: bytes
    width: int
    height: int
    format: str
    until: float
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return len(self.data) + (0 if self.pixels is None else self.pixels.nbytes)


class Checker:
    """Decodes files in worker processes, within limits of memory and time; safe in many threads.

    No large picture is decoded by the server itself: its process would take the memory of all of
    them at once. ``analyzer`` gives the configuration of the index's, empty where it has no model;
    it is asked when a worker starts.
    """

    def __init__(
        self,
        limits: Limits,
        analyzer: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._limits = limits
        self._ask_analyzer = analyzer
        self._room = threading.Semaphore(WORKERS)
        self._idle: list[WorkerProcess] = []

    @cached_property
    def analyzer(self) -> Mapping[str, Any]:
        """The index's; asked for once, so that all workers have the same."""
        return self._ask_analyzer()

    @property
    def filters(self) -> Sequence[Mapping[str, Any]]:
        """Its image filters."""
        filters: Sequence[Mapping[str, Any]] = self.analyzer.get("image_filters", ())
        return filters

    def check(self, data: bytes) -> Decoded:
        """``decode`` an upload, if it has not too many bytes."""
        if len(data) > self._limits.max_bytes:
            raise ImageError(
                "the upload", f"larger than the limit of {self._limits.max_bytes:,} bytes"
            )
        return self.decode(data, "the upload")

    def decode(self, data: bytes, name: str) -> Decoded:
        """The size and format of a picture, and what the filters make of it, else a small copy."""
        with self._room:
            try:
                worker = self._idle.pop()
            except IndexError:
                views = self.analyzer.get("views")
                worker = WorkerProcess(self.filters or _SMALL, self._limits, views=views)
            try:
                found = worker.decode(data, name)
            except NoWorkerError:
                _end(worker)
                raise
            except ImageError:
                self._idle.append(worker)
                raise
            self._idle.append(worker)
            return found

    def close(self) -> None:
        """End the worker processes."""
        while self._idle:
            _end(self._idle.pop())


def _end(worker: WorkerProcess) -> None:
    worker.kill()
    worker.close()


class Uploads:
    """Uploaded pictures by id: for an hour, at most 256 MB, the oldest are forgotten first."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._bytes = 0

    def add(self, data: bytes) -> Upload:
        """Check a picture and keep it; those kept long enough, or too many, are forgotten."""
        found = self._checker.check(data)
        pixels = found.pixels if self._checker.filters else None
        size = (found.width, found.height, found.format)
        until = time.monotonic() + KEEP_SECONDS
        upload = Upload(PREFIX + secrets.token_urlsafe(16), data, *size, until, pixels)
        with self._lock:
            self._kept[upload.id] = upload
            self._bytes += upload.size
            now = time.monotonic()
            for name, one in list(self._kept.items()):  # the oldest first
                if self._bytes <= _TOTAL_BYTES and one.until >= now:
                    break
                del self._kept[name]
                self._bytes -= one.size
        return upload

    def get(self, name: str) -> Upload:
        """The upload of this id."""
        with self._lock:
            found = self._kept.get(name)
        if found is None or found.until < time.monotonic():
            raise UnknownPictureError(name)
        return found
