"""Laws of rank-biased overlap and Kendall's tau, against their definitions."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.scorers import kendall_tau, overlap, rank_biased_overlap

RANKINGS = st.lists(st.integers(0, 14), unique=True, max_size=12)
PERSISTENCE = st.floats(0.05, 0.95)


def overlap_by_definition(first: list[int], second: list[int], p: float) -> float:
    """The sum of (1 - p) p^(d-1) A_d to a depth where the rest is nothing, A extrapolated.

    Below its end the shorter ranking is supposed to agree as it did at its end; below both ends the
    agreement stays (Webber et al. 2010, section 4.3).
    """
    short, long = sorted((first, second), key=len)
    s, l = len(short), len(long)  # noqa: E741  (the paper's names)
    total, agreement = 0.0, 0.0
    for d in range(1, 1500):
        if d <= l:
            shared = len(set(short[:d]) & set(long[:d]))
            if d > s:
                shared += len(set(short) & set(long[:s])) * (d - s) / s
            agreement = shared / d
        total += (1 - p) * p ** (d - 1) * agreement
    return total


@given(RANKINGS.filter(bool), RANKINGS.filter(bool), PERSISTENCE)
def test_rbo_is_the_sum_that_defines_it(first, second, p):
    expected = overlap_by_definition(first, second, p)
    assert rank_biased_overlap(first, second, p) == pytest.approx(expected, abs=1e-9)


@given(RANKINGS, RANKINGS, PERSISTENCE)
def test_rbo_is_symmetric_1_for_equal_and_0_for_disjoint_rankings(first, second, p):
    found = rank_biased_overlap(first, second, p)
    assert 0 <= found <= 1
    assert found == rank_biased_overlap(second, first, p)
    assert rank_biased_overlap(first, list(first), p) == pytest.approx(1)
    others = [f"other {document}" for document in first]
    assert rank_biased_overlap(first, others, p) == (0 if first else 1)


def test_rbo_of_a_worked_example():
    # A_1 = 0, A_2 = 1/2, A_3 = 2/3 of abc and bxa; by hand with p = 1/2:
    # 1/2 (0 + 1/2 * 1/2 + 1/4 * 2/3) + 1/8 * 2/3
    expected = 0.5 * (0.25 + 1 / 6) + 1 / 12
    assert rank_biased_overlap("abc", "bxa", 0.5) == pytest.approx(expected)


@pytest.mark.parametrize("p", [0, 1, -0.1, 1.5, math.nan])
def test_a_persistence_that_makes_no_sense(p):
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        rank_biased_overlap("ab", "ba", p)


@given(RANKINGS, RANKINGS)
def test_tau_counts_pairs_in_order_and_out_of_order(first, second):
    shared = [document for document in first if document in second]
    pairs = list(combinations(shared, 2))
    found = kendall_tau(first, second)
    if not pairs:
        assert math.isnan(found)
        return
    ordered = sum(second.index(a) < second.index(b) for a, b in pairs)
    assert found == pytest.approx((2 * ordered - len(pairs)) / len(pairs))


@given(RANKINGS, RANKINGS)
def test_overlap_is_the_share_in_common(first, second):
    longest = max(len(first), len(second))
    expected = len(set(first) & set(second)) / longest if longest else 1
    assert overlap(first, second) == overlap(second, first) == expected


@pytest.mark.parametrize("compare", [rank_biased_overlap, kendall_tau])
def test_a_document_comes_once(compare):
    for pair in (("aba", "abc"), ("abc", "aba")):
        with pytest.raises(EvaluationError, match="twice"):
            compare(*pair)
