"""What an index file answers by DuckDB: to searches, which rank by it, and to lists and counts."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.conditions import CASELESS, order
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.facets import (
    ALBUM,
    BOUNDS,
    MONTH,
    PERIODS,
    PLACE,
    YEAR,
    FacetCount,
    Facets,
    by_time,
    most_frequent,
    not_empty,
    ranges,
    spellings,
    without_case,
)
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import PartScore
from imgsearch_es.stores.base import Scored, best_first
from imgsearch_es.stores.embedded import selecting
from imgsearch_es.stores.embedded.pruning import Asked, Numbers, Posting, Scores, Summand, compared
from imgsearch_es.stores.embedded.schema import Reader, to_document
from imgsearch_es.stores.embedded.selecting import (
    TILE,
    Parameters,
    column_of,
    leaves,
    order_of,
    selection,
)
from imgsearch_es.vocabulary.colors import is_color

_POSTINGS = """
SELECT term, document, score {lengths}
FROM {table} JOIN (SELECT unnest($terms)::INTEGER AS term) USING (term) {joined} {selection}
"""
_LENGTHS = ", length, norm", "JOIN (SELECT document, length, norm FROM documents) USING (document)"
_EXCLUDED = "SELECT id, document FROM documents JOIN (SELECT unnest($1) AS id) USING (id)"
_BY_NUMBER = (
    "SELECT document, {} "
    "FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
)
_SMALL_KEYWORDS = "small keywords"
_VALUES = {
    "label": "list_distinct(label)",
    "keywords": "list_distinct(photo.keywords)",
    _SMALL_KEYWORDS: "list_distinct([translate(keyword, "
    f"'{ascii_uppercase}', '{ascii_lowercase}') FOR keyword IN photo.keywords])",
    "camera": "[photo.camera]",
    "lens": "[photo.lens]",
    YEAR: "[strftime(photo.taken_at, '%Y')]",
    MONTH: "[strftime(photo.taken_at, '%Y-%m')]",
    PLACE: f"[{TILE}]",
    ALBUM: f"[{column_of(ALBUM)}]",
    "format": "[format]",
    "synsets": "terms",
    "top_synset": "terms[1:1]",
}
"""SQL for the list of values that a document has of a field."""
_FEW = 100
"""Documents of a query that may be read from the file though they are no hits in the end."""
VECTORS = 8192
"""Deep features in memory at a time."""

Places = NDArray[np.integer[Any]]
Vectors = Iterator[tuple[Places, NDArray[np.float32]]]
"""Deep features, shape (documents, dimensions), with the places of their documents."""


EMPTY = Posting(np.empty(0, np.intp), np.empty(0), np.empty(0), np.empty(0))


class Best(NamedTuple):
    """The best documents of a query, in any order, with all that tie with the last of them.

    ``total`` is how many match; ``parts`` of a fused query what each part adds to these scores.
    """

    places: Places
    scores: NDArray[np.float32]
    total: int
    parts: Mapping[int, tuple[PartScore, ...]] = {}


class Source:
    """The file as searches read it; documents go by numbers, their places.

    Who wants to write waits until a scan ends.
    """

    together = 20
    """Queries answered by one scan, whose lists are in memory."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def statistics(self, keys: Sequence[str]) -> Statistics:
        reader = self.reader
        keyed = {reader.numbers[key]: key for key in keys if key in reader.numbers}
        ((count, length),) = reader.rows("SELECT count(*), coalesce(avg(length), 0) FROM documents")
        frequencies = reader.rows(
            "SELECT term, count(*) FROM postings "
            "JOIN (SELECT unnest($1)::INTEGER AS term) USING (term) GROUP BY term",
            [list(keyed)],
        )
        return Statistics(count, to_score(length), {keyed[term]: n for term, n in frequencies})

    def places(self, ids: Sequence[str]) -> dict[str, int]:
        return dict(self.reader.rows(_EXCLUDED, [list(ids)])) if ids else {}

    def lists(
        self, table: str, terms: Sequence[int], conditions: Selection, *, needs_lengths: bool
    ) -> Mapping[int, Posting]:
        """The lists of terms, of documents that meet conditions; of others an empty one."""
        lengths, joined = _LENGTHS if needs_lengths else ("", "")
        where, parameters = selection(conditions, self.reader.numbers)
        block = self.reader.connection.execute(
            _POSTINGS.format(table=table, lengths=lengths, joined=joined, selection=where),
            {**parameters, "terms": list(terms)},
        ).fetchnumpy()
        term = np.asarray(block["term"])
        columns = [
            np.asarray(block.get(name, ()), kind)
            for name, kind in (
                ("document", np.intp), ("score", "f8"), ("length", "f8"), ("norm", "f8"),
            )
        ]  # fmt: skip
        if (term[1:] < term[:-1]).any():  # written after the table was last clustered
            order = np.argsort(term, kind="stable")
            term = term[order]
            columns = [column[order] if len(column) else column for column in columns]
        ends = [*(np.flatnonzero(term[1:] != term[:-1]) + 1).tolist(), len(term)]
        found: dict[int, Posting] = defaultdict(lambda: EMPTY)
        for a, b in zip([0, *ends[:-1]], ends, strict=True):
            if a < b:
                found[int(term[a])] = Posting(*(column[a:b] for column in columns))
        return found

    def best(
        self,
        table: str,
        asked: Sequence[Asked],
        queries: Sequence[tuple[Query, Summand]],
        conditions: Selection,
    ) -> list[Scores | None]:
        """The best alone by the lists of terms that queries ask with; None where all are added."""
        return [None] * len(queries)

    def zeros(self, lists: Sequence[NDArray[np.intp]]) -> Numbers:
        """A zero for each place, to the last one in these lists, to add to."""
        return np.zeros(max((int(places.max()) + 1 for places in lists), default=0))

    def keep(self, zeros: Numbers) -> None:
        """Take them back, zeros again."""

    def vectors(self, conditions: Selection) -> Vectors:
        """The deep features of documents that meet conditions, some at a time."""
        where, parameters = selection(conditions, self.reader.numbers)
        end = self.reader.one("SELECT max(document) + 1 FROM embeddings")
        for first in range(0, end, VECTORS):
            span = {"first": first, "end": first + VECTORS}
            block = f"{where} AND document >= $first AND document < $end"
            yield from self._vectors(block, {**parameters, **span})

    def _vectors(self, where: str, parameters: dict[str, Any]) -> Vectors:
        block = self.reader.connection.execute(
            f"SELECT document, embedding FROM embeddings {where}", parameters
        ).fetchnumpy()
        documents, vectors = np.asarray(block["document"], dtype=np.int64), block["embedding"]
        if np.ma.is_masked(vectors) or len({len(vector) for vector in vectors}) > 1:
            raise DamagedIndexError("deep features differ in length")
        if len(documents):
            yield documents, np.concatenate(vectors).reshape(len(documents), -1)

    def compared(self, queries: Sequence[Query], conditions: Selection) -> list[Scores]:
        """All deep features of documents that meet conditions, compared with those of queries."""
        nobody = np.empty(0, np.intp), np.empty(0, np.float32)
        found: list[list[tuple[Places, NDArray[np.float32]]]] = [[nobody] for _ in queries]
        for places, matrix in self.vectors(conditions):
            for blocks, query in zip(found, queries, strict=True):
                blocks.append((places, compared(query, matrix)))
        columns = [zip(*blocks, strict=True) for blocks in found]
        return [Scores(np.concatenate(places), np.concatenate(some)) for places, some in columns]

    def is_near(self, query: Query) -> bool:
        """Whether a graph answers: not where conditions may leave few, or all are compared."""
        return False

    def nearest(self, queries: Sequence[Query], conditions: Selection) -> list[Scores]:
        """The same, for strategies in BOUNDED, of the best alone where that is quicker."""
        return self.compared(queries, conditions)

    def ranking(
        self, places: Places, scores: NDArray[np.float32]
    ) -> tuple[Sequence[str], Sequence[float]]:
        """Ids and scores, best first, ties by id."""
        connection = self.reader.connection
        connection.register("found", {"document": places, "score": scores})
        ordered = connection.execute(
            "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
        ).fetchnumpy()
        connection.unregister("found")
        return ordered["id"].tolist(), ordered["score"].tolist()

    def pages(self, found: Sequence[tuple[Query, Best]]) -> Sequence[Sequence[Scored]]:
        """Of each query's best those that it asks for, in order."""
        scored = [self._scores(query, best) for query, best in found]
        numbers = list(dict.fromkeys(number for scores in scored for number in scores))
        rows = self.reader.rows(_BY_NUMBER.format(self.reader.columns), [numbers])
        documents = {row[0]: to_document(row[1:], self.reader.keys) for row in rows}
        if len(documents) < len(numbers):
            missing = len(numbers) - len(documents)
            raise DamagedIndexError(f"it has postings of {missing} documents that are not there")
        pages = []
        for (query, best), scores in zip(found, scored, strict=True):
            hits = best_first(
                Scored(documents[number], score, best.parts.get(number, ()))
                for number, score in scores.items()
            )
            pages.append(tuple(hits[query.offset : query.offset + query.k]))
        return pages

    def _scores(self, query: Query, best: Best) -> dict[int, float]:
        """By number; of many that tie those that come first by their ids: no others are read."""
        scores = dict(zip(best.places.tolist(), best.scores.tolist(), strict=True))
        if len(scores) <= query.k + _FEW:
            return scores
        ids = self.reader.rows(_BY_NUMBER.format("id"), [list(scores)])
        ids.sort(key=lambda item: (-scores[item[0]], item[1]))
        return {number: scores[number] for number, _ in ids[: query.offset + query.k]}


