"""The scorer report: how far strategies answer alike, and how fast, on the same queries.

Pictures of an index are searched for by every contender in turn, and each contender is compared
with the first one: script with impact, sparse with dense, approximate with exact, one store with
another. No judgements are needed: this says what a way to score changes, not whether it is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import tables
from imgsearch_es.evaluation.agreement import (
    PERSISTENCE,
    kendall_tau,
    overlap,
    rank_biased_overlap,
)
from imgsearch_es.evaluation.benchmarking import (
    percentiles,
    recall_of,
    sample_pictures,
    timed_search,
)
from imgsearch_es.evaluation.report import blank, null, show, values_of
from imgsearch_es.evaluation.significance import Interval, interval
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.base import SearchResult

QUERIES = 50
Progress = Callable[[int, int], None]
"""Called with the queries that are done, and all of them."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a contender answers, compared with the reference; means over the queries.

    Attributes:
        scorer: its name.
        identical: the share of queries with the same pictures in the same order.
        rbo: rank-biased overlap, extrapolated.
        tau: Kendall's tau of the pictures that both found; over the queries where both found two.
        overlap: the share of pictures in common.
        recall: the share of the reference's best k that were found, where another picture that
            scores as much counts, too; None where another formula is computed.
        largest_difference: between two scores of one picture; None where another formula is
            computed, or no picture in common.
        mean_difference: of these differences, without their signs.
        exact: the share of queries whose answer was certainly exact, by ``SearchResult.exact``.
        p50_ms: median time of a query in milliseconds.
        p95_ms: time that 95 % of the queries stay below.
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


