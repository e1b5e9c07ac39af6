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
import ctypes
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar
from weakref import WeakValueDictionary

import duckdb

from imgsearch_es.errors import IndexLockedError, IndexNotFoundError
from imgsearch_es.interrupts import Pending, deferred
from imgsearch_es.stores.embedded.drafting import drafted
from imgsearch_es.stores.embedded.faults import holder_of, translated
from imgsearch_es.stores.embedded.gate import Gate

WAIT_SECONDS = 30.0
"""How long to wait for another process before giving up."""
_POLL_SECONDS = 0.01
_LINE_SECONDS = 0.05
"""How often a writer asks for its turn while another one has it: seldom, so that those who read get
theirs in between."""
_KEEP_SECONDS = 2.0
"""A reader keeps the file this long after its last search ..."""
_LOOK_SECONDS = 0.05
"""... and looks this often whether another process waits to write."""
_WRITERS_MEMORY = 64_000_000
"""Bytes that DuckDB may keep of the file in memory while it is written to; what it sorts beyond
that goes through a file. Left alone it keeps all it has written, and memory grows with the
collection."""
_FOR_WRITERS = (f"SET memory_limit = '{_WRITERS_MEMORY}B'", "SET threads = 1")
"""Some hundred documents are no work for several threads, and other cores have a model to run."""
_FOR_READERS = ("RESET memory_limit", "RESET threads")
_NAME = "index_file"
"""What the attached file is called in SQL."""

_log = logging.getLogger(__name__)

Identity = tuple[int, int]
"""Device and number of a file."""


def make_room(connection: duckdb.DuckDBPyConnection, size: int) -> None:
    """Let a writer have the memory that a transaction of so many bytes takes."""
    if 4 * size > _WRITERS_MEMORY:
        connection.execute(f"SET memory_limit = '{4 * size}B'")


