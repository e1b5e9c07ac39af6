"""Writing into an index file: documents, and the terms of taught words that they get or lose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import TaughtWord, visual_words
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.open_file import make_room
from imgsearch_es.stores.embedded.schema import (
    POSTINGS,
    WRITTEN,
    Reader,
    add_columns,
    checksums,
    posting_tables,
    to_row,
)
from imgsearch_es.stores.embedded.selecting import IS_OLD
from imgsearch_es.stores.settings import fitted

_LISTS = ("label", "views", "photo", "text", "ocr")
"""Of these, what is no array: lists, structs and what may be NULL."""
_WIDEST = 64
"""Numbers of a deep feature in a row, when it is written ..."""
_MOST = 1 << 18
"""... and numbers in a statement, so that its memory does not depend on their length."""
_BLOCK, _TOGETHER = 8192, 2048
"""Documents looked at by one reading, and about as many as are changed in a transaction."""
_VECTOR = 2048
"""Rows that DuckDB reads together: a vector, as it calls them ..."""
_READ = 4 * _VECTOR
"""... of which it has several in memory when it reads deep features ..."""
_DELETED = 12_000 if IS_OLD else 6000
"""... and a quarter of what it keeps, until a transaction ends, of each with a row that it deletes:
16 kB and some more, or twice as much."""
_NEW = ("terms", "scores", "views", "length", "norm", "checksum")
"""What changes of a document."""


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


def delete(connection: duckdb.DuckDBPyConnection, ids: list[str], settings: IndexSettings) -> int:
    """Delete documents and their postings; gives how many documents."""
    return _delete(connection, "id", ids, settings)


def delete_rows(
    connection: duckdb.DuckDBPyConnection, rows: list[int], settings: IndexSettings
) -> int:
    """The same by the number that DuckDB has for a row, until the transaction ends."""
    return _delete(connection, "rowid", rows, settings)


def _delete(
    connection: duckdb.DuckDBPyConnection,
    column: str,
    among: list[str] | list[int],
    settings: IndexSettings,
) -> int:
    if not among:
        return 0
    found = connection.execute(
        f"DELETE FROM documents WHERE list_contains($1, {column}) RETURNING document", [among]
    ).fetchall()
    if found:
        tables = (*posting_tables(settings), "embeddings")
        make_room_to_delete(connection, tables, len(found))
        for table in tables:
            connection.execute(
                f"DELETE FROM {table} WHERE document IN (SELECT unnest($1))",
                [[number for (number,) in found]],
            )
    return len(found)


def make_room_to_delete(
    connection: duckdb.DuckDBPyConnection, tables: Sequence[str], documents: float = math.inf
) -> None:
    """Let a writer delete what so many documents have in these tables; by default of any number."""
    counts = (f"(SELECT count(*) FROM {table})" for table in ("documents", *tables))
    ((there, *rows),) = connection.execute(f"SELECT {', '.join(counts)}").fetchall()
    touched = min(documents * (sum(rows) // (there + 1) + 1), sum(rows) // _VECTOR + len(rows))
    make_room(connection, int(_DELETED * touched))


def make_room_for(reader: Reader, count: int) -> None:
    """Let a writer read, and write anew, so many documents with their deep features."""
    make_room(reader.connection, 4 * reader.settings.embedding_dimensions * (_READ + count))


def apply_taught(
    reading: Callable[[], AbstractContextManager[Reader]],
    changing: Callable[[], AbstractContextManager[Reader]],
    word: TaughtWord,
    progress: Callable[[int, int], None],
) -> int:
    """See ``Store.apply_taught``; a reader for changing has the file to itself."""
    changed, waiting, first = 0, list[int](), 0
    with reading() as reader:
        end = reader.one("SELECT max(document) + 1 FROM documents")
    while first < end:
        with reading() as reader:
            waiting += _to_change(reader, word, first)
        first = min(first + _BLOCK, end)
        if len(waiting) >= _TOGETHER or (first == end and waiting):
            with changing() as reader:
                make_room_for(reader, len(waiting))
                changed += _change(reader, waiting)
            waiting = []
        progress(first, end)
    return changed


def _to_change(reader: Reader, word: TaughtWord, first: int) -> list[int]:
    """The numbers, from ``first`` on, of documents that must get or lose the word, or its score."""
    span = [first, first + _BLOCK - 1]
    has = reader.rows(
        "SELECT document, score FROM postings WHERE term = $3 AND document BETWEEN $1 AND $2",
        [*span, word.number],
    )
    found = reader.connection.execute(
        "SELECT document, embedding FROM embeddings WHERE document BETWEEN $1 AND $2", span
    ).fetchnumpy()
    numbers = np.asarray(found["document"], dtype=np.int64)
    if not len(numbers):
        return [number for number, _ in has]
    matrix = np.concatenate(found["embedding"]).reshape(len(numbers), -1)
    scores = word.scores(matrix)
    fits = zip(numbers[scores > 0].tolist(), scores[scores > 0].tolist(), strict=True)
    return sorted({number for number, _ in {*has} ^ {*fits}})


def _change(reader: Reader, numbers: Sequence[int]) -> int:
    """Write documents anew but for their deep features; gives how many there were."""
    connection = reader.connection
    add_columns(connection)
    listed = [list(numbers)]
    rows = reader.rows(
        f"SELECT document, {reader.columns}, embedding, {checksums(connection)} "
        "FROM (FROM documents WHERE document IN (SELECT unnest($1))) "
        "LEFT JOIN (FROM embeddings WHERE document IN (SELECT unnest($1))) USING (document)",
        listed,
    )
    documents = fitted([reader.document(row[1:]) for row in rows], reader.settings)
    made = [to_row(document, reader.numbers) for document in documents]
    places = [row[0] for row in rows]
    columns = [[row[WRITTEN.index(name)] for row in made] for name in _NEW]
    connection.execute(
        f"UPDATE documents SET {', '.join(f'{name} = new.{name}' for name in _NEW)} FROM (SELECT "
        + ", ".join(f"unnest(${i}) AS {name}" for i, name in enumerate(("number", *_NEW), 1))
        + ") AS new WHERE document = new.number",
        [places, *columns],
    )
    taught = [word.number for word in reader.settings.taught]
    connection.execute(
        "DELETE FROM postings WHERE term IN (SELECT unnest($1)) "
        "AND document IN (SELECT unnest($2))",
        [taught, list(numbers)],
    )
    postings = sorted(
        (reader.numbers[term.key], place, term.score)
        for place, document in zip(places, documents, strict=True)
        for term in document.terms
        if reader.numbers[term.key] in taught
    )
    if postings:
        connection.execute(
            "INSERT INTO postings SELECT unnest($1), unnest($2), unnest($3)",
            [list(column) for column in zip(*postings, strict=True)],
        )
    return len(rows)
