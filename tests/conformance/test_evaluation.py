"""An experiment on any store: the same rankings and figures as on the embedded one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgsearch_es import ImageIndex, evaluate
from imgsearch_es.evaluation import Evaluation, differences
from imgsearch_es.retrieval.strategies import STRATEGIES
from tests.conformance.collections import KEYS, posteriors
from tests.conformance.conftest import filled

pytestmark = pytest.mark.scripts

SYSTEMS = (*STRATEGIES, "sqrt=1+dense-cosine=2", "auto+dense-euclidean:rrf:window=120")


def experiment(location: str) -> Evaluation:
    documents = [
        replace(document, labels=(str(KEYS.index(document.terms[0].key) // 100),))
        for document in posteriors(120, seed=4)
    ]
    with filled(location, documents), ImageIndex(location) as index:
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
