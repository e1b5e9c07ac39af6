"""The embedded store: one DuckDB file, no server, the same ranking as Elasticsearch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis import Term
from imgsearch_es.documents import SCHEMA_VERSION, Document
from imgsearch_es.duplicates import Fingerprint
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.facets import Facets
from imgsearch_es.fusion import PartScore
from imgsearch_es.queries import Query, Selection
from imgsearch_es.scoring import Statistics
from imgsearch_es.stores.base import (
    IndexSettings,
    Known,
    Scored,
    SearchResult,
    WriteReport,
    check_dimensions,
    known_settings,
    weighted_all,
)
from imgsearch_es.stores.embedded import counting, fusion, paging, schema
from imgsearch_es.stores.embedded.dense import compare
from imgsearch_es.stores.embedded.file import DatabaseFile
from imgsearch_es.stores.embedded.ledger import EmbeddedLedger
from imgsearch_es.stores.embedded.ranking import add_up
from imgsearch_es.stores.fusion import search_parts

_COLUMNS = (
    "id", "uri", "filename", "sha256", "width", "height", "bytes", "format",
    "indexed_at", "label", "metadata", "terms", "scores",
)  # fmt: skip
_WRITTEN = (*_COLUMNS, "length", "norm")
_SELECT = "SELECT {} FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
_FEW = 100
"""Documents that may be read though they are no hits in the end."""
_SETTLED = 100_000
"""Postings written out of order that are not worth rewriting the table for."""
_TOGETHER = 200
"""Queries answered before the file is let go, so that a writer gets in."""


class EmbeddedStore:
    """An index in one DuckDB file.

    Args:
        location: path of the file; ``~`` is expanded.

    Raises:
        ConfigurationError: the path is a folder, or its folder does not exist.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        path = Path(location).expanduser().absolute()
        if path.is_dir():
            raise ConfigurationError(
                f"{path} is a folder; an index is a file, for example {path.name}.duckdb"
            )
        if not path.parent.is_dir():
            raise ConfigurationError(f"the folder of the index does not exist: {path.parent}")
        self.location = str(path)
        self._file = DatabaseFile.at(path)
        self.ledger = EmbeddedLedger(self._file)
        self._settings: IndexSettings | None = None
        self._numbers: dict[str, int] = {}

    def settings(self) -> IndexSettings | None:
        """What the index remembers; None when there is no index yet."""
        if self._settings is None and self._file.exists():
            with self._file.reading() as connection:
                settings = schema.read_settings(connection, self.location)
            if settings.schema_version < SCHEMA_VERSION:
                with self._file.writing() as connection:
                    settings = schema.migrate(connection, self.location)
            self._remember(settings)
        return self._settings

    def create(self, settings: IndexSettings) -> None:
        """Make the file and its tables: all of it, or nothing if this is interrupted."""
        with self._file.creating() as connection:
            schema.create_tables(connection, settings)
        self._remember(settings)

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add or replace documents in one transaction."""
        unique = {document.id: document for document in documents}
        numbers = self._term_numbers()
        with self._file.writing() as connection:
            _delete(connection, list(unique))
            _insert(connection, list(unique.values()), numbers)
        return WriteReport(stored=len(unique))

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Nothing to wait for but a turn on the file, which ``file.py`` does."""
        return nullcontext(lambda: None)

    def finish(self) -> None:
        """Cluster the postings by term, when many were written since they last were."""
        with self._file.reading() as connection:
            clustered = int(schema.read_value(connection, "clustered_postings"))
            count = _one(connection, "SELECT count(*) FROM postings")
        if count - clustered <= max(_SETTLED, clustered // 4):
            return
        with self._file.writing() as connection:
            connection.execute(
                "CREATE OR REPLACE TABLE postings AS FROM postings ORDER BY term, document"
            )
            schema.write_value(connection, "clustered_postings", str(count))

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents and their postings."""
        with self._file.writing() as connection:
            return _delete(connection, list(ids))

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The stored documents of these ids, with their embeddings."""
        if not self._file.exists():
            return {}
        keys = self._keys()
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS)}, embedding FROM documents "
                "LEFT JOIN embeddings USING (document) WHERE list_contains($1, id)",
                [list(ids)],
            ).fetchall()
        return {row[0]: _document(row[:-1], keys, row[-1]) for row in rows}

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Hash, labels and metadata of the stored ones of these ids."""
        if not self._file.exists():
            return {}
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT id, sha256, label, metadata FROM documents "
                "JOIN (SELECT unnest($1) AS id) USING (id)",
                [list(ids)],
            ).fetchall()
        return {row[0]: Known(row[1], tuple(row[2]), json.loads(row[3])) for row in rows}

    def by_content(self, hashes: Sequence[str]) -> dict[str, str]:
        """The least id of each of these sha256 that a document has."""
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT sha256, min(id) FROM documents "
                "JOIN (SELECT unnest($1) AS sha256) USING (sha256) GROUP BY sha256",
                [list(hashes)],
            ).fetchall()
        return dict(rows)

    def below(self, prefix: str) -> list[tuple[str, str]]:
        """(id, uri) of the documents below a folder."""
        with self._file.reading() as connection:
            return connection.execute(
                "SELECT id, uri FROM documents WHERE starts_with(uri, $1) ORDER BY uri", [prefix]
            ).fetchall()

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents and postings."""
        numbers = self._term_numbers()
        known = {numbers[key]: key for key in keys if key in numbers}
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT count(*), coalesce(avg(length), 0) FROM documents"
            ).fetchone() or (0, 0.0)
            frequencies = connection.execute(
                "SELECT term, count(*) FROM postings "
                "JOIN (SELECT unnest($1)::SMALLINT AS term) USING (term) GROUP BY term",
                [list(known)],
            ).fetchall()
        return Statistics(row[0], row[1], {known[term]: n for term, n in frequencies})

    def matching(self, query: Query) -> list[str]:
        """The ids of all documents that score above 0."""
        numbers = self._term_numbers()
        with self._file.reading() as connection:
            return counting.matching(connection, query, numbers)

    def count(self) -> int:
        """How many documents there are."""
        with self._file.reading() as connection:
            return _one(connection, "SELECT count(*) FROM documents")

    def stats(self) -> dict[str, Any]:
        """Figures of the index."""
        with self._file.reading() as connection:
            top = connection.execute(
                "SELECT synset, count(*) AS documents, avg(score) FROM postings "
                "JOIN terms USING (term) GROUP BY synset ORDER BY documents DESC, synset LIMIT 10"
            ).fetchall()
            labels = connection.execute(
                "SELECT name, count(*) AS documents "
                "FROM (SELECT unnest(label) AS name FROM documents) "
                "GROUP BY name ORDER BY documents DESC, name LIMIT 10"
            ).fetchall()
            documents = _one(connection, "SELECT count(*) FROM documents")
            postings = _one(connection, "SELECT count(*) FROM postings")
        return {
            "store": "embedded",
            "location": self.location,
            "documents": documents,
            "postings": postings,
            "bytes": self._file.path.stat().st_size,
            "synsets": [
                {"synset": key, "documents": n, "mean_score": mean} for key, n, mean in top
            ],
            "labels": [{"label": name, "documents": n} for name, n in labels],
        }

    def sample(self, size: int) -> list[Document]:
        """The documents with the smallest ids."""
        known_settings(self)
        with self._file.reading() as connection:
            rows = connection.execute(
                "SELECT id FROM documents ORDER BY id LIMIT $1", [size]
            ).fetchall()
        found = self.get([key for (key,) in rows])
        return [found[key] for (key,) in rows if key in found]

    def read_note(self, name: str) -> str | None:
        """A value of the settings table."""
        known_settings(self)
        with self._file.reading() as connection:
            return schema.read_note(connection, name)

    def write_note(self, name: str, text: str) -> None:
        """Replace a value of the settings table."""
        known_settings(self)
        with self._file.writing() as connection:
            schema.write_note(connection, name, text)

    def features(self) -> dict[str, str]:
        """The version of DuckDB."""
        return {"store": f"embedded, DuckDB {duckdb.__version__}"}

    def search(self, query: Query) -> SearchResult:
        """Rank in one pass over the lists of the query's terms."""
        return self.search_many([query])[0]

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for one query after the other, on one connection for hundreds of them."""
        settings = known_settings(self)
        for query in queries:
            if query.has_features:
                check_dimensions(settings, query)
        return search_parts(self._search_many, queries)

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        ready = weighted_all(self, queries)
        results = []
        for start in range(0, len(ready), _TOGETHER):
            with self._file.reading() as connection:
                results += [
                    self._search(connection, query, statistics)
                    for query, statistics in ready[start : start + _TOGETHER]
                ]
        return results

    def _search(
        self, connection: duckdb.DuckDBPyConnection, query: Query, statistics: Statistics
    ) -> SearchResult:
        """Answer a query that is weighted already."""
        started = time.perf_counter()
        parts: Mapping[int, tuple[PartScore, ...]] = {}
        if query.fusion is not None:
            fused = fusion.fuse(connection, query, self._numbers, statistics)
            scores, total, parts = fused.scores, fused.total, fused.parts
        elif query.is_dense:
            scores, total = compare(connection, query, self._numbers)
        else:
            scores, total = add_up(connection, query, self._numbers, statistics)
        return SearchResult(
            hits=tuple(self._page(connection, query, scores, parts)),
            total=total,
            total_is_exact=True,
            terms=query.terms,
            average_length=statistics.average_length,
            strategy=_strategy(query),
            exact=True,
            means=_means(query),
            took_ms=(time.perf_counter() - started) * 1000,
            part_terms=tuple(part.terms for part in query.parts),
        )

    def _page(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: Query,
        scores: Mapping[int, float],
        parts: Mapping[int, tuple[PartScore, ...]],
    ) -> list[Scored]:
        """The documents asked for, of those that may be among them: best first, ties by id."""
        numbers = list(scores)
        if len(numbers) > query.k + _FEW:  # order them by their ids before reading them
            ids = connection.execute(_SELECT.format("document, id"), [numbers]).fetchall()
            ids.sort(key=lambda item: (-scores[item[0]], item[1]))
            numbers = [number for number, _ in ids[query.offset : query.offset + query.k]]
        rows = connection.execute(_SELECT.format(f"document, {', '.join(_COLUMNS)}"), [numbers])
        keys = self._keys()
        hits = [
            Scored(_document(row[1:], keys), scores[row[0]], parts.get(row[0], ()))
            for row in rows.fetchall()
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.document.id))
        return hits if len(numbers) < len(scores) else hits[query.offset : query.offset + query.k]

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
        with self._file.reading() as connection:
            ids, scores = paging.ranked(connection, query, self._numbers, statistics)
        for start in range(query.offset, len(ids), query.k):
            page = ids[start : start + query.k]
            documents = self._stored(page)
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

    def _stored(self, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these ids, without embeddings."""
        with self._file.reading() as connection:
            rows = connection.execute(
                f"SELECT {', '.join(_COLUMNS)} FROM documents "
                "JOIN (SELECT unnest($1) AS id) USING (id)",
                [list(ids)],
            ).fetchall()
        return {row[0]: _document(row, self._keys()) for row in rows}

    def facets(self, query: Query | Selection | None, fields: Sequence[str], size: int) -> Facets:
        """Count values and ranges, one field after the other."""
        numbers = self._term_numbers()
        with self._file.reading() as connection:
            return counting.facets(connection, query, fields, size, numbers)

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        """Hash and deep feature of every document, in blocks; the file is free between them."""
        known_settings(self)
        start: int | None = -1
        while start is not None:
            with self._file.reading() as connection:
                block, start = counting.fingerprints(connection, start, embeddings=embeddings)
            yield from block

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _remember(self, settings: IndexSettings) -> None:
        self._settings = settings
        self._numbers = {key: i for i, key in enumerate(settings.vocabulary.keys)}

    def _keys(self) -> Sequence[str]:
        return known_settings(self).vocabulary.keys

    def _term_numbers(self) -> dict[str, int]:
        known_settings(self)
        return self._numbers


