"""Three shards, on one node and on two: the same rankings as NumPy, by every strategy."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import replace

import elasticsearch_node
import pytest

from imgsearch_es.documents import Document
from imgsearch_es.queries import Query, synset_vector
from imgsearch_es.stores.elastic import ElasticStore
from tests.conformance.collections import document, posteriors, ties
from tests.conformance.conftest import INNER, SETTINGS
from tests.conformance.reference import Reference

pytestmark = pytest.mark.node


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return posteriors(3000) + ties(1200)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.long)])
def nodes(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def store(
    nodes: int, documents: list[Document], request: pytest.FixtureRequest
) -> Iterator[ElasticStore]:
    with contextlib.ExitStack() as stack:
        if nodes > 1:
            url = stack.enter_context(elasticsearch_node.cluster(nodes, heap="512m"))[0]
        else:
            url = request.getfixturevalue("elasticsearch_url")
        name = f"cluster-{uuid.uuid4().hex[:12]}"
        made = ElasticStore(f"{url}/{name}", shards=3, replicas=nodes - 1)
        made.create(SETTINGS)
        for start in range(0, len(documents), 500):
            assert made.write(documents[start : start + 500]).rejected == []
        made.finish()
        made.client.cluster.health(index=name, wait_for_status="green", timeout="60s")
        yield made
        made.client.indices.delete(index=list(made.client.indices.get(index=f"{name}*")))
        made.close()


def queries() -> list[Query]:
    asked = [*posteriors(20, seed=7), document("q", [("tabby", 1.0), ("tiger_cat", 0.3)])]
    return [Query(synset_vector(item.terms), k=10) for item in asked if item.terms]


def name_of(store: ElasticStore) -> str:
    return store.location.rpartition("/")[2]


def test_shards_lie_on_all_nodes(store: ElasticStore, nodes: int, documents: list[Document]):
    shards = store.client.cat.shards(index=name_of(store), format="json")
    assert len({shard["node"] for shard in shards}) == nodes
    assert len([shard for shard in shards if shard["state"] == "STARTED"]) == 3 * nodes
    counts = [int(shard["docs"]) for shard in shards if shard["prirep"] == "p"]
    assert sum(counts) == store.count() == len(documents)
    assert min(counts) > 0


@pytest.mark.parametrize("strategy", INNER)
def test_formula_1_is_exact(store: ElasticStore, documents: list[Document], strategy: str):
    reference = Reference(documents, SETTINGS.vocabulary.keys)
    for query in queries():
        expected, _ = reference.rank(query)
        hits = store.search(replace(query, strategy=strategy)).hits
        assert [(hit.score, hit.document.id) for hit in hits] == expected


@pytest.mark.parametrize("strategy", ["bm25", "tfidf", "cosine", "sqrt"])
def test_formulas_use_the_statistics_of_all_shards(
    store: ElasticStore, documents: list[Document], strategy: str
):
    reference = Reference(documents, SETTINGS.vocabulary.keys)
    for query in queries():
        asked = replace(query, strategy=strategy)
        expected = reference.score(asked)
        hits = store.search(asked).hits
        found = [hit.score for hit in hits]
        best = sorted(expected.values(), reverse=True)[: len(found)]
        assert found == pytest.approx(best, rel=1e-6)
        assert found == pytest.approx([expected[hit.document.id] for hit in hits], rel=1e-6)


def test_all_documents_come_back(store: ElasticStore, documents: list[Document]):
    assert {item.id for item in store.documents()} == {item.id for item in documents}


def test_an_index_with_other_shards_takes_its_place(
    store: ElasticStore, nodes: int, documents: list[Document]
):
    opened = ElasticStore(store.location, shards=2)
    new = opened.beside()
    new.create(SETTINGS)
    new.write(documents)
    assert opened.replace(new, opened.mark(), keep=False)
    made = f"{name_of(store)}-000002"
    settings = opened.client.indices.get_settings(index=made)[made]["settings"]
    assert settings["index"]["number_of_shards"] == "2"
    assert settings["index"]["number_of_replicas"] == str(nodes - 1)
    assert opened.count() == len(documents)
    opened.close()