class DatabaseFile:
    """One DuckDB file, shared by all threads of this process.

    Ctrl-C waits while the file is taken or let go of, so that nobody is left in the accounts.
    """

    _open_files: ClassVar[WeakValueDictionary[Path, DatabaseFile]] = WeakValueDictionary()
    _open_files_lock = threading.Lock()

    @classmethod
    def at(cls, path: Path) -> DatabaseFile:
        """The one object of this process for this file."""
        path = path.resolve()
        with deferred(), cls._open_files_lock:
            found = cls._open_files.get(path)
            if found is None:
                found = cls._open_files[path] = cls(path)
            return found

    def __init__(self, path: Path, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self.identity: Identity | None = None
        """Which file was opened last; it stays so while a connection is in use."""
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writer: Gate | None = None  # who writes, or waits to
        self._database: duckdb.DuckDBPyConnection | None = None
        self._attached = False
        self._used_at = 0.0
        self._keeper: threading.Thread | None = None
        self._holder = ""
        self._patient = 0
        self._ended = False

    def on_disk(self) -> Identity | None:
        """Which file is at the path now: another one once an index was rebuilt."""
        with translated(self.path), suppress(FileNotFoundError):
            info = self.path.stat()
            return info.st_dev, info.st_ino
        return None

    def exists(self) -> bool:
        """Whether there is a file with something in it."""
        with translated(self.path):
            return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def patient(self) -> Iterator[Callable[[], None]]:
        """Within this block, wait for the file as long as it takes, and say for whom.

        What it gives, when called, ends all waiting; it may be called in a handler of signals.
        """
        self._patient += 1
        try:
            yield lambda: setattr(self, "_ended", True)
        finally:
            self._patient -= 1
            self._ended = False

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
        with deferred() as interrupt:
            self._wait(self._may_read, interrupt)
            try:
                with translated(self.path), self._cursor() as cursor:
                    interrupt.hurry = lambda: _stop(cursor)
                    yield cursor
            finally:
                with self._changed:
                    self._readers -= 1
                    self._let_go_soon()
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The only connection, in a transaction that is committed at the end or not at all.

        Raises:
            IndexLockedError: another process has the file, for longer than the wait.
        """
        gate = Gate(self.path)
        with deferred() as interrupt, translated(self.path):
            try:
                self._wait(lambda: self._is_next(gate), interrupt, _LINE_SECONDS)
                self._wait(self._may_write, interrupt)
                with self._cursor() as cursor:
                    cursor.begin()
                    yield cursor
                    cursor.commit()
            finally:
                with self._changed:
                    try:
                        if self._writer is gate and not self._readers:
                            self._detach()
                    finally:
                        self._writer = None if self._writer is gate else self._writer
                        gate.open()
                        self._changed.notify_all()

    @contextmanager
    def creating(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a new file; of two programs that create it at once one wins.

        Raises:
            StoreError: the file exists, or cannot be written.
        """
        gate = Gate(self.path)
        with deferred() as interrupt, translated(self.path):
            self._wait(gate.shut, interrupt)
            try:
                with drafted(self.path) as connection:
                    yield connection
            finally:
                gate.open()

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
        with deferred(), self._changed:
            if not self._readers and self._writer is None:
                self._detach()

    def abandon(self) -> None:
        """In a process that was forked: what is open is the parent's, and its threads are not here.

        DuckDB must not even close there, for it would wait for them.
        """
        if self._database is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._database))
        if self._writer is not None:
            self._writer.forget()
        self._begin()

    # -- taking and letting go; with the condition held, but for _wait --

    def _wait(
        self, take: Callable[[], bool], interrupt: Pending, pause: float = _POLL_SECONDS
    ) -> None:
        """Try again and again to take the file."""
        give_up = time.monotonic() + self.wait_seconds
        while True:
            with self._changed:
                if take():
                    return
                self._changed.wait(pause)
            interrupt.check()
            late = time.monotonic() >= give_up
            if self._ended or late:
                error = self._locked()
                if self._ended or not self._patient:
                    raise error
                _log.warning("%s; still waiting", error)
                give_up += self.wait_seconds

    def _may_read(self) -> bool:
        if self._writer is not None:
            return False
        if Gate(self.path).is_shut():
            if not self._readers:
                self._detach()
            self._holder = ""
            return False
        if not self._readers and self.on_disk() != self.identity:
            self._detach()
        if not self._attached and not self._attach(read_only=True):
            return False
        self._readers += 1
        return True

    def _is_next(self, gate: Gate) -> bool:
        """Whether no new reader is let in before this writer, in any process."""
        self._holder = ""
        if self._writer is None and gate.shut():
            self._writer = gate
        return self._writer is gate

    def _may_write(self) -> bool:
        if self._readers:
            return False
        self._detach()
        return self._attach(read_only=False)

    def _locked(self) -> IndexLockedError:
        """Says who has the file."""
        with self._changed:
            if self._readers or (self._writer is not None and self._attached):
                return IndexLockedError(
                    f"another thread of this process has held {self.path} for "
                    f"{self.wait_seconds:.0f} seconds; try again later"
                )
            if not self._holder and self._attach(read_only=True):
                self._holder = "another process that waits to write"
                self._detach()
        return IndexLockedError(
            f"{self.path} has been in use by {self._holder} for {self.wait_seconds:.0f} "
            "seconds; wait until it is done, or stop it"
        )

    def _let_go_soon(self) -> None:
        self._used_at = time.monotonic()
        if self._keeper is None:
            self._keeper = threading.Thread(target=self._keep, daemon=True)
            self._keeper.start()

    def _keep(self) -> None:
        """Let go once nobody has read for a while, or another process wants to write."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._changed:
                idle = self._attached and not self._readers and self._writer is None
                late = time.monotonic() - self._used_at > _KEEP_SECONDS
                if idle and (late or Gate(self.path).is_shut()):
                    self._detach()
                if not self._attached:
                    self._keeper = None
                    return

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        assert self._database is not None  # noqa: S101  (attached before)
        cursor = self._database.cursor()
        cursor.execute(f"USE {_NAME}")
        return cursor

    def _detach(self) -> None:
        if self._database is not None and self._attached:
            self._attached = False
            try:
                self._database.execute(f"DETACH {_NAME}")
            except duckdb.Error:
                self._start_anew()
                raise

    def _start_anew(self) -> None:
        """After an error that DuckDB does not recover from, such as a full disk."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _attach(self, *, read_only: bool) -> bool:
        """Open the file, unless another process has it."""
        path = str(self.path).replace("'", "''")
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        with translated(self.path):
            if self._database is None:
                self._database = duckdb.connect()
                self._database.execute(f"SET temp_directory = '{path}.tmp'")
            for setting in _FOR_READERS if read_only else _FOR_WRITERS:
                self._database.execute(setting)
            before = self.on_disk()
            try:
                self._database.execute(f"ATTACH '{path}' AS {_NAME} ({mode})")
            except duckdb.Error as error:
                holder = holder_of(error)
                if holder is None:
                    self._start_anew()
                    raise
                self._holder = holder
                return False
            self._attached = True
            if before not in (None, self.on_disk()):
                self._detach()  # of a file that was replaced while it was opened
                return False
            self.identity = self.on_disk()
            return True


def _stop(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it is closed
        cursor.interrupt()


def _abandon_all() -> None:
    DatabaseFile._open_files_lock = threading.Lock()
    for file in list(DatabaseFile._open_files.values()):
        file.abandon()


os.register_at_fork(after_in_child=_abandon_all)


@atexit.register
def _close_all() -> None:
    """DuckDB's Python binding complains of connections that are open when Python ends."""
    for file in list(DatabaseFile._open_files.values()):
        file.close()
        file._database = None
