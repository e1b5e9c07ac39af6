"""How far two rankings agree: rank-biased overlap and Kendall's tau.

Rankings here have no ties: an index orders equal scores by id, every index alike, so documents
that tie stand in the same order in all rankings and count as ranked so. (Webber et al. let tied
documents share a rank instead.)
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.significance import scipy_stats

PERSISTENCE = 0.9
"""A reader goes on to the next rank with this probability: the first ten ranks weigh 86 %."""


def rank_biased_overlap(
    first: Sequence[Hashable], second: Sequence[Hashable], p: float = PERSISTENCE
) -> float:
    """Rank-biased overlap, extrapolated: 1 for equal rankings, 0 for disjoint ones.

    The mean agreement that a reader sees who looks at one rank more with probability p, supposing
    that rankings agree beyond their ends as they did at them. Webber, Moffat and Zobel, "A
    similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 32, which is for
    rankings of unequal lengths.

    Args:
        first: documents, best first, each once.
        second: the same of the other ranking; of any length.
        p: persistence, between 0 and 1.

    Raises:
        EvaluationError: p is out of range, or a ranking has a document twice.
    """
    if not 0 < p < 1:
        raise EvaluationError(f"the persistence p is between 0 and 1, not {p}")
    short, long = sorted((first, second), key=len)
    shared = _shared_by_depth(short, long)
    if not short:
        return float(not long)
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
    _ranks(first)  # raises where a document comes twice
    order = [ranks[document] for document in first if document in ranks]
    if len(order) < 2:
        return math.nan
    tau = float(scipy_stats("Kendall's tau").kendalltau(np.arange(len(order)), order).statistic)
    return round(tau, 12)  # SciPy's roots make 0.9999999999999998 of 1


def overlap(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of documents in common, of the longer ranking; 1 where both are empty."""
    longest = max(len(first), len(second))
    return len(set(first) & set(second)) / longest if longest else 1.0


def _shared_by_depth(short: Sequence[Hashable], long: Sequence[Hashable]) -> NDArray[np.intp]:
    """How many documents the first d of both have in common, for each d to the longer's end."""
    ranks, others = _ranks(short), _ranks(long)
    depths = [max(rank, others[key]) for key, rank in ranks.items() if key in others]
    return np.cumsum(np.bincount(depths, minlength=len(long))[: len(long)])


def _ranks(ranking: Sequence[Hashable]) -> dict[Hashable, int]:
    """The rank of each document, from 0."""
    ranks = {document: rank for rank, document in enumerate(ranking)}
    if len(ranks) < len(ranking):
        raise EvaluationError("a ranking has a document twice")
    return ranks