def _strategy(query: Query) -> str:
    if query.fusion is not None:
        return query.fusion.method
    return query.strategy if query.is_dense else "postings"


def _means(query: Query) -> str:
    if query.fusion is not None:
        return "every posting and vector of the parts was scored"
    if query.candidates:
        return "every vector was compared: an index file has no approximate answers"
    if query.is_dense:
        return "every vector was compared"
    return "every posting of the query's synsets was added up"


def _insert(
    connection: duckdb.DuckDBPyConnection, documents: Sequence[Document], numbers: dict[str, int]
) -> None:
    first = _one(connection, "SELECT coalesce(max(document), -1) + 1 FROM documents")
    places = np.arange(first, first + len(documents), dtype=np.int32)
    columns = zip(*(_row(document, numbers) for document in documents), strict=True)
    connection.execute(
        f"INSERT INTO documents (document, {', '.join(_WRITTEN)}) "
        f"SELECT {', '.join(f'unnest(${i})' for i in range(1, len(_WRITTEN) + 2))}",
        [places.tolist(), *(list(column) for column in columns)],
    )
    connection.execute(
        "INSERT INTO postings SELECT * FROM (SELECT unnest(terms) AS term, document, "
        "unnest(scores) AS score FROM documents WHERE document >= $1) ORDER BY term, document",
        [first],
    )
    dense = [(n, d.embedding) for n, d in zip(places, documents, strict=True)]
    vectors = [(n, vector) for n, vector in dense if vector is not None]
    if vectors:
        _insert_embeddings(connection, *zip(*vectors, strict=True))


