"""Two nodes and three shards: the same rankings as NumPy, by every strategy."""

from __future__ import annotations

from collections.abc import Iterator

import elasticsearch_node
import pytest

from imgsearch_es.queries import Query, synset_vector
from imgsearch_es.stores.elastic import ElasticStore
from tests.conformance import test_formulas
from tests.conformance.collections import document, posteriors, ties
from tests.conformance.conftest import INNER, SETTINGS, Case

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def case() -> Iterator[Case]:
    documents = posteriors(3000) + ties(1200)
    with elasticsearch_node.cluster(nodes=2, heap="512m") as urls:
        made = ElasticStore(f"{urls[0]}/cluster", shards=3, replicas=1)
        made.create(SETTINGS)
        for start in range(0, len(documents), 500):
            assert made.write(documents[start : start + 500]).rejected == []
        made.finish()
        made.client.cluster.health(wait_for_status="green", timeout="60s")
        yield Case(made, documents)
        made.close()


def queries(strategy: str) -> list[Query]:
    asked = [*posteriors(20, seed=7), document("q", [("tabby", 1.0), ("tiger_cat", 0.3)])]
    terms = [synset_vector(item.terms) for item in asked if item.terms]
    return [Query(each, strategy=strategy, k=10) for each in terms]


def test_shards_lie_on_both_nodes(case: Case):
    shards = case.store.client.cat.shards(index="cluster", format="json")
    assert len({shard["node"] for shard in shards}) == 2
    assert len([shard for shard in shards if shard["state"] == "STARTED"]) == 6
    counts = [int(shard["docs"]) for shard in shards if shard["prirep"] == "p"]
    assert sum(counts) == case.store.count() == len(case.documents)
    assert min(counts) > 0


@pytest.mark.parametrize("strategy", INNER)
def test_formula_1_is_exact(case: Case, strategy: str):
    for query in queries(strategy):
        case.check(query)


@pytest.mark.parametrize("strategy", ["bm25", "tfidf", "cosine", "sqrt"])
def test_formulas_use_the_statistics_of_all_shards(case: Case, strategy: str):
    for query in queries(strategy):
        test_formulas.check(case, query)


def test_all_documents_come_back(case: Case):
    assert {item.id for item in case.store.documents()} == {item.id for item in case.documents}


def test_an_index_with_other_shards_takes_its_place(case: Case):
    opened = ElasticStore(case.store.location, shards=2)
    new = opened.beside()
    new.create(SETTINGS)
    new.write(case.documents)
    assert opened.replace(new, opened.mark(), keep=False)
    settings = opened.client.indices.get_settings(index="cluster")["cluster-000002"]["settings"]
    assert settings["index"]["number_of_shards"] == "2"
    assert settings["index"]["number_of_replicas"] == "1"
    assert opened.count() == len(case.documents)
    opened.close()
