"""What queries find in the file: hits, all that match, and counts of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.conditions import METADATA, Filter, order
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
)
from imgsearch_es.retrieval.queries import Query, Selection, counted, part_queries
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.retrieval.strategies import summed
from imgsearch_es.stores.base import Scored, SearchResult
from imgsearch_es.stores.embedded.nearest import Scores
from imgsearch_es.stores.embedded.pruning import least_score
from imgsearch_es.stores.embedded.ranking import Weighted, all_hits, best_places, many_scores
from imgsearch_es.stores.embedded.rows import Reader, stored
from imgsearch_es.stores.embedded.selecting import (
    TILE,
    column_of,
    having,
    having_words,
    leaves,
    order_of,
    selection,
)
from imgsearch_es.stores.embedded.sources import Best, Source
from imgsearch_es.stores.shared import listing
from imgsearch_es.vocabulary.colors import COLOR, is_color

_VALUES = {
    "label": "list_distinct(label)",
    "keywords": "list_distinct(photo.keywords)",
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


def search(source: Source, queries: Sequence[Weighted]) -> list[SearchResult]:
    """Answer queries together, the first so many: one scan of what several of them need."""
    started = time.perf_counter()
    queries = queries[: source.together]
    single = [item for item in queries if item[0].fusion is None]
    singles = iter(many_scores(source, single, _best, best_alone=True))
    found = [
        next(singles) if query.fusion is None else _fused(source, query, statistics)
        for query, statistics in queries
    ]
    pages = source.pages([(query, best) for (query, _), best in zip(queries, found, strict=True)])
    took = (time.perf_counter() - started) * 1000 / len(queries)
    return [
        result(*item, page, best.total, took, is_near=source.is_near(item[0]))
        for item, best, page in zip(queries, found, pages, strict=True)
    ]


def ranked(
    source: Source, query: Query, statistics: Statistics
) -> tuple[Sequence[str], Sequence[float]]:
    """Ids and scores of all hits of a query (weighted already): best first, ties by id."""
    ((places, scores),) = many_scores(source, [(query, statistics)], all_hits)
    return source.ranking(places, scores)


def result(
    query: Query,
    statistics: Statistics,
    hits: Sequence[Scored],
    total: int,
    took_ms: float,
    *,
    is_near: bool = False,
) -> SearchResult:
    """The answer to a query, exact unless only the nearest by a graph were compared."""
    strategy, means = query.strategy, "every vector was compared"
    if query.fusion is not None:
        strategy, means = query.fusion.method, "every posting and vector of the parts was scored"
    elif not query.is_dense:
        strategy, means = (
            "postings",
            "all pictures with the query's synsets were added up, or bounded below these",
        )
    elif query.by_words:
        means = "all pictures with the query's visual words were added up, or bounded below these"
    elif is_near:
        means = (
            f"{total} pictures that an index of neighbors found were compared exactly; nearer ones "
            "may be missing"
        )
    elif query.candidates:
        means += ": the file has no approximate answer to this (see docs/exactness.md)"
    return SearchResult(
        hits=hits,
        total=total,
        total_is_exact=not is_near,
        terms=query.terms,
        average_length=statistics.average_length,
        strategy=strategy,
        exact=not is_near,
        means=means,
        took_ms=took_ms,
        part_terms=tuple(part.terms for part in query.parts),
    )


def figures(reader: Reader, size: int) -> dict[str, Any]:
    """How many documents and postings there are in so many bytes, and the most frequent synsets."""
    top = reader.rows(
        "SELECT synset, count(*) AS documents, avg(score) FROM postings "
        "JOIN terms USING (term) WHERE NOT starts_with(synset, $1) "
        "GROUP BY synset ORDER BY documents DESC, synset LIMIT 10",
        [COLOR],
    )
    labels = facets(reader, Selection(), ["label"], 10)["label"]
    return {
        "documents": reader.one("SELECT count(*) FROM documents"),
        "postings": reader.one("SELECT count(*) FROM postings"),
        "bytes": size,
        "synsets": [{"synset": key, "documents": n, "mean_score": mean} for key, n, mean in top],
        "labels": [{"label": item["value"], "documents": item["count"]} for item in labels],
    }


def count(source: Source, query: Query, counts: Filter) -> int:
    """How many documents count by what ``counts``: as quick as a search for the words."""
    asked = [
        Query(
            tuple(Term(key, 1.0) for key in item.synsets),
            filters=query.filters,
            exclude=query.exclude,
            min_score=float(np.nextafter(np.float32(item.values[0]), np.float32(np.inf))),
        )
        for item in counts.either or (counts,)
    ]
    found = many_scores(source, [(each, NO_STATISTICS) for each in asked], all_hits)
    return len(np.unique(np.concatenate([places for places, _ in found])))


def facets(reader: Reader, query: Selection, fields: Sequence[str], size: int) -> Facets:
    """Count values and ranges of the documents that a query matches, or of all.

    In one statement: to find the documents takes longer than to count what they have.
    """
    where, parameters = _matching(query, reader.numbers)
    lists = ", ".join(_values(field, parameters) for field in fields)
    rows = reader.rows(
        "SELECT field, value, count(*) FROM (SELECT field, unnest(lists) AS value FROM ("
        f"SELECT unnest(range({len(fields)})) AS field, unnest([{lists}]) AS lists "
        f"FROM documents {where})) WHERE value IS NOT NULL GROUP BY field, value",
        parameters,
    )
    found: list[dict[str, int]] = [{} for _ in fields]
    for number, value, many in rows:
        found[number][value] = many
    return {
        field: _facet(reader, field, counts, size)
        for field, counts in zip(fields, found, strict=True)
    }


class Counted:
    """What was counted lately, by what was asked and of which state of the file."""

    def __init__(self, most: int = 2_000_000) -> None:
        self._known: dict[Hashable, tuple[Facets, int]] = {}
        self._size, self._most = 0, most
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Facets | None:
        """A copy of it, if it is still here."""
        found = self._known.get(key)
        return None if found is None else _copy(found[0])

    def keep(self, key: Hashable, counts: Facets) -> None:
        """Keep a copy, and of all together, with their keys, so many characters: the latest."""
        size = len(repr((key, counts)))
        with self._lock:
            self._drop(key)
            self._known[key] = _copy(counts), size
            self._size += size
            while self._size > self._most:
                self._drop(next(iter(self._known)))

    def _drop(self, key: Hashable) -> None:
        _, size = self._known.pop(key, (None, 0))
        self._size -= size


def _copy(counts: Facets) -> Facets:
    return {field: [{**item} for item in items] for field, items in counts.items()}


def _values(field: str, parameters: dict[str, Any]) -> str:
    """SQL for the list of a document's values of a field, as texts."""
    if field in BOUNDS:
        *lower, highest = ranges(field)
        cases = " ".join(f"WHEN {field} < {item.high} THEN '{item.value}'" for item in lower)
        return f"[CASE {cases} ELSE '{highest.value}' END]"
    if field in _VALUES:
        return f"{_VALUES[field]}::VARCHAR[]"
    name = f"counted{len(parameters)}"
    parameters[name] = field.removeprefix(METADATA)
    return f"list_distinct(ARRAY({leaves(name)}))"


