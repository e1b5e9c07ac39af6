"""Looking for harm in the file: rows, postings and deep features that do not agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import words_of
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded import schema
from imgsearch_es.stores.embedded.schema import (
    COLUMNS,
    POSTINGS,
    WRITTEN,
    Reader,
    to_document,
    to_row,
)
from imgsearch_es.stores.embedded.writing import make_room_to_delete
from imgsearch_es.stores.inspecting import DIFFERS, Harm, Inspected, inspected
from imgsearch_es.vocabulary.colors import is_color

_BLOCK = 2048
"""Documents in memory at a time."""
_ORPHAN = "document IS NULL OR document NOT IN (SELECT document FROM documents)"
_NAMELESS = "id IS NULL OR document IS NULL"
_NEW_NUMBER = "1 + rowid + (SELECT coalesce(max(document), 0) FROM documents)"
_REPEATED = "count(*) - count(DISTINCT {})"
_COUNTS = (
    ("postings", f"count(*) FROM postings WHERE {_ORPHAN}", "are of no document"),
    ("deep features", f"count(*) FROM embeddings WHERE {_ORPHAN}", "are of no document"),
    ("deep features", f"{_REPEATED.format('document')} FROM embeddings", "are there a second time"),
    ("documents", f"count(*) FROM documents WHERE {_NAMELESS}", "have no id or number"),
    ("documents", f"{_REPEATED.format('id')} FROM documents", "have the id of another"),
    ("documents", f"{_REPEATED.format('document')} FROM documents", "have the number of another"),
)
"""What is counted, how, and what it says of the index when it is not 0."""
_LOST = (
    "deep features",
    "count(*) FROM documents WHERE suffix(checksum, 'v') "
    "AND document NOT IN (SELECT document FROM embeddings WHERE document IS NOT NULL)",
    "are missing",
)
_WRONG_POSTINGS = f"""
WITH wanted AS ({POSTINGS} WHERE document BETWEEN $1 AND $2),
    found AS (SELECT term, document, score FROM postings WHERE document BETWEEN $1 AND $2)
SELECT document, count(*) FILTER (lacks), count(*) FILTER (NOT lacks) FROM (
    SELECT document, true AS lacks FROM (FROM wanted EXCEPT ALL FROM found)
    UNION ALL
    SELECT document, false AS lacks FROM (FROM found EXCEPT ALL FROM wanted)
) GROUP BY document
"""

_WORDS = """
SELECT document, term, score FROM visual_postings WHERE document BETWEEN $1 AND $2
ORDER BY document, score DESC, term
"""
_DOUBLED = """
SELECT id FROM documents WHERE id IN (SELECT id FROM documents WHERE document BETWEEN $1 AND $2)
GROUP BY id HAVING count(*) > 1
"""


def glance(reader: Reader) -> list[Harm]:
    """What is wrong with the file as a whole."""
    harms = []
    counts = (*_COUNTS, _LOST) if schema.checksums(reader.connection) != "NULL" else _COUNTS
    for part, sql, what in counts:
        if count := reader.one(f"SELECT {sql}"):
            harms.append(Harm(part, f"{count:,} {what}"))
    wanted = reader.one("SELECT sum(len(terms)) FROM documents")
    there = reader.one("SELECT count(*) FROM postings")
    if wanted != there:
        harms.append(Harm("postings", f"there are {there:,}, the documents have {wanted:,} terms"))
    if reader.settings.visual_words:
        orphans = reader.one(f"SELECT count(*) FROM visual_postings WHERE {_ORPHAN}")
        if orphans:
            harms.append(Harm("visual words", f"{orphans:,} are of no document"))
    if reader.rows("FROM terms ORDER BY term") != schema.terms(reader.settings):
        harms.append(Harm("terms", "the table is not that of the vocabulary"))
    clustered = reader.rows("SELECT value FROM settings WHERE name = 'clustered_postings'")
    if len(clustered) != 1 or not str(clustered[0][0]).isdecimal():
        harms.append(Harm("settings", "it does not say how many postings are clustered"))
    if reader.one(f"SELECT {_REPEATED.format('name')} FROM settings"):
        harms.append(Harm("settings", "a name is there twice"))
    return harms


def mend(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Delete what is of no document, and write again what follows from the settings.

    A document without an id gets that of its URI; one without a number gets a new one.
    """
    connection.execute("UPDATE documents SET id = substr(sha256(uri), 1, 32) WHERE id IS NULL")
    connection.execute(f"UPDATE documents SET document = {_NEW_NUMBER} WHERE document IS NULL")
    connection.execute(f"DELETE FROM documents WHERE {_NAMELESS}")
    tables = (*schema.posting_tables(settings), "embeddings")
    make_room_to_delete(connection, tables)
    for table in tables:
        connection.execute(f"DELETE FROM {table} WHERE {_ORPHAN}")
    schema.write_terms(connection, settings)
    connection.execute("DELETE FROM settings WHERE name = 'clustered_postings'")
    connection.execute("INSERT INTO settings VALUES ('clustered_postings', '0')")


