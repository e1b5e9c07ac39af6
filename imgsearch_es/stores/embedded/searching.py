"""From queries to results: rank all of them, then read all their hits at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.fusion import PartScore, summed
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.embedded.ranking import (
    Scores,
    Weighted,
    best_places,
    least_score,
    many_scores,
)
from imgsearch_es.stores.embedded.rows import COLUMNS, Reader, to_document

_FEW = 100
"""Documents of a query that may be read though they are no hits in the end."""
_BY_NUMBER = (
    "SELECT document, {} "
    "FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
)


@dataclass(slots=True)
class _Best:
    """The best documents of a query, by number.

    Attributes:
        scores: of the best offset + k, and of all that tie with the last of them.
        total: how many match.
        parts: of a fused query, what each part adds to the scores of these.
    """

    scores: dict[int, float]
    total: int
    parts: dict[int, tuple[PartScore, ...]] = field(default_factory=dict)


def search(reader: Reader, queries: Sequence[Weighted]) -> list[SearchResult]:
    """Answer queries together: one scan of what several of them need."""
    started = time.perf_counter()
    scores = iter(many_scores(reader, [item for item in queries if item[0].fusion is None]))
    found = []
    for query, statistics in queries:
        if query.fusion is None:
            best = _best(query, next(scores), least_score(query))
        else:
            best = _fused(reader, query, statistics)
        if len(best.scores) > query.k + _FEW:
            _keep_page(reader, query, best)
        found.append(best)
    numbers = list(dict.fromkeys(number for best in found for number in best.scores))
    rows = reader.rows(_BY_NUMBER.format(", ".join(COLUMNS)), [numbers])
    documents = {row[0]: to_document(row[1:], reader.keys) for row in rows}
    if len(documents) < len(numbers):
        missing = len(numbers) - len(documents)
        raise DamagedIndexError(f"it has postings of {missing} documents that are not there")
    took = (time.perf_counter() - started) * 1000 / len(queries)
    return [
        result(query, statistics, _page(query, best, documents), best.total, took)
        for (query, statistics), best in zip(queries, found, strict=True)
    ]


def ranked(
    reader: Reader, query: Query, statistics: Statistics
) -> tuple[Sequence[str], Sequence[float]]:
    """Ids and scores of all hits of a query (weighted already): best first, ties by id."""
    ((documents, scores),) = many_scores(reader, [(query, statistics)])
    is_hit = scores >= least_score(query)
    reader.connection.register("found", {"document": documents[is_hit], "score": scores[is_hit]})
    ordered = reader.connection.execute(
        "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
    ).fetchnumpy()
    reader.connection.unregister("found")
    return ordered["id"].tolist(), ordered["score"].tolist()


def result(
    query: Query, statistics: Statistics, hits: tuple[Scored, ...], total: int, took_ms: float
) -> SearchResult:
    """The exact answer to a query."""
    strategy, means = query.strategy, "every vector was compared"
    if query.fusion is not None:
        strategy, means = query.fusion.method, "every posting and vector of the parts was scored"
    elif not query.is_dense:
        strategy, means = "postings", "every posting of the query's synsets was added up"
    elif query.candidates:
        means += ": an index file has no approximate answers"
    return SearchResult(
        hits=hits,
        total=total,
        total_is_exact=True,
        terms=query.terms,
        average_length=statistics.average_length,
        strategy=strategy,
        exact=True,
        means=means,
        took_ms=took_ms,
        part_terms=tuple(part.terms for part in query.parts),
    )


def _best(query: Query, found: Scores, least: np.float32) -> _Best:
    documents, scores = found
    best = best_places(scores, query.offset + query.k, least)
    chosen = zip(documents[best].tolist(), scores[best].tolist(), strict=True)
    return _Best(dict(chosen), int(np.count_nonzero(scores >= least)))


def _fused(reader: Reader, query: Query, statistics: Statistics) -> _Best:
    """Score by every part, and add what each gives a document, by its number."""
    queries = part_queries(query)
    found = many_scores(reader, [(part, statistics) for part in queries])
    count = max((int(documents.max()) + 1 for documents, _ in found if len(documents)), default=0)
    scores = np.full((len(found), count), np.nan, np.float32)  # NaN: the document lacks the part
    for row, single, (documents, values) in zip(scores, queries, found, strict=True):
        has = values >= least_score(single)
        row[documents[has]] = values[has]
    sums = np.zeros(count)
    for part, row in zip(query.parts, scores, strict=True):
        sums += part.weight * np.nan_to_num(row.astype(np.float64))
    needs_features = query.fusion is not None and query.fusion.needs_features
    needed = scores[[part.is_dense for part in query.parts]] if needs_features else scores
    hits = np.flatnonzero(~np.isnan(needed).all(axis=0))
    best = _best(query, (hits, sums.astype(np.float32)[hits]), np.float32(-np.inf))
    for number in best.scores:
        column = [None if np.isnan(score) else float(score) for score in scores[:, number]]
        best.parts[number] = summed(query.parts, column)
    return best


def _keep_page(reader: Reader, query: Query, best: _Best) -> None:
    """Of many that tie keep those that come first by their ids; no others need be read."""
    ids = reader.rows(_BY_NUMBER.format("id"), [list(best.scores)])
    ids.sort(key=lambda item: (-best.scores[item[0]], item[1]))
    best.scores = {number: best.scores[number] for number, _ in ids[: query.offset + query.k]}


def _page(query: Query, best: _Best, documents: Mapping[int, Document]) -> tuple[Scored, ...]:
    """The hits asked for."""
    hits = best_first(
        Scored(documents[number], score, best.parts.get(number, ()))
        for number, score in best.scores.items()
    )
    return tuple(hits[query.offset : query.offset + query.k])
