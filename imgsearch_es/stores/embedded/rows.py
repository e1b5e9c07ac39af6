"""Documents as rows of the file's tables, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import timezone
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.embedded.schema import add_checksums

COLUMNS = (
    "id", "uri", "filename", "sha256", "width", "height", "bytes", "format",
    "indexed_at", "label", "metadata", "terms", "scores",
)  # fmt: skip
"""What ``to_document`` reads."""
WRITTEN = (*COLUMNS, "length", "norm", "checksum")
"""What ``to_row`` gives: all columns but the number."""
POSTINGS = "SELECT unnest(terms) AS term, document, unnest(scores) AS score FROM documents"
"""The postings that documents must have."""
_WIDEST = 64
"""Numbers of a deep feature in a row, when it is written ..."""
_MOST = 1 << 18
"""... and numbers in a statement, so that its memory does not depend on their length."""
BY_NUMBER = (
    "SELECT {} FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
)
"""Columns of the documents of these numbers."""


def insert(
    connection: duckdb.DuckDBPyConnection, documents: Sequence[Document], numbers: dict[str, int]
) -> None:
    """Add documents that are not there, with their postings and deep features."""
    if not documents:  # all were refused
        return
    first = one(connection, "SELECT coalesce(max(document), -1) + 1 FROM documents")
    places = np.arange(first, first + len(documents), dtype=np.int32)
    columns = zip(*(to_row(document, numbers) for document in documents), strict=True)
    add_checksums(connection)
    connection.execute(
        f"INSERT INTO documents (document, {', '.join(WRITTEN)}) "
        f"SELECT {', '.join(f'unnest(${i})' for i in range(1, len(WRITTEN) + 2))}",
        [places.tolist(), *(list(column) for column in columns)],
    )
    connection.execute(
        f"INSERT INTO postings SELECT * FROM ({POSTINGS} WHERE document >= $1) "
        "ORDER BY term, document",
        [first],
    )
    dense = [(n, d.embedding) for n, d in zip(places, documents, strict=True)]
    vectors = [(n, vector) for n, vector in dense if vector is not None]
    size = max(1, _MOST // len(vectors[0][1])) if vectors else 1
    for start in range(0, len(vectors), size):
        _insert_embeddings(connection, *zip(*vectors[start : start + size], strict=True))


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


def to_row(document: Document, numbers: dict[str, int]) -> list[Any]:
    """A document as WRITTEN says."""
    return [
        document.id, document.uri, document.filename, document.sha256,
        document.width, document.height, document.bytes, document.format,
        document.indexed_at.astimezone(timezone.utc).replace(tzinfo=None),
        list(document.labels), json.dumps(dict(document.metadata)),
        [numbers[term.key] for term in document.terms],
        [term.score for term in document.terms], document.length, document.norm,
        document.checksum,
    ]  # fmt: skip


def to_document(
    row: Sequence[Any],
    keys: Sequence[str],
    embedding: Sequence[float] | NDArray[np.float32] | None = None,
    checksum: str | None = None,
) -> Document:
    """The document of a row of COLUMNS, which must have this checksum, if there is one.

    Raises:
        DamagedIndexError: it is none.
    """
    fields = dict(zip(COLUMNS, row, strict=True))
    numbers, scores = fields.pop("terms"), fields.pop("scores")
    indexed_at, labels = fields.pop("indexed_at"), fields.pop("label")
    try:
        if any(None in values for values in (fields.values(), labels, scores)):
            raise ValueError("a value is missing")
        if not all(map(math.isfinite, scores)):
            raise ValueError("a score is no number")
        document = Document(
            indexed_at=indexed_at.replace(tzinfo=timezone.utc),
            labels=tuple(labels),
            metadata=dict(to_metadata(fields.pop("metadata"))),
            terms=tuple(Term(keys[n], score) for n, score in zip(numbers, scores, strict=True)),
            embedding=None if embedding is None else np.asarray(embedding, dtype=np.float32),
            **fields,
        )
        if checksum not in (None, document.checksum):
            raise ValueError("it has another checksum")
        return document
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedIndexError(
            f"the document of {fields['uri']} is not as it was written"
        ) from error


def to_metadata(text: str) -> dict[str, Any]:
    """Stored metadata; what is no number of JSON, as earlier versions took it, becomes None."""
    found: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
    return found


def delete(connection: duckdb.DuckDBPyConnection, ids: list[str]) -> int:
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


def one(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """The one number that a statement answers; 0 for NULL."""
    row = connection.execute(sql).fetchone()
    return int(row[0] or 0) if row else 0
