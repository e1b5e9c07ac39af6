"""An index file without its copies: what it remembers, turns to read and to write, documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import duckdb

from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import DamagedIndexError, IndexRebuiltError
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document, storable, without_thumbnails
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.ledger import Ledger, Rejected
from imgsearch_es.stores.base import (
    SAME,
    IndexSettings,
    Known,
    Store,
    WriteReport,
    known_settings,
)
from imgsearch_es.stores.embedded import inspecting, schema, writing
from imgsearch_es.stores.embedded.file import DatabaseFile
from imgsearch_es.stores.embedded.open_file import Identity, check_place, make_room, mark_of
from imgsearch_es.stores.embedded.schema import Reader, stored
from imgsearch_es.stores.inspecting import Harm, Inspected
from imgsearch_es.stores.settings import fitted

T = TypeVar("T")
Each = TypeVar("Each", Document, Fingerprint)
_SETTLED = 100_000
"""Postings written out of order that are not worth rewriting the table for."""
_SORTED_AT_ONCE = 64_000_000
"""Bytes of postings that are sorted without a file."""
_NO_FILE: Identity = (0, 0)
"""That of no file: once another one is there, nothing is read or written before ``renew``."""


class OpenIndex(Store):
    """The documents of an index file, and what it remembers."""

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        check_place(path)
        self._file = DatabaseFile.at(path)
        self.ledger = EmbeddedLedger(self._file)
        self._settings: IndexSettings | None = None
        self._identity: Identity | None = None
        self._numbers: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._checked, self._written_at = 0, 0
        self._text, self._read_at, self._made = "", "", ""

    def settings(self) -> IndexSettings | None:
        if self._settings is None and self._file.exists():
            with self._file.reading() as connection:
                self._identity = self._file.opened.identity
                self._read_settings(connection)
                self._made = schema.made(connection)
        return self._settings

    def _read_settings(self, connection: duckdb.DuckDBPyConnection) -> None:
        text, settings = schema.settings_text(connection, self.location), self._settings
        if settings is None or text != self._text:
            settings = schema.parse_settings(text, self.location)
            self._numbers, self._text = settings.numbers, text
            self._keys = {number: key for key, number in self._numbers.items()}
        self._checked, self._read_at = self._file.opened.times, mark_of(self._file.path)
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

    def stored_settings(self) -> IndexSettings | None:
        return self.settings()

    def create(self, settings: IndexSettings) -> None:
        """Make the file and its tables: all of it, or nothing if this is interrupted."""
        with self._file.creating() as connection:
            schema.create_tables(connection, settings)
        self._forget()  # to be read with the number of the file

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add or replace documents in one transaction."""
        taken, refused = storable(documents)
        known_settings(self)  # an error where there is no index yet
        with self._writing() as connection:
            self._put(connection, taken)
        return WriteReport(len(taken), refused)

    def change(self, ids: Sequence[str], change: Callable[[Document], Document]) -> WriteReport:
        """In one transaction, in which nobody else writes."""
        known_settings(self)
        with self._changing() as reader:
            writing.make_room_for(reader, len(ids))
            changed = {
                new: document.id
                for document in stored(reader, ids, embeddings=True).values()
                if (new := change(document)) is not document
            }
            taken, refused = storable(changed)
            moved = [changed[document] for document in taken if document.id != changed[document]]
            writing.delete(reader.connection, moved, reader.settings)
            self._put(reader.connection, taken)
        return WriteReport(len(taken), refused)

    def _put(self, connection: duckdb.DuckDBPyConnection, taken: Sequence[Document]) -> None:
        taken, ids = without_thumbnails(taken), [document.id for document in taken]
        make_room(connection, sum(d.embedding.nbytes for d in taken if d.embedding is not None))
        settings = known_settings(self)  # with what was taught meanwhile
        writing.delete(connection, self._file.ids.among(connection, ids), settings)
        self._file.ids.add(connection, ids)
        writing.insert(connection, fitted(taken, settings), self._numbers, settings.visual_words)

    def change_taught(self, change: Callable[[IndexSettings], IndexSettings]) -> None:
        """Remember other taught words, and write the table of terms anew."""
        with self._writing() as connection:
            schema.write_settings(connection, change(known_settings(self)))
        with self._reading():
            pass  # but notice

    def apply_taught(self, word: TaughtWord, progress: Callable[[int, int], None]) -> int:
        """Look for documents while others read too, and change some at a time."""
        return writing.apply_taught(self._reading, self._changing, word, progress)

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Wait for a turn on the file for as long as it takes."""
        return self._file.patient()

    def _cluster(self) -> None:
        clustered = 0
        with self._reading() as reader:
            with suppress(KeyError, ValueError):  # harmed: `verify` says so
                clustered = int(schema.read_value(reader.connection, "clustered_postings"))
            tables = schema.posting_tables(reader.settings)
            count = sum(reader.one(f"SELECT count(*) FROM {table}") for table in tables)
        if count - clustered > max(_SETTLED, clustered // 4):
            with self._writing() as connection:
                connection.execute("RESET threads")
                make_room(connection, _SORTED_AT_ONCE)
                for table in tables:
                    connection.execute(
                        f"CREATE OR REPLACE TABLE {table} AS FROM {table} ORDER BY term, document"
                    )
                schema.write_value(connection, "clustered_postings", str(count))

    def remove(self, ids: Sequence[str]) -> int:
        settings = known_settings(self)
        with self._writing() as connection:
            return writing.delete(connection, list(ids), settings)

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        if not self._file.exists():
            return {}
        with self._reading() as reader:
            return stored(reader, ids, embeddings=True)

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        if not self._file.exists():
            return {}
        with self._reading() as reader:
            rows = reader.rows(
                "SELECT id, sha256, label, metadata, text FROM documents "
                "JOIN (SELECT unnest($1::VARCHAR[]) AS id) USING (id)",
                [self._file.ids.among(reader.connection, ids)],
            )
        return {
            key: Known.readable(sha256, labels, schema.readable_metadata(metadata), text)
            for key, sha256, labels, metadata, text in rows
        }

    def by_content(self, hashes: Sequence[str]) -> dict[str, dict[str, str]]:
        rows = self._rows(
            "SELECT sha256, id, uri FROM documents "
            "JOIN (SELECT DISTINCT unnest($1) AS sha256) USING (sha256) "
            "QUALIFY row_number() OVER (PARTITION BY sha256 ORDER BY id) <= $2 ORDER BY id",
            list(hashes),
            SAME,
        )
        found: dict[str, dict[str, str]] = {}
        for sha256, key, uri in rows:
            found.setdefault(sha256, {})[key] = uri
        return found

    def below(self, prefix: str) -> list[tuple[str, str]]:
        return self._rows(
            "SELECT id, uri FROM documents WHERE starts_with(uri, $1) ORDER BY document", prefix
        )

    def sample(self, size: int) -> list[Document]:
        with self._reading() as reader:
            rows = reader.rows("SELECT id FROM documents ORDER BY id LIMIT $1", [size])
            found = stored(reader, [key for (key,) in rows], embeddings=True)
        return [found[key] for (key,) in rows]

    def features(self) -> dict[str, str]:
        return {"store": f"embedded, DuckDB {duckdb.__version__}"}

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        return _once(self._in_blocks(partial(schema.next_fingerprints, embeddings=embeddings)))

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        return _once(self._in_blocks(partial(schema.next_documents, filters=filters)))

    def _in_blocks(self, read: Callable[[Reader, int], tuple[list[T], int | None]]) -> Iterator[T]:
        """Read from one number of a document to the next; the file is free between the blocks."""
        after: int | None = schema.FIRST
        while after is not None:
            with self._reading() as reader:
                items, after = read(reader, after)
            yield from items

    def delete(self) -> None:
        """Delete the file, when nobody uses it."""
        if self._file.exists():
            with self._file.writing():
                self._file.path.unlink()
        self._forget()

    def mark(self) -> str:
        """Of the content of all documents."""
        with self._reading() as reader:
            return schema.content_mark(reader.connection)

    def glance(self) -> list[Harm]:
        with self._reading() as reader:
            return inspecting.glance(reader)

    def inspect(self) -> Iterator[Inspected]:
        return self._in_blocks(inspecting.block)

    def repair(self, items: Sequence[tuple[Inspected, Document]]) -> int:
        """In one transaction, by the rows: two may have one id."""
        refused = {uri for uri, _ in storable(right for _, right in items)[1]}
        with self._changing() as reader:
            found = [each for each in inspecting.place(reader, items) if each[1].uri not in refused]
            rows = [row for _, _, rows in found for row in rows]
            writing.delete_rows(reader.connection, rows, reader.settings)
            ids = [right.id for _, right, _ in found]
            there = reader.rows("SELECT id FROM documents WHERE list_contains($1, id)", [ids])
            taken, _ = storable(
                right for item, right, _ in found if item.id == right.id or (right.id,) not in there
            )
            self._put(reader.connection, taken)
        return len(taken)

    def mend(self) -> None:
        """Take out what is of no document; make what follows from the settings anew."""
        with self._changing() as reader:
            inspecting.mend(reader.connection, reader.settings)

    def close(self) -> None:
        self._file.close()

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
        is_this = self._identity in (None, self._file.opened.identity)
        if is_this and self._settings is not None and self._checked != self._file.opened.times:
            self._read_settings(connection)
            if schema.made(connection) != self._made:  # it has the number of one that was deleted
                self._identity, is_this = _NO_FILE, False
        if not is_this:
            raise IndexRebuiltError(f"{self.location} was rebuilt since it was opened; try again")

    def _forget(self) -> None:
        self._settings = self._identity = None


def _once(items: Iterator[Each]) -> Iterator[Each]:
    """Each id the first time: what is changed meanwhile gets a number that is still to come."""
    given = set[int]()  # some 65 bytes of each
    for item in items:
        if (key := hash(item.id)) not in given:
            given.add(key)
            yield item


_FIELDS = ("uri", "reason", "rejected_at", "sha256", "tried_with", "given", "checksum")
_TABLE = """
CREATE TABLE IF NOT EXISTS rejected (
    id VARCHAR, uri VARCHAR, reason VARCHAR, rejected_at TIMESTAMP, sha256 VARCHAR,
    tried_with VARCHAR, given VARCHAR, checksum VARCHAR
);
ALTER TABLE rejected ADD COLUMN IF NOT EXISTS given VARCHAR DEFAULT '';
ALTER TABLE rejected ADD COLUMN IF NOT EXISTS checksum VARCHAR
"""
_INSERT = f"INSERT INTO rejected SELECT {', '.join(f'unnest(${i})' for i in range(1, 9))}"
_DELETE = "DELETE FROM rejected WHERE list_contains($1, id)"
_COLUMNS = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'rejected'"


class EmbeddedLedger(Ledger):
    """The rejected pictures of an index file."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file

    def write(self, entries: Sequence[Rejected]) -> None:
        kept = {entry.id: entry.to_stored() for entry in entries}
        if not kept:
            return
        columns = [[each[name] for each in kept.values()] for name in _FIELDS]
        with self._file.writing() as connection:
            connection.execute(_TABLE)
            connection.execute(_DELETE, [list(kept)])
            connection.execute(_INSERT, [list(kept), *columns])

    def read(self, ids: Sequence[str] | None = None) -> list[Rejected]:
        if not self._file.exists():
            return []
        chosen = "" if ids is None else "JOIN (SELECT unnest($1) AS id) USING (id)"
        with self._file.reading() as connection:
            known = {name for (name,) in connection.execute(_COLUMNS).fetchall()}
            if not known:  # before the first entry
                return []
            names = [name for name in _FIELDS if name in known]
            rows = connection.execute(
                f"SELECT {', '.join(names)} FROM rejected {chosen} ORDER BY uri",
                [] if ids is None else [list(ids)],
            ).fetchall()
        return [Rejected.stored(dict(zip(names, row, strict=True))) for row in rows]

    def remove(self, ids: Sequence[str]) -> None:
        if self.read(ids):
            with self._file.writing() as connection:
                connection.execute(_DELETE, [list(ids)])
