"""One DuckDB in memory, to which a file is attached for its turn, and what lies beside the file.

Attaching takes a millisecond, where starting a DuckDB for a file and ending it takes thirty.

Beside a file there is for a while a draft of it, what DuckDB spilled, a writer's lock. A new file
is whole or not there at all. Who wants to write a file says so by a lock (flock) on a small file,
which is there only while somebody writes or waits to, and readers in other processes let go of the
index. The lock ends with its process, however that ends. Where a file system has no such locks
there is no gate, and writers wait for a moment without a reader.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    NoRoomError,
    SchemaError,
    StoreError,
)
from imgsearch_es.stores.embedded.schema import LATER
from imgsearch_es.stores.interrupts import is_alive

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
_REFUSED = re.compile("Permission denied|Read-only file system|Operation not permitted")
_DAMAGED = re.compile("Corrupt database file|Could not read enough bytes|Input/output error")

_HAS = f"""
SELECT column_name FROM duckdb_columns() WHERE database_name = '{_NAME}'
AND table_name = 'documents'
"""
_READ = ("photo", "text", "ocr")
"""Columns that readers of a file made before there were any have as a view: they cannot change
it."""

Identity = tuple[int, int]
"""Device and number of a file."""


def make_room(connection: duckdb.DuckDBPyConnection, size: int) -> None:
    """Let a writer have the memory that so many bytes take, beside what its transaction has."""
    used = connection.execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchall()
    if (wanted := int(used[0][0]) + 4 * size) > _WRITERS_MEMORY:
        connection.execute(f"SET memory_limit = '{wanted}B'")


class OpenFile:
    """A file that is attached, or may be; used by one thread at a time, but for its cursors.

    Attributes:
        identity: which file was opened last; ``times``: how often it was opened.
        holder: who had it when it could not be attached.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: duckdb.DuckDBPyConnection | None = None
        self.is_attached = False
        self._lacks: list[str] = []
        self.identity: Identity | None = None
        self.times = 0
        self.holder = ""

    def on_disk(self) -> Identity | None:
        """Which file is at the path now: another one once an index was rebuilt."""
        with translated(self._path), suppress(FileNotFoundError):
            info = self._path.stat()
            return info.st_dev, info.st_ino
        return None

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own to the attached file."""
        assert self._database is not None  # noqa: S101  (attached before)
        cursor = self._database.cursor()
        cursor.execute(f"USE {_NAME}")
        if self._lacks:
            nothing = ", ".join(f"NULL::{LATER[name]} AS {name}" for name in self._lacks)
            cursor.execute(
                f"CREATE TEMP VIEW documents AS SELECT *, {nothing} FROM {_NAME}.main.documents"
            )
        return cursor

    def detach(self) -> None:
        """Let go of the file."""
        if self._database is not None and self.is_attached:
            self.is_attached = False
            try:
                self._database.execute(f"DETACH {_NAME}")
            except duckdb.Error:
                self.start_anew()
                raise

    def start_anew(self) -> None:
        """After an error that DuckDB does not recover from, such as a full disk."""
        self.is_attached = False
        if self._database is not None:
            self._database.close()
            self._database = None

    def attach(self, *, read_only: bool) -> bool:
        """Open the file, unless another process has it."""
        path = str(self._path).replace("'", "''")
        mode = "READ_ONLY" if read_only else "READ_WRITE"
        with translated(self._path):
            if self._database is None:
                self._database = duckdb.connect()
                self._database.execute(f"SET temp_directory = '{path}.tmp'")
                self._database.execute("SET enable_progress_bar = false")  # of a slow DETACH
            for setting in _FOR_READERS if read_only else _FOR_WRITERS:
                self._database.execute(setting)
            before = self.on_disk()
            if before is None:  # it went since it was looked for, and DuckDB would make one
                raise IndexNotFoundError.at(self._path)
            try:
                self._database.execute(f"ATTACH '{path}' AS {_NAME} ({mode})")
            except duckdb.Error as error:
                holder = _holder_of(error)
                if holder is None:
                    self.start_anew()
                    raise
                self.holder = holder
                return False
            self.is_attached = True
            has = {name for (name,) in self._database.execute(_HAS).fetchall()}
            self._lacks = [name for name in _READ if read_only and has and name not in has]
            if before != self.on_disk():
                self.detach()  # of a file that was replaced while it was opened
                return False
            self.identity = self.on_disk()
            self.times += 1
            return True

    def forget(self) -> bool:
        """In a process that was forked; gives whether its parent's DuckDB was in use.

        Then it must not even be closed here, for it would wait for threads that are not here.
        """
        if self._database is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._database))
        return self._database is not None


def check_place(path: Path) -> None:
    """ConfigurationError unless an index file is there, or could be made."""
    with translated(path):
        if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
            problem = "is not in UTF-8, as the path of an index must be: choose another one"
        elif "\0" in str(path):
            problem = "has a null character, which no path may have"
        elif os.sep == "/" and "\\" in str(path):
            problem = "has a backslash, which DuckDB takes for a slash: choose another path"
        elif "?" in str(path):
            problem = "has a question mark, where DuckDB ends its log's name: choose another path"
        elif path.is_dir():
            problem = f"is a folder; an index is a file, for example {path.name}.duckdb"
        elif path.exists() and not path.is_file():
            problem = "is a FIFO, socket or device, which no index can take the place of"
        elif not path.parent.is_dir():
            problem = "cannot be made: the folder of the index does not exist"
        else:
            return
    raise ConfigurationError(f"{path} {problem}")


def _holder_of(error: BaseException) -> str | None:
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
def translated(path: Path) -> Iterator[None]:
    """Errors of DuckDB and of the system about a file become those of this package."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: duckdb.Error | OSError) -> StoreError:
    said = error.strerror if isinstance(error, OSError) else None
    whole = said or str(error).strip() or type(error).__name__
    text = whole.splitlines()[0]
    if full := _NO_ROOM.search(whole):  # a failing checkpoint says why in its second line
        return NoRoomError(
            f"there is no room to write {path} ({full[0].lower()}): make some and run the command "
            "again; what was stored before is there"
        )
    if refused := _REFUSED.search(whole):
        return StoreError(
            f"{path} cannot be opened ({refused[0].lower()}): allow it to this user; a search "
            "reads the file, and whoever changes the index writes it and its folder"
        )
    if _DAMAGED.search(whole):
        return StoreError(
            f"{path} is damaged ({text}): put a copy of it from before in its place, or delete it "
            "and index the pictures again"
        )
    if "database does not exist" in text:  # it went just now
        return IndexNotFoundError.at(path)
    if "not a valid DuckDB database" in text:
        return SchemaError(f"{path} is not an index of imgsearch: it is no DuckDB file")
    if "version number" in text or "newer version" in text:
        return SchemaError(f"{path} was written by another version of DuckDB: {text}")
    return StoreError(f"{path}: {text}")


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
    finally:
        _remove(draft)