def block(reader: Reader, after: int) -> tuple[list[Inspected], int | None]:
    """The next documents after one's number, and the last one's; None where there are no more."""
    found = reader.rows(
        "SELECT DISTINCT document FROM documents WHERE document > $1 ORDER BY document LIMIT $2",
        [after, _BLOCK],
    )
    if not found:
        return [], None
    span = [found[0][0], found[-1][0]]
    wrong = {row[0]: row[1:] for row in reader.rows(_WRONG_POSTINGS, span)}
    vectors = _vectors(reader, span)
    other_words = _other_words(reader, span, vectors)
    doubled = {key for (key,) in reader.rows(_DOUBLED, span)}
    rows = reader.rows(
        f"SELECT document, {_columns(reader)} FROM documents WHERE document BETWEEN $1 AND $2", span
    )
    items = []
    for number, *row in rows:
        lacking, others = wrong.get(number, (0, 0))
        made = []
        if lacking:
            made.append(("postings", f"{lacking:,} are missing or changed"))
        if others:
            made.append(("postings", f"{others:,} say what the document does not"))
        if number in other_words:
            made.append(("visual words", "they are not those of the deep feature"))
        if row[0] in doubled:
            made.append(("id", "another document has it as well"))
        if len(vectors[number]) > 1:
            made.append(("deep feature", f"it is there {len(vectors[number])} times"))
        was = _Was(number, row, vectors[number])
        items.append(replace(_row_inspected(reader, was, made), was=was))
    return items, span[1]


def place(
    reader: Reader, items: Sequence[tuple[Inspected, Document]]
) -> Iterator[tuple[Inspected, Document, list[int]]]:
    """Those of some that are still as they were inspected, with the rows that they are."""
    numbers = sorted({item.was.number for item, _ in items})
    among = "document IN (SELECT unnest($1))"
    vectors = _vectors(reader, [numbers], among)
    rows = reader.rows(
        f"SELECT rowid, document, {_columns(reader)} FROM documents WHERE {among}", [numbers]
    )
    found = defaultdict[str, list[int]](list)
    for rowid, number, *row in rows:
        found[str(_Was(number, row, vectors[number]))].append(rowid)
    for item, right in items:
        if there := found[str(item.was)]:
            yield item, right, there


class _Was(NamedTuple):
    """A row, with the deep features that it has; its text is another one for other content."""

    number: int
    row: list[Any]
    vectors: list[NDArray[np.float32]]

    def __str__(self) -> str:
        return repr((self.number, self.row, [vector.tobytes() for vector in self.vectors]))


def _columns(reader: Reader) -> str:
    rest = WRITTEN[len(COLUMNS) : -1]
    return ", ".join([reader.columns, *rest, schema.checksums(reader.connection)])


def _row_inspected(reader: Reader, was: _Was, made: list[tuple[str, str]]) -> Inspected:
    keys, row, checksum = reader.keys, was.row, was.row[-1]
    vector = was.vectors[0] if was.vectors else None
    primary = None
    try:
        primary = to_document(row[: len(COLUMNS)], keys, vector)
        wanted = zip(WRITTEN, row, to_row(primary, reader.numbers), strict=True)
        own = [(name, DIFFERS) for name, stored, right in wanted if stored != right]
    except DamagedIndexError:
        own = [("document", "it cannot be read")]
    if checksum is None:
        own = [item for item in own if item[0] != "checksum"]

    def by_postings() -> Document:
        kept = reader.rows(
            "SELECT term, score FROM postings WHERE document = $1 ORDER BY score DESC, term",
            [was.number],
        )
        kept.sort(key=lambda posting: is_color(keys.get(posting[0], "")))
        terms, scores = [term for term, _ in kept], [score for _, score in kept]
        changed = dict(zip(WRITTEN, row, strict=True)) | {"terms": terms, "scores": scores}
        return to_document([changed[name] for name in COLUMNS], keys, vector)

    return inspected(
        row[0],
        row[1],
        checksum,
        primary,
        own=own,
        made=made,
        others=[by_postings],
        has_features=reader.settings.embedding_dimensions > 0,
    )


def _other_words(
    reader: Reader, span: Sequence[int], vectors: Mapping[int, list[NDArray[np.float32]]]
) -> set[int]:
    """The documents whose visual words are not those of their deep feature."""
    count, found = reader.settings.visual_words, defaultdict[int, list[tuple[int, float]]](list)
    if not count:
        return set()
    for number, *word in reader.rows(_WORDS, span):
        found[number].append((word[0], word[1]))
    wanted = {
        number: words_of(own[0], count) for number, own in vectors.items() if own and own[0].ndim
    }
    return {n for n in found.keys() | wanted.keys() if found.get(n, []) != wanted.get(n, [])}


def _vectors(
    reader: Reader, parameters: Sequence[Any], among: str = "document BETWEEN $1 AND $2"
) -> defaultdict[int, list[NDArray[np.float32]]]:
    rows = reader.connection.execute(
        f"SELECT document, embedding FROM embeddings WHERE {among}", parameters
    ).fetchnumpy()
    found: defaultdict[int, list[NDArray[np.float32]]] = defaultdict(list)
    for number, vector in zip(rows["document"].tolist(), rows["embedding"], strict=True):
        found[number].append(np.ma.filled(np.ma.asarray(vector, dtype=np.float32), np.nan))
    return found
