"""How sure a figure is, and a difference: confidence intervals and paired tests.

Two systems that answer the same queries are compared query by query: Student's paired t-test,
Wilcoxon's signed-rank test, and Fisher's randomization test, which supposes nothing of the
distribution and is the one to report if only one is (Smucker, Allan and Carterette, CIKM 2007). All
are two-sided. Of several comparisons some come out small by chance, so p-values are corrected by
Holm's method (Scandinavian Journal of Statistics, 1979) over the systems that are compared with the
same baseline by the same measure.

Queries that are pictures of one object are no independent draws: 200 objects with four pictures
each say about as much as 200 queries, not as 800. So intervals and tests take the *cluster* of each
query: clusters are drawn, and not queries (the cluster bootstrap, and standard errors between
clusters as of Liang and Zeger, Biometrika 1986), and two systems change places for a whole cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.measures import highest

INTERVALS = ("t", "bootstrap")
TESTS = ("t", "wilcoxon", "randomization")
RESAMPLES = 9_999
"""Of the bootstrap."""
LEVEL = 0.001
"""The smallest level that tables mark."""
RANDOMIZATIONS = 19_999
"""Signs drawn for the randomization test, at least; more where many systems are compared."""
_DECIMALS = 12
_BATCH = 500
"""Resamples drawn together: bounds the memory."""
Clusters = NDArray[np.intp]
"""Of each query the number of its cluster, from 0."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries with its confidence interval, whose ends are nan for a single query."""

    mean: float
    low: float
    high: float


NOTHING = Interval(math.nan, math.nan, math.nan)
"""Where no query says anything."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A system against a baseline by one measure, on the same queries.

    Attributes:
        difference: the system's mean minus the baseline's, with its confidence interval.
        p: p-values by test, as they are; ``corrected`` by Holm's method.
        better: queries of which the system's figure is higher; ``equal`` the same, ``worse`` lower.
    """

    measure: str
    baseline: str
    system: str
    difference: Interval
    p: Mapping[str, float]
    corrected: Mapping[str, float]
    better: int
    equal: int
    worse: int


