"""The scorer report between any store and the embedded one: the same rankings, scores and order."""

from __future__ import annotations

import pytest

from imgsearch_es import ImageIndex, compare_scorers
from tests.conformance.collections import posteriors
from tests.conformance.conftest import filled

pytestmark = pytest.mark.scripts

SYSTEMS = "script-filtered,impact,bm25,dense-euclidean,sqrt=1+dense-cosine=2"


def test_an_index_on_another_store_answers_alike(place, tmp_path):
    documents, mine, theirs = posteriors(80, seed=5), str(tmp_path / "mine.duckdb"), place()
    with (
        filled(mine, documents),
        filled(theirs, documents),
        ImageIndex(mine) as index,
        ImageIndex(theirs) as other,
    ):
        for system in SYSTEMS.split(","):
            found = compare_scorers(index, system, against=other, queries=15)
            row = found.rows[1]
            assert (row.identical, row.exact, row.largest_difference) == (1, 1, 0)
            assert row.rbo.mean == pytest.approx(1)
            assert row.tau.mean == pytest.approx(1)
        ways = compare_scorers(other, "script,script-filtered,impact,auto", queries=15)
        assert [row.identical for row in ways.rows] == [1, 1, 1, 1]
        assert [row.largest_difference for row in ways.rows] == [0, 0, 0, 0]
