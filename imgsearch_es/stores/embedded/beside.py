"""What lies beside an index file for a while: a draft of it, what DuckDB spilled, a writer's lock.

A new file is whole or not there at all. Who wants to write a file says so by a lock (flock) on a
small file, which is there only while somebody writes or waits to, and readers in other processes
let go of the index. The lock ends with its process, however that ends. Where a file system has no
such locks there is no gate, and writers wait for a moment without a reader.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from imgsearch_es.errors import StoreError


@contextmanager
def drafted(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new file, which gets its name when all of it is on disk.

    Only one is made at a time: a draft that is there was left by a program that was killed.
    StoreError where there is a file with something in it.
    """
    draft = path.with_name(f".{path.name}.new")
    _remove(draft)
    try:
        with duckdb.connect(str(draft)) as connection:
            connection.begin()
            yield connection
            connection.commit()
            connection.execute("CHECKPOINT")  # in closing it would fail in silence
        _take_name(draft, path)
    finally:
        _remove(draft)


def clear_spilled(path: Path) -> None:
    """Remove what DuckDB put beside a file for want of memory, in processes that were killed.

    DuckDB itself does so only when it needs the room again. Names hold the number of the process.
    """
    folder = path.with_name(f"{path.name}.tmp")
    for left in folder.glob("duckdb_temp_*"):
        found = re.match(r"duckdb_temp_(\d+)_", left.name)
        if found and not _is_alive(int(found[1])):
            left.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or not empty
        folder.rmdir()


class Gate:
    """One writer's gate to a file."""

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
        """Keep others out, unless somebody else does; OSError where the folder is read-only."""
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


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _take_name(draft: Path, path: Path) -> None:
    is_taken = path.is_file() and path.stat().st_size > 0
    if not is_taken:
        path.unlink(missing_ok=True)  # an empty file, as tempfile makes it
        path.with_name(f"{path.name}.wal").unlink(missing_ok=True)  # of a deleted one
        try:
            os.link(draft, path)  # unlike renaming, this does not replace
        except FileExistsError:
            is_taken = True
        except OSError:  # a file system without links
            draft.rename(path)
    if is_taken:
        raise StoreError(f"{path} exists already")


def _remove(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        path.unlink(missing_ok=True)
