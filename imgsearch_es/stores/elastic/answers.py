"""Queries on Elasticsearch: which requests answer them, and their hits page by page.

For pages, a point in time keeps the index as it was when the first was asked for, and
``search_after`` goes on where the page before ended, so there is no limit on how far. Every page
has to know the exact order, so all matching documents are scored. Deep features are scored again in
float64, as everywhere: a hit is given when no picture that the server has not sent yet can score as
much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import takewhile
from typing import Any, NamedTuple

import elasticsearch
from elasticsearch import Elasticsearch

from imgsearch_es.errors import IndexRebuiltError, QueryError, StoreError
from imgsearch_es.retrieval.queries import Query, needs_statistics, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.retrieval.strategies import FEATURES, PICTURES, POSTINGS, SHARING, STRATEGIES
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic.dense import compared, dense_body, is_above, read_dense
from imgsearch_es.stores.elastic.fetching import WHOLE_INDEX
from imgsearch_es.stores.elastic.fusion import fused_body, read_fused
from imgsearch_es.stores.elastic.strategies import (
    as_scored,
    factored,
    first_pass,
    first_window,
    read_first_pass,
    read_scored,
    rescored,
    scripted,
    scripted_all,
)

_TOGETHER, _TOGETHER_HITS = 100, 20_000
"""Queries in one request, and the documents that they may ask for."""
KEEP_ALIVE = "5m"
"""How long the server keeps the point in time after each request for a page."""
_LEAST = 100
"""Documents in one request for a page, at least."""


class Way(NamedTuple):
    """How a query that is weighted already is executed.

    Attributes:
        body: of the search request, for a window of so many documents.
        read: the result in an answer; None where a wider window is needed.
    """

    body: Callable[[Query, Statistics, int], dict[str, Any]]
    read: Callable[[Query, Statistics, Mapping[str, Any], int], SearchResult | None]


IMPACT = Way(first_pass, read_first_pass)
FALLBACK = Way(factored, read_scored)
"""What answers when no window of ``IMPACT`` proves the ranking."""
_DENSE, _FUSED = Way(dense_body, read_dense), Way(fused_body, read_fused)
_WAYS = {
    POSTINGS: IMPACT,
    SHARING: Way(scripted, read_scored),
    PICTURES: Way(scripted_all, read_scored),
    FEATURES: _DENSE,
}


def way_of(query: Query) -> Way:
    """How a query is executed: by what its strategy reads."""
    return _FUSED if query.fusion is not None else _WAYS[STRATEGIES[query.strategy].reads]


def request_body(query: Query, statistics: Statistics | None = None) -> dict[str, Any]:
    """See ``Query.to_elasticsearch``."""
    if query.fusion is not None and query.fusion.is_ranked:
        raise QueryError(
            "reciprocal rank fusion has no body of its own: it fuses the answers to those of "
            "imgsearch_es.retrieval.queries.part_queries(query)"
        )
    if needs_statistics(query) and statistics is None:
        named = query.strategy if query.fusion is None else "a part of the fusion"
        raise QueryError(f"{named} weights by the collection: give its statistics")
    statistics = statistics or NO_STATISTICS
    query, way = with_weights(query, statistics), way_of(query)
    if way is _DENSE:
        return dense_body(query, statistics, query.offset + query.k)
    return (rescored if way is IMPACT else way.body)(query, statistics, first_window(query))


def batches(
    queries: Sequence[tuple[Query, Statistics]],
) -> Iterator[list[tuple[Query, Statistics]]]:
    """Queries to send together: so many, and so many documents in all."""
    part: list[tuple[Query, Statistics]] = []
    wanted = 0
    for item in queries:
        window = first_window(item[0])
        if part and (len(part) == _TOGETHER or wanted + window > _TOGETHER_HITS):
            yield part
            part, wanted = [], 0
        part.append(item)
        wanted += window
    if part:
        yield part


def pages(
    client: Elasticsearch, index: str, query: Query, statistics: Statistics
) -> Iterator[SearchResult]:
    """The hits of a query that is weighted already, ``query.k`` at a time from its offset on.

    The point in time is closed at the end, or when the iterator is.

    Raises:
        StoreError: a page was asked for so late that the server no longer has the point in time.
    """
    way = FALLBACK if way_of(query) is IMPACT else way_of(query)
    size, is_dense = max(query.k, _LEAST), way is _DENSE
    asked = query if is_dense else replace(query, k=size, offset=0)
    body = way.body(asked, statistics, size) | {"sort": [{"_score": "desc"}, {"id": "asc"}]}
    body.pop("from", None)
    waiting: list[Scored] = []  # not certain yet
    ready: list[Scored] = []  # not given yet
    total, skip, took, is_last = -1, query.offset, 0.0, False
    with _point_in_time(client, index) as point:
        while not is_last:
            # The number of hits stays, so it is counted once.
            body |= {"pit": point, "track_total_hits": total < 0}
            answer = client.search(body=body, **WHOLE_INDEX)
            hits = answer["hits"]["hits"]
            is_last, took = len(hits) < size, took + answer["took"]
            found = compared(query, hits) if is_dense else as_scored(hits)
            total = answer["hits"]["total"]["value"] if total < 0 else total
            total -= len(hits) - len(found)
            waiting = best_first([*waiting, *found])
            count = len(waiting)
            if is_dense and not is_last:
                ahead = (is_above(query, item.score, hits[-1]["_score"]) for item in waiting)
                count = sum(takewhile(bool, ahead))
            ready, waiting = [*ready, *waiting[:count]], waiting[count:]
            ready, skip = ready[skip:], max(0, skip - len(ready))
            while len(ready) >= query.k or (is_last and ready):
                yield SearchResult(
                    hits=tuple(ready[: query.k]),
                    total=total,
                    total_is_exact=query.threshold is None or is_last,
                    terms=query.terms,
                    average_length=statistics.average_length,
                    strategy="impact" if query.strategy == "auto" else query.strategy,
                    exact=True,
                    means="all matching pictures were scored, at one point in time",
                    took_ms=took,
                )
                ready, took = ready[query.k :], 0.0
            if hits:
                body["search_after"] = hits[-1]["sort"]


@contextmanager
def _point_in_time(client: Elasticsearch, index: str) -> Iterator[dict[str, str]]:
    try:
        point = client.open_point_in_time(index=index, keep_alive=KEEP_ALIVE)["id"]
    except elasticsearch.NotFoundError as error:
        raise IndexRebuiltError(f"{index} was rebuilt or removed just now: search again") from error
    try:
        yield {"id": point, "keep_alive": KEEP_ALIVE}
    except elasticsearch.NotFoundError as error:
        raise StoreError(
            f"{index}: the server keeps what pages are read from for {KEEP_ALIVE} after each "
            "page, and this one came later (or the index was removed): search again"
        ) from error
    finally:
        with suppress(elasticsearch.TransportError):  # the index was closed; it ends by itself
            client.options(ignore_status=404).close_point_in_time(id=point)