def _facet(reader: Reader, field: str, counts: dict[str, int], size: int) -> list[FacetCount]:
    if field in BOUNDS:
        return not_empty((item.value, counts.get(item.value, 0)) for item in ranges(field))
    if field in PERIODS:
        return by_time(counts.items())
    if field in ("synsets", "top_synset"):
        named = {reader.keys[int(number)]: many for number, many in counts.items()}
        counts = {key: many for key, many in named.items() if not is_color(key)}
    return most_frequent(counts.items(), size)


def matching(reader: Reader, query: Query) -> list[str]:
    """The ids of all documents that a query matches."""
    where, parameters = _matching(query, reader.numbers)
    rows = reader.rows(f"SELECT id FROM documents {where} ORDER BY id", parameters)
    return [key for (key,) in rows]


def listed(reader: Reader, query: Query) -> SearchResult:
    """The page of a query that is sorted and not scored."""
    started = time.perf_counter()
    ids = sorted_ids(reader, query)
    page = ids[query.offset : query.offset + query.k]
    documents = stored(reader, page, embeddings=False)
    took_ms = (time.perf_counter() - started) * 1000
    return listing(query, [documents[key] for key in page], len(ids), took_ms)


def sorted_ids(reader: Reader, query: Query) -> list[str]:
    """The ids of all documents that a query matches, in the order that it asks for."""
    where, parameters = _matching(query, reader.numbers)
    field, descending = order(query.sort or "")
    by = order_of(field, descending=descending, parameters=parameters)
    rows = reader.rows(f"SELECT id FROM documents {where} ORDER BY {by}", parameters)
    return [key for (key,) in rows]


def _best(query: Query, found: Scores, least: np.float32 | None = None) -> Best:
    places, scores, total = found
    least = least_score(query) if least is None else least
    best = best_places(scores, query.offset + query.k, least)
    if total is None:
        total = int(np.count_nonzero(scores >= least))
    return Best(best if places is None else places[best], scores[best], total)


def _fused(source: Source, query: Query, statistics: Statistics) -> Best:
    """Score by every part, and add what each gives a document."""
    queries = part_queries(query)
    found = many_scores(source, [(part, statistics) for part in queries], all_hits)
    count = max((int(places.max()) + 1 for places, _ in found if len(places)), default=0)
    scores = np.full((len(found), count), np.nan, np.float32)  # NaN: the document lacks the part
    for row, (places, values) in zip(scores, found, strict=True):
        row[places] = values
    sums = np.zeros(count)
    for part, row in zip(query.parts, scores, strict=True):
        sums += part.weight * np.nan_to_num(row.astype(np.float64))
    needs_features = query.fusion is not None and query.fusion.needs_features
    needed = scores[[part.is_dense for part in query.parts]] if needs_features else scores
    hits = np.flatnonzero(~np.isnan(needed).all(axis=0))
    best = _best(query, Scores(hits, sums.astype(np.float32)[hits]), np.float32(-np.inf))
    parts = {}
    for place in best.places.tolist():
        column = [None if np.isnan(score) else float(score) for score in scores[:, place]]
        parts[place] = summed(query.parts, column)
    return best._replace(parts=parts)


def _matching(query: Selection, numbers: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The documents that a query matches, as a WHERE clause and its parameters."""
    query = counted(query)
    where, parameters = selection(query, numbers)
    if not isinstance(query, Query):
        return where, parameters
    has_feature = "document IN (SELECT document FROM embeddings)"
    if query.fusion is not None and query.fusion.needs_features:
        return f"{where} AND {has_feature}", parameters
    if query.sort is not None and not query.terms:
        return where, parameters
    ways = [has_feature] if query.compares_all else []
    if query.by_words:
        ways.append(having_words(query, parameters))
    if not query.is_dense:
        ways.append(having([term.key for term in query.terms], numbers, parameters))
    return f"{where} AND ({' OR '.join(ways)})", parameters
