"""Documents as rows of the file's tables, and back: by id, or all of them in blocks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timezone
from itertools import chain
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import visual_words
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.pictures.photo import NO_PHOTO, Photo
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document, terms_of
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.queries import Selection
from imgsearch_es.retrieval.spans import searched
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.schema import checksums, posting_tables, views
from imgsearch_es.stores.embedded.selecting import selection

COLUMNS = (
    "id", "uri", "filename", "sha256", "width", "height", "bytes", "format",
    "indexed_at", "label", "metadata", "terms", "scores", "views", "photo", "text",
)  # fmt: skip
"""What ``to_document`` reads."""
WRITTEN = (*COLUMNS, "ocr", "length", "norm", "checksum")
"""What ``to_row`` gives: all columns but the number."""
_LISTS = ("label", "views", "photo", "text", "ocr")
"""Of these, what is no array: lists, structs and what may be NULL."""
POSTINGS = "SELECT unnest(terms) AS term, document, unnest(scores) AS score FROM documents"
"""The postings that documents must have."""
FIRST = -(2**31) - 1
"""Below every number of a document."""
_BLOCK, _FINGERPRINTS = 1024, 4096
"""Documents, and fingerprints, in memory at a time."""
_WIDEST = 64
"""Numbers of a deep feature in a row, when it is written ..."""
_MOST = 1 << 18
"""... and numbers in a statement, so that its memory does not depend on their length."""

_METADATA = json.JSONDecoder(parse_constant=lambda _: None)


class Reader(NamedTuple):
    """The index file while it is read: a connection to it, and the number of each term by key."""

    connection: duckdb.DuckDBPyConnection
    settings: IndexSettings
    numbers: dict[str, int]
    keys: Mapping[int, str]
    """Of the terms, by number."""

    @property
    def columns(self) -> str:
        """COLUMNS for a statement."""
        return ", ".join([*COLUMNS[:-3], views(self.settings), "photo", "text"])

    def rows(self, sql: str, parameters: object = None) -> list[Any]:
        """All rows that a statement answers."""
        return self.connection.execute(sql, parameters).fetchall()

    def one(self, sql: str) -> int:
        """The one number that a statement answers; 0 for NULL."""
        return int(self.rows(sql)[0][0] or 0)

    def documents(self, sql: str, parameters: object) -> list[Document]:
        """Documents of rows of COLUMNS, their deep features and checksums."""
        return [self.document(row) for row in self.rows(sql, parameters)]

    def document(self, row: Sequence[Any]) -> Document:
        """The document of a row of COLUMNS, its deep feature and checksum."""
        return to_document(row[:-2], self.keys, *row[-2:])


def insert(
    connection: duckdb.DuckDBPyConnection,
    documents: Sequence[Document],
    numbers: dict[str, int],
    words: int = 0,
) -> None:
    """Add documents that are not there, with their postings, deep features and visual words."""
    if not documents:  # all were refused
        return
    last = connection.execute("SELECT coalesce(max(document), -1) FROM documents").fetchall()
    first = last[0][0] + 1
    places = np.arange(first, first + len(documents), dtype=np.int32)
    rows = zip(*(to_row(document, numbers) for document in documents), strict=True)
    _insert_rows(connection, places, dict(zip(WRITTEN, rows, strict=True)))
    connection.execute(
        f"INSERT INTO postings SELECT * FROM ({POSTINGS} WHERE document >= $1) "
        "ORDER BY term, document",
        [first],
    )
    dense = [(n, d.embedding) for n, d in zip(places, documents, strict=True)]
    vectors = [(n, vector) for n, vector in dense if vector is not None]
    size = max(1, _MOST // len(vectors[0][1])) if vectors else 1
    for start in range(0, len(vectors), size):
        some, features = zip(*vectors[start : start + size], strict=True)
        _insert_embeddings(connection, some, features)
        if words:
            _insert_words(connection, some, features, words)


def _insert_rows(
    connection: duckdb.DuckDBPyConnection, documents: NDArray[np.int32], rows: dict[str, Any]
) -> None:
    """As arrays, which DuckDB reads three times as fast as lists of Python's values."""
    terms, scores = rows.pop("terms"), rows.pop("scores")
    lists = {name: list(rows.pop(name)) for name in _LISTS}
    kinds = dict.fromkeys(("width", "height", "bytes"), "i8") | {"indexed_at": "M8[us]"}
    kinds |= {"length": "f8", "norm": "f8"}
    single = {name: np.array(values, kinds.get(name, object)) for name, values in rows.items()}
    counts = list(map(len, terms))
    postings = {
        "document": np.repeat(documents, counts),
        "place": np.arange(sum(counts), dtype=np.int32),
        "term": np.fromiter(chain.from_iterable(terms), np.int32),
        "score": np.fromiter(chain.from_iterable(scores), np.float32),
    }
    connection.register("new_rows", {"document": documents, **single})
    connection.register("new_postings", postings)
    names = ", ".join([*rows, *lists])
    listed = ", ".join(f"unnest(${i}) AS {name}" for i, name in enumerate(lists, 2))
    connection.execute(
        f"INSERT INTO documents (document, {names}, terms, scores) "
        f"SELECT document, {names}, coalesce(terms, []), coalesce(scores, []) "
        f"FROM new_rows JOIN (SELECT unnest($1) AS document, {listed}) "
        "USING (document) LEFT JOIN (SELECT document, list(term ORDER BY place) AS terms, "
        "list(score ORDER BY place) AS scores FROM new_postings GROUP BY document) "
        "USING (document) ORDER BY document",
        [documents.tolist(), *lists.values()],
    )
    connection.unregister("new_rows")
    connection.unregister("new_postings")


