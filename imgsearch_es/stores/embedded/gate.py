"""Who wants to write a file says so beside it, and readers in other processes let go of it.

A lock (flock) on a small file, which is there only while somebody writes or waits to. It ends with
its process, however that ends. Where a file system has no such locks there is no gate, and writers
wait for a moment without a reader.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class Gate:
    """One writer's gate to a file.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(f".{path.name}.writer")
        self._descriptor: int | None = None

    def is_shut(self) -> bool:
        """Whether somebody writes, or waits to."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except OSError:
            return False
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def shut(self) -> bool:
        """Keep others out, unless somebody else does.

        Raises:
            OSError: the folder cannot be written.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        if _lock(descriptor, fcntl.LOCK_EX) and self._is_at_its_place(descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def open(self) -> None:
        """Let others in."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            # Closing alone is not enough where a process was forked, which has the lock as well.
            _lock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    def _is_at_its_place(self, descriptor: int) -> bool:
        """Who had the lock before removed the file; others may have another one by now."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True
