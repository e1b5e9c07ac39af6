"""Giving documents of the file the term of a taught word, and taking it from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.stores.embedded.open_file import make_room
from imgsearch_es.stores.embedded.rows import WRITTEN, Reader, to_row
from imgsearch_es.stores.embedded.schema import add_columns, checksums
from imgsearch_es.stores.settings import fitted

_BLOCK, _TOGETHER = 8192, 2048
"""Documents looked at by one reading, and about as many as are changed in a transaction."""
_READ = 4 * 2048
"""Deep features that DuckDB has in memory when it reads some: several vectors, as it calls them."""
_NEW = ("terms", "scores", "views", "length", "norm", "checksum")
"""What changes of a document."""


def apply(
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
                make_room(reader.connection, 4 * len(word.weights) * (_READ + len(waiting)))
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
