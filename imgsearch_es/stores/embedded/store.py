"""The embedded store: one DuckDB file, no server, the same ranking as Elasticsearch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from imgsearch_es.errors import DamagedIndexError, IndexRebuiltError
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document, storable
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import (
    IndexSettings,
    Known,
    Scored,
    SearchResult,
    WriteReport,
    known_settings,
)
from imgsearch_es.stores.embedded import (
    counting,
    inspecting,
    paging,
    scanning,
    schema,
    searching,
)
from imgsearch_es.stores.embedded.faults import check_place
from imgsearch_es.stores.embedded.file import DatabaseFile
from imgsearch_es.stores.embedded.ledger import EmbeddedLedger
from imgsearch_es.stores.embedded.open_file import Identity, make_room
from imgsearch_es.stores.embedded.rows import delete, insert, one, to_metadata
from imgsearch_es.stores.fusion import search_parts
from imgsearch_es.stores.inspecting import Harm, Inspected
from imgsearch_es.stores.weighting import check_dimensions, weighted_all

_SETTLED = 100_000
"""Postings written out of order that are not worth rewriting the table for."""
_TOGETHER = 20
"""Queries answered by one scan, before the file is let go so that a writer gets in. Their lists are
in memory, ten bytes a posting."""


class EmbeddedStore:
    """An index in one DuckDB file.

    Args:
        location: path of the file; ``~`` is expanded.

    Raises:
        ConfigurationError: the path is a folder, or its folder does not exist.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        path = Path(location).expanduser().absolute()
        self.location = str(path)
        check_place(path)
        self._file = DatabaseFile.at(path)
        self.ledger = EmbeddedLedger(self._file)
        self._settings: IndexSettings | None = None
        self._identity: Identity | None = None
        self._numbers: dict[str, int] = {}

    def settings(self) -> IndexSettings | None:
        """What the index remembers; None when there is no index yet."""
        if self._settings is None and self._file.exists():
            with self._file.reading() as connection:
                settings = schema.read_settings(connection, self.location)
                identity = self._file.identity
            if settings.schema_version < SCHEMA_VERSION:
                with self._file.writing() as connection:
                    settings = schema.migrate(connection, self.location)
                    identity = self._file.identity
            self._remember(settings, identity)
        return self._settings

    def stored_settings(self) -> IndexSettings | None:
        """What the index remembers; an older file is brought up to date when it is opened."""
        return self.settings()

    def renew(self) -> None:
        """Forget the settings when there is another file now."""
        if self._settings is not None and self._file.on_disk() != self._identity:
            self._settings = self._identity = None

    def create(self, settings: IndexSettings) -> None:
        """Make the file and its tables: all of it, or nothing if this is interrupted."""
        with self._file.creating() as connection:
            schema.create_tables(connection, settings)
        self._settings = None  # to be read with the number of the file

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add or replace documents in one transaction."""
        taken, refused = storable(documents)
        numbers = self._term_numbers()
        vectors = [d.embedding for d in taken if d.embedding is not None]
        with self._writing() as connection:
            make_room(connection, sum(vector.nbytes for vector in vectors))
            delete(connection, [document.id for document in taken])
            insert(connection, taken, numbers)
        return WriteReport(len(taken), refused)

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Wait for a turn on the file for as long as it takes."""
        return self._file.patient()

    def finish(self) -> None:
        """Cluster the postings by term, when many were written since they last were."""
        with self._reading() as connection:
            clustered = int(schema.read_value(connection, "clustered_postings"))
            count = one(connection, "SELECT count(*) FROM postings")
        if count - clustered <= max(_SETTLED, clustered // 4):
            return
        with self._writing() as connection:
            connection.execute("RESET threads")
            connection.execute(
                "CREATE OR REPLACE TABLE postings AS FROM postings ORDER BY term, document"
            )
            schema.write_value(connection, "clustered_postings", str(count))

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents and their postings."""
        with self._writing() as connection:
            return delete(connection, list(ids))

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The stored documents of these ids, with their embeddings."""
        if not self._file.exists():
            return {}
        return self._stored(ids, embeddings=True)

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Hash, labels and metadata of the stored ones of these ids."""
        if not self._file.exists():
            return {}
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT id, sha256, label, metadata FROM documents "
                "JOIN (SELECT unnest($1) AS id) USING (id)",
                [list(ids)],
            ).fetchall()
        return {row[0]: Known(row[1], tuple(row[2]), to_metadata(row[3])) for row in rows}

    def by_content(self, hashes: Sequence[str]) -> dict[str, str]:
        """The least id of each of these sha256 that a document has."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT sha256, min(id) FROM documents "
                "JOIN (SELECT unnest($1) AS sha256) USING (sha256) GROUP BY sha256",
                [list(hashes)],
            ).fetchall()
        return dict(rows)

    def below(self, prefix: str) -> list[tuple[str, str]]:
        """(id, uri) of the documents below a folder."""
        with self._reading() as connection:
            return connection.execute(
                "SELECT id, uri FROM documents WHERE starts_with(uri, $1) ORDER BY uri", [prefix]
            ).fetchall()

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents and postings."""
        numbers = self._term_numbers()
        with self._reading() as connection:
            return counting.statistics(connection, keys, numbers)

    def matching(self, query: Query) -> list[str]:
        """The ids of all documents that share a synset with the query, or have what it compares."""
        numbers = self._term_numbers()
        with self._reading() as connection:
            return counting.matching(connection, query, numbers)

    def count(self) -> int:
        """How many documents there are."""
        with self._reading() as connection:
            return one(connection, "SELECT count(*) FROM documents")

    def stats(self) -> dict[str, Any]:
        """Figures of the index."""
        counted = self.facets(Selection(), ["label"], 10)["label"]
        with self._reading() as connection:
            figures = counting.figures(connection, self._file.path.stat().st_size)
        return {
            "store": "embedded",
            "location": self.location,
            **figures,
            "labels": [{"label": item["value"], "documents": item["count"]} for item in counted],
        }

    def sample(self, size: int) -> list[Document]:
        """The documents with the smallest ids."""
        known_settings(self)
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT id FROM documents ORDER BY id LIMIT $1", [size]
            ).fetchall()
        found = self.get([key for (key,) in rows])
        return [found[key] for (key,) in rows if key in found]

    def features(self) -> dict[str, str]:
        """The version of DuckDB."""
        return {"store": f"embedded, DuckDB {duckdb.__version__}"}

    def search(self, query: Query) -> SearchResult:
        """Rank in one pass over the lists of the query's terms."""
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for many queries, some at a time by one scan."""
        settings = known_settings(self)
        for query in queries:
            if query.has_features:
                check_dimensions(settings, query)
        return search_parts(self._search_many, queries)

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        ready, keys, results = weighted_all(self, queries), self._keys(), []
        for start in range(0, len(ready), _TOGETHER):
            with self._reading() as connection:
                some = ready[start : start + _TOGETHER]
                results += searching.search(connection, some, self._numbers, keys)
        return results

    def approximable(self) -> tuple[str, ...]:
        """None: every answer is exact."""
        return ()

    def pages(self, query: Query) -> Iterator[SearchResult]:
        """Rank once, and read the documents of each page when it is asked for."""
        settings = known_settings(self)
        if query.is_dense:
            check_dimensions(settings, query)
        ((query, statistics),) = weighted_all(self, [query])
        started = time.perf_counter()
        with self._reading() as connection:
            ids, scores = paging.ranked(connection, query, self._numbers, statistics)
        for start in range(query.offset, len(ids), query.k):
            page = ids[start : start + query.k]
            documents = self._stored(page, embeddings=False)
            yield SearchResult(
                hits=tuple(
                    Scored(documents[key], score)
                    for key, score in zip(page, scores[start:], strict=False)
                    if key in documents
                ),
                total=len(ids),
                total_is_exact=True,
                terms=query.terms,
                average_length=statistics.average_length,
                strategy=query.strategy if query.is_dense else "postings",
                exact=True,
                means="all matching pictures were ranked once, before the first page",
                took_ms=(time.perf_counter() - started) * 1000,
            )
            started = time.perf_counter()

    def _stored(self, ids: Sequence[str], *, embeddings: bool) -> dict[str, Document]:
        """The documents of these ids, with or without embeddings."""
        keys = self._keys()
        with self._reading() as connection:
            return scanning.stored(connection, ids, keys, embeddings=embeddings)

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        """Count values and ranges, one field after the other."""
        numbers = self._term_numbers()
        with self._reading() as connection:
            return counting.facets(connection, query, fields, size, numbers)

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        """Hash and deep feature of every document, in blocks; the file is free between them."""
        known_settings(self)
        start: int | None = -1
        while start is not None:
            with self._reading() as connection:
                block, start = counting.fingerprints(connection, start, embeddings=embeddings)
            yield from block

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        """Every document that meets conditions, in blocks; the file is free between them."""
        keys, after = self._keys(), -1
        while True:
            with self._reading() as connection:
                numbers = scanning.next_numbers(connection, after, filters, self._numbers)
                documents = scanning.documents(connection, numbers, keys)
            if not numbers:
                return
            yield from documents
            after = numbers[-1]

    def beside(self) -> EmbeddedStore:
        """The file of the same name with ``.new`` after it."""
        return EmbeddedStore(f"{self._file.path}.new")

    def delete(self) -> None:
        """Delete the file, when nobody uses it."""
        if self._file.exists():
            with self._file.writing():
                self._file.path.unlink()
        self._settings = self._identity = None

    def mark(self) -> str:
        """Of the content of all documents."""
        with self._reading() as connection:
            return scanning.mark(connection)

    def replace(self, new: EmbeddedStore, mark: str, *, keep: bool) -> bool:
        """Move the new file to the place of this one; with ``keep`` this becomes ``.old``."""

        def is_unchanged(connection: duckdb.DuckDBPyConnection) -> bool:
            self._check_file()
            return scanning.mark(connection) == mark

        kept = Path(f"{self._file.path}.old") if keep else None
        done = self._file.replace_by(new._file, is_unchanged, kept)
        if done:
            self._settings = self._identity = None
        return done

    def glance(self) -> list[Harm]:
        """What the tables as a whole say."""
        settings = known_settings(self)
        with self._reading() as connection:
            return inspecting.glance(connection, settings)

    def inspect(self) -> Iterator[Inspected]:
        """Every document, in blocks; the file is free between them."""
        settings = known_settings(self)
        after: int | None = inspecting.FIRST
        while after is not None:
            with self._reading() as connection:
                items, after = inspecting.block(connection, after, settings)
            yield from items

    def mend(self) -> None:
        """Take out what is of no document; make what follows from the settings anew."""
        settings = known_settings(self)
        with self._writing() as connection:
            inspecting.mend(connection, settings)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._file.reading() as connection:
            self._check_file()
            try:
                yield connection
            except DamagedIndexError as error:
                raise DamagedIndexError(
                    f"{self.location} is harmed inside: {error}; `imgsearch verify` says what is "
                    "wrong and what to do"
                ) from error

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._file.writing() as connection:
            self._check_file()
            yield connection

    def _check_file(self) -> None:
        """Numbers of terms and the analyzer are those of the file that the settings came from."""
        if self._identity not in (None, self._file.identity):
            raise IndexRebuiltError(f"{self.location} was rebuilt since it was opened; try again")

    def _remember(self, settings: IndexSettings, identity: Identity | None) -> None:
        self._settings, self._identity = settings, identity
        self._numbers = {key: i for i, key in enumerate(settings.vocabulary.keys)}

    def _keys(self) -> Sequence[str]:
        return known_settings(self).vocabulary.keys

    def _term_numbers(self) -> dict[str, int]:
        known_settings(self)
        return self._numbers
