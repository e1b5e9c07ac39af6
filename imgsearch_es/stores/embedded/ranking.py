"""Ranking: a source has posting lists and deep features, NumPy adds up and compares.

Many queries share one scan of what any of them needs. A query's summands go into an array with a
number for each document, which takes a third of the time of a GROUP BY.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.queries import Query, Selection, part_queries
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Context, Statistics
from imgsearch_es.retrieval.strategies import summed
from imgsearch_es.stores.base import Scored, SearchResult
from imgsearch_es.stores.embedded.pruning import (
    ABOVE_0,
    BOUNDED,
    Asked,
    Posting,
    Scores,
    Summand,
    least_score,
)
from imgsearch_es.stores.embedded.sources import Best, Places, Source

_BLOCK = 512
"""Documents whose best score is looked at first when the best of all are looked for."""
_SPARSE = 16
"""All documents are looked at where there are at most so many for a posting."""
_AT_ONCE = 20
"""Queries whose scores of all deep features are in memory."""

T = TypeVar("T")
Weighted = tuple[Query, Statistics]
"""A query whose synsets are weighted by its formula, and what that was based on."""


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


def many_scores(
    source: Source,
    queries: Sequence[Weighted],
    take: Callable[[Query, Scores], T],
    *,
    best_alone: bool = False,
) -> list[T]:
    """What ``take`` makes of the scores by each of some queries, none of them fused.

    One scan serves all that have the same conditions, but for the documents that they leave out.
    With ``best_alone`` the best offset + k are certainly there, and the others may be missing.
    """
    together: dict[tuple[Any, ...], list[int]] = {}
    for i, (query, _) in enumerate(queries):
        is_bounded = best_alone and query.strategy in BOUNDED
        kind = query.by_words, query.is_dense, is_bounded, query.filters
        together.setdefault(kind, []).append(i)
    ids = list(dict.fromkeys(key for query, _ in queries for key in query.exclude))
    excluded = source.places(ids)
    found: dict[int, T] = {}
    for (by_words, is_dense, is_bounded, filters), places in together.items():
        conditions, some = Selection(filters=filters), [queries[i] for i in places]
        if by_words or not is_dense:
            all_scores = _by_lists(source, some, conditions, best_alone=best_alone)
        elif is_bounded:
            all_scores = source.nearest([query for query, _ in some], conditions)
        else:
            own = [query for query, _ in some]
            parts = (own[first : first + _AT_ONCE] for first in range(0, len(own), _AT_ONCE))
            all_scores = (each for part in parts for each in source.compared(part, conditions))
        for i, scores in zip(places, all_scores, strict=True):
            query = queries[i][0]
            if np.isnan(scores.scores.max(initial=0)):  # one look, which any such number outlives
                raise DamagedIndexError("it has scores that are no numbers")
            out = [excluded[key] for key in query.exclude if key in excluded]
            found[i] = take(query, _without(out, scores, least_score(query)) if out else scores)
    return [found[i] for i in range(len(queries))]


def _without(out: Sequence[int], found: Scores, least: np.float32) -> Scores:
    """Scores without those of some places."""
    if found.places is None:
        found.scores[[place for place in out if place < len(found.scores)]] = 0
        return found
    is_out = np.isin(found.places, out)
    total = found.total
    if total is not None:
        total -= int(np.count_nonzero(found.scores[is_out] >= least))
    return Scores(found.places[~is_out], found.scores[~is_out], total)


def all_hits(query: Query, found: Scores) -> tuple[Places, NDArray[np.float32]]:
    """The places and scores of all hits."""
    is_hit = found.scores >= least_score(query)
    places = np.flatnonzero(is_hit) if found.places is None else found.places[is_hit]
    return places, found.scores[is_hit]


def best_places(
    scores: NDArray[np.float32], count: int, least: np.float32 = ABOVE_0
) -> NDArray[np.intp]:
    """Where the ``count`` highest scores of ``least`` or more are, and all that tie with the last.

    A block's best score is at most the block's; so at least ``count`` scores are no lower than the
    ``count``-th best of the blocks, and only those need be compared.
    """
    if len(scores) > _BLOCK * count:
        blocks = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK))
        least = max(least, np.partition(blocks, -count)[-count])
    (places,) = (scores >= least).nonzero()
    if len(places) > count:
        last = np.partition(scores[places], -count)[-count]
        places = places[scores[places] >= last]
    return places


def sums(zeros: NDArray[np.float64], lists: Sequence[NDArray[np.intp]]) -> Scores:
    """What was added to zeros at the places of some lists; they are left as zeros.

    Some of the sums may be 0.
    """
    if len(zeros) <= _SPARSE * sum(map(len, lists)):
        scores = zeros.astype(np.float32)
        zeros.fill(0)
        return Scores(None, scores)
    found = [(np.empty(0, np.intp), np.empty(0))]
    for places in lists:
        some = zeros[places]
        zeros[places] = 0
        is_first = some != 0
        found.append((places[is_first], some[is_first]))
    every, values = (np.concatenate(column) for column in zip(*found, strict=True))
    return Scores(every, values.astype(np.float32))


def _by_lists(
    source: Source, queries: Sequence[Weighted], conditions: Selection, *, best_alone: bool
) -> Iterable[Scores]:
    """Products in double precision, added in the order of each query's terms."""
    table, numbers = "postings", source.reader.numbers
    asked: list[Asked] = [
        [(numbers.get(term.key, -1), term.score) for term in query.terms] for query, _ in queries
    ]
    if queries[0][0].by_words:
        table, asked = "visual_postings", [query.words for query, _ in queries]
    summed = [(query, _summand(query, statistics)) for query, statistics in queries]
    found: list[Scores | None] = [None] * len(queries)
    if best_alone:
        found = source.best(table, asked, summed, conditions)
    rest = [own for own, scores in zip(asked, found, strict=True) if scores is None]
    terms = list(dict.fromkeys(number for own in rest for number, _ in own if number >= 0))
    needs_lengths = not all(query.formula.is_linear for query, _ in queries)
    lists = source.lists(table, terms, conditions, needs_lengths=needs_lengths) if rest else {}
    for own, (_, summand), pruned in zip(asked, summed, found, strict=True):
        if pruned is not None:
            yield pruned
            continue
        having = [item for item in ((lists[n], weight) for n, weight in own) if len(item[0].places)]
        places = [found.places for found, _ in having]
        added = source.zeros(places)
        for item, weight in having:
            added[item.places] += summand(weight, item)
        yield sums(added, places)
        source.keep(added)


def _summand(query: Query, statistics: Statistics) -> Summand:
    """What a term of some weight adds to documents."""
    formula = query.formula
    if formula.is_linear:
        return lambda weight, found: weight * found.scores
    parameters, average = formula.with_defaults(query.parameters), statistics.average_length

    def summand(weight: Any, found: Posting) -> Any:
        context = Context(found.lengths, found.norms, average, parameters)
        return formula.summand(weight, found.scores, context)

    return summand


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
