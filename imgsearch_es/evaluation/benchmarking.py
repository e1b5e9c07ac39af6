"""Time per query and recall on a person's own index: pictures of it as queries, all ways in turn.

All that is timed in this package is timed by ``take_turns``. Times are those of ``store.search``,
without analysis: stored pictures have it behind them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from imgsearch_es.errors import QueryError
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.dense import CANDIDATES
from imgsearch_es.retrieval.strategies import STRATEGIES, strategy_of
from imgsearch_es.stores.base import SearchResult, Store, known_settings

QUERIES = 50
_EXACT_INNER = "script-filtered"
"""The strategy for formula (1) that scores all that match: the reference for the others."""
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the queries, or rounds of them, that are done, and all of them."""


class Timed(NamedTuple):
    """An answer, and the milliseconds that the store's search took."""

    ms: float
    result: SearchResult


def searcher(index: ImageIndex, **options: Any) -> Callable[[str], Timed]:
    """Searches for a picture of an index; the options are those of ``ImageIndex.query``."""

    def search(picture: str) -> Timed:
        query = index.query(image=picture, **options)
        started = time.perf_counter()
        result = index.store.search(query)
        return Timed((time.perf_counter() - started) * 1000, result)

    return search


def take_turns(
    askers: Sequence[Callable[[str], T]],
    pictures: Sequence[str],
    progress: Progress | None = None,
    *,
    rounds: int | None = None,
) -> list[list[T]]:
    """Ask for every picture in every way, in turn, so that a busy machine slows all of them alike.

    In each round another one begins, so nobody is always the first to warm what all read. A round
    is for one picture, or there are so many ``rounds``, for ways whose files are closed meanwhile:
    each begins with an answer that does not count, and answers follow no order.
    """
    answers: list[list[T]] = [[] for _ in askers]
    count = min(rounds or len(pictures), len(pictures))
    batches = [pictures[start::count] for start in range(count)]
    for ask in askers if rounds is None else ():
        ask(pictures[0])  # opens files and connections
    for done, batch in enumerate(batches):
        for turn in range(len(askers)):
            number = (done + turn) % len(askers)
            if rounds is not None:
                askers[number](batch[0])
            answers[number] += map(askers[number], batch)
        if progress is not None:
            progress(done + 1, len(batches))
    return answers


class Contender(NamedTuple):
    """A way to answer: a strategy, and of approximate answers the number of candidates."""

    strategy: str
    candidates: int = 0

    @property
    def reference(self) -> Contender:
        """The exact way to score by the same formula."""
        inner = STRATEGIES[self.strategy].scores is STRATEGIES[_EXACT_INNER].scores
        return Contender(_EXACT_INNER if inner else self.strategy)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one contender.

    Attributes:
        candidates: how many an approximate answer compared; 0 of an exact one.
        p50_ms: median time of a query; 95 % of the queries stay below ``p95_ms``.
        exact: the share of queries whose answer was certainly exact, by ``SearchResult.exact``.
        recall: mean share of the exact best k that were found; as good scores count as found.
        proven_at_first: the share of queries proven by the first window; None where no window is
            rescored.
    """

    strategy: str
    candidates: int
    p50_ms: float
    p95_ms: float
    exact: float
    recall: float
    proven_at_first: float | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A table of contenders: a row for each, on so many queries for the best k."""

    location: str
    pictures: int
    queries: int
    k: int
    rows: tuple[Measured, ...]


