"""How sure a figure is, and a difference: confidence intervals and paired tests.

Two systems that answer the same queries are compared query by query: Student's paired t-test,
Wilcoxon's signed-rank test, and Fisher's randomization test, which supposes nothing of the
distribution and is the one to report if only one is (Smucker, Allan and Carterette, CIKM 2007). All
are two-sided. Of several comparisons some come out small by chance, so p-values are corrected by
Holm's method (Scandinavian Journal of Statistics, 1979) over the systems that are compared with the
same baseline by the same measure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError, needed

INTERVALS = ("t", "bootstrap")
TESTS = ("t", "wilcoxon", "randomization")
RESAMPLES = 9_999
"""Of the bootstrap."""
RANDOMIZATIONS = 19_999
"""Signs drawn for the randomization test; its p-values are no smaller than 2 in 20,000."""
_BATCH = 500
"""Resamples drawn together: bounds the memory."""


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
    values: NDArray[np.float64], *, confidence: float = 0.95, kind: str = "t", seed: int = 0
) -> Interval:
    """The mean of a figure for each query, with its confidence interval.

    It is from Student's distribution ("t"), or of the percentiles of resampled means ("bootstrap").
    """
    check_interval(kind, confidence)
    if not len(values):
        raise EvaluationError("there is no query to measure")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    stats = needed("scipy.stats", "significance needs SciPy", "evaluation")
    if kind == "bootstrap":
        found = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=confidence,
            n_resamples=RESAMPLES,
            batch=_BATCH,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        return Interval(mean, float(found.low), float(found.high))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = error * float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    return Interval(mean, mean - reach, mean + reach)


def check_interval(kind: str, confidence: float) -> None:
    """Whether there is such an interval."""
    if kind not in INTERVALS:
        raise EvaluationError(f"there is no interval {kind!r}; there are {', '.join(INTERVALS)}")
    if not 0 < confidence < 1:
        raise EvaluationError(f"the confidence is between 0 and 1, not {confidence}")


def paired_tests(
    baseline: NDArray[np.float64], system: NDArray[np.float64], *, seed: int = 0
) -> dict[str, float]:
    """The p-value of each of TESTS, two-sided, from two figures for each query.

    Where no query differs, it is 1; of a single query nothing can be said: nan. The randomization
    test tries all signs where these are few, else 19,999 by the seed.
    """
    if baseline.shape != system.shape or baseline.ndim != 1:
        raise EvaluationError(
            f"figures of {baseline.size} and of {system.size} queries are not paired"
        )
    differences = _differences(baseline, system)
    if len(differences) < 2:
        return dict.fromkeys(TESTS, math.nan)
    if not differences.any():
        return dict.fromkeys(TESTS, 1.0)
    stats = needed("scipy.stats", "significance needs SciPy", "evaluation")
    randomized = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RANDOMIZATIONS,
        batch=_BATCH,
        rng=np.random.default_rng(seed),
    )
    constant = np.ptp(differences) == 0  # without variance, which t divides by
    return {
        "t": 0.0 if constant else float(stats.ttest_1samp(differences, 0).pvalue),
        "wilcoxon": float(stats.wilcoxon(differences).pvalue),
        "randomization": float(randomized.pvalue),
    }


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
) -> list[Comparison]:
    """Compare systems with a baseline by one measure."""
    name, figures = baseline
    found = {other: paired_tests(figures, theirs, seed=seed) for other, theirs in systems.items()}
    corrected = {
        test: dict(zip(found, holm([p[test] for p in found.values()]), strict=True))
        for test in TESTS
    }
    compared = []
    for other, theirs in systems.items():
        difference = interval(theirs - figures, confidence=confidence, kind=kind, seed=seed)
        holms = {test: corrected[test][other] for test in TESTS}
        signs = np.sign(_differences(figures, theirs))
        counts = [int(np.count_nonzero(signs == sign)) for sign in (1, 0, -1)]
        compared.append(Comparison(measure, name, other, difference, found[other], holms, *counts))
    return compared


def _differences(baseline: NDArray[np.float64], system: NDArray[np.float64]) -> NDArray[np.float64]:
    """Query by query, to twelve decimals: what is equal but for rounding is a tie."""
    return np.asarray(np.round(system - baseline, 12))
