"""Taking turns on one DuckDB file.

DuckDB lets one process write a file, or many read it. A notebook, the command line and a server
must all be able to use one index, so nobody keeps the file: a writer has it for one batch, a
reader for a search and a short while after, for what it has in memory. Whoever finds the file taken
waits a bounded time, and then says who has it.

Each process has one DuckDB in memory, to which files are attached for their turn: that takes a
millisecond, where starting a DuckDB for a file and ending it takes thirty.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import threading
import time
import uuid
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
_KEEP_SECONDS = 2.0
"""A reader keeps the file this long after its last search ..."""
_TURN_SECONDS = 2.0
"""... but at most this long in a row: then it lets a waiting writer in."""
_WRITERS_MEMORY = 64_000_000
"""Bytes that DuckDB may keep of the file in memory while it is written to; what it sorts beyond
that goes through a file. Left alone it keeps all it has written, and memory grows with the
collection."""
_FOR_WRITERS = (f"SET memory_limit = '{_WRITERS_MEMORY}B'", "SET threads = 1")
"""Some hundred documents are no work for several threads, and other cores have a model to run."""
_FOR_READERS = ("RESET memory_limit", "RESET threads")
_NAME = "index_file"
"""What the attached file is called in SQL."""

_NO_ROOM = re.compile("No space left on device|File too large|Disk quota exceeded")

Identity = tuple[int, int]
"""Device and number of a file."""


def make_room(connection: duckdb.DuckDBPyConnection, size: int) -> None:
    """Let a writer have the memory that a transaction of so many bytes takes."""
    if 4 * size > _WRITERS_MEMORY:
        connection.execute(f"SET memory_limit = '{4 * size}B'")


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
        self._database: duckdb.DuckDBPyConnection | None = None
        self._attached = False
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
                self._detach()
            if not self._attached:
                self._attach(read_only=True)
                self._opened_at = time.monotonic()
            self._readers += 1
            cursor = self._cursor()
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
            self._detach()
            self._writing = True
        try:
            with _translated(self.path):
                self._attach(read_only=False)
                cursor = self._cursor()
                try:
                    cursor.begin()
                    yield cursor
                    cursor.commit()
                finally:
                    cursor.close()
                    self._detach()
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    @contextmanager
    def creating(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a new file, which gets its name when it is whole.

        So a program that is killed meanwhile leaves no half of an index, and of two programs
        that create it at once one wins.

        Raises:
            StoreError: the file exists.
        """
        draft = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex[:8]}.new")
        try:
            with _translated(self.path):
                connection = duckdb.connect(str(draft))
                try:
                    connection.begin()
                    yield connection
                    connection.commit()
                finally:
                    connection.close()
            self._take_name(draft)
        finally:
            draft.unlink(missing_ok=True)

    def _take_name(self, draft: Path) -> None:
        if not self.exists():
            self.path.unlink(missing_ok=True)  # an empty file, as tempfile makes it
            self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)  # of a deleted one
            try:
                os.link(draft, self.path)  # unlike renaming, this does not replace
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                draft.rename(self.path)
                return
            else:
                return
        raise StoreError(f"{self.path} exists already")

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
            if not self._readers and not self._writing:
                self._detach()

    # -- called with the condition held, or by the one writer --

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
        if self._readers or not self._attached:
            return
        if time.monotonic() - self._opened_at > _TURN_SECONDS:
            self._detach()
            time.sleep(2 * _POLL_SECONDS)
            return
        self._closer = threading.Timer(_KEEP_SECONDS, self.close)
        self._closer.daemon = True
        self._closer.start()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        assert self._database is not None  # noqa: S101  (attached before)
        cursor = self._database.cursor()
        cursor.execute(f"USE {_NAME}")
        return cursor

    def _detach(self) -> None:
        if self._database is not None and self._attached:
            self._attached = False
            self._database.execute(f"DETACH {_NAME}")

    def _attach(self, *, read_only: bool) -> None:
        path = str(self.path).replace("'", "''")
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        if self._database is None:
            self._database = duckdb.connect()
            self._database.execute(f"SET temp_directory = '{path}.tmp'")
        for setting in _FOR_READERS if read_only else _FOR_WRITERS:
            self._database.execute(setting)
        give_up = time.monotonic() + self.wait_seconds
        while True:
            before = self.on_disk()
            try:
                self._database.execute(f"ATTACH '{path}' AS {_NAME} ({mode})")
                self._attached = True
                if before in (None, self.on_disk()):
                    self.identity = self.on_disk()
                    return
                self._detach()  # of a file that was replaced while it was opened
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
        file._database = None


def _holder(error: BaseException) -> str | None:
    """Who holds the file, when that is what the error says."""
    text = str(error)
    if "Unique file handle conflict" in text:
        return "another DuckDB connection of this process"
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
    if full := _NO_ROOM.search(str(error)):  # a failing checkpoint says why in its second line
        return StoreError(
            f"there is no room to write {path} ({full[0].lower()}): make some and run the command "
            "again; what was stored before is there"
        )
    if "not a valid DuckDB database" in text:
        return SchemaError(f"{path} is not an index of imgsearch: it is no DuckDB file")
    if "version number" in text or "newer version" in text:
        return SchemaError(f"{path} was written by another version of DuckDB: {text}")
    return StoreError(f"{path}: {text}")