def _insert_embeddings(
    connection: duckdb.DuckDBPyConnection,
    documents: Sequence[int],
    vectors: Sequence[NDArray[np.float32]],
) -> None:
    """As columns of numbers, grouped by DuckDB: ten times faster than lists of Python floats."""
    lengths = [len(vector) for vector in vectors]
    numbers = {
        "document": np.repeat(np.asarray(documents, dtype=np.int32), lengths),
        "place": np.concatenate([np.arange(n, dtype=np.int32) for n in lengths]),
        "value": np.concatenate(vectors).astype(np.float32),
    }
    connection.register("new_embeddings", numbers)
    connection.execute(
        "INSERT INTO embeddings SELECT document, list(value ORDER BY place) "
        "FROM new_embeddings GROUP BY document ORDER BY document"
    )
    connection.unregister("new_embeddings")


def _row(document: Document, numbers: dict[str, int]) -> list[Any]:
    return [
        document.id, document.uri, document.filename, document.sha256,
        document.width, document.height, document.bytes, document.format,
        document.indexed_at.astimezone(timezone.utc).replace(tzinfo=None),
        list(document.labels), json.dumps(dict(document.metadata)),
        [numbers[term.key] for term in document.terms],
        [term.score for term in document.terms], document.length, document.norm,
    ]  # fmt: skip


def _document(
    row: Sequence[Any], keys: Sequence[str], embedding: Sequence[float] | None = None
) -> Document:
    fields = dict(zip(_COLUMNS, row, strict=True))
    numbers, scores = fields.pop("terms"), fields.pop("scores")
    indexed_at: datetime = fields.pop("indexed_at")
    return Document(
        indexed_at=indexed_at.replace(tzinfo=timezone.utc),
        labels=tuple(fields.pop("label")),
        metadata=json.loads(fields.pop("metadata")),
        terms=tuple(Term(keys[n], score) for n, score in zip(numbers, scores, strict=True)),
        embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
        **fields,
    )


def _delete(connection: duckdb.DuckDBPyConnection, ids: list[str]) -> int:
    """Delete documents and their postings; gives how many documents."""
    found = connection.execute(
        "DELETE FROM documents WHERE list_contains($1, id) RETURNING document", [ids]
    ).fetchall()
    if found:
        for table in ("postings", "embeddings"):
            connection.execute(
                f"DELETE FROM {table} WHERE document IN (SELECT unnest($1))",
                [[number for (number,) in found]],
            )
    return len(found)


def _one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return 0 if row is None else int(row[0])