def matching(reader: Reader, query: Query) -> list[str]:
    """The ids of all documents that a query matches, in the order that it asks for, or by id."""
    where, parameters = selecting.matching(query, reader.numbers)
    by = "id" if query.sort is None else order_of(*order(query.sort), parameters)
    rows = reader.rows(f"SELECT id FROM documents {where} ORDER BY {by}", parameters)
    return [key for (key,) in rows]


def facets(reader: Reader, query: Selection, fields: Sequence[str], size: int) -> Facets:
    """Count values and ranges of the documents that a query matches, or of all.

    In one statement: to find the documents takes longer than to count what they have.
    """
    where, parameters = selecting.matching(query, reader.numbers)
    apart = [*fields, *([_SMALL_KEYWORDS] if "keywords" in fields else [])]
    lists = ", ".join(_values(field, parameters) for field in apart)
    rows = reader.rows(
        "SELECT field, value, count(*) FROM (SELECT field, unnest(lists) AS value FROM ("
        f"SELECT unnest(range({len(apart)})) AS field, unnest([{lists}]) AS lists "
        f"FROM documents {where})) WHERE value IS NOT NULL GROUP BY field, value",
        parameters,
    )
    found: list[dict[str, int]] = [{} for _ in apart]
    for number, value, many in rows:
        found[number][value] = many
    return {
        field: _facet(reader, field, counts, size, found[-1] if field == "keywords" else {})
        for field, counts in zip(fields, found, strict=False)
    }


