"""The scorer report: how far strategies answer alike, and how fast, on the same queries.

Pictures of an index are searched for by every contender in turn, and each contender is compared
with the first one: script with impact, sparse with dense, approximate with exact, one store with
another. No judgements are needed: this says what a way to score changes, not whether it is better.

Rankings here have no ties: an index orders equal scores by id, every index alike, so documents
that tie stand in the same order in all rankings and count as ranked so. (Webber et al. let tied
documents share a rank instead.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.benchmarking import (
    QUERIES,
    Progress,
    Timed,
    percentiles,
    recall_of,
    sample_pictures,
    searcher,
    take_turns,
)
from imgsearch_es.evaluation.significance import NOTHING, Interval, interval
from imgsearch_es.evaluation.systems import Systems, parse_systems
from imgsearch_es.evaluation.tables import Tables, plain, show
from imgsearch_es.index import ImageIndex

PERSISTENCE = 0.9
"""A reader goes on to the next rank with this probability: the first ten ranks weigh 86 %."""
_MEANS = ("rbo", "tau", "overlap", "recall")


def rank_biased_overlap(
    first: Sequence[Hashable], second: Sequence[Hashable], p: float = PERSISTENCE
) -> float:
    """Rank-biased overlap, extrapolated: 1 for equal rankings, 0 for disjoint ones.

    The mean agreement that a reader sees who looks at one rank more with probability p, supposing
    that rankings agree beyond their ends as they did at them. Webber, Moffat and Zobel, "A
    similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 32, which is for
    rankings of unequal lengths. Each document comes once in a ranking.
    """
    if not 0 < p < 1:
        raise EvaluationError(f"the persistence p is between 0 and 1, not {p}")
    short, long = sorted((first, second), key=len)
    ranks, others = _ranks(short), _ranks(long)
    if not short:
        return float(not long)
    seen = [max(rank, others[key]) for key, rank in ranks.items() if key in others]
    shared = np.cumsum(np.bincount(seen, minlength=len(long))[: len(long)])
    depths = np.arange(1, len(long) + 1)
    beyond = np.maximum(depths - len(short), 0)  # supposed to go on as the short one did to its end
    agreement = (shared + shared[len(short) - 1] * beyond / len(short)) / depths
    weights = (1 - p) * np.power(p, depths - 1.0)
    return min(1.0, math.fsum(weights * agreement) + float(agreement[-1] * p ** len(long)))


def kendall_tau(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Kendall's tau between the orders of the documents that both rankings hold, from -1 to 1.

    Without ties tau-a and tau-b are the same. Of fewer than two shared documents nothing can be
    said: nan. Each document comes once in a ranking.
    """
    ranks = _ranks(second)
    order = [ranks[document] for document in _ranks(first) if document in ranks]
    if len(order) < 2:
        return math.nan
    stats = needed("scipy.stats", "Kendall's tau needs SciPy", "evaluation")
    tau = float(stats.kendalltau(np.arange(len(order)), order).statistic)
    return round(tau, 12)  # SciPy's roots make 0.9999999999999998 of 1


def overlap(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of documents in common, of the longer ranking; 1 where both are empty."""
    longest = max(len(first), len(second))
    return len(set(first) & set(second)) / longest if longest else 1.0


def _ranks(ranking: Sequence[Hashable]) -> dict[Hashable, int]:
    ranks = {document: rank for rank, document in enumerate(ranking)}
    if len(ranks) < len(ranking):
        raise EvaluationError("a ranking has a document twice")
    return ranks


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
            for difference in (row.largest_difference, row.mean_difference):
                cells.append("" if difference is None else f"{difference:.2g}")
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
                if name in _MEANS:
                    mean = plain(NOTHING) if value is None else value
                    row |= {name: mean["mean"], f"{name}_low": mean["low"]}
                    row[f"{name}_high"] = mean["high"]
                else:
                    row[name] = value
            rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what `imgsearch compare --json` prints."""
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
    dense = any(system.uses_features for system in asked)
    other = None if against is None else against.store
    chosen = sample_pictures(index, queries, seed, dense=dense, also_in=other)
    askers = [searcher(i, k=k, exclude_self=True, **s.options) for i, s, _ in contenders]
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
    return interval(np.asarray(values), within=(least, 1)) if values else NOTHING


def _show(value: Interval | None) -> str:
    """Without the interval where all queries agree, and nothing where no query says anything."""
    if value is None or math.isnan(value.mean):
        return ""
    return f"{value.mean:.3f}" if value.low == value.high else show(value)
