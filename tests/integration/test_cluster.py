"""Three shards, on one node and on two: the same rankings as NumPy, by every strategy."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator

import elasticsearch_node
import pytest

from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conformance import test_formulas
from tests.conformance.collections import document, posteriors, ties
from tests.conformance.conftest import INNER, SETTINGS, Case, filled

pytestmark = pytest.mark.node


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.long)])
def nodes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def case(nodes: int, request: pytest.FixtureRequest) -> Iterator[Case]:
    documents = posteriors(1000) + ties(500)
    with contextlib.ExitStack() as stack:
        if nodes > 1:
            url = stack.enter_context(elasticsearch_node.cluster(nodes, heap="512m"))[0]
        else:
            url = request.getfixturevalue("elasticsearch_url")
        name = f"cluster-{uuid.uuid4().hex[:12]}"
        layout = {"shards": 3, "replicas": nodes - 1}
        made = stack.enter_context(filled(f"{url}/{name}", documents, **layout))
        made.client.cluster.health(index=name, wait_for_status="green", timeout="60s")
        yield Case(made, documents)
        made.client.indices.delete(index=list(made.client.indices.get(index=f"{name}*")))


def queries(strategy: str) -> list[Query]:
    asked = [*posteriors(20, seed=7), document("q", [("tabby", 1.0), ("tiger_cat", 0.3)])]
    terms = [synset_vector(item.terms) for item in asked if item.terms]
    return [Query(each, strategy=strategy, k=10) for each in terms]


def name_of(case: Case) -> str:
    return case.store.location.rpartition("/")[2]


def test_shards_lie_on_all_nodes(case: Case, nodes: int):
    shards = case.store.client.cat.shards(index=name_of(case), format="json")
    assert len({shard["node"] for shard in shards}) == nodes
    assert len([shard for shard in shards if shard["state"] == "STARTED"]) == 3 * nodes
    counts = [int(shard["docs"]) for shard in shards if shard["prirep"] == "p"]
    assert sum(counts) == case.store.count() == len(case.documents)
    assert min(counts) > 0


@pytest.mark.parametrize("strategy", INNER)
def test_formula_1_is_exact(case: Case, strategy: str):
    case.check(*queries(strategy))


@pytest.mark.parametrize("strategy", ["bm25", "tfidf", "cosine", "sqrt"])
def test_formulas_use_the_statistics_of_all_shards(case: Case, strategy: str):
    for query in queries(strategy):
        test_formulas.check(case, query)


def test_all_documents_come_back(case: Case):
    assert {item.id for item in case.store.documents()} == {item.id for item in case.documents}


def test_an_index_with_other_shards_takes_its_place(case: Case, nodes: int):
    opened = ElasticStore(case.store.location, shards=2)
    new = opened.beside()
    new.create(SETTINGS)
    new.write(case.documents[:200])
    assert opened.replace(new, opened.mark(), keep=False)
    made = f"{name_of(case)}-000002"
    settings = opened.client.indices.get_settings(index=made)[made]["settings"]
    assert settings["index"]["number_of_shards"] == "2"
    assert settings["index"]["number_of_replicas"] == str(nodes - 1)
    assert opened.count() == 200
    opened.close()
