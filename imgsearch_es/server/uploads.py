"""Pictures that people search by: checked in a process of their own, kept in memory for a while."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from PIL import Image

from imgsearch_es.decoding import Decoded
from imgsearch_es.decoding.process import NoWorkerError, WorkerProcess
from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.files import Limits
from imgsearch_es.thumbnails import thumbnail

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
    """A picture that was uploaded.

    Attributes:
        id: by which queries name it.
        data: the file.
        width: pixels, upright.
        height: pixels, upright.
        format: "JPEG", "PNG", ...
        until: when it is forgotten, by the monotonic clock.
    """

    id: str
    data: bytes
    width: int
    height: int
    format: str
    until: float


class Checker:
    """Decodes files in worker processes, within limits of memory and time; safe in many threads.

    What passes here is decoded again by the server itself, from the same bytes, with the same
    decoder: so a crash or an endless loop has happened there before it can happen here.

    Args:
        limits: of a picture.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room = threading.Semaphore(WORKERS)
        self._idle: list[WorkerProcess] = []

    def check(self, data: bytes) -> tuple[int, int, str]:
        """Width and height in pixels, upright, and the format of a picture.

        Raises:
            ImageError: it is no picture, too large, or harms its decoder.
        """
        if len(data) > self._limits.max_bytes:
            raise ImageError(
                "the upload", f"larger than the limit of {self._limits.max_bytes:,} bytes"
            )
        found = self._decode(data, "the upload")
        return found.width, found.height, found.format

    def thumbnail(self, data: bytes, size: int) -> bytes:
        """A small JPEG, at most ``size`` pixels wide and high.

        Args:
            data: a picture's file.
            size: at most `LARGEST`.

        Raises:
            ImageError: it is no picture, too large, or harms its decoder.
        """
        return thumbnail(Image.fromarray(self._decode(data, "picture").pixels), size)

    def close(self) -> None:
        """End the worker processes."""
        while self._idle:
            _end(self._idle.pop())

    def _decode(self, data: bytes, name: str) -> Decoded:
        with self._room:
            try:
                worker = self._idle.pop()
            except IndexError:
                worker = WorkerProcess(_SMALL, self._limits)
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
        """Check a picture and keep it.

        Raises:
            ImageError: it is no picture, too large, or harms its decoder.
        """
        size = self._checker.check(data)
        until = time.monotonic() + KEEP_SECONDS
        upload = Upload(PREFIX + secrets.token_urlsafe(16), data, *size, until)
        with self._lock:
            self._kept[upload.id] = upload
            self._bytes += len(data)
            self._forget()
        return upload

    def get(self, name: str) -> Upload:
        """The upload of this id.

        Raises:
            UnknownPictureError: there is none, or it was forgotten.
        """
        with self._lock:
            found = self._kept.get(name)
        if found is None or found.until < time.monotonic():
            raise UnknownPictureError(name)
        return found

    def _forget(self) -> None:
        """Drop the oldest: what is over the limit in all, and what is kept long enough."""
        now = time.monotonic()
        for name, upload in list(self._kept.items()):
            if self._bytes <= _TOTAL_BYTES and upload.until >= now:
                return
            del self._kept[name]
            self._bytes -= len(upload.data)