def _insert_embeddings(
    connection: duckdb.DuckDBPyConnection,
    documents: Sequence[int],
    vectors: Sequence[NDArray[np.float32]],
) -> None:
    """As columns of numbers, grouped by DuckDB: ten times faster than lists of Python floats.

    A row of the columns is a part of a vector, so that there is less to group and to sort.
    """
    values = np.stack(vectors).astype(np.float32)
    width = math.gcd(values.shape[1], _WIDEST)
    parts = values.shape[1] // width
    names = [f"value_{i}" for i in range(width)]
    columns = np.ascontiguousarray(values.reshape(-1, width).T)
    rows = {
        "document": np.repeat(np.asarray(documents, dtype=np.int32), parts),
        "place": np.tile(np.arange(parts, dtype=np.int32), len(values)),
        **dict(zip(names, columns, strict=True)),
    }
    connection.register("new_embeddings", rows)
    connection.execute(
        f"INSERT INTO embeddings SELECT document, flatten(list([{', '.join(names)}] "
        "ORDER BY place)) FROM new_embeddings GROUP BY document ORDER BY document"
    )
    connection.unregister("new_embeddings")


def _insert_words(
    connection: duckdb.DuckDBPyConnection,
    documents: Sequence[int],
    vectors: Sequence[NDArray[np.float32]],
    count: int,
) -> None:
    terms, scores = visual_words(np.stack(vectors), count)
    is_word = scores > 0
    numbers = np.repeat(np.asarray(documents, dtype=np.int32), is_word.sum(axis=1))
    rows = {"term": terms[is_word], "document": numbers, "score": scores[is_word]}
    connection.register("new_words", rows)
    connection.execute("INSERT INTO visual_postings FROM new_words ORDER BY term, document")
    connection.unregister("new_words")


def to_row(document: Document, numbers: dict[str, int]) -> list[Any]:
    """A document as WRITTEN says."""
    return [
        document.id, document.uri, document.filename, document.sha256,
        document.width, document.height, document.bytes, document.format,
        document.indexed_at.astimezone(timezone.utc).replace(tzinfo=None),
        list(document.labels), json.dumps(dict(document.metadata)),
        [numbers[term.key] for term in document.postings],
        [term.score for term in document.postings], document.views, _from_photo(document.photo),
        document.text, None if document.text is None else searched(document.text),
        document.length, document.norm, document.checksum,
    ]  # fmt: skip


def to_document(
    row: Sequence[Any],
    keys: Mapping[int, str],
    embedding: Sequence[float] | NDArray[np.float32] | None = None,
    checksum: str | None = None,
) -> Document:
    """The document of a row of COLUMNS; DamagedIndexError if it has not the checksum given."""
    fields = dict(zip(COLUMNS, row, strict=True))
    numbers, scores, seen = fields.pop("terms"), fields.pop("scores"), fields.pop("views")
    indexed_at, labels = fields.pop("indexed_at"), fields.pop("label")
    photo, text = fields.pop("photo"), fields.pop("text")
    try:
        if any(None in values for values in (fields.values(), labels, scores)):
            raise ValueError("a value is missing")
        if not all(map(math.isfinite, scores)):
            raise ValueError("a score is no number")
        document = Document(
            indexed_at=indexed_at.replace(tzinfo=timezone.utc),
            labels=tuple(labels),
            metadata=to_metadata(fields.pop("metadata")),
            **terms_of([keys[n] for n in numbers], scores, seen),
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            photo=_to_photo(photo),
            text=text,
            **fields,
        )
        if checksum is not None and checksum != document.checksum:
            raise ValueError("it has another checksum")
        return document
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the document of {fields['uri']} is not as it was written"
        ) from error


