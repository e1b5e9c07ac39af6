"""Many queries in few requests, one wrong costs the others nothing; and all pages of a query."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from imgsearch_es.errors import ConfigurationError, ImageError, QueryError
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.query_building import with_unknown_fields
from imgsearch_es.search.query_pictures import QueryImages
from imgsearch_es.stores.base import Store

Asked = Query | QueryImages | Mapping[str, Any]
"""A query, or the arguments that make one: by their names, or the first alone."""


def answers(
    store: Store,
    asked: Sequence[Asked],
    build: Callable[..., Query],
    name: Callable[[str], str],
) -> list[Hits | QueryError]:
    """The hits of each query, or what is wrong with it; see ``ImageIndex.search_many``."""
    built = [_built(build, i, query) for i, query in enumerate(asked)]
    wrong = [found for found in built if isinstance(found, QueryError)]
    if wrong and len(wrong) == len(built):
        raise wrong[0]
    results = iter(store.search_many([found for found in built if isinstance(found, Query)]))

    def hits(query: Query) -> Hits:
        found = next(results)
        return Hits(with_unknown_fields(store, query, found.total), found, store, name=name)

    return [hits(found) if isinstance(found, Query) else found for found in built]


def _built(build: Callable[..., Query], number: int, query: Asked) -> Query | QueryError:
    try:
        if isinstance(query, Query):
            return query
        return build(**query) if isinstance(query, Mapping) else build(query)
    except (ConfigurationError, QueryError, ImageError, TypeError) as error:
        wrong = QueryError(f"query {number}: {error}")
        wrong.__cause__ = error
        return wrong


def pages(
    store: Store, query: Query, name: Callable[[str], str] = str
) -> Generator[Hits, None, None]:
    """The hits of a query from its offset on, ``query.k`` at a time; ranks count through."""
    rank = query.offset + 1
    for result in store.pages(query):
        hits = Hits(query, result, store, first=rank, name=name)
        rank += len(hits)
        yield hits
