"""What others do to an index of ours on Elasticsearch, by its own interfaces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from elasticsearch import Elasticsearch

from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.base import Scored
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conformance.collections import posteriors
from tests.conformance.conftest import filled

pytestmark = pytest.mark.node


@pytest.fixture
def client(elasticsearch_url: str) -> Iterator[Elasticsearch]:
    with Elasticsearch(elasticsearch_url) as client:
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