def _from_photo(photo: Photo) -> dict[str, Any] | None:
    """As the column has it, in the order of its parts; nothing in place of an empty text."""
    if photo == NO_PHOTO:
        return None
    latitude, longitude = photo.place or (None, None)
    return {
        "taken_at": photo.taken_at,
        "camera": photo.camera or None,
        "lens": photo.lens or None,
        "latitude": latitude,
        "longitude": longitude,
        "caption": photo.caption or None,
        "keywords": list(photo.keywords) or None,
    }


def _to_photo(column: Mapping[str, Any] | None) -> Photo:
    """What ``_from_photo`` gave, from the file or from the snapshot, where times are texts."""
    known = {name: value for name, value in (column or {}).items() if value is not None}
    if known:
        known["taken_at"] = str(known["taken_at"]) if "taken_at" in known else None
    if "latitude" in known or "longitude" in known:
        known["place"] = known["latitude"], known["longitude"]
    return Photo.from_dict(known) if known else NO_PHOTO


def to_metadata(text: str) -> dict[str, Any]:
    """Stored metadata; what is no number of JSON, as earlier versions took it, becomes None."""
    return dict(_METADATA.decode(text))


def delete(connection: duckdb.DuckDBPyConnection, ids: list[str], settings: IndexSettings) -> int:
    """Delete documents and their postings; gives how many documents."""
    if not ids:
        return 0
    found = connection.execute(
        "DELETE FROM documents WHERE list_contains($1, id) RETURNING document", [ids]
    ).fetchall()
    if found:
        for table in (*posting_tables(settings), "embeddings"):
            connection.execute(
                f"DELETE FROM {table} WHERE document IN (SELECT unnest($1))",
                [[number for (number,) in found]],
            )
    return len(found)


def stored(reader: Reader, ids: Sequence[str], *, embeddings: bool) -> dict[str, Document]:
    """Documents by id, with or without embeddings."""
    vectors = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    more = f"embedding, {checksums(reader.connection)}" if embeddings else "NULL, NULL"
    found = reader.documents(
        f"SELECT {reader.columns}, {more} "
        f"FROM (FROM documents JOIN (SELECT unnest($1) AS id) USING (id)) {vectors}",
        [list(ids)],
    )
    return {document.id: document for document in found}


def next_documents(
    reader: Reader, after: int, filters: Sequence[Filter]
) -> tuple[list[Document], int | None]:
    """The next documents after one's number that meet conditions, and the last one's number.

    The range of the numbers is given as well: it lets DuckDB pass over the rest of the tables.
    """
    where, parameters = selection(Selection(filters=tuple(filters)), reader.numbers)
    found = reader.rows(
        f"SELECT document FROM documents {where} AND document > $after "
        "ORDER BY document LIMIT $block",
        {**parameters, "after": after, "block": _BLOCK},
    )
    if not found:
        return [], None
    numbers = [number for (number,) in found]
    documents = reader.documents(
        f"SELECT {reader.columns}, embedding, {checksums(reader.connection)} FROM "
        "(FROM documents WHERE document BETWEEN $1 AND $2 AND list_contains($3, document)) "
        "LEFT JOIN (FROM embeddings WHERE document BETWEEN $1 AND $2) USING (document) "
        "ORDER BY document",
        [numbers[0], numbers[-1], numbers],
    )
    return documents, numbers[-1]


def next_fingerprints(
    reader: Reader, after: int, *, embeddings: bool
) -> tuple[list[Fingerprint], int | None]:
    """Of the next documents after one's number, and the last one's number."""
    joined = "LEFT JOIN embeddings USING (document)" if embeddings else ""
    found = reader.rows(
        f"SELECT document, id, sha256, {'embedding' if embeddings else 'NULL'} FROM "
        f"(FROM documents WHERE document > $1 ORDER BY document LIMIT $2) {joined} "
        "ORDER BY document",
        [after, _FINGERPRINTS],
    )
    block = [
        Fingerprint(key, sha256, None if vector is None else np.asarray(vector, np.float32))
        for _, key, sha256, vector in found
    ]
    return block, found[-1][0] if found else None


def content_mark(connection: duckdb.DuckDBPyConnection) -> str:
    """Number and sum of hashes of all documents.

    Without checksums one analyzed again has another time; what else changes writes them.
    """
    sql = (
        f"SELECT count(*), sum(hash(id, sha256, indexed_at, label, metadata, "
        f"{checksums(connection)})), "
        "(SELECT hash(value) FROM settings WHERE name = 'settings') FROM documents"
    )
    return str(connection.execute(sql).fetchone())
