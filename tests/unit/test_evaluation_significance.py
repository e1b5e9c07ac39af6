"""Intervals and tests against SciPy, textbook values, and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy  # loads scipy.stats when it is used
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import compare, holm, interval, paired_tests, significance
from imgsearch_es.evaluation.measures import highest
from imgsearch_es.evaluation.significance import TESTS, Interval
from imgsearch_es.evaluation.tables import mark

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
    assert shifted["randomization"] == pytest.approx(max(2 / 2**size, 5e-5), rel=1.01)


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
    for options in ({"kind": "guess"}, {"confidence": 1.0}, {"seed": -1}):
        with pytest.raises(EvaluationError):
            interval(BASELINE, **options)
    with pytest.raises(EvaluationError, match="no query"):
        interval(np.zeros(0))


def test_intervals_of_zeros_and_ones():
    """By Wilson's formula, which of 50 queries that all succeed does not say that all will."""
    for successes, queries in ((50, 50), (49, 50), (0, 20), (3, 10)):
        values = np.arange(queries) < successes
        found = interval(values.astype(np.float64), within=(0, 1))
        z = scipy.stats.norm.ppf(0.975)
        share, more = successes / queries, z**2 / queries
        middle = (share + more / 2) / (1 + more)
        reach = z * np.sqrt(share * (1 - share) / queries + more / (4 * queries)) / (1 + more)
        assert (found.low, found.high) == pytest.approx((middle - reach, middle + reach))
        assert interval(4.0 * values, within=(0, 4)).high == pytest.approx(4 * found.high)
    zeros = np.zeros(5)
    assert interval(zeros, within=(0, np.inf)) == Interval(0, 0, 0)  # how many, say
    one_each = interval(values, within=(0, 1), clusters=np.arange(10))
    assert (one_each.low, one_each.high) == pytest.approx((found.low, found.high))
    alike = interval(np.zeros(20), within=(0, 1), clusters=np.repeat(np.arange(5), 4))
    assert interval(zeros, within=(0, 1)).high < alike.high < 0.6  # five groups, by their t


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


def grouped(rng, groups=200, size=4, shift=0.0):
    """Figures of groups that rise and fall together, in [0, 1], and the group of each."""
    of = np.repeat(np.arange(groups), size)
    level = 0.6 + shift + 0.25 * rng.standard_normal(groups)
    return np.clip(level[of] + 0.1 * rng.standard_normal(len(of)), 0, 1), of.astype(np.intp)


@pytest.mark.parametrize("kind", ["t", "bootstrap"])
def test_intervals_by_group_cover_what_they_promise_and_others_do_not(kind, monkeypatch):
    monkeypatch.setattr(significance, "RESAMPLES", 199)
    rng = np.random.default_rng(3)
    truth = np.mean(grouped(rng, 200_000)[0])
    rounds = {"t": 400, "bootstrap": 150}[kind]
    covered = np.zeros(2)
    for seed in range(rounds):
        values, of = grouped(rng, 40)
        for place, clusters in enumerate((of, None)):
            found = interval(values, kind=kind, seed=seed, clusters=clusters)
            covered[place] += found.low <= truth <= found.high
    by_group, by_query = covered / rounds
    assert 0.90 <= by_group <= 0.98
    assert by_query < 0.8


def test_intervals_by_group_of_zeros_and_ones_cover_what_they_promise():
    """Student's cover a tenth to two thirds of these."""
    rng = np.random.default_rng(8)
    of = np.repeat(np.arange(20), 4)
    for share, alike in ((0.99, 0.9), (0.95, 0.5), (0.5, 0.9)):
        more = np.array([share, 1 - share]) * (1 / alike - 1)
        covered = 0
        for _ in range(200):
            values = (rng.random(80) < rng.beta(*more, 20)[of]).astype(np.float64)
            found = interval(values, clusters=of, within=(0, 1))
            covered += found.low <= share <= found.high
        assert 180 <= covered <= 199


def test_tests_by_group_reject_as_often_as_they_say():
    rng = np.random.default_rng(5)
    rejected = dict.fromkeys(TESTS, 0)
    naive = 0
    for seed in range(150):
        (one, of), (other, _) = grouped(rng, 30), grouped(rng, 30)
        p = paired_tests(one, other, seed=seed, clusters=of)
        naive += paired_tests(one, other, seed=seed)["t"] < 0.05
        for test in TESTS:
            rejected[test] += p[test] < 0.05
    assert max(rejected.values()) <= 15  # of 150, where 7.5 are expected
    assert min(rejected.values()) >= 2
    assert naive > 25


def test_groups_of_one_are_queries():
    alone = np.arange(40)
    for kind in ("t", "bootstrap"):
        assert interval(BASELINE, kind=kind, clusters=alone) == interval(BASELINE, kind=kind)
    assert paired_tests(BASELINE, SYSTEM, clusters=alone) == paired_tests(BASELINE, SYSTEM)
    of_one = np.zeros(40, dtype=np.intp)
    assert math.isnan(interval(BASELINE, clusters=of_one).low)
    assert all(map(math.isnan, paired_tests(BASELINE, SYSTEM, clusters=of_one).values()))
    with pytest.raises(EvaluationError, match="3 clusters do not go with 40 figures"):
        interval(BASELINE, clusters=np.arange(3))


def test_three_stars_can_be_reached_by_the_best_of_many_systems():
    systems = {
        str(i): BASELINE + (0.3 if i == 0 else 0) + RANDOM.normal(0, 0.1, 40) for i in range(30)
    }
    found = compare("NumRet", ("base", BASELINE), systems)
    assert found[0].corrected["randomization"] < 0.001
    assert mark(found[0]) == " ***"


def test_intervals_stay_where_the_measure_is():
    almost = np.array([1.0] * 20 + [0.9])
    assert interval(almost).high > 1
    assert interval(almost, within=(0, 1)).high == 1
    (found,) = compare("P@10", ("base", np.zeros(3)), {"best": np.array([1.0, 1.0, 0.7])})
    assert found.difference.high == 1
    assert [highest(measure) for measure in ("AP", "NS", "NS%", "NumRelRet")] == [
        1,
        4,
        100,
        math.inf,
    ]


def test_differences_that_cancel_within_groups_say_nothing():
    for within in ([0.1, -0.1], [0.1, 0.2, -0.3]):  # the floats of the second do not add up to 0
        of = np.repeat(np.arange(20), len(within))
        p = paired_tests(np.zeros(len(of)), np.tile(within, 20), clusters=of)
        assert p == dict.fromkeys(TESTS, 1.0)
    other = np.zeros(40)
    other[6:8] = 1, -1  # all other queries tie
    p = paired_tests(np.zeros(40), other, clusters=np.repeat(np.arange(20), 2))
    assert p == dict.fromkeys(TESTS, 1.0)


def test_ties_do_not_make_the_signed_ranks_surer():
    for count in (1, 5, 8):  # of the others all signs can be tried
        some = np.r_[np.full(count, 0.1), np.zeros(20)]
        assert paired_tests(np.zeros(len(some)), some)["wilcoxon"] == 2 / 2**count


def test_of_figures_that_are_not_finite_nothing_can_be_said():
    p = paired_tests(np.zeros(4), np.array([0.1, math.nan, 0, 1]))
    assert all(map(math.isnan, p.values()))
    found = compare("AP", ("base", np.zeros(4)), {"x": np.full(4, math.nan), "y": np.ones(4)})
    assert [mark(one) for one in found] == ["", ""]
    assert found[1].p["randomization"] == 2 / 2**4
