"""Pages: all that a query matches, some hits at a time, while others write."""

from __future__ import annotations

from collections.abc import Generator

from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Store


def pages(store: Store, query: Query) -> Generator[Hits, None, None]:
    """The hits of a query from its offset on, ``query.k`` at a time; ranks count through."""
    rank = query.offset + 1
    for result in store.pages(query):
        hits = Hits(query, result, store, first=rank)
        rank += len(hits)
        yield hits
