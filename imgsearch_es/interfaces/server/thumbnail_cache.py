"""Thumbnails on disk: made once, and the longest unused go when the folder is full."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_dir

_KEY = re.compile(r"[0-9a-f]{64}-[0-9]{2,4}")
_END = b"\xff\xd9"
"""Of a JPEG file; what a power cut left has none."""
_KEEP = 0.9
"""The share of the limit that is left after cleaning up."""
_TOUCH_SECONDS = 3600.0
"""A file's time of use is kept to about an hour, so that a hit writes nothing."""
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Below IMGSEARCH_CACHE, or the user's cache folder."""
    chosen = os.environ.get("IMGSEARCH_CACHE")
    base = Path(chosen).expanduser() if chosen else Path(user_cache_dir("imgsearch_es"))
    return base / "thumbnails"


class ThumbnailCache:
    """Files by key, at most so many bytes; safe in many threads and, but for its count, processes.

    Args:
        folder: made when first needed; readable for its owner only.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None
        self._has_warned = False

    def get(self, key: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """A thumbnail, and whether it was there.

        Args:
            key: the SHA-256 of the picture in hexadecimal, a hyphen, and the size in pixels.
            make: makes it where there is none.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
            self._touch(path)
        except OSError:  # mostly it is not there
            data = b""
        if not data.endswith(_END):
            data = make()
            try:
                self._put(path, data)
            except OSError as error:  # the disk is full, say: a cache is not needed
                if not self._has_warned:
                    _log.warning("thumbnails are not kept in %s: %s", self.folder, error.strerror)
                self._has_warned = True
            return data, False
        return data, True

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"not the key of a thumbnail: {key!r}")
        return self.folder / key[:2] / f"{key}.jpg"

    def _touch(self, path: Path) -> None:
        now = time.time()
        if now - path.stat().st_mtime > _TOUCH_SECONDS:
            os.utime(path, (now, now))

    def _put(self, path: Path, data: bytes) -> None:
        """Write a file in one step, so that nobody reads half of it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._files())
            else:
                self._bytes += len(data)
            if self._bytes > self._max_bytes:
                self._bytes = self._clean()

    def _clean(self) -> int:
        """Remove the longest unused, and give the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= _KEEP * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of use, bytes and path of each file."""
        found = []
        for path in self.folder.glob("*/*.jpg"):
            try:
                info = path.stat()
            except FileNotFoundError:  # another process cleans up, too
                continue
            found.append((info.st_mtime, info.st_size, path))
        return found
