"""Intervals and tests against SciPy, textbook values, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy  # loads scipy.stats when it is used
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import compare, holm, interval, paired_tests
from imgsearch_es.evaluation.significance import TESTS

RANDOM = np.random.default_rng(11)
BASELINE = RANDOM.random(40)
SYSTEM = BASELINE + RANDOM.normal(0.05, 0.1, 40)
FIGURES = st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]), min_size=2, max_size=7)


def test_t_and_wilcoxon_are_those_of_scipy():
    p = paired_tests(BASELINE, SYSTEM)
    assert p["t"] == pytest.approx(scipy.stats.ttest_rel(SYSTEM, BASELINE).pvalue)
    assert p["wilcoxon"] == pytest.approx(scipy.stats.wilcoxon(SYSTEM, BASELINE).pvalue)
    assert p["randomization"] == pytest.approx(p["t"], abs=0.02)
    assert paired_tests(BASELINE, SYSTEM) == p
    near = BASELINE + RANDOM.normal(0, 0.1, 40)
    one, other = (paired_tests(BASELINE, near, seed=seed)["randomization"] for seed in (0, 1))
    assert one != other
    assert one == pytest.approx(other, abs=0.05)


def test_few_queries_are_randomized_exactly():
    ones, zeros = np.ones(5), np.zeros(5)
    assert paired_tests(zeros, ones)["randomization"] == 2 / 2**5
    even = np.array([0.4, -0.6, 0.3, 0.5, -0.5, -0.1])  # whose floats do not add up to 0
    assert paired_tests(np.zeros(6), even)["randomization"] == 1
    assert paired_tests(zeros, np.array([1.0, 1, 1, 1, -1]))["randomization"] == pytest.approx(
        12 / 32
    )


@settings(max_examples=15)
@given(FIGURES, FIGURES)
def test_tests_do_not_know_which_system_is_which(one, other):
    size = min(len(one), len(other))
    a, b = np.array(one[:size]), np.array(other[:size])
    there, back = paired_tests(a, b), paired_tests(b, a)
    for test in TESTS:
        assert 0 <= there[test] <= 1
        assert there[test] == pytest.approx(back[test])
    assert paired_tests(a, a) == dict.fromkeys(TESTS, 1.0)
    shifted = paired_tests(a, a + 0.25)
    assert shifted["t"] == 0
    assert shifted["randomization"] == pytest.approx(max(2 / 2**size, 1e-4), rel=1.01)


def test_of_one_query_nothing_can_be_said():
    p = paired_tests(np.array([0.5]), np.array([0.7]))
    assert all(math.isnan(value) for value in p.values())
    found = interval(np.array([0.5]))
    assert found.mean == 0.5
    assert math.isnan(found.low)
    with pytest.raises(EvaluationError, match="not paired"):
        paired_tests(np.zeros(3), np.zeros(2))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    corrected = holm([0.01, math.nan, 0.02])
    assert corrected[::2] == [0.02, 0.02]
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_intervals():
    t = interval(BASELINE)
    spread = scipy.stats.sem(BASELINE)
    low, high = scipy.stats.t.interval(0.95, 39, loc=BASELINE.mean(), scale=spread)
    assert (t.low, t.high) == pytest.approx((low, high))
    wide = interval(BASELINE, confidence=0.99)
    assert wide.low < t.low < t.mean < t.high < wide.high
    bootstrap = interval(BASELINE, kind="bootstrap", seed=4)
    assert bootstrap == interval(BASELINE, kind="bootstrap", seed=4)
    assert (bootstrap.low, bootstrap.high) == pytest.approx((t.low, t.high), abs=0.02)
    assert interval(np.full(3, 0.25), kind="bootstrap").low == 0.25
    for options in ({"kind": "guess"}, {"confidence": 1.0}):
        with pytest.raises(EvaluationError):
            interval(BASELINE, **options)
    with pytest.raises(EvaluationError, match="no query"):
        interval(np.zeros(0))


def test_comparisons_are_corrected_together():
    systems = {"better": SYSTEM, "same": BASELINE.copy(), "worse": BASELINE - 0.1}
    found = compare("AP", ("base", BASELINE), systems)
    assert [c.system for c in found] == list(systems)
    for test in TESTS:
        assert [c.corrected[test] for c in found] == holm([c.p[test] for c in found])
    better, same, worse = found
    assert (same.better, same.equal, same.worse) == (0, 40, 0)
    assert (worse.better, worse.equal, worse.worse) == (0, 0, 40)
    assert worse.difference.mean == pytest.approx(-0.1)
    assert better.better + better.worse == 40
    assert better.difference.low < better.difference.mean < better.difference.high
