"""The embedded store: one DuckDB file, no server, the same ranking as Elasticsearch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from imgsearch_es.analysis.taught import TaughtWord
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document, storable, without_thumbnails
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.queries import Query, Selection, counted
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import (
    IndexSettings,
    Known,
    Scored,
    SearchResult,
    WriteReport,
    known_settings,
)
from imgsearch_es.stores.embedded import inspecting, schema, searching, teaching
from imgsearch_es.stores.embedded.ledger import EmbeddedLedger
from imgsearch_es.stores.embedded.neighbors import NONE, STRATEGY, check_kind, write_neighbors
from imgsearch_es.stores.embedded.open_file import make_room
from imgsearch_es.stores.embedded.open_index import OpenIndex
from imgsearch_es.stores.embedded.rows import (
    FIRST,
    Reader,
    content_mark,
    delete,
    insert,
    next_documents,
    next_fingerprints,
    stored,
    to_metadata,
)
from imgsearch_es.stores.embedded.snapshot_writing import write_snapshot
from imgsearch_es.stores.inspecting import Harm, Inspected
from imgsearch_es.stores.settings import fitted
from imgsearch_es.stores.shared import check_features, listing, search_parts, weighted_all

_Item = TypeVar("_Item")
_SETTLED = 100_000
"""Postings written out of order that are not worth rewriting the table for."""
_SORTED_AT_ONCE = 64_000_000
"""Bytes of postings that are sorted without a file."""


class EmbeddedStore(OpenIndex):
    """An index in one DuckDB file.

    Args:
        location: path of the file; ``~`` is expanded.
        vectors: "int8_hnsw" makes an index of nearest neighbors at the end of each run from now
            on, for approximate answers by "dense-cosine"; "none" makes none any more. By default
            what was last asked for.

    Raises:
        ConfigurationError: the path is a folder, or its folder does not exist; ``vectors`` is
            something else.
        MissingDependencyError: usearch, which makes it, is not installed.
    """

    def __init__(self, location: str | os.PathLike[str], *, vectors: str | None = None) -> None:
        super().__init__(Path(location).expanduser().absolute())
        check_kind(vectors, self.location)
        self._vectors = vectors
        self.ledger = EmbeddedLedger(self._file)
        self._counted = searching.Counted()

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
            changed = {
                new: document.id
                for document in stored(reader, ids, embeddings=True).values()
                if (new := change(document)) is not document
            }
            taken, refused = storable(changed)
            moved = [changed[document] for document in taken if document.id != changed[document]]
            delete(reader.connection, moved, reader.settings)
            self._put(reader.connection, taken)
        return WriteReport(len(taken), refused)

    def _put(self, connection: duckdb.DuckDBPyConnection, taken: Sequence[Document]) -> None:
        taken, ids = without_thumbnails(taken), [document.id for document in taken]
        make_room(connection, sum(d.embedding.nbytes for d in taken if d.embedding is not None))
        settings = known_settings(self)  # with what was taught meanwhile
        delete(connection, self._file.ids.among(connection, ids), settings)
        self._file.ids.add(connection, ids)
        insert(connection, fitted(taken, settings), self._numbers, settings.visual_words)

    def change_taught(self, change: Callable[[IndexSettings], IndexSettings]) -> None:
        """Remember other taught words, and write the table of terms anew."""
        with self._writing() as connection:
            schema.write_settings(connection, change(known_settings(self)))
        with self._reading():
            pass  # but notice

    def apply_taught(self, word: TaughtWord, progress: Callable[[int, int], None]) -> int:
        """Look for documents while others read too, and change some at a time."""
        return teaching.apply(self._reading, self._changing, word, progress)

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Wait for a turn on the file for as long as it takes."""
        return self._file.patient()

    def finish(self) -> None:
        """Cluster the postings by term, when many were written since; make the copies anew."""
        with self._reading() as reader:
            vectors = schema.vectors(reader.connection)
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
        if self._vectors not in (None, vectors):
            with self._writing() as connection:
                schema.write_value(connection, "vectors", str(self._vectors))
        self._make_copies()

    def _make_copies(self) -> None:
        """What searches read; the file is free while the graph is made, which takes longest."""
        with self._reading() as reader:
            self._copy.make(partial(write_snapshot, reader))
            vectors, settings = schema.vectors(reader.connection), reader.settings
        copy = self._copy.of_now()
        if vectors == NONE or not settings.embedding_dimensions:
            self._neighbors.delete()
        elif copy is not None:
            self._neighbors.make(partial(write_neighbors, copy))

    def remove(self, ids: Sequence[str]) -> int:
        settings = known_settings(self)
        with self._writing() as connection:
            return delete(connection, list(ids), settings)

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
            key: Known(sha256, tuple(labels), to_metadata(metadata), text)
            for key, sha256, labels, metadata, text in rows
        }

    def by_content(self, hashes: Sequence[str]) -> dict[str, str]:
        rows = self._rows(
            "SELECT sha256, min(id) FROM documents "
            "JOIN (SELECT unnest($1) AS sha256) USING (sha256) GROUP BY sha256",
            list(hashes),
        )
        return dict(rows)

    def below(self, prefix: str) -> list[tuple[str, str]]:
        return self._rows(
            "SELECT id, uri FROM documents WHERE starts_with(uri, $1) ORDER BY uri", prefix
        )

    def statistics(self, keys: Sequence[str]) -> Statistics:
        return self._ask([], lambda source: source.statistics(keys))

    def matching(self, query: Query) -> list[str]:
        with self._reading() as reader:
            return searching.matching(reader, query)

    def count(self, query: Query | None = None) -> int:
        if query is not None and query.counts is not None:
            ask = partial(searching.count, query=query, counts=query.counts)
            return self._ask([query], ask)
        if query is not None:
            return len(self.matching(query))
        return int(self._rows("SELECT count(*) FROM documents")[0][0])

    def stats(self) -> dict[str, Any]:
        with self._reading() as reader:
            figures = searching.figures(reader, self._file.path.stat().st_size)
        return {"store": "embedded", "location": self.location, **figures}

    def sample(self, size: int) -> list[Document]:
        with self._reading() as reader:
            rows = reader.rows("SELECT id FROM documents ORDER BY id LIMIT $1", [size])
            found = stored(reader, [key for (key,) in rows], embeddings=True)
        return [found[key] for (key,) in rows]

    def features(self) -> dict[str, str]:
        return {"store": f"embedded, DuckDB {duckdb.__version__}"}

    def search(self, query: Query) -> SearchResult:
        """Rank in one pass over the lists of the query's terms."""
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for many queries, some at a time by one scan."""
        for query in queries:
            check_features(self, query)
        return search_parts(self._search_many, self._listed, queries)

    def _listed(self, query: Query) -> SearchResult:
        with self._reading() as reader:
            return searching.listed(reader, query)

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        ready, results = weighted_all(self, queries), list[SearchResult]()
        while rest := ready[len(results) :]:
            asked = [query for query, _ in rest]
            results += self._ask(asked, partial(searching.search, queries=rest))
        return results

    def approximable(self) -> tuple[str, ...]:
        """The one that an index of neighbors answers, if there is one; others are exact."""
        return () if self._neighbors.of_now() is None else (STRATEGY,)

    def pages(self, query: Query) -> Iterator[SearchResult]:
        """Rank once, and read the documents of each page when it is asked for.

        Ids and scores of all hits stay in memory, about 100 bytes a hit.
        """
        check_features(self, query)
        if query.sort is not None:
            yield from self._listed_pages(query)
            return
        ((query, statistics),) = weighted_all(self, [query])
        started = time.perf_counter()
        ids, scores = self._ask(
            [query], partial(searching.ranked, query=query, statistics=statistics)
        )
        for start in range(query.offset, len(ids), query.k):
            page = ids[start : start + query.k]
            with self._reading() as reader:
                documents = stored(reader, page, embeddings=False)
            hits = tuple(
                Scored(documents[key], score)
                for key, score in zip(page, scores[start:], strict=False)
                if key in documents
            )
            took_ms = (time.perf_counter() - started) * 1000
            means = "all matching pictures were ranked once, before the first page"
            found = searching.result(query, statistics, hits, len(ids), took_ms)
            yield replace(found, means=means)
            started = time.perf_counter()

    def _listed_pages(self, query: Query) -> Iterator[SearchResult]:
        with self._reading() as reader:
            ids = searching.sorted_ids(reader, query)
        for start in range(query.offset, len(ids), query.k):
            page = ids[start : start + query.k]
            with self._reading() as reader:
                found = stored(reader, page, embeddings=False)
            yield listing(query, (found[key] for key in page if key in found), len(ids), 0.0)

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        wanted, mark = counted(query), self._copy.mark()
        # By its text: True and 1 are equal, but not the same in metadata.
        key = (mark, repr(wanted), *fields, size)
        kept = bool(mark) and not isinstance(wanted, Query)
        if kept and (known := self._counted.get(key)) is not None:
            return known
        with self._reading() as reader:
            found = searching.facets(reader, query, fields, size)
            if kept and mark == self._copy.mark():
                self._counted.keep(key, found)
        return found

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        return self._in_blocks(partial(next_fingerprints, embeddings=embeddings))

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        return self._in_blocks(partial(next_documents, filters=filters))

    def _in_blocks(
        self, read: Callable[[Reader, int], tuple[list[_Item], int | None]]
    ) -> Iterator[_Item]:
        """Read from one number of a document to the next; the file is free between the blocks."""
        after: int | None = FIRST
        while after is not None:
            with self._reading() as reader:
                items, after = read(reader, after)
            yield from items

    def beside(self) -> EmbeddedStore:
        """The file of the same name with ``.new`` after it."""
        return EmbeddedStore(f"{self._file.path}.new")

    def delete(self) -> None:
        """Delete the file, when nobody uses it."""
        if self._file.exists():
            with self._file.writing():
                self._file.path.unlink()
            self._copy.delete()
            self._neighbors.delete()
        self._forget()

    def mark(self) -> str:
        """Of the content of all documents."""
        with self._reading() as reader:
            return content_mark(reader.connection)

    def replace(self, new: EmbeddedStore, mark: str, *, keep: bool) -> bool:
        """Move the new file to the place of this one; with ``keep`` this becomes ``.old``.

        Nobody writes to either of them meanwhile.
        """
        path, other = self._file.path, new._file.path
        with new._file.writing() as fresh, self._writing() as old:
            if content_mark(old) != mark:
                return False
            schema.write_value(fresh, "vectors", self._vectors or schema.vectors(old))
            for connection in (fresh, old):  # so that no log of changes is left beside the files
                connection.commit()
                connection.execute("CHECKPOINT")
                connection.begin()
            shutil.copymode(path, other)
            if keep:
                kept = path.with_name(f"{path.name}.old")
                kept.unlink(missing_ok=True)
                os.link(path, kept)
            other.replace(path)
        new._copy.delete()
        self._forget()
        self._make_copies()
        return True

    def glance(self) -> list[Harm]:
        with self._reading() as reader:
            return inspecting.glance(reader)

    def inspect(self) -> Iterator[Inspected]:
        return self._in_blocks(inspecting.block)

    def mend(self) -> None:
        """Take out what is of no document; make what follows from the settings anew."""
        with self._changing() as reader:
            inspecting.mend(reader.connection, reader.settings)

    def close(self) -> None:
        self._file.close()
