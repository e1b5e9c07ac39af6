"""Taking turns on one DuckDB file.

DuckDB lets one process write a file, or many read it. A notebook, the command line and a server
must all be able to use one index, so nobody keeps the file: a writer has it for one batch, a
reader for a search and a short while after, for what it has in memory. Whoever finds the file taken
waits a bounded time, and then says who has it.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet, WeakValueDictionary

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import IndexLockedError, IndexNotFoundError, StoreError
from imgsearch_es.stores.base import READ_SECONDS
from imgsearch_es.stores.embedded.open_file import (
    Gate,
    OpenFile,
    clear_spilled,
    drafted,
    mark_of,
    translated,
)
from imgsearch_es.stores.interrupts import Pending, deferred

WAIT_SECONDS = 30.0
"""How long to wait for another process before giving up."""
_SAY_SECONDS = 1.0
"""A reader that waits for so long says for whom."""
_POLL_SECONDS = 0.01
_LINE_SECONDS = 0.05
"""How often a writer asks for its turn while another one has it: seldom, so that those who read get
theirs in between."""
_ROOM_SECONDS = 5.0
"""A reader makes room for a writer for so long: who waits longer waits for another program, and
keeps nobody out meanwhile."""
_KEEP_SECONDS = 2.0
"""A reader keeps the file this long after its last search ..."""
_LOOK_SECONDS = 0.05
"""... and looks this often whether another process waits to write."""
_FORK_SECONDS = 5.0
"""How long a fork waits for those who use the file."""

_log = logging.getLogger(__name__)


class DatabaseFile:
    """One DuckDB file, shared by all threads of this process.

    Ctrl-C waits while the file is taken or let go of, so that nobody is left in the accounts.
    """

    _open_files: ClassVar[WeakValueDictionary[Path, DatabaseFile]] = WeakValueDictionary()
    _open_files_lock = threading.Lock()
    _keepers: ClassVar[WeakSet[threading.Thread]] = WeakSet()

    @classmethod
    def at(cls, path: Path) -> DatabaseFile:
        path = Path(os.path.realpath(path))  # resolve() fails on links that lead in circles
        with deferred(), cls._open_files_lock:
            found = cls._open_files.get(path)
            if found is None:
                found = cls._open_files[path] = cls(path)
            return found

    def __init__(self, path: Path, wait_seconds: float = WAIT_SECONDS) -> None:
        self.path = path
        self.wait_seconds = wait_seconds
        self._lost = False
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writer: Gate | None = None  # who writes, or waits to
        self._forking: Gate | None = None
        self.opened = OpenFile(self.path)
        self.ids = KnownIds(self.path)
        self._used_at = 0.0
        self._keeper: threading.Thread | None = None
        self._patient = 0
        self._said_at = 0.0
        self._ended = False

    def exists(self) -> bool:
        with translated(self.path):
            return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def patient(self) -> Iterator[Callable[[], None]]:
        """Within this block, wait for the file as long as it takes, and say for whom.

        What it gives, when called, ends that, but for waits that are still short, as those for
        threads of this process; a handler of signals may call it.
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

        IndexLockedError where another process is writing, for longer than the wait.
        """
        if not self.exists():
            raise IndexNotFoundError.at(self.path)
        with deferred() as interrupt:
            asked_at = time.monotonic()
            self._wait(lambda: self._may_read(asked_at), interrupt, says=True)
            try:
                with translated(self.path), self.opened.cursor() as cursor:
                    interrupt.hurry = partial(_stop, cursor)
                    yield cursor
            finally:
                with self._changed:
                    self._readers -= 1
                    self._let_go_soon()
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The only connection, in a transaction that is committed at the end or not at all."""
        gate = Gate(self.path)
        with deferred() as interrupt, translated(self.path):
            try:
                self._wait(lambda: self._is_next(gate), interrupt, _LINE_SECONDS)
                self._wait(self._may_write, interrupt)
                clear_spilled(self.path)
                self.ids.begin()
                with self.opened.cursor() as cursor:
                    cursor.begin()
                    yield cursor
                    cursor.commit()
            finally:
                with self._changed:
                    try:
                        if self._writer is gate and not self._readers:
                            self.opened.detach()
                            self.ids.leave()
                    finally:
                        self._writer = None if self._writer is gate else self._writer
                        gate.open()
                        self._changed.notify_all()

    @contextmanager
    def creating(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to a new file; of two programs that create it at once one wins."""
        gate = Gate(self.path)
        with deferred() as interrupt, translated(self.path):
            self._wait(gate.shut, interrupt)
            try:
                with drafted(self.path) as connection:
                    yield connection
            finally:
                gate.open()

    def close(self) -> None:
        with deferred(), self._changed:
            if not self._readers and self._writer is None:
                self.opened.detach()

    def before_fork(self) -> None:
        """Let go of DuckDB: a child would have what it holds, but not its threads."""
        turn = Gate(self.path)
        with deferred(), self._changed:
            if self._changed.wait_for(lambda: self._writer is None, _FORK_SECONDS):
                self._writer = self._forking = turn
                if self._changed.wait_for(lambda: not self._readers, _FORK_SECONDS):
                    self.opened.start_anew()

    def after_fork(self, *, is_child: bool) -> None:
        """Go on: the parent as before, a child anew, or not at all if DuckDB was in use."""
        if is_child:
            self._lost = self.opened.forget() or self._lost
            self._begin()
            return
        with deferred(), self._changed:
            if self._writer is self._forking:
                self._writer = None
                self._changed.notify_all()

    # -- taking and letting go; with the condition held, but for _wait --

    def _wait(
        self,
        take: Callable[[], bool],
        interrupt: Pending,
        pause: float = _POLL_SECONDS,
        *,
        says: bool = False,
    ) -> None:
        if self._lost:
            raise StoreError(
                f"this process was forked while another thread used {self.path}: fork when none "
                'does, or start processes by "spawn"'
            )
        began = time.monotonic()
        seconds = min(self.wait_seconds, READ_SECONDS.get()) if says else self.wait_seconds
        give_up = began + seconds
        while True:
            with self._changed:
                if take():
                    return
                self._changed.wait(pause)
            interrupt.check()
            late = time.monotonic() >= give_up
            ended = self._ended and time.monotonic() >= began + _ROOM_SECONDS
            if says and time.monotonic() >= max(began, self._said_at) + _SAY_SECONDS:
                self._said_at = began + self.wait_seconds  # the next one to say it, of any thread
                _log.warning("waiting for %s: it is in use by %s", self.path, self._holder())
            if ended or late:
                error = IndexLockedError(
                    f"{self.path} has been in use by {self._holder()} for "
                    f"{time.monotonic() - began:.0f} seconds; wait until it is done, or stop it"
                )
                if ended or not self._patient:
                    raise error
                _log.warning("%s; still waiting", error)
                give_up += seconds

    def _may_read(self, asked_at: float) -> bool:
        if self._writer is not None:
            return False
        if Gate(self.path).is_shut() and time.monotonic() - asked_at < _ROOM_SECONDS:
            if not self._readers:
                self.opened.detach()
            self.opened.holder = ""
            return False
        if self.opened.is_attached and self.opened.on_disk() != self.opened.identity:
            if self._readers:  # of a file that another was put in the place of
                return False
            self.opened.detach()
        if not self.opened.is_attached and not self.opened.attach(read_only=True):
            return False
        self._readers += 1
        return True

    def _is_next(self, gate: Gate) -> bool:
        """Whether no new reader is let in before this writer, in any process."""
        self.opened.holder = ""
        if self._writer is None and gate.shut():
            self._writer = gate
        return self._writer is gate

    def _may_write(self) -> bool:
        if self._readers:
            return False
        self.opened.detach()
        if not self.exists():  # DuckDB would make a file
            raise IndexNotFoundError.at(self.path)
        return self.opened.attach(read_only=False)

    def _holder(self) -> str:
        with self._changed:
            if self._readers or self.opened.is_attached:
                return "another thread of this process"
            if not self.opened.holder and self.opened.attach(read_only=True):
                self.opened.detach()
                return "another process that waits to write"
            return self.opened.holder

    def _let_go_soon(self) -> None:
        self._used_at = time.monotonic()
        if self._keeper is None:
            keeper = threading.Thread(target=self._keep, daemon=True)
            try:
                keeper.start()
            except RuntimeError:  # no memory for one, or too many: nobody would let go of it later
                if not self._readers and self._writer is None:
                    self.opened.detach()
            else:
                self._keeper = keeper
                self._keepers.add(keeper)

    def _keep(self) -> None:
        """Let go once nobody has read for a while, or another process wants to write."""
        while True:
            time.sleep(_LOOK_SECONDS)
            with self._changed:
                idle = self.opened.is_attached and not self._readers and self._writer is None
                late = time.monotonic() - self._used_at > _KEEP_SECONDS
                if idle and (late or Gate(self.path).is_shut()):
                    with suppress(duckdb.Error):  # then it was closed as a whole
                        self.opened.detach()
                if not self.opened.is_attached:
                    self._keeper = None
                    return


class KnownIds:
    """Hashes of all ids in the file, 8 bytes each, from the first write of this process on.

    They count only while the file is as this process left it. An id that is not among them is not
    in the file; one that is may have been deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = ""
        self._sorted: list[NDArray[np.uint64]] | None = None

    def begin(self) -> None:
        """Forget all of a file that somebody else changed, as long as nobody can change it."""
        if not self._left or mark_of(self._path) != self._left:
            self._sorted = None

    def leave(self) -> None:
        """Remember the state of the file, before anybody else may change it.

        Not where clocks of files tick in whole seconds: two changes may look like one.
        """
        mark = mark_of(self._path)
        self._left = mark if mark and not mark.endswith("000000000") else ""

    def among(self, connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> list[str]:
        """Those of some ids that may be in the file; before anything in it is changed."""
        self.begin()
        all_known = self._sorted
        if all_known is None or not ids:
            return list(ids)
        hashes = _hashes(connection, ids)
        found = np.zeros(len(ids), dtype=bool)
        for known in filter(len, all_known):
            places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            found |= known[places] == hashes
        return [ids[place] for place in np.flatnonzero(found).tolist()]

    def add(self, connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> None:
        if self._sorted is None:
            all_ids = connection.execute("SELECT hash(id) AS key FROM documents").fetchnumpy()
            self._sorted = [np.sort(np.asarray(all_ids["key"], np.uint64))]
        self._sorted.append(np.sort(_hashes(connection, ids)))
        while len(self._sorted) > 1 and len(self._sorted[-2]) <= 2 * len(self._sorted[-1]):
            both = np.concatenate([self._sorted.pop(), self._sorted.pop()])
            self._sorted.append(np.sort(both, kind="stable"))  # merges what is sorted


def _hashes(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> NDArray[np.uint64]:
    found = connection.execute("SELECT hash(unnest($1::VARCHAR[])) AS key", [list(ids)])
    return np.asarray(found.fetchnumpy()["key"], np.uint64)


def _stop(cursor: duckdb.DuckDBPyConnection) -> None:
    with suppress(duckdb.Error):  # it is closed
        cursor.interrupt()


def _before_fork() -> None:
    for file in list(DatabaseFile._open_files.values()):
        file.before_fork()


def _after_fork(*, is_child: bool) -> None:
    if is_child:
        DatabaseFile._open_files_lock = threading.Lock()
    for file in list(DatabaseFile._open_files.values()):
        file.after_fork(is_child=is_child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=partial(_after_fork, is_child=False),
    after_in_child=partial(_after_fork, is_child=True),
)


@atexit.register
def _close_all() -> None:
    """DuckDB's Python binding complains of connections that are open when Python ends.

    And it aborts where a thread closes one just then: a keeper that has its file last.
    """
    files = list(DatabaseFile._open_files.values())
    for file in files:
        file.close()
        file.opened.start_anew()
    for keeper in set(DatabaseFile._keepers) - {file._keeper for file in files}:
        keeper.join(_FORK_SECONDS)
