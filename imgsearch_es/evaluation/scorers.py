"""Ways to answer beside each other: how fast, how exact, and how far they answer alike.

Random pictures of an index are searched for. A benchmark compares strategies with the exact one of
the same formula, a scorer report contenders with the first of them. No judgements are needed: this
says what a way to score changes, not whether it is better.

All that is timed in this package is timed by ``take_turns``. Times are those of ``store.search``,
without analysis: stored pictures have it behind them.

Rankings here have no ties: every index orders equal scores by id. (Webber et al. let tied documents
share a rank instead.)
"""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation.measures import PERSISTENCE, kendall_tau, overlap, rank_biased_overlap
from imgsearch_es.evaluation.significance import NOTHING, Interval, interval
from imgsearch_es.evaluation.systems import Systems, parse_systems
from imgsearch_es.evaluation.tables import Tables, plain, show
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.dense import CANDIDATES
from imgsearch_es.retrieval.strategies import DENSE, STRATEGIES, strategy_of
from imgsearch_es.stores.base import SearchResult, known_settings

QUERIES = 50
_EXACT_INNER = "script-filtered"
"""The strategy for formula (1) that scores all that match: the reference for the others."""
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with the queries, or rounds of them, that are done, and all of them."""
_MEANS = ("rbo", "tau", "overlap", "recall")


class Timed(NamedTuple):
    """An answer, and the time of the store's search."""

    ms: float
    result: SearchResult


def timed_search(index: ImageIndex, picture: str, **options: Any) -> Timed:
    """Search for a picture of an index; the options are those of ``ImageIndex.query``."""
    query = index.query(image=picture, **options)
    started = time.perf_counter()
    result = index.store.search(query)
    return Timed((time.perf_counter() - started) * 1000, result)


