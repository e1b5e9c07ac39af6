"""Going over all documents of an Elasticsearch index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from elasticsearch import Elasticsearch

from imgsearch_es.analysis import Term
from imgsearch_es.conditions import Filter
from imgsearch_es.documents import Document
from imgsearch_es.queries import Query
from imgsearch_es.stores.elastic.fetching import WHOLE, whole_document_of
from imgsearch_es.stores.elastic.strategies import bool_query, exclusions, filter_clauses

_PAGE = 500
"""Documents in one answer."""
_KEEP_ALIVE = "10m"
"""How long the server keeps its view of the index between two pages."""
_ANY = (Term("", 1.0),)
"""A query has terms; conditions alone do not look at them."""


def documents(client: Elasticsearch, index: str, filters: Sequence[Filter]) -> Iterator[Document]:
    """Every document that meets conditions, page by page of one point in time."""
    query = Query(_ANY, filters=tuple(filters))
    wanted: dict[str, Any] = {"match_all": {}}
    if filters:
        wanted = bool_query(filter=filter_clauses(query), must_not=exclusions(query))
    client.indices.refresh(index=index)
    view = client.open_point_in_time(index=index, keep_alive=_KEEP_ALIVE)["id"]
    after: list[Any] | None = None
    try:
        while True:
            body: dict[str, Any] = {
                "pit": {"id": view, "keep_alive": _KEEP_ALIVE},
                "query": wanted,
                "size": _PAGE,
                "sort": ["_shard_doc"],
                "track_total_hits": False,
                **WHOLE,
            }
            answer = client.search(body=body if after is None else {**body, "search_after": after})
            view, hits = answer["pit_id"], answer["hits"]["hits"]
            yield from map(whole_document_of, hits)
            if len(hits) < _PAGE:
                return
            after = hits[-1]["sort"]
    finally:
        client.options(ignore_status=404).close_point_in_time(id=view)
