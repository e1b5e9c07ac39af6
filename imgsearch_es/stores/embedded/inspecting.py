"""Looking for harm in the file: rows, postings and deep features that do not agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded import schema
from imgsearch_es.stores.embedded.rows import COLUMNS, POSTINGS, WRITTEN, one, to_document, to_row
from imgsearch_es.stores.inspecting import DIFFERS, Harm, Inspected, inspected

_BLOCK = 2048
"""Documents in memory at a time."""
FIRST = -(2**31) - 1
"""Below every number of a document."""
_ORPHAN = "document IS NULL OR document NOT IN (SELECT document FROM documents)"
_NAMELESS = "id IS NULL OR document IS NULL"
_COUNTS = (
    ("postings", f"SELECT count(*) FROM postings WHERE {_ORPHAN}", "are of no document"),
    (
        "deep features",
        f"SELECT count(*) FROM embeddings WHERE {_ORPHAN}",
        "are of no document",
    ),
    (
        "deep features",
        "SELECT count(*) - count(DISTINCT document) FROM embeddings",
        "are there a second time",
    ),
    ("documents", f"SELECT count(*) FROM documents WHERE {_NAMELESS}", "have no id or number"),
    ("documents", "SELECT count(*) - count(DISTINCT id) FROM documents", "have the id of another"),
    (
        "documents",
        "SELECT count(*) - count(DISTINCT document) FROM documents",
        "have the number of another",
    ),
)
"""What is counted, how, and what it says of the index when it is not 0."""
_LOST = (
    "deep features",
    "SELECT count(*) FROM documents WHERE suffix(checksum, 'v') "
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

_DOUBLED = """
SELECT id FROM documents WHERE id IN (SELECT id FROM documents WHERE document BETWEEN $1 AND $2)
GROUP BY id HAVING count(*) > 1
"""


def glance(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> list[Harm]:
    """What is wrong with the file as a whole."""
    harms = []
    counts = (*_COUNTS, _LOST) if schema.checksums(connection) != "NULL" else _COUNTS
    for part, sql, what in counts:
        if count := one(connection, sql):
            harms.append(Harm(part, f"{count:,} {what}"))
    wanted = one(connection, "SELECT sum(len(terms)) FROM documents")
    there = one(connection, "SELECT count(*) FROM postings")
    if wanted != there:
        harms.append(Harm("postings", f"there are {there:,}, the documents have {wanted:,} terms"))
    if connection.execute("FROM terms ORDER BY term").fetchall() != schema.terms(settings):
        harms.append(Harm("terms", "the table is not that of the vocabulary"))
    clustered = connection.execute(
        "SELECT value FROM settings WHERE name = 'clustered_postings'"
    ).fetchall()
    if len(clustered) != 1 or not str(clustered[0][0]).isdecimal():
        harms.append(Harm("settings", "it does not say how many postings are clustered"))
    if one(connection, "SELECT count(*) - count(DISTINCT name) FROM settings"):
        harms.append(Harm("settings", "a name is there twice"))
    return harms


def mend(connection: duckdb.DuckDBPyConnection, settings: IndexSettings) -> None:
    """Delete what is of no document, and write again what follows from the settings."""
    connection.execute(f"DELETE FROM documents WHERE {_NAMELESS}")
    for table in ("postings", "embeddings"):
        connection.execute(f"DELETE FROM {table} WHERE {_ORPHAN}")
    schema.write_terms(connection, settings)
    connection.execute("DELETE FROM settings WHERE name = 'clustered_postings'")
    connection.execute("INSERT INTO settings VALUES ('clustered_postings', '0')")


def block(
    connection: duckdb.DuckDBPyConnection, after: int, settings: IndexSettings
) -> tuple[list[Inspected], int | None]:
    """The next documents after one's number, and the last one's; None where there are no more."""
    found = connection.execute(
        "SELECT DISTINCT document FROM documents WHERE document > $1 ORDER BY document LIMIT $2",
        [after, _BLOCK],
    ).fetchall()
    if not found:
        return [], None
    span = [found[0][0], found[-1][0]]
    wrong = {row[0]: row[1:] for row in connection.execute(_WRONG_POSTINGS, span).fetchall()}
    vectors = _vectors(connection, span)
    doubled = {key for (key,) in connection.execute(_DOUBLED, span).fetchall()}
    columns = [*WRITTEN[:-1], schema.checksums(connection)]
    rows = connection.execute(
        f"SELECT document, {', '.join(columns)} FROM documents WHERE document BETWEEN $1 AND $2",
        span,
    ).fetchall()
    numbers = {key: i for i, key in enumerate(settings.vocabulary.keys)}
    has_features = settings.embedding_dimensions > 0
    items = []
    for number, *row in rows:
        made = [*_postings_harms(*wrong.get(number, (0, 0)))]
        if row[0] in doubled:
            made.append(("id", "another document has it as well"))
        terms = partial(_terms, connection, number)
        items.append(_row_inspected(row, vectors[number], made, numbers, terms, has_features))
    return items, span[1]


def _terms(connection: duckdb.DuckDBPyConnection, number: int) -> list[tuple[int, float]]:
    """A document's terms as its postings say."""
    return connection.execute(
        "SELECT term, score FROM postings WHERE document = $1 ORDER BY score DESC, term", [number]
    ).fetchall()


def _row_inspected(
    row: list[Any],
    vectors: Sequence[NDArray[np.float32]],
    made: list[tuple[str, str]],
    numbers: dict[str, int],
    postings: Callable[[], list[tuple[int, float]]],
    has_features: bool,
) -> Inspected:
    keys, checksum, own = [*numbers], row[-1], []
    vector = vectors[0] if vectors else None
    primary = None
    try:
        primary = to_document(row[: len(COLUMNS)], keys, vector)
        wanted = zip(WRITTEN, row, to_row(primary, numbers), strict=True)
        own = [(name, DIFFERS) for name, stored, right in wanted if stored != right]
    except DamagedIndexError:
        own = [("document", "it cannot be read")]
    if checksum is None:
        own = [item for item in own if item[0] != "checksum"]
    if len(vectors) > 1:
        made.append(("deep feature", f"it is there {len(vectors)} times"))

    def by_postings() -> Document:
        kept = postings()
        changed = dict(zip(WRITTEN, row, strict=True))
        changed |= {"terms": [term for term, _ in kept], "scores": [score for _, score in kept]}
        return to_document([changed[name] for name in COLUMNS], keys, vector)

    return inspected(
        row[0],
        row[1],
        checksum,
        primary,
        own=own,
        made=made,
        others=[by_postings],
        has_features=has_features,
    )


def _vectors(
    connection: duckdb.DuckDBPyConnection, span: Sequence[int]
) -> defaultdict[int, list[NDArray[np.float32]]]:
    """Deep features by the number of their document."""
    rows = connection.execute(
        "SELECT document, embedding FROM embeddings WHERE document BETWEEN $1 AND $2", span
    ).fetchnumpy()
    found: defaultdict[int, list[NDArray[np.float32]]] = defaultdict(list)
    for number, vector in zip(rows["document"].tolist(), rows["embedding"], strict=True):
        found[number].append(np.ma.filled(np.ma.asarray(vector, dtype=np.float32), np.nan))
    return found


def _postings_harms(lacking: int, others: int) -> Iterator[tuple[str, str]]:
    if lacking:
        yield "postings", f"{lacking:,} are missing or changed"
    if others:
        yield "postings", f"{others:,} say what the document does not"
