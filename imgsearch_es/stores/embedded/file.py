"""Taking turns on one DuckDB file.

DuckDB lets one process write a file, or many read it. A notebook, the command line and a server
must all be able to use one index, so nobody keeps the file: a writer has it for one batch, a
reader for a search and a short while after (opening costs more than a search). Whoever finds the
file taken waits a bounded time, and then says who has it.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import duckdb

from imgsearch_es.errors import IndexLockedError, IndexNotFoundError, SchemaError, StoreError

WAIT_SECONDS = 30.0
"""How long to wait for another process before giving up."""
_POLL_SECONDS = 0.02
_KEEP_SECONDS = 0.25
"""A reader keeps the file this long after its last search ..."""
_TURN_SECONDS = 1.0
"""... but at most this long in a row: then it lets a waiting writer in."""

Identity = tuple[int, int]
"""Device and number of a file."""


class DatabaseFile:
    """One DuckDB file, shared by all threads of this process."""

    _open_files: ClassVar[WeakValueDictionary[Path, DatabaseFile]] = WeakValueDictionary()
    _open_files_lock = threading.Lock()

    @classmethod
    def at(cls, path: Path) -> DatabaseFile:
        """The one object of this process for this file."""
        path = path.resolve()
        with cls._open_files_lock:
            found = cls._open_files.get(path)
            if found is None:
                found = cls._open_files[path] = cls(path)
            return found

    def __init__(self, path: Path, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._opened_at = 0.0
        self._closer: threading.Timer | None = None
        self.identity: Identity | None = None
        """Which file was opened last; it stays so while a connection is in use."""

    def on_disk(self) -> Identity | None:
        """Which file is at the path now: another one once an index was rebuilt."""
        try:
            info = self.path.stat()
        except FileNotFoundError:
            return None
        return info.st_dev, info.st_ino

    def exists(self) -> bool:
        """Whether there is a file with something in it."""
        return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A read-only cursor; many threads may have one at once.

        Raises:
            IndexNotFoundError: there is no such file.
            IndexLockedError: another process is writing, for longer than the wait.
        """
        if not self.exists():
            raise IndexNotFoundError(
                f"there is no index at {self.path}; `imgsearch index` makes one"
            )
        with self._changed:
            self._wait_until(lambda: not self._writing and not self._writers_waiting)
            if not self._readers and self.on_disk() != self.identity:
                self._close()
            if self._connection is None:
                self._connection = self._connect(read_only=True)
                self._opened_at = time.monotonic()
            self._readers += 1
            cursor = self._connection.cursor()
        try:
            with _translated(self.path):
                yield cursor
        finally:
            with self._changed:
                cursor.close()
                self._readers -= 1
                self._let_go_soon()
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The only connection, in a transaction that is committed at the end or not at all.

        Raises:
            IndexLockedError: another process has the file, for longer than the wait.
        """
        with self._changed:
            self._writers_waiting += 1  # so that new readers cannot keep it waiting forever
            try:
                self._wait_until(lambda: not self._writing and not self._readers)
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
            self._close()
            self._writing = True
        try:
            with _translated(self.path):
                connection = self._connect(read_only=False)
                try:
                    connection.begin()
                    yield connection
                    connection.commit()
                finally:
                    connection.close()
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def replace_by(
        self,
        other: DatabaseFile,
        is_wanted: Callable[[duckdb.DuckDBPyConnection], bool],
        keep_as: Path | None,
    ) -> bool:
        """Put another file in this one's place, unless ``is_wanted`` says otherwise when asked.

        Both are locked meanwhile: nobody writes to the old file when it is looked at for the last
        time, nor to the new one before the old one is let go.
        """
        with other.writing() as new, self.writing() as old:
            if not is_wanted(old):
                return False
            for connection in (new, old):  # so that no log of changes is left beside the files
                connection.commit()
                connection.execute("CHECKPOINT")
                connection.begin()
            shutil.copymode(self.path, other.path)
            if keep_as is not None:
                keep_as.unlink(missing_ok=True)
                os.link(self.path, keep_as)
            other.path.replace(self.path)
        return True

    def close(self) -> None:
        """Let go of the file now; it opens again when needed."""
        with self._changed:
            if not self._readers:
                self._close()

    # -- called with the condition held --

    def _wait_until(self, free: Callable[[], bool]) -> None:
        if not self._changed.wait_for(free, timeout=self.wait_seconds):
            raise IndexLockedError(
                f"another thread of this process has held {self.path} for "
                f"{self.wait_seconds:.0f} seconds; try again later"
            )

    def _let_go_soon(self) -> None:
        if self._closer:
            self._closer.cancel()
            self._closer = None
        if self._readers or self._connection is None:
            return
        if time.monotonic() - self._opened_at > _TURN_SECONDS:
            self._close()
            time.sleep(2 * _POLL_SECONDS)
            return
        self._closer = threading.Timer(_KEEP_SECONDS, self.close)
        self._closer.daemon = True
        self._closer.start()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self, *, read_only: bool) -> duckdb.DuckDBPyConnection:
        give_up = time.monotonic() + self.wait_seconds
        while True:
            before = self.on_disk()
            try:
                connection = duckdb.connect(str(self.path), read_only=read_only)
                if before in (None, self.on_disk()):
                    self.identity = self.on_disk()
                    return connection
                connection.close()  # of a file that was replaced while it was opened
            except duckdb.Error as error:
                holder = _holder(error)
                if holder is None:
                    raise _translate(self.path, error) from error
                if time.monotonic() >= give_up:
                    raise IndexLockedError(
                        f"{self.path} has been in use by {holder} for {self.wait_seconds:.0f} "
                        "seconds; wait until it is done, or stop it"
                    ) from error
            time.sleep(_POLL_SECONDS)


@atexit.register
def _close_all() -> None:
    """DuckDB's Python binding complains of connections that are open when Python ends."""
    for file in list(DatabaseFile._open_files.values()):
        file.close()


def _holder(error: BaseException) -> str | None:
    """Who holds the file, when that is what the error says."""
    text = str(error)
    if not isinstance(error, duckdb.IOException) or "Could not set lock" not in text:
        return None
    found = re.search(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)", text)
    if not found:
        return "another process"
    return f"{Path(found['program']).name} (process {found['pid']})"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: duckdb.Error) -> StoreError:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "not a valid DuckDB database" in text:
        return SchemaError(f"{path} is not an index of imgsearch: it is no DuckDB file")
    if "version number" in text or "newer version" in text:
        return SchemaError(f"{path} was written by another version of DuckDB: {text}")
    return StoreError(f"{path}: {text}")