class Counted:
    """What was counted lately, by what was asked and of which state of the file: as JSON."""

    def __init__(self, most: int = 2_000_000) -> None:
        self._known: dict[Hashable, str] = {}
        self._size, self._most = 0, most
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Facets | None:
        text = self._known.get(key)
        return None if text is None else dict(json.loads(text))

    def keep(self, key: Hashable, counts: Facets) -> None:
        """Of all together, with their keys, so many characters are kept: the latest."""
        with self._lock:
            self._drop(key)
            text = self._known[key] = json.dumps(counts)
            self._size += len(repr(key)) + len(text)
            while self._size > self._most:
                self._drop(next(iter(self._known)))

    def _drop(self, key: Hashable) -> None:
        if (text := self._known.pop(key, None)) is not None:
            self._size -= len(repr(key)) + len(text)


def _values(field: str, parameters: Parameters) -> str:
    """SQL for the list of a document's values of a field, as texts."""
    if field in BOUNDS:
        *lower, highest = ranges(field)
        cases = " ".join(f"WHEN {field} < {item.high} THEN '{item.value}'" for item in lower)
        return f"[CASE {cases} ELSE '{highest.value}' END]"
    if field in _VALUES:
        return f"{_VALUES[field]}::VARCHAR[]"
    return f"list_distinct(ARRAY({leaves(field, parameters)}))"


def _facet(
    reader: Reader, field: str, counts: dict[str, int], size: int, together: dict[str, int]
) -> list[FacetCount]:
    if field in CASELESS:
        return most_frequent(without_case(spellings(counts.items()), together), size)
    if field in BOUNDS:
        return not_empty((item.value, counts.get(item.value, 0)) for item in ranges(field))
    if field in PERIODS:
        return by_time(counts.items())
    if field in ("synsets", "top_synset"):
        if not {int(number) for number in counts} <= reader.keys.keys():
            raise DamagedIndexError("it has terms that its analyzer does not have")
        named = {reader.keys[int(number)]: many for number, many in counts.items()}
        counts = {key: many for key, many in named.items() if not is_color(key)}
    return most_frequent(counts.items(), size)
