"""Time per query and recall on a person's own index: pictures of it as queries, all ways in turn.

Each query is answered by every contender before the next one comes, so that a busy machine slows
all of them alike. Times are those of ``store.search``, without analysis: stored pictures have it
behind them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgsearch_es.errors import QueryError
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.dense import CANDIDATES
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import STRATEGIES, strategy_of
from imgsearch_es.stores.base import SearchResult, Store, known_settings

QUERIES = 50
_EXACT_INNER = "script-filtered"
"""The strategy for formula (1) that scores all that match: the reference for the others."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to answer: a strategy, and of approximate answers the number of candidates."""

    strategy: str
    candidates: int = 0

    @property
    def reference(self) -> Contender:
        """The exact way to score by the same formula."""
        inner = STRATEGIES[self.strategy].scores is STRATEGIES[_EXACT_INNER].scores
        return Contender(_EXACT_INNER if inner else self.strategy)

    @property
    def is_dense(self) -> bool:
        """Whether it compares deep features."""
        return STRATEGIES[self.strategy].is_dense


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one contender.

    Attributes:
        strategy: its strategy.
        candidates: how many an approximate answer compared; 0 of an exact one.
        p50_ms: median time of a query in milliseconds.
        p95_ms: time that 95 % of the queries stay below.
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
    """A table of contenders.

    Attributes:
        location: of the index.
        pictures: how many it holds.
        queries: how many were asked.
        k: how many hits each.
        rows: one for each contender.
    """

    location: str
    pictures: int
    queries: int
    k: int
    rows: tuple[Measured, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


Progress = Callable[[int, int], None]
"""Called with the queries that are done, and all of them."""


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

    Raises:
        QueryError: there is no such strategy, or no picture to search for.
    """
    for count in (queries, k, *candidates):
        if count < 1:
            raise QueryError(f"queries, k and candidates are at least 1, not {count}")
    contenders = _contenders(index, strategies, candidates)
    chosen = sample_pictures(index, queries, seed, dense=any(c.is_dense for c in contenders))
    answers: dict[Contender, list[_Answer]] = {contender: [] for contender in contenders}
    for contender in contenders:
        index.store.search(_query(index, chosen[0], contender, k))  # opens files and connections
    for done, picture in enumerate(chosen, start=1):
        found = _answer(index, picture, contenders, k)
        for contender in contenders:
            answers[contender].append(found[contender])
        if progress is not None:
            progress(done, len(chosen))
    rows = tuple(_row(contender, answers[contender]) for contender in contenders)
    return Benchmark(index.location, index.count(), len(chosen), k, rows)


@dataclass(frozen=True, slots=True)
class _Answer:
    ms: float
    result: SearchResult
    recall: float


def _contenders(
    index: ImageIndex, strategies: Sequence[str] | None, candidates: Sequence[int]
) -> list[Contender]:
    has_vectors = known_settings(index.store).embedding_dimensions > 0
    names = [name for name, way in STRATEGIES.items() if has_vectors or not way.is_dense]
    for name in strategies or ():
        if strategy_of(name).name not in names:
            raise QueryError(f"{name} compares deep features: {index.location} has none")
    chosen = list(dict.fromkeys(strategies or names))
    approximable = index.store.approximable()
    return [
        Contender(name, count)
        for name in chosen
        for count in (0, *(dict.fromkeys(candidates) if name in approximable else ()))
    ]


def sample_pictures(
    index: ImageIndex, count: int, seed: int, *, dense: bool, also_in: Store | None = None
) -> list[str]:
    """Ids of random pictures that can be searched for.

    Args:
        index: the pictures.
        count: how many; all where there are fewer.
        seed: of the choice.
        dense: whether a picture needs a deep feature that is not zero.
        also_in: another index that must have them, too.

    Raises:
        QueryError: there is none.
    """
    ids = sorted(item.id for item in index.store.fingerprints(embeddings=False))
    random.Random(seed).shuffle(ids)  # noqa: S311  (a sample, not a secret)
    chosen = list(_usable(index, ids, count, dense=dense, also_in=also_in))
    if not chosen:
        both = "" if also_in is None else f" that {also_in.location} has, too"
        raise QueryError(f"{index.location} has no picture to search for{both}")
    return chosen


def _usable(
    index: ImageIndex, ids: Sequence[str], count: int, *, dense: bool, also_in: Store | None
) -> Iterator[str]:
    """The first so many with terms and, where it is compared, a deep feature that is not zero."""
    left = count
    for start in range(0, len(ids), count):
        some = ids[start : start + count]
        if also_in is not None:
            shared = also_in.known(some)
            some = [key for key in some if key in shared]
        known = index.store.get(some)
        for document in (known[key] for key in some if key in known):
            has_vector = document.embedding is not None and document.embedding.any()
            if left and document.terms and (has_vector or not dense):
                left -= 1
                yield document.id
        if not left:
            return


def timed_search(store: Store, query: Query) -> tuple[float, SearchResult]:
    """The milliseconds that a search took, and its answer."""
    started = time.perf_counter()
    result = store.search(query)
    return (time.perf_counter() - started) * 1000, result


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


def _query(index: ImageIndex, picture: str, contender: Contender, k: int) -> Query:
    return index.query(
        image=picture,
        strategy=contender.strategy,
        k=k,
        approximate=contender.candidates > 0,
        candidates=contender.candidates or None,
    )


def _answer(
    index: ImageIndex, picture: str, contenders: Sequence[Contender], k: int
) -> dict[Contender, _Answer]:
    """All answers to one query, each compared with the exact one by its formula."""
    timed: dict[Contender, tuple[float, SearchResult]] = {}
    for contender in contenders:
        timed[contender] = timed_search(index.store, _query(index, picture, contender, k))
    references = {contender: result for contender, (_, result) in timed.items()}
    for contender in {contender.reference for contender in contenders} - set(references):
        references[contender] = index.store.search(_query(index, picture, contender, k))
    return {
        contender: _Answer(ms, result, recall_of(result, references[contender.reference]))
        for contender, (ms, result) in timed.items()
    }


def _row(contender: Contender, answers: Sequence[_Answer]) -> Measured:
    p50, p95 = percentiles([answer.ms for answer in answers])
    windows = [answer.result.windows for answer in answers]
    return Measured(
        contender.strategy,
        contender.candidates,
        p50_ms=p50,
        p95_ms=p95,
        exact=statistics.fmean(answer.result.exact for answer in answers),
        recall=round(statistics.fmean(answer.recall for answer in answers), 6),
        proven_at_first=statistics.fmean(n == 1 for n in windows) if any(windows) else None,
    )