def interval(
    values: NDArray[np.float64],
    *,
    confidence: float = 0.95,
    kind: str = "t",
    seed: int = 0,
    clusters: Clusters | None = None,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """The mean of a figure for each query, with its confidence interval.

    It is from Student's distribution ("t"), or of the percentiles of resampled means ("bootstrap").
    By the first, Wilson's (1927) is taken where all figures are the least or the most there can be:
    Student's is far too short near either, and of equal figures it has no width.

    Args:
        values: a figure for each query.
        confidence: of the interval.
        kind: "t" or "bootstrap".
        seed: of the bootstrap.
        clusters: the object of each query, numbered from 0; by default each has its own. Queries
            of one object rise and fall together: they count as one draw of several figures.
        within: what the mean can be at least and at most.
    """
    check_interval(kind, confidence, seed)
    if not len(values):
        raise EvaluationError("there is no query to measure")
    mean = math.fsum(values) / len(values)
    sums, sizes = _by_cluster(values, clusters)
    if len(sums) == 1:
        return Interval(mean, math.nan, math.nan)
    stats = needed("scipy.stats", "significance needs SciPy", "evaluation")
    residuals = sums - mean * sizes
    if kind == "t" and np.isfinite(within).all() and np.isin(values, within).all():
        width = within[1] - within[0]
        share = (mean - within[0]) / width
        ends = _wilson(share, residuals / width, len(values), confidence)
        low, high = (within[0] + width * end for end in ends)
    elif np.ptp(values) == 0:
        low = high = mean
    elif kind == "bootstrap":
        found = stats.bootstrap(
            (sums, sizes),
            lambda sums, sizes, axis: sums.sum(axis) / sizes.sum(axis),
            confidence_level=confidence,
            n_resamples=RESAMPLES,
            batch=_BATCH,
            paired=True,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        low, high = float(found.low), float(found.high)
    else:
        quantile = float(stats.t.ppf((1 + confidence) / 2, len(sums) - 1))
        reach = quantile * _standard_error(residuals, len(values))
        low, high = mean - reach, mean + reach
    return Interval(mean, max(low, within[0]), min(high, within[1]))


def _wilson(
    share: float, residuals: NDArray[np.float64], queries: int, confidence: float
) -> tuple[float, float]:
    """Wilson's interval of a share of queries, whose clusters count for fewer draws.

    For as many as make its variance that between clusters, and where they are few for fewer still
    (Korn and Graubard, Survey Methodology 1998). Where all are alike each cluster is one draw.
    """
    stats = needed("scipy.stats", "significance needs SciPy", "evaluation")
    clusters, end = len(residuals), (1 + confidence) / 2
    variance, seen = share * (1 - share), _standard_error(residuals, queries) ** 2
    draws = float(queries if variance else clusters)
    if seen:
        draws *= variance / (queries - 1) / seen
    few = stats.t.ppf(end, queries - 1) / stats.t.ppf(end, clusters - 1)
    draws = min(float(queries), draws * few**2)
    z = stats.norm.ppf(end)
    more = z**2 / draws
    middle = (share + more / 2) / (1 + more)
    reach = z * math.sqrt(variance / draws + more / (4 * draws)) / (1 + more)
    return float(middle - reach), float(middle + reach)


def _by_cluster(
    values: NDArray[np.float64], clusters: Clusters | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sum and the number of each cluster's figures."""
    if clusters is None:
        return values, np.ones(len(values))
    if len(clusters) != len(values):
        raise EvaluationError(f"{len(clusters)} clusters do not go with {len(values)} figures")
    sums, sizes = np.bincount(clusters, values), np.bincount(clusters)
    return np.asarray(sums, dtype=np.float64), sizes.astype(np.float64)


def _standard_error(residuals: NDArray[np.float64], queries: int) -> float:
    """Of a mean, from each cluster's sum of deviations: the usual one where clusters are single."""
    count = len(residuals)
    return math.sqrt(count / (count - 1) * math.fsum(residuals**2)) / queries


def check_interval(kind: str, confidence: float, seed: int) -> None:
    """Whether there is such an interval."""
    if seed < 0:
        raise EvaluationError(f"the seed is 0 or more, not {seed}")
    if kind not in INTERVALS:
        raise EvaluationError(f"there is no interval {kind!r}; there are {', '.join(INTERVALS)}")
    if not 0 < confidence < 1:
        raise EvaluationError(f"the confidence is between 0 and 1, not {confidence}")


def paired_tests(
    baseline: NDArray[np.float64],
    system: NDArray[np.float64],
    *,
    seed: int = 0,
    clusters: Clusters | None = None,
) -> dict[str, float]:
    """The p-value of each of TESTS, two-sided, from two figures for each query.

    Where no query differs, it is 1; of a single query or cluster, or where a figure is not finite,
    nothing can be said: nan. The randomization test tries all signs where these are few, else
    random ones by the seed. By ``clusters`` (see ``interval``) the signs are those of whole
    clusters, the standard error of t is between them, and Wilcoxon's test ranks their means.
    Wilcoxon's test leaves ties out.
    """
    if baseline.shape != system.shape or baseline.ndim != 1:
        raise EvaluationError(
            f"figures of {baseline.size} and of {system.size} queries are not paired"
        )
    return _tests([_differences(baseline, system)], seed, clusters)[0]


def _tests(
    several: Sequence[NDArray[np.float64]], seed: int, clusters: Clusters | None
) -> list[dict[str, float]]:
    """The p-values of some systems' differences to one baseline, by the same random signs."""
    if not several:
        return []
    sizes = _by_cluster(several[0], clusters)[1]
    sums = np.stack([_by_cluster(differences, clusters)[0] for differences in several])
    sums = np.round(sums, _DECIMALS)  # of a cluster whose differences cancel it is 0
    if len(sizes) < 2:
        return [dict.fromkeys(TESTS, math.nan) for _ in several]
    stats = needed("scipy.stats", "significance needs SciPy", "evaluation")
    randomized = _randomized(sums, np.random.default_rng(seed))
    found = []
    for differences, own, p in zip(several, sums, randomized, strict=True):
        if not own.any() or not np.isfinite(own).all():
            found.append(dict.fromkeys(TESTS, math.nan if own.any() else 1.0))
            continue
        mean = round(math.fsum(own) / len(differences), _DECIMALS)
        error = _standard_error(own - mean * sizes, len(differences))
        is_constant = np.ptp(differences) == 0  # without variance, which t divides by
        t = math.inf if is_constant or not error else abs(mean) / error
        means = np.round(own / sizes, _DECIMALS)
        # with ties among them SciPy would take the normal distribution, however few the others are
        wilcoxon = float(stats.wilcoxon(means[means != 0]).pvalue) if means.any() else 1.0
        student = float(2 * stats.t.sf(t, len(sizes) - 1))
        found.append({"t": student, "wilcoxon": wilcoxon, "randomization": p})
    return found


def _randomized(sums: NDArray[np.float64], rng: np.random.Generator) -> list[float]:
    """How often random signs make a sum as large: of each system, shape (systems, clusters).

    Nothing is smaller than one in all signs tried, so the more systems are compared, the more are
    tried: Holm's correction of the smallest p-value stays below LEVEL.
    """
    systems, clusters = sums.shape
    wanted = max(RANDOMIZATIONS + 1, math.ceil(2 * systems / LEVEL))
    is_exact = 2**clusters <= wanted
    count = 2**clusters if is_exact else wanted - 1
    seen = np.abs(sums.sum(axis=1))
    least = seen - 1e-9 * np.abs(sums).sum(axis=1)  # what is equal but for rounding counts
    extreme = np.zeros(systems, dtype=np.int64)
    for start in range(0, count, _BATCH):
        rows = min(_BATCH, count - start)
        if is_exact:
            signs = 2.0 * (np.arange(start, start + rows)[:, None] >> np.arange(clusters) & 1) - 1
        else:
            packed = np.frombuffer(rng.bytes(rows * -(-clusters // 8)), dtype=np.uint8)
            signs = 2.0 * np.unpackbits(packed.reshape(rows, -1), axis=1, count=clusters) - 1
        extreme += (np.abs(signs @ sums.T) >= least).sum(axis=0)
    more = 0 if is_exact else 1  # the signs as they are
    return [float(p) for p in (extreme + more) / (count + more)]


def holm(p: Sequence[float]) -> list[float]:
    """P-values corrected by Holm's method, in their order; nan stays and does not count."""
    order = sorted((i for i, value in enumerate(p) if not math.isnan(value)), key=lambda i: p[i])
    corrected, highest = list(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, p[i] * (len(order) - rank)))
        corrected[i] = highest
    return corrected


def compare(
    measure: str,
    baseline: tuple[str, NDArray[np.float64]],
    systems: Mapping[str, NDArray[np.float64]],
    *,
    confidence: float = 0.95,
    kind: str = "t",
    seed: int = 0,
    clusters: Clusters | None = None,
) -> list[Comparison]:
    """Compare systems with a baseline by one measure; the options are those of ``interval``."""
    name, figures = baseline
    differences = [_differences(figures, theirs) for theirs in systems.values()]
    tests = _tests(differences, seed, clusters)
    corrected = {test: holm([p[test] for p in tests]) for test in TESTS}
    most = highest(measure)
    sure: dict[str, Any] = {"confidence": confidence, "kind": kind, "seed": seed}
    sure |= {"clusters": clusters, "within": (-most, most)}
    compared = []
    for i, (other, theirs) in enumerate(systems.items()):
        difference = interval(theirs - figures, **sure)
        holms = {test: corrected[test][i] for test in TESTS}
        signs = np.sign(differences[i])
        counts = [int(np.count_nonzero(signs == sign)) for sign in (1, 0, -1)]
        compared.append(Comparison(measure, name, other, difference, tests[i], holms, *counts))
    return compared


def _differences(baseline: NDArray[np.float64], system: NDArray[np.float64]) -> NDArray[np.float64]:
    """Query by query, to twelve decimals: what is equal but for rounding is a tie."""
    return np.asarray(np.round(system - baseline, _DECIMALS))
