"""Going over all documents of an Elasticsearch index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elasticsearch import Elasticsearch

from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Selection
from imgsearch_es.stores.elastic.counting import counted_query
from imgsearch_es.stores.elastic.fetching import WHOLE, WHOLE_INDEX, whole_document_of

_PAGE = 500
"""Documents in one answer."""
_KEEP_ALIVE = "10m"
"""How long the server keeps its view of the index between two pages."""


def documents(client: Elasticsearch, index: str, filters: Sequence[Filter]) -> Iterator[Document]:
    """Every document that meets conditions."""
    return map(whole_document_of, hits(client, index, filters, WHOLE))


def hits(
    client: Elasticsearch, index: str, filters: Sequence[Filter], asked: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Every document that meets conditions, page by page of one point in time.

    Args:
        client: connected.
        index: its name.
        filters: the conditions.
        asked: what to send of each document, as parts of a request.
    """
    wanted = counted_query(Selection(filters=tuple(filters)))
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
                **asked,
            }
            if after is not None:
                body["search_after"] = after
            answer = client.search(body=body, **WHOLE_INDEX)
            view, found = answer["pit_id"], answer["hits"]["hits"]
            yield from found
            if len(found) < _PAGE:
                return
            after = found[-1]["sort"]
    finally:
        client.options(ignore_status=404).close_point_in_time(id=view)
