"""The scorer report: contenders on the same queries, compared with the first."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgsearch_es import ImageIndex
from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation.measures import kendall_tau, overlap, rank_biased_overlap
from imgsearch_es.evaluation.scorers import compare_scorers
from imgsearch_es.evaluation.systems import System
from tests.unit.test_benchmarking import Lossy


def test_ways_to_compute_one_formula_agree(index):
    found = compare_scorers(index, "script,impact,auto", queries=5)
    assert (found.pictures, found.queries, found.k, found.reference) == (12, 5, 10, "script")
    assert [row.scorer for row in found.rows] == ["script", "impact", "auto"]
    for row in found.rows:
        assert (row.identical, row.exact) == (1, 1)
        assert row.rbo.mean == row.tau.mean == row.overlap.mean == 1
        assert row.recall is not None
        assert row.recall.mean == 1
        assert (row.largest_difference, row.mean_difference) == (0, 0)
        assert 0 < row.p50_ms <= row.p95_ms


def test_another_formula_has_another_scale(index):
    found = compare_scorers(index, ["auto", "dense-cosine", "sqrt"], queries=12, k=5, p=0.8)
    chosen = [document.id for document in index.store.documents()]
    expected = []
    for picture in chosen:
        one, other = (
            [hit.id for hit in index.search(picture, k=5, exclude_self=True, strategy=strategy)]
            for strategy in ("auto", "dense-cosine")
        )
        expected.append(rank_biased_overlap(one, other, 0.8))
    dense = found.rows[1]
    assert dense.rbo.mean == pytest.approx(sum(expected) / 12)
    assert dense.rbo.low < dense.rbo.mean < dense.rbo.high
    assert dense.recall is dense.largest_difference is dense.mean_difference is None
    assert dense.identical < 1


def test_an_approximate_answer_against_the_exact_one(index):
    index.store = Lossy(index.store, less=0.25)
    systems = "dense-euclidean,dense-euclidean:candidates=50"
    row = compare_scorers(index, systems, queries=4, k=4).rows[1]
    assert (row.overlap.mean, row.exact, row.tau.mean) == (0.75, 0, 1)
    assert row.recall is not None
    assert row.recall.mean < 1
    assert row.largest_difference == pytest.approx(0.25)


def test_two_indexes(index, photos, tmp_path):
    with ImageIndex(tmp_path / "other.duckdb", model="fake") as other:
        other.add(photos / "cats")
        found = compare_scorers(index, "auto", against=other, queries=50, k=3)
        names = [row.scorer for row in found.rows]
        assert names == ["auto", f"auto @ {other.location}"]
        assert found.queries == 6  # those that both have
        assert found.rows[1].overlap.mean < 1
        assert found.rows[1].largest_difference == 0
    with ImageIndex(tmp_path / "none.duckdb", model="fake") as empty:
        empty.create()
        with pytest.raises(QueryError, match=r"none\.duckdb has, too"):
            compare_scorers(index, "auto", against=empty)


def test_which_systems_score_alike():
    def alike(one: str, other: str) -> bool:
        return System.parse(one).scores_as(System.parse(other))

    assert alike("auto", "script")
    assert alike("bm25:k1=1.5", "bm25:k1=1.5")
    assert alike("dense-cosine", "dense-cosine:candidates=9")
    assert alike("sqrt=1+dense-cosine=2", "sqrt+dense-cosine=2")
    assert not alike("bm25", "bm25:k1=1.5")
    assert not alike("auto", "dense-dot")
    assert not alike("dense-cosine", "dense-dot")
    assert not alike("auto+dense-cosine", "auto+dense-cosine:rrf")


def test_tables(index):
    found = compare_scorers(index, "auto,dense-dot", queries=4)
    markdown = found.to_markdown()
    assert "| dense-dot | " in markdown
    assert "recall@10" in markdown
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert float(rows[1]["rbo"]) == found.rows[1].rbo.mean
    assert rows[1]["recall"] == rows[1]["largest_difference"] == ""
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["scorers"][1]["rbo"]["mean"] == found.rows[1].rbo.mean


def test_nothing_in_common_has_no_order(index):
    found = compare_scorers(index, "auto,dense-dot", queries=12, k=1)
    row = found.rows[1]
    assert math.isnan(row.tau.mean)
    assert "nan" not in found.to_markdown()
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"systems": "auto"}, "what is auto to be compared with"),
        ({"systems": "auto,magic"}, "there is no strategy 'magic'"),
        ({"queries": 0}, "queries is at least 1"),
        ({"k": 0}, "k is at least 1"),
        ({"p": 1.0}, "persistence p is between 0 and 1"),
    ],
)
def test_what_makes_no_sense(index, options, message):
    with pytest.raises((EvaluationError, QueryError), match=message):
        compare_scorers(index, **{"systems": "auto,sqrt", **options})


def test_the_command(run, asked, place, tmp_path):
    text = run("compare", "-i", place, "--queries", 3).output
    assert "impact" in text
    assert "compared with script-filtered" in " ".join(text.split())
    other = shutil.copy(place, tmp_path / "other.duckdb")
    arguments = ("compare", "-i", place, "--strategies", "auto,dense-dot", "--queries", 3)
    values = asked(*arguments, "--against", other)
    assert [row["identical"] for row in values["scorers"]][2] == 1
    assert len(values["scorers"]) == 4
    assert run(*arguments, "--format", "latex").output.startswith(r"\begin{table}")
    assert "between 0 and 1" in run(*arguments, "-p", 2, code=1).output


# -- agreement of two rankings ------------------------------------------------------------------

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


@settings(max_examples=40)
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