@dataclass(frozen=True)
class ScorerReport:
    """Contenders compared with the first of them; shows itself as a table in a notebook.

    Attributes:
        locations: of the indexes.
        pictures: how many the first one holds.
        queries: how many were asked.
        k: how many hits each.
        p: persistence of rank-biased overlap.
        seed: of the choice of queries.
        rows: the reference first.
    """

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
        return columns, [_cells(row) for row in self.rows]

    def to_markdown(self) -> str:
        """A table for a README or a notebook."""
        return f"{tables.to_markdown(*self.cells())}\n\n{self.caption}"

    def to_latex(self) -> str:
        """A table for the package booktabs."""
        return tables.to_latex(*self.cells(), self.caption)

    def to_csv(self) -> str:
        """A line for each contender, with all digits."""
        columns = [
            *("scorer", "identical", "rbo", "rbo_low", "rbo_high", "tau", "tau_low", "tau_high"),
            *("overlap", "overlap_low", "overlap_high", "recall", "recall_low", "recall_high"),
            *("largest_difference", "mean_difference", "exact", "p50_ms", "p95_ms"),
        ]
        return tables.to_csv(columns, [_values(row) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        rows = []
        for row in self.rows:
            values: dict[str, Any] = asdict(row)
            for name in ("rbo", "tau", "overlap", "recall"):
                found: Interval | None = getattr(row, name)
                values[name] = None if found is None else values_of(found)
                if found is not None:
                    values[name]["mean"] = null(found.mean)
            rows.append(values)
        whole = {name: getattr(self, name) for name in ("pictures", "queries", "k", "p", "seed")}
        return {"locations": list(self.locations), **whole, "scorers": rows}

    def _repr_html_(self) -> str:
        return tables.to_html(*self.cells(), self.caption)

    def __repr__(self) -> str:
        return self.to_markdown()


def compare_scorers(
    index: ImageIndex,
    systems: str | Iterable[str | System],
    *,
    against: ImageIndex | None = None,
    queries: int = QUERIES,
    k: int = 10,
    p: float = PERSISTENCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> ScorerReport:
    """Compare ways to score on the same queries: pictures of the index, left out themselves.

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
    contenders = [_Contender(index, system, system.name) for system in asked]
    if against is not None:
        against.count()  # raises when there is no index
        contenders += [_Contender(against, s, f"{s.name} @ {against.location}") for s in asked]
    if len(contenders) < 2:
        raise EvaluationError(
            f"what is {asked[0].name} to be compared with? Name two strategies or a second index"
        )
    for name, number in (("queries", queries), ("k", k)):
        if number < 1:
            raise EvaluationError(f"{name} is at least 1, not {number}")
    rank_biased_overlap((), (), p)  # refuses a p that makes no sense before anything is asked
    chosen = sample_pictures(
        index,
        queries,
        seed,
        dense=any(system.uses_features for system in asked),
        also_in=None if against is None else against.store,
    )
    for contender in contenders:
        contender.answer(chosen[0], k)  # opens files and connections
    answers: list[list[_Answer]] = [[] for _ in contenders]
    for done, picture in enumerate(chosen):
        for turn in range(len(contenders)):  # nobody is always the first to warm what all read
            number = (done + turn) % len(contenders)
            answers[number].append(contenders[number].answer(picture, k))
        if progress is not None:
            progress(done + 1, len(chosen))
    rows = tuple(
        _agreement(contender, answers[number], contenders[0], answers[0], p)
        for number, contender in enumerate(contenders)
    )
    locations = (index.location,) if against is None else (index.location, against.location)
    return ScorerReport(locations, index.count(), len(chosen), k, p, seed, rows)


@dataclass(frozen=True, slots=True)
class _Answer:
    ms: float
    result: SearchResult

    @property
    def ids(self) -> list[str]:
        return [hit.document.id for hit in self.result.hits]

    @property
    def scores(self) -> dict[str, float]:
        return {hit.document.id: hit.score for hit in self.result.hits}


@dataclass(frozen=True, slots=True)
class _Contender:
    index: ImageIndex
    system: System
    name: str

    def answer(self, picture: str, k: int) -> _Answer:
        query: Query = self.index.query(
            image=picture, k=k, exclude_self=True, **self.system.options
        )
        return _Answer(*timed_search(self.index.store, query))


def _agreement(
    contender: _Contender,
    answers: Sequence[_Answer],
    reference: _Contender,
    expected: Sequence[_Answer],
    p: float,
) -> Agreement:
    pairs = [(ours.ids, theirs.ids) for ours, theirs in zip(answers, expected, strict=True)]
    same_formula = contender.system.scores_as(reference.system)
    differences = _score_differences(answers, expected) if same_formula else []
    p50, p95 = percentiles([answer.ms for answer in answers])
    return Agreement(
        contender.name,
        identical=sum(ours == theirs for ours, theirs in pairs) / len(pairs),
        rbo=_mean([rank_biased_overlap(*pair, p) for pair in pairs]),
        tau=_mean([tau for pair in pairs if not math.isnan(tau := kendall_tau(*pair))]),
        overlap=_mean([overlap(*pair) for pair in pairs]),
        recall=_mean(
            [recall_of(a.result, b.result) for a, b in zip(answers, expected, strict=True)]
        )
        if same_formula
        else None,
        largest_difference=max(differences, default=None),
        mean_difference=math.fsum(differences) / len(differences) if differences else None,
        exact=sum(answer.result.exact for answer in answers) / len(answers),
        p50_ms=p50,
        p95_ms=p95,
    )


def _score_differences(answers: Sequence[_Answer], expected: Sequence[_Answer]) -> list[float]:
    """Of the pictures that both found, without signs."""
    found: list[float] = []
    for ours, theirs in zip(answers, expected, strict=True):
        scores = theirs.scores
        found += [abs(s - scores[key]) for key, s in ours.scores.items() if key in scores]
    return found


def _mean(values: Sequence[float]) -> Interval:
    return interval(np.asarray(values)) if values else Interval(math.nan, math.nan, math.nan)


def _cells(row: Agreement) -> list[str]:
    means = ["" if m is None else _show(m) for m in (row.rbo, row.tau, row.overlap, row.recall)]
    differences = [
        "" if difference is None else f"{difference:.2g}"
        for difference in (row.largest_difference, row.mean_difference)
    ]
    times = [f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}"]
    return [row.scorer, f"{row.identical:.0%}", *means, *differences, f"{row.exact:.0%}", *times]


def _show(value: Interval) -> str:
    """Without the interval where all queries agree, and nothing where no query says anything."""
    if math.isnan(value.mean):
        return ""
    return f"{value.mean:.3f}" if value.low == value.high else show(value)


def _values(row: Agreement) -> list[object]:
    values: list[object] = [row.scorer, row.identical]
    for found in (row.rbo, row.tau, row.overlap, row.recall):
        numbers = (math.nan,) * 3 if found is None else (found.mean, found.low, found.high)
        values += map(blank, numbers)
    values += ["" if d is None else d for d in (row.largest_difference, row.mean_difference)]
    return [*values, row.exact, row.p50_ms, row.p95_ms]
