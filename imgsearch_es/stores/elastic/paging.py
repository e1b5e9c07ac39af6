"""All hits of a query on Elasticsearch, page by page, while others write.

A point in time keeps the index as it was when the first page was asked for, and ``search_after``
goes on where the page before ended, so there is no limit on how far. Every page has to know the
exact order, so all matching documents are scored: formula (1) by field_value_factor functions,
other formulas by their script. Deep features are scored again in float64, as everywhere: a hit is
given when no picture that the server has not sent yet can score as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

import elasticsearch
from elasticsearch import Elasticsearch

from imgsearch_es.errors import IndexRebuiltError, StoreError
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic import dense
from imgsearch_es.stores.elastic.answers import rank
from imgsearch_es.stores.elastic.fetching import WHOLE_INDEX
from imgsearch_es.stores.elastic.strategies import FALLBACK, Exhaustive, get_strategy

KEEP_ALIVE = "5m"
"""How long the server keeps the point in time after each request."""
_LEAST = 100
"""Documents in one request, at least."""


@dataclass(frozen=True)
class _Block:
    """The next documents of the ranking that are certain.

    Attributes:
        hits: best first, ties by id.
        total: how many there are in all; at most, where ``total_is_exact`` is False.
        total_is_exact: whether all that are below the threshold are known.
        took_ms: milliseconds that the server worked for them.
        is_last: whether the ranking ends with them.
    """

    hits: list[Scored]
    total: int
    total_is_exact: bool
    took_ms: float
    is_last: bool


def pages(
    client: Elasticsearch, index: str, query: Query, statistics: Statistics
) -> Iterator[SearchResult]:
    """The hits of a query that is weighted already, ``query.k`` at a time from its offset on.

    The point in time is closed at the end, or when the iterator is.

    Raises:
        StoreError: a page was asked for so late that the server no longer has the point in time.
    """
    ready: list[Scored] = []
    skip, took = query.offset, 0.0
    with _point_in_time(client, index) as point:
        for block in _blocks(client, point, query, statistics):
            ready += block.hits
            took += block.took_ms
            skipped = min(skip, len(ready))
            ready, skip = ready[skipped:], skip - skipped
            while len(ready) >= query.k or (block.is_last and ready):
                page, ready = ready[: query.k], ready[query.k :]
                yield SearchResult(
                    hits=tuple(page),
                    total=block.total,
                    total_is_exact=block.total_is_exact,
                    terms=query.terms,
                    average_length=statistics.average_length,
                    strategy=query.strategy if query.is_dense else _strategy(query).name,
                    exact=True,
                    means="all matching pictures were scored, at one point in time",
                    took_ms=took,
                )
                took = 0.0


@contextmanager
def _point_in_time(client: Elasticsearch, index: str) -> Iterator[str]:
    try:
        point = client.open_point_in_time(index=index, keep_alive=KEEP_ALIVE)["id"]
    except elasticsearch.NotFoundError as error:
        raise IndexRebuiltError(f"{index} was rebuilt or removed just now: search again") from error
    try:
        yield point
    except elasticsearch.NotFoundError as error:
        raise StoreError(
            f"{index}: the server keeps what pages are read from for {KEEP_ALIVE} after each "
            "page, and this one came later (or the index was removed): search again"
        ) from error
    finally:
        with suppress(elasticsearch.TransportError):  # the index was closed; it ends by itself
            client.options(ignore_status=404).close_point_in_time(id=point)


def _blocks(
    client: Elasticsearch, point: str, query: Query, statistics: Statistics
) -> Iterator[_Block]:
    size = max(query.k, _LEAST)
    body = _body(query, statistics, size) | {"pit": {"id": point, "keep_alive": KEEP_ALIVE}}
    total: int | None = None
    waiting: list[Scored] = []
    is_last = False
    while not is_last:
        body["track_total_hits"] = total is None  # the number stays, so it is counted once
        answer = client.search(body=body, **WHOLE_INDEX)
        hits = answer["hits"]["hits"]
        total = answer["hits"]["total"]["value"] if total is None else total
        is_last = len(hits) < size
        found = _scored(query, hits)
        total -= len(hits) - len(found)
        waiting = best_first([*waiting, *found])
        count = len(waiting)
        if query.is_dense and not is_last:
            lowest = hits[-1]["_score"]
            ahead = (dense.is_above(query, item.score, lowest) for item in waiting)
            count = sum(1 for _ in takewhile(bool, ahead))
        exact = query.threshold is None or is_last
        yield _Block(waiting[:count], total, exact, answer["took"], is_last)
        waiting = waiting[count:]
        if hits:
            body["search_after"] = hits[-1]["sort"]


def _body(query: Query, statistics: Statistics, size: int) -> dict[str, Any]:
    order = {"sort": [{"_score": "desc"}, {"id": "asc"}]}
    if query.is_dense:
        return dense.dense_body(query, size) | order
    first = replace(query, k=size, offset=0)
    body = _strategy(query).body(first, statistics.average_length) | order
    del body["from"]
    return body


def _strategy(query: Query) -> Exhaustive:
    strategy = get_strategy(query.strategy)
    return strategy if isinstance(strategy, Exhaustive) else FALLBACK


def _scored(query: Query, hits: list[Mapping[str, Any]]) -> list[Scored]:
    """Documents with their exact scores; those below the threshold are left out."""
    documents = [Document.from_source(hit["_source"]) for hit in hits]
    if not query.is_dense:
        return rank(documents, [to_score(hit["_score"]) for hit in hits], None)
    scores = dense.exact_scores(query, dense.vectors_of(hits))
    return rank(documents, scores, query.threshold)
