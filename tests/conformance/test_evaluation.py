"""An experiment and a report of scorers on any store: the same rankings and figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgsearch_es import ImageIndex, compare_scorers, evaluate
from imgsearch_es.evaluation import Evaluation, differences
from imgsearch_es.retrieval.strategies import STRATEGIES
from tests.conformance.collections import KEYS, posteriors
from tests.conformance.conftest import SETTINGS, filled

pytestmark = pytest.mark.scripts

SCORERS = ("script-filtered", "impact", "bm25", "dense-euclidean", "sqrt=1+dense-cosine=2")
SYSTEMS = (*STRATEGIES, "sqrt=1+dense-cosine=2", "auto+dense-euclidean:rrf:window=120")


def experiment(location: str) -> Evaluation:
    documents = [
        replace(document, labels=(str(KEYS.index(document.terms[0].key) // 100),))
        for document in posteriors(120, seed=4)
    ]
    settings = SETTINGS.with_visual_words(4)
    with filled(location, documents, settings), ImageIndex(location) as index:
        return evaluate(index, "labels", SYSTEMS, "P@5,AP", sample=20)


@pytest.mark.node
def test_both_stores_give_the_same_manifest(fresh_index_name, elasticsearch_url, tmp_path):
    expected = experiment(str(tmp_path / "reference.duckdb"))
    found = experiment(f"{elasticsearch_url}/{fresh_index_name}")
    assert len(found.task.judgements) == 20
    different = differences(expected.manifest(), found)
    assert {difference.what.partition(",")[0] for difference in different} == {"index"}
    assert found.to_csv() == expected.to_csv()
    for name in ("impact", "script", "script-filtered"):
        assert found.scores[name].mean("AP") == found.scores["auto"].mean("AP")


def test_an_index_on_another_store_answers_alike(place, tmp_path):
    documents, mine, theirs = posteriors(80, seed=5), str(tmp_path / "mine.duckdb"), place()
    with (
        filled(mine, documents),
        filled(theirs, documents),
        ImageIndex(mine) as index,
        ImageIndex(theirs) as other,
    ):
        for system in SCORERS:
            found = compare_scorers(index, system, against=other, queries=15)
            row = found.rows[1]
            assert (row.identical, row.exact, row.largest_difference) == (1, 1, 0)
            assert row.rbo.mean == pytest.approx(1)
            assert row.tau.mean == pytest.approx(1)
        ways = compare_scorers(other, "script,script-filtered,impact,auto", queries=15)
        assert [row.identical for row in ways.rows] == [1, 1, 1, 1]
        assert [row.largest_difference for row in ways.rows] == [0, 0, 0, 0]
