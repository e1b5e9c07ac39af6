"""An open index file: what it remembers, its snapshot, and turns to read and to write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import duckdb

from imgsearch_es.errors import DamagedIndexError, IndexRebuiltError
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.stores.embedded import schema
from imgsearch_es.stores.embedded.file import DatabaseFile
from imgsearch_es.stores.embedded.neighbors import Neighbors
from imgsearch_es.stores.embedded.open_file import Identity, check_place
from imgsearch_es.stores.embedded.rows import Reader
from imgsearch_es.stores.embedded.snapshot import Snapshot, SnapshotError, mark_of
from imgsearch_es.stores.embedded.snapshot_writing import KeptSnapshot
from imgsearch_es.stores.embedded.sources import SnapshotSource, Source

T = TypeVar("T")


class OpenIndex(Store):
    """What all that the embedded store does begins with."""

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        check_place(path)
        self._file = DatabaseFile.at(path)
        self._settings: IndexSettings | None = None
        self._identity: Identity | None = None
        self._numbers: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._text, self._checked, self._written_at = "", 0, 0
        self._copy, self._read_at = KeptSnapshot(path, Snapshot), ""
        self._neighbors = KeptSnapshot(path, Neighbors, "neighbors")

    def settings(self) -> IndexSettings | None:
        if self._settings is None and self._file.exists():
            with self._file.reading() as connection:
                settings = schema.read_settings(connection, self.location)
                self._identity = self._file.opened.identity
                self._checked, self._read_at = self._file.opened.times, mark_of(self._file.path)
                self._take(settings, schema.read_value(connection, "settings"))
        return self._settings

    def _take(self, settings: IndexSettings, text: str) -> None:
        self._numbers, self._text = settings.numbers, text
        self._keys = {number: key for key, number in self._numbers.items()}
        self._settings = settings

    def renew(self) -> None:
        """Forget the settings when there is another file now; look for words taught meanwhile."""
        if self._settings is None:
            return
        if self._file.opened.on_disk() != self._identity:
            self._forget()
            return
        try:
            written_at = self._file.path.stat().st_mtime_ns
        except FileNotFoundError:  # removed since the line above
            self._forget()
            return
        if written_at != self._written_at:
            with self._reading():
                self._written_at = written_at

    def _ask(self, queries: Sequence[Query], ask: Callable[[Source], T]) -> T:
        """What the snapshot says if it is of the file's state, otherwise what the file says."""
        snapshot = self._copy.of_now()
        if snapshot is not None:
            near = self._neighbors.of_now() if any(q.candidates for q in queries) else None
            near = near if near is not None and near.fits(snapshot) else None
            try:
                if self._read_at == snapshot.mark and not any(query.filters for query in queries):
                    with self._telling():
                        return ask(SnapshotSource(self._reader(None), snapshot, near))
                with self._reading() as reader:
                    if snapshot.mark == mark_of(self._file.path):
                        return ask(SnapshotSource(reader, snapshot, near))
            except SnapshotError as error:
                self._copy.give_up(error)
        with self._reading() as reader:
            return ask(Source(reader))

    @contextmanager
    def _reading(self) -> Iterator[Reader]:
        known_settings(self)
        with self._file.reading() as connection:
            self._check_file(connection)
            with self._telling():
                yield self._reader(connection)

    def _reader(self, connection: duckdb.DuckDBPyConnection | None) -> Reader:
        settings, asked = known_settings(self), cast(duckdb.DuckDBPyConnection, connection)
        return Reader(asked, settings, self._numbers, self._keys)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except DamagedIndexError as error:
            raise DamagedIndexError(
                f"{self.location} is harmed inside: {error}; `imgsearch verify` says what is "
                "wrong and what to do"
            ) from error

    def _rows(self, sql: str, *parameters: object) -> list[Any]:
        with self._reading() as reader:
            return reader.rows(sql, list(parameters))

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._file.writing() as connection:
            self._check_file(connection)
            schema.add_columns(connection)
            yield connection

    @contextmanager
    def _changing(self) -> Iterator[Reader]:
        with self._writing() as connection:
            yield self._reader(connection)

    def _check_file(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The analyzer is that of the file; words may have been taught or forgotten since."""
        if self._identity not in (None, self._file.opened.identity):
            raise IndexRebuiltError(f"{self.location} was rebuilt since it was opened; try again")
        times = self._file.opened.times
        if self._settings is not None and self._checked != times:
            text = schema.read_value(connection, "settings")
            if text != self._text:
                self._take(schema.parse_settings(text, self.location), text)
            self._checked, self._read_at = times, mark_of(self._file.path)

    def _forget(self) -> None:
        self._settings = self._identity = None