def take_turns(
    askers: Sequence[Callable[[str], T]],
    pictures: Sequence[str],
    progress: Progress | None = None,
    *,
    rounds: int | None = None,
) -> list[list[T]]:
    """Ask for every picture in every way, so that a busy machine slows all of them alike.

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


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a strategy; ``proven_at_first`` is None where no window is rescored."""

    strategy: str
    candidates: int
    p50_ms: float
    p95_ms: float
    exact: float
    recall: float
    proven_at_first: float | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Strategies, measured on so many queries for the best k."""

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
) -> Benchmark:
    """Measure strategies, by default all; in both ways where one also answers approximately."""
    for count in (queries, k, *candidates):
        if count < 1:
            raise QueryError(f"queries, k and candidates are at least 1, not {count}")
    contenders = _contenders(index, strategies, candidates)
    chosen = sample_pictures(index, queries, seed, [strategy for strategy, _ in contenders])
    inner = STRATEGIES[_EXACT_INNER].scores
    exact = [(_EXACT_INNER if STRATEGIES[s].scores is inner else s, 0) for s, _ in contenders]
    everyone = list(dict.fromkeys([*contenders, *exact]))
    ask = partial(timed_search, index, k=k)
    askers = [
        partial(ask, strategy=strategy, approximate=many > 0, candidates=many or None)
        for strategy, many in everyone
    ]
    answers = dict(zip(everyone, take_turns(askers, chosen), strict=True))
    rows = []
    for contender, reference in zip(contenders, exact, strict=True):
        results = [answer.result for answer in answers[contender]]
        best = [answer.result for answer in answers[reference]]
        recall = statistics.fmean(map(recall_of, results, best))
        windows = [result.windows for result in results]
        rows.append(
            Measured(
                *contender,
                *percentiles([answer.ms for answer in answers[contender]]),
                exact=statistics.fmean(result.exact for result in results),
                recall=round(recall, 6),
                proven_at_first=statistics.fmean(n == 1 for n in windows) if any(windows) else None,
            )
        )
    return Benchmark(index.location, index.count(), len(chosen), k, tuple(rows))


def _contenders(
    index: ImageIndex, strategies: Sequence[str] | None, candidates: Sequence[int]
) -> list[tuple[str, int]]:
    """Strategies, and of approximate answers the number of candidates, else 0."""
    settings = known_settings(index.store)
    has, synsets = (settings.embedding_dimensions, settings.visual_words), settings.has_synsets
    names = [n for n, way in STRATEGIES.items() if (has[way.by_words] if way.is_dense else synsets)]
    for name in strategies or ():
        if strategy_of(name).by_words and not has[1]:
            raise QueryError(
                f"{index.location} has no visual words: `imgsearch reindex --visual-words`"
            )
        if name not in names:
            what = "deep features" if strategy_of(name).is_dense else "synsets"
            raise QueryError(f"{name} compares {what}: {index.location} has none")
    approximable = index.store.approximable()
    return [
        (name, count)
        for name in dict.fromkeys(strategies or names)
        for count in (0, *(dict.fromkeys(candidates) if name in approximable else ()))
    ]


def sample_pictures(
    index: ImageIndex, count: int, seed: int, ways: Iterable[str], also_in: ImageIndex | None = None
) -> list[str]:
    """Ids of random pictures that have what these ways compare, and that ``also_in`` has."""
    are_dense = {way in DENSE for way in ways}
    terms = False in are_dense and known_settings(index.store).has_synsets
    ids = sorted(item.id for item in index.store.fingerprints(embeddings=False))
    random.Random(seed).shuffle(ids)  # noqa: S311  (a sample, not a secret)
    chosen: list[str] = []
    for start in range(0, len(ids), count):
        some = ids[start : start + count]
        shared = some if also_in is None else also_in.store.known(some)
        known = index.store.get([key for key in some if key in shared])
        for document in (known[key] for key in some if key in known):
            has_vector = document.embedding is not None and document.embedding.any()
            if (document.terms or not terms) and (has_vector or True not in are_dense):
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


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a contender answers, compared with the reference: the columns of docs/sweeps.md.

    ``recall`` and the differences are None where another formula is computed.
    """

    scorer: str
    identical: float
    rbo: Interval
    tau: Interval
    overlap: Interval
    recall: Interval | None
    largest_difference: float | None
    mean_difference: float | None
    exact: float
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, repr=False)
class ScorerReport(Tables):
    """Contenders compared with the first of them; shows itself as a table in a notebook."""

    locations: tuple[str, ...]
    pictures: int
    queries: int
    k: int
    p: float
    seed: int
    rows: tuple[Agreement, ...]

    @property
    def reference(self) -> str:
        """What the others are compared with."""
        return self.rows[0].scorer

    @property
    def caption(self) -> str:
        """What the table is of."""
        return (
            f"{' and '.join(self.locations)}: {self.queries} of {self.pictures:,} pictures "
            f"searched for, themselves left out, the best {self.k}; compared with "
            f"{self.reference}. Means with 95% confidence intervals; RBO with p = {self.p:g}, "
            "extrapolated."
        )

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table."""
        columns = ["scorer", "identical", "RBO", "tau", "overlap", f"recall@{self.k}"]
        columns += ["largest difference", "mean difference", "exact", "p50 ms", "p95 ms"]
        rows = []
        for row in self.rows:
            cells = [row.scorer, f"{row.identical:.0%}"]
            cells += [_show(getattr(row, name)) for name in _MEANS]
            differences = row.largest_difference, row.mean_difference
            cells += ["" if number is None else f"{number:.2g}" for number in differences]
            rows.append([*cells, f"{row.exact:.0%}", f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}"])
        return columns, rows

    @property
    def numbers(self) -> Sequence[str]:
        """Headings of the columns that a terminal shows to the right."""
        return self.cells()[0][1:]

    def records(self) -> list[dict[str, Any]]:
        """A row for each contender."""
        rows = []
        for agreement in self.rows:
            row: dict[str, Any] = {}
            for name, value in plain(agreement).items():
                if name not in _MEANS:
                    row[name] = value
                    continue
                for part, number in (value or plain(NOTHING)).items():
                    row[name if part == "mean" else f"{name}_{part}"] = number
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"scorers" if key == "rows" else key: v for key, v in plain(self).items()}


def compare_scorers(
    index: ImageIndex,
    systems: Systems,
    *,
    against: ImageIndex | None = None,
    queries: int = QUERIES,
    k: int = 10,
    p: float = PERSISTENCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> ScorerReport:
    """Compare ways to score on the same queries: pictures of the index, left out themselves.

    >>> report = compare_scorers(index, "auto,script", queries=5)
    >>> [row.rbo.mean for row in report.rows]
    [1.0, 1.0]

    Args:
        index: an index with pictures.
        systems: strategies and fusions by short names (see ``imgsearch_es.evaluation.systems``);
            the first is the reference.
        against: another index with the same pictures: each system answers there as well.
        queries: how many pictures to search for, chosen at random; at most all of them.
        k: how many hits a query asks for.
        p: persistence of rank-biased overlap.
        seed: of the choice of pictures.
        progress: told after each query.

    Raises:
        QueryError: there is no such system, or no picture to search for.
        EvaluationError: there is nothing to compare with, or a number makes no sense.
        IndexNotFoundError: one of the indexes does not exist.
        MissingDependencyError: SciPy is not installed.
    """
    asked = parse_systems(systems)
    contenders = [(index, system, system.name) for system in asked]
    if against is not None:
        against.count()  # raises when there is no index
        contenders += [(against, s, f"{s.name} @ {against.location}") for s in asked]
    if len(contenders) < 2:
        raise EvaluationError(
            f"what is {asked[0].name} to be compared with? Name two strategies or a second index"
        )
    for name, number in (("queries", queries), ("k", k)):
        if number < 1:
            raise EvaluationError(f"{name} is at least 1, not {number}")
    rank_biased_overlap((), (), p)  # refuses a p that makes no sense before anything is asked
    chosen = sample_pictures(index, queries, seed, [p for s in asked for p in s.parts], against)
    ask = partial(timed_search, k=k, exclude_self=True)
    askers = [partial(ask, place, **system.options) for place, system, _ in contenders]
    answers = take_turns(askers, chosen, progress)
    rows = tuple(
        _agreement(name, found, answers[0], p, same_formula=system.scores_as(asked[0]))
        for (_, system, name), found in zip(contenders, answers, strict=True)
    )
    locations = (index.location,) if against is None else (index.location, against.location)
    return ScorerReport(locations, index.count(), len(chosen), k, p, seed, rows)


def _agreement(
    name: str, answers: Sequence[Timed], expected: Sequence[Timed], p: float, *, same_formula: bool
) -> Agreement:
    both = [(a.result, b.result) for a, b in zip(answers, expected, strict=True)]
    scores = [[dict(found.ranking) for found in pair] for pair in both]
    pairs = [(list(ours), list(theirs)) for ours, theirs in scores]
    differences = [
        abs(score - theirs[key])
        for ours, theirs in scores
        for key, score in ours.items()
        if key in theirs and same_formula
    ]
    p50, p95 = percentiles([answer.ms for answer in answers])
    return Agreement(
        name,
        identical=sum(ours == theirs for ours, theirs in pairs) / len(pairs),
        rbo=_mean([rank_biased_overlap(*pair, p) for pair in pairs]),
        tau=_mean([tau for pair in pairs if not math.isnan(tau := kendall_tau(*pair))], -1),
        overlap=_mean([overlap(*pair) for pair in pairs]),
        recall=_mean([recall_of(*pair) for pair in both]) if same_formula else None,
        largest_difference=max(differences, default=None),
        mean_difference=math.fsum(differences) / len(differences) if differences else None,
        exact=sum(answer.result.exact for answer in answers) / len(answers),
        p50_ms=p50,
        p95_ms=p95,
    )


def _mean(values: Sequence[float], least: float = 0) -> Interval:
    if len(set(values)) == 1:  # no chance has a part in it
        return Interval(values[0], values[0], values[0])
    return interval(np.asarray(values), within=(least, 1)) if values else NOTHING


def _show(value: Interval | None) -> str:
    """Without the interval where all queries agree, and nothing where no query says anything."""
    if value is None or math.isnan(value.mean):
        return ""
    return f"{value.mean:.3f}" if value.low == value.high else show(value)
