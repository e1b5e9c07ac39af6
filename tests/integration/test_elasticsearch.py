"""What others do to an index of ours; Elasticsearch 8.19 under a client 8, and under a client 9."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from imgsearch_es import ImageIndex
from imgsearch_es.errors import SchemaError, ServerError, StoreError, UnsupportedServerError
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Scored
from imgsearch_es.stores.elastic import aliased, waiting
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conformance.collections import document, posteriors
from tests.conformance.conftest import SETTINGS, filled

pytestmark = pytest.mark.node


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url, request_timeout=60) as client:
        yield client


def essence(hits: Sequence[Scored]) -> list[tuple]:
    return [(hit.document.id, hit.score, hit.document.terms) for hit in hits]


def test_an_index_that_others_changed_and_copied(elasticsearch_url, client, fresh_index_name):
    name, documents = fresh_index_name, posteriors(200)
    query = Query(documents[0].terms, k=5)
    with filled(f"{elasticsearch_url}/{name}", documents) as store:
        before = store.search(query).hits
        changed = before[1].document.id
        client.update(index=name, id=changed, doc={"label": ["by hand"]}, refresh=True)
        labels = [hit.document.labels for hit in before]
        labels[1] = ("by hand",)
        for result in (store.search(query), *store.search_many([query])):
            assert [hit.document.labels for hit in result.hits] == labels
            assert essence(result.hits) == essence(before)
    mapping = client.indices.get_mapping(index=name)[f"{name}-000001"]["mappings"]
    limit = {"index.mapping.total_fields.limit": 10_000}
    client.indices.create(index=f"{name}-copy", mappings=mapping, settings=limit)
    copied = {"source": {"index": name}, "dest": {"index": f"{name}-copy"}}
    client.reindex(**copied, refresh=True, timeout="1m")
    with closing(ElasticStore(f"{elasticsearch_url}/{name}-copy")) as copy:
        assert essence(copy.search(query).hits) == essence(before)


def test_a_template_of_the_server_changes_nothing(elasticsearch_url, client, fresh_index_name):
    name = fresh_index_name
    client.ingest.put_pipeline(id=name, processors=[{"set": {"field": "label", "value": "house"}}])
    pipelines = {"index.default_pipeline": name, "index.final_pipeline": name}
    template = {
        "settings": {**pipelines, "index.mapping.ignore_above": 5},
        "mappings": {"_source": {"enabled": False}},
    }
    client.indices.put_index_template(name=name, index_patterns=[f"{name}*"], template=template)
    try:
        with filled(f"{elasticsearch_url}/{name}", posteriors(5)) as store:
            store.ledger.write([Rejected("/broken.jpg", "no picture")])
            assert [entry.uri for entry in store.ledger.read()] == ["/broken.jpg"]
            assert client.search(index=name)["hits"]["hits"][0]["_source"]["uri"]
            assert (store.layout, store.glance()) == ("full", [])
            assert not [item for item in store.inspect() if item.harms]
    finally:
        client.indices.delete_index_template(name=name)
        client.ingest.delete_pipeline(id=name)


def test_what_the_server_has_not_refreshed_yet_is_changed(elasticsearch_url, fresh_index_name):
    documents = posteriors(5)
    location = f"{elasticsearch_url}/{fresh_index_name}"
    with closing(ElasticStore(location, refresh_interval="-1")) as store:
        store.create(SETTINGS)
        store.write(documents)
        ids = [*(document.id for document in documents), "none"]
        assert store.change(ids, lambda document: replace(document, labels=("new",))).stored == 5
        assert {document.labels for document in store.documents()} == {("new",)}


def test_an_alias_that_others_add_to_a_second_index(
    elasticsearch_url, client, fresh_index_name, monkeypatch
):
    """Who has the index open does not answer of both as if they were one."""
    monkeypatch.setattr(aliased, "TRUSTED_SECONDS", 0.0)
    name, documents = fresh_index_name, posteriors(20)
    with (
        filled(f"{elasticsearch_url}/{name}", documents[:15]) as store,
        filled(f"{elasticsearch_url}/{name}-other", documents[15:]),
        ImageIndex(f"{elasticsearch_url}/{name}") as index,
    ):
        assert index.count() == 15
        client.indices.put_alias(index=f"{name}-other-000001", name=name)
        for ask in (index.count, index.verify, lambda: index.search("cat"), lambda: [*index]):
            with pytest.raises(SchemaError, match="leads to 2 indices"):
                ask()
        with store.patient(), pytest.raises(ServerError, match="more than one index"):
            store.remove([documents[0].id])  # at once: no waiting helps
        client.indices.delete_alias(index=f"{name}-other-000001", name=name)
        assert index.count() == 15


def test_aliases_that_people_give_an_index(elasticsearch_url, client, fresh_index_name):
    """They stay when it is rebuilt; by one that shows a part nothing is rebuilt or taught."""
    name = fresh_index_name
    documents = [document(f"{i}.jpg", [("tabby", 0.5)], labels=["a"][: i % 2]) for i in range(4)]
    with filled(f"{elasticsearch_url}/{name}", documents):
        some = {"filter": {"term": {"label": "a"}}}
        client.indices.put_alias(index=f"{name}-000001", name=f"{name}-some", body=some)
        client.indices.put_alias(index=f"{name}-000001", name=f"{name}-all")
        with ImageIndex(f"{elasticsearch_url}/{name}-some") as part:
            assert part.count() == 2
            for change in (part.reindex, lambda: part.store.change_taught(lambda known: known)):
                with pytest.raises(StoreError, match="shows a part of"):
                    change()
        for location, count in ((name, "000002"), (f"{name}-all", "000003")):
            with ImageIndex(f"{elasticsearch_url}/{location}") as index:
                assert index.reindex().copied == 4
            found = client.indices.get(index=f"{name}-0*")
            (index_name, facts) = next(iter(found.items()))
            assert (len(found), index_name) == (1, f"{name}-{count}")
            assert facts["aliases"].keys() >= {name, f"{name}-all", f"{name}-some"}
            assert facts["aliases"][f"{name}-some"] == some


def test_a_copy_without_an_alias(elasticsearch_url, client, fresh_index_name):
    name, documents = fresh_index_name, posteriors(3)
    with filled(f"{elasticsearch_url}/{name}", documents) as store:
        client.indices.add_block(index=f"{name}-000001", block="write")
        client.indices.clone(index=f"{name}-000001", target=f"{name}-copy")
        client.indices.put_settings(index=f"{name}-*", settings={"index.blocks.write": None})
    with closing(open_store(f"{elasticsearch_url}/{name}-copy")) as copy:
        assert copy.count() == 3
        with pytest.raises(StoreError, match="without an alias, and is written to by one: give"):
            copy.write(documents)
        client.indices.put_alias(index=f"{name}-copy", name=f"{name}-given")
    with closing(open_store(f"{elasticsearch_url}/{name}-given")) as store:
        assert store.write(documents).stored == 3


def test_documents_that_have_each_others_ids(elasticsearch_url, fresh_index_name, monkeypatch):
    documents = posteriors(5)
    one, other, *_ = (document.id for document in documents)
    swapped, bulk = {one: other, other: one}, waiting.bulk

    def send(client: object, index: str, items: object, action: Any, **options: Any) -> Any:
        def made(item: Any) -> dict[str, Any]:
            found = action(item)
            return {**found, "_id": swapped.get(found["_id"], found["_id"])}

        return bulk(client, index, items, made, **options)

    with filled(f"{elasticsearch_url}/{fresh_index_name}", []) as store:
        with monkeypatch.context() as patch:
            patch.setattr(waiting, "bulk", send)
            store.write(documents)
        store.finish()
        with ImageIndex(store.location) as index:
            assert index.verify().counts == {"id": 2}
            assert index.verify(repair=True).repaired == 2
            assert index.verify().is_whole
        assert {d.id: d.checksum for d in store.documents()} == {
            d.id: d.checksum for d in documents
        }


def test_it_is_the_old_server_and_the_old_client(elasticsearch8_url, python_with_client8):
    code = "from imgsearch_es.stores import open_store; print(open_store(URL).features()['store'])"
    url = repr(f"{elasticsearch8_url}/none")
    store = python_with_client8("-c", code.replace("URL", url))
    assert "Elasticsearch 8.19" in store
    assert "client 8." in store


@pytest.mark.parametrize(
    "files", [("ranking", "store"), pytest.param(("",), marks=pytest.mark.long)], ids=str
)
def test_conformance_of_what_needs_no_script(elasticsearch8_url, python_with_client8, files):
    """Elastic's own build for integration tests has no Painless: what scores by scripts waits."""
    paths = [f"tests/conformance/{f'test_{name}.py' if name else ''}" for name in files]
    output = python_with_client8(
        *("-m", "pytest", *paths, "-q", "-p", "no:cacheprovider"),
        *("-k", "elasticsearch", "-m", "not scripts and not long"),
        IMGSEARCH_ES_URL=elasticsearch8_url,
        IMGSEARCH_TEST_STRATEGIES="auto,impact",
    )
    assert " passed" in output


def test_a_client_of_another_version_is_told(elasticsearch8_url):
    with pytest.raises(UnsupportedServerError, match="elasticsearch<9"):
        open_store(f"{elasticsearch8_url}/pets").settings()
