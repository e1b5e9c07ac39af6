"""What others do to an index of ours on Elasticsearch, by its own interfaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from elasticsearch import Elasticsearch

from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conformance.collections import posteriors
from tests.conformance.conftest import filled

pytestmark = pytest.mark.node


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url) as client:
        yield client


def test_a_hit_shows_what_others_changed(elasticsearch_url, client, fresh_index_name):
    name = fresh_index_name
    documents = posteriors(200)
    with filled(f"{elasticsearch_url}/{name}", documents) as store:
        query = Query(documents[0].terms, k=5)
        before = store.search(query).hits
        changed = before[1].document.id
        client.update(index=name, id=changed, doc={"label": ["by hand"]}, refresh=True)
        after = store.search(query).hits
        (many,) = store.search_many([query])
    labels = [hit.document.labels for hit in before]
    labels[1] = ("by hand",)
    for hits in (after, many.hits):
        assert [hit.document.labels for hit in hits] == labels
        assert [(hit.document.id, hit.score) for hit in hits] == [
            (hit.document.id, hit.score) for hit in before
        ]
        assert [hit.document.terms for hit in hits] == [hit.document.terms for hit in before]


def test_an_index_that_others_copied_is_searched_alike(elasticsearch_url, client, fresh_index_name):
    name = fresh_index_name
    documents = posteriors(200)
    with filled(f"{elasticsearch_url}/{name}", documents) as store:
        query = Query(documents[0].terms, k=5)
        before = store.search(query).hits
        mapping = client.indices.get_mapping(index=name)[f"{name}-000001"]["mappings"]
        limit = {"index.mapping.total_fields.limit": 10_000}
        client.indices.create(index=f"{name}-copy", mappings=mapping, settings=limit)
        client.reindex(
            source={"index": name}, dest={"index": f"{name}-copy"}, refresh=True, timeout="1m"
        )
    copy = ElasticStore(f"{elasticsearch_url}/{name}-copy")
    after = copy.search(query).hits
    copy.close()
    assert [(hit.document.id, hit.score, hit.document.terms) for hit in after] == [
        (hit.document.id, hit.score, hit.document.terms) for hit in before
    ]