def benchmark(
    index: ImageIndex,
    *,
    queries: int = QUERIES,
    strategies: Sequence[str] | None = None,
    k: int = 10,
    candidates: Sequence[int] = (CANDIDATES,),
    seed: int = 0,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure strategies on an index.

    Args:
        index: an index with pictures.
        queries: how many of its pictures to search for, chosen at random; at most all of them.
        strategies: which to measure; by default all that the index can answer. Of those that it
            can answer approximately, both ways are measured.
        k: how many hits a query asks for.
        candidates: how many candidates an approximate answer compares; each is measured.
        seed: of the choice of pictures.
        progress: told after each query.
    """
    for count in (queries, k, *candidates):
        if count < 1:
            raise QueryError(f"queries, k and candidates are at least 1, not {count}")
    contenders = _contenders(index, strategies, candidates)
    dense = any(STRATEGIES[contender.strategy].is_dense for contender in contenders)
    chosen = sample_pictures(index, queries, seed, dense=dense)
    everyone = list(dict.fromkeys([*contenders, *(c.reference for c in contenders)]))
    askers = [
        searcher(index, strategy=strategy, k=k, approximate=many > 0, candidates=many or None)
        for strategy, many in everyone
    ]
    answers = dict(zip(everyone, take_turns(askers, chosen, progress), strict=True))
    rows = tuple(_row(c, answers[c], answers[c.reference]) for c in contenders)
    return Benchmark(index.location, index.count(), len(chosen), k, rows)


def _contenders(
    index: ImageIndex, strategies: Sequence[str] | None, candidates: Sequence[int]
) -> list[Contender]:
    settings = known_settings(index.store)
    has = settings.embedding_dimensions > 0, settings.visual_words > 0
    names = [name for name, way in STRATEGIES.items() if has[way.by_words] or not way.is_dense]
    for name in strategies or ():
        if strategy_of(name).by_words and not has[1]:
            raise QueryError(
                f"{index.location} has no visual words: `imgsearch reindex --visual-words`"
            )
        if name not in names:
            raise QueryError(f"{name} compares deep features: {index.location} has none")
    approximable = index.store.approximable()
    return [
        Contender(name, count)
        for name in dict.fromkeys(strategies or names)
        for count in (0, *(dict.fromkeys(candidates) if name in approximable else ()))
    ]


def sample_pictures(
    index: ImageIndex, count: int, seed: int, *, dense: bool, also_in: Store | None = None
) -> list[str]:
    """Ids of random pictures with terms, and a deep feature if ``dense``, that ``also_in`` has."""
    ids = sorted(item.id for item in index.store.fingerprints(embeddings=False))
    random.Random(seed).shuffle(ids)  # noqa: S311  (a sample, not a secret)
    chosen: list[str] = []
    for start in range(0, len(ids), count):
        some = ids[start : start + count]
        if also_in is not None:
            shared = also_in.known(some)
            some = [key for key in some if key in shared]
        known = index.store.get(some)
        for document in (known[key] for key in some if key in known):
            has_vector = document.embedding is not None and document.embedding.any()
            if document.terms and (has_vector or not dense):
                chosen.append(document.id)
        if len(chosen) >= count:
            break
    if not chosen:
        both = "" if also_in is None else f" that {also_in.location} has, too"
        raise QueryError(f"{index.location} has no picture to search for{both}")
    return chosen[:count]


def percentiles(times: Sequence[float]) -> tuple[float, float]:
    """The median of times, and what 95 % of them stay below; rounded to 0.001."""
    p95 = round(float(np.percentile(times, 95)), 3)
    return round(statistics.median(times), 3), p95


def recall_of(result: SearchResult, reference: SearchResult) -> float:
    """The share of the reference's hits found; another picture that scores as much counts, too."""
    if not reference.hits:
        return 1.0
    least = reference.hits[-1].score
    found = sum(hit.score >= least for hit in result.hits)
    return min(1.0, found / len(reference.hits))


def _row(contender: Contender, answers: Sequence[Timed], reference: Sequence[Timed]) -> Measured:
    p50, p95 = percentiles([answer.ms for answer in answers])
    windows = [answer.result.windows for answer in answers]
    recalls = [recall_of(a.result, b.result) for a, b in zip(answers, reference, strict=True)]
    return Measured(
        contender.strategy,
        contender.candidates,
        p50_ms=p50,
        p95_ms=p95,
        exact=statistics.fmean(answer.result.exact for answer in answers),
        recall=round(statistics.fmean(recalls), 6),
        proven_at_first=statistics.fmean(n == 1 for n in windows) if any(windows) else None,
    )