def clear_spilled(path: Path) -> None:
    """Remove what DuckDB put beside a file for want of memory, in processes that were killed.

    DuckDB itself does so only when it needs the room again. Names hold the number of the process.
    """
    folder = path.with_name(f"{path.name}.tmp")
    for left in folder.glob("duckdb_temp_*"):
        found = re.match(r"duckdb_temp_(\d+)_", left.name)
        if found and not is_alive(int(found[1])):
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


def _remove(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        path.unlink(missing_ok=True)


def snapshot_path(path: Path, ending: str = "snapshot") -> Path:
    """Where the copy for an index file is."""
    return path.with_name(f"{path.name}.{ending}")


def mark_of(path: Path) -> str:
    """The state of an index file that nobody writes just now; "" where there is none.

    The file must not be opened for this: to close it would take DuckDB's lock of it away.
    """
    marks = []
    for name in (path.name, f"{path.name}.wal"):
        with suppress(FileNotFoundError):
            info = path.with_name(name).stat()
            marks.append(f"{info.st_size}-{info.st_mtime_ns}")
    return " ".join(marks)


def settled_mark_of(path: Path) -> str:
    """The same as soon as a later change would make another one: clocks of files tick.

    That is after a tick in which nothing changed, whatever the time of a file is: it may be of a
    clock that was wrong.
    """
    while True:
        mark, changed = mark_of(path), path.stat().st_mtime_ns
        tick = 20_000_000 if changed % 1_000_000_000 else 2_100_000_000  # of whole seconds
        left = changed + tick - time.time_ns()
        if left > 0:
            time.sleep(min(left, tick) / 1e9)
        if mark_of(path) == mark:
            return mark
