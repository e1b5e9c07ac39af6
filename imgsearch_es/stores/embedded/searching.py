"""From queries to results: rank all of them, then read all their hits at once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.fusion import PartScore
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.embedded import dense, ranking
from imgsearch_es.stores.embedded.fusion import fuse
from imgsearch_es.stores.embedded.ranking import Scores, Weighted
from imgsearch_es.stores.embedded.rows import BY_NUMBER, COLUMNS, to_document

_FEW = 100
"""Documents of a query that may be read though they are no hits in the end."""


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
    parts: Mapping[int, tuple[PartScore, ...]] = field(default_factory=dict)


def search(
    connection: duckdb.DuckDBPyConnection,
    queries: Sequence[Weighted],
    term_numbers: dict[str, int],
    keys: Sequence[str],
) -> list[SearchResult]:
    """Answer queries together: one scan of what several of them need.

    Args:
        connection: to the file.
        queries: weighted already.
        term_numbers: number of each term of the vocabulary.
        keys: of the vocabulary, by number.
    """
    started = time.perf_counter()
    found = _best_of_all(connection, queries, term_numbers)
    for (query, _), best in zip(queries, found, strict=True):
        if len(best.scores) > query.k + _FEW:
            _keep_page(connection, query, best)
    numbers = list(dict.fromkeys(number for best in found for number in best.scores))
    rows = connection.execute(BY_NUMBER.format(f"document, {', '.join(COLUMNS)}"), [numbers])
    documents = {row[0]: to_document(row[1:], keys) for row in rows.fetchall()}
    if len(documents) < len(numbers):
        missing = len(numbers) - len(documents)
        raise DamagedIndexError(f"it has postings of {missing} documents that are not there")
    took = (time.perf_counter() - started) * 1000 / len(queries)
    return [
        SearchResult(
            hits=_page(query, best, documents),
            total=best.total,
            total_is_exact=True,
            terms=query.terms,
            average_length=statistics.average_length,
            strategy=_strategy(query),
            exact=True,
            means=_means(query),
            took_ms=took,
            part_terms=tuple(part.terms for part in query.parts),
        )
        for (query, statistics), best in zip(queries, found, strict=True)
    ]


def _best_of_all(
    connection: duckdb.DuckDBPyConnection,
    queries: Sequence[Weighted],
    term_numbers: dict[str, int],
) -> list[_Best]:
    fused = [i for i, (query, _) in enumerate(queries) if query.fusion is not None]
    features = [i for i, (query, _) in enumerate(queries) if query.is_dense]
    synsets = [i for i in range(len(queries)) if i not in {*fused, *features}]
    found: dict[int, _Best] = {}
    for i in fused:
        query, statistics = queries[i]
        whole = fuse(connection, query, term_numbers, statistics)
        found[i] = _Best(whole.scores, whole.total, whole.parts)
    every = ranking.many_scores(connection, [queries[i] for i in synsets], term_numbers)
    _check(every)
    for i, scores in zip(synsets, every, strict=True):
        found[i] = _best_matches(queries[i][0], scores)
    every = dense.many_scores(connection, [queries[i][0] for i in features], term_numbers)
    _check(every)
    for i, scores in zip(features, every, strict=True):
        found[i] = _best_neighbors(queries[i][0], scores)
    return [found[i] for i in range(len(queries))]


def _check(every: Sequence[Scores]) -> None:
    """A score that is no number has no place in a ranking, which would not show it."""
    if any(np.isnan(scores).any() for _, scores in every):
        raise DamagedIndexError("it has scores that are no numbers")


def _best_matches(query: Query, every: Scores) -> _Best:
    documents, scores = every
    best = ranking.best_places(scores, query.offset + query.k)
    chosen = zip(documents[best].tolist(), scores[best].tolist(), strict=True)
    return _Best(dict(chosen), int(np.count_nonzero(scores)))


def _best_neighbors(query: Query, every: Scores) -> _Best:
    """Scores of deep features may be below 0; those below the threshold are left out."""
    documents, scores = every
    if query.threshold is not None:
        above = scores >= np.float32(query.threshold)
        documents, scores = documents[above], scores[above]
    return _Best(ranking.best_of((documents, scores), query.offset + query.k), len(scores))


def _keep_page(connection: duckdb.DuckDBPyConnection, query: Query, best: _Best) -> None:
    """Of many that tie keep those that come first by their ids; no others need be read."""
    ids = connection.execute(BY_NUMBER.format("document, id"), [list(best.scores)]).fetchall()
    ids.sort(key=lambda item: (-best.scores[item[0]], item[1]))
    best.scores = {number: best.scores[number] for number, _ in ids[: query.offset + query.k]}


def _page(query: Query, best: _Best, documents: Mapping[int, Document]) -> tuple[Scored, ...]:
    """The hits asked for: best first, ties by id."""
    hits = best_first(
        Scored(documents[number], score, best.parts.get(number, ()))
        for number, score in best.scores.items()
    )
    return tuple(hits[query.offset : query.offset + query.k])


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
