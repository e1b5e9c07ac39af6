"""Scores of all documents: a source has posting lists and deep features, NumPy adds and compares.

Many queries share one scan of what any of them needs. A query's summands go into an array with a
number for each document, which takes a third of the time of a GROUP BY.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Context, Statistics
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.stores.embedded.nearest import BOUNDED, Scores
from imgsearch_es.stores.embedded.pruning import ABOVE_0, Asked, Posting, Summand, least_score
from imgsearch_es.stores.embedded.sources import Places, Source

_BLOCK = 512
"""Documents whose best score is looked at first when the best of all are looked for."""
_SPARSE = 16
"""All documents are looked at where there are at most so many for a posting."""
_AT_ONCE = 20
"""Queries whose scores of all deep features are in memory."""

T = TypeVar("T")
Weighted = tuple[Query, Statistics]
"""A query whose synsets are weighted by its formula, and what that was based on."""
Way = Callable[[Source, Sequence[Weighted], Selection, bool], Iterable[Scores]]
"""The scores by each of some queries, of documents that meet conditions; or of the best alone."""


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
        together.setdefault((_way(query, best_alone), query.filters), []).append(i)
    ids = list(dict.fromkeys(key for query, _ in queries for key in query.exclude))
    excluded = source.places(ids)
    found: dict[int, T] = {}
    for (way, filters), places in together.items():
        conditions = Selection(filters=filters)
        some = [queries[i] for i in places]
        for i, scores in zip(places, way(source, some, conditions, best_alone), strict=True):
            query = queries[i][0]
            check_numbers(scores.scores)
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
        total -= np.count_nonzero(found.scores[is_out] >= least)
    return Scores(found.places[~is_out], found.scores[~is_out], total)


def check_numbers(scores: NDArray[np.float32]) -> None:
    """DamagedIndexError if one is none: it has no place in a ranking, which would not show it."""
    if np.isnan(scores.max(initial=0)):  # one look, which any such number outlives
        raise DamagedIndexError("it has scores that are no numbers")


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


def _way(query: Query, best_alone: bool) -> Way:
    if STRATEGIES[query.strategy].by_words:
        return _by_words
    if not query.is_dense:
        return _by_postings
    return _by_bounds if best_alone and query.strategy in BOUNDED else _by_features


def _by_postings(
    source: Source, queries: Sequence[Weighted], conditions: Selection, best_alone: bool
) -> Iterable[Scores]:
    numbers = source.reader.numbers
    terms = [[(numbers.get(t.key, -1), t.score) for t in query.terms] for query, _ in queries]
    return _by_lists(source, "postings", terms, queries, conditions, best_alone)


def _by_words(
    source: Source, queries: Sequence[Weighted], conditions: Selection, best_alone: bool
) -> Iterable[Scores]:
    words = [query.words for query, _ in queries]
    return _by_lists(source, "visual_postings", words, queries, conditions, best_alone)


def _by_lists(
    source: Source,
    table: str,
    wanted: Sequence[Asked],
    queries: Sequence[Weighted],
    conditions: Selection,
    best_alone: bool,
) -> Iterable[Scores]:
    """Products in double precision, added in the order of each query's terms."""
    summed = [(query, _summand(query, statistics)) for query, statistics in queries]
    found: list[Scores | None] = [None] * len(queries)
    if best_alone:
        found = source.best(table, wanted, summed, conditions)
    rest = [own for own, scores in zip(wanted, found, strict=True) if scores is None]
    terms = list(dict.fromkeys(number for own in rest for number, _ in own if number >= 0))
    needs_lengths = not all(query.formula.is_linear for query, _ in queries)
    lists = source.lists(table, terms, conditions, needs_lengths=needs_lengths) if rest else {}
    for own, (_, summand), pruned in zip(wanted, summed, found, strict=True):
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


def _by_features(
    source: Source, queries: Sequence[Weighted], conditions: Selection, _best_alone: bool
) -> Iterable[Scores]:
    for first in range(0, len(queries), _AT_ONCE):
        some = [query for query, _ in queries[first : first + _AT_ONCE]]
        yield from source.compared(some, conditions)


def _by_bounds(
    source: Source, queries: Sequence[Weighted], conditions: Selection, _best_alone: bool
) -> Iterable[Scores]:
    return source.nearest([query for query, _ in queries], conditions)
