"""Facets on Elasticsearch: aggregations over the documents that a query matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch_es.retrieval.facets import (
    BOUNDS,
    MAX_VALUES,
    FacetCount,
    Facets,
    most_frequent,
    not_empty,
    ranges,
)
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.stores.elastic.fusion import candidates
from imgsearch_es.stores.elastic.strategies import (
    bool_query,
    exclusions,
    filter_clauses,
    matching_body,
)


def facets_body(query: Selection, fields: Sequence[str], size: int) -> dict[str, Any]:
    """The body of the request that counts.

    Fields go by their number, because the server forbids some characters in a name. A shard counts
    its MAX_VALUES most frequent values, so that several shards agree on the best ``size``;
    ``uncertain`` tells where that was not enough.
    """
    return {
        "query": counted_query(query),
        "size": 0,
        "aggs": {str(i): _aggregation(field, size) for i, field in enumerate(fields)},
    }


def counted_query(query: Selection) -> dict[str, Any]:
    """Every document that a query matches, unscored."""
    if not isinstance(query, Query):
        conditions = bool_query(filter=filter_clauses(query), must_not=exclusions(query))
        return conditions or {"match_all": {}}
    if query.fusion is not None:
        wanted = [candidates(query), *filter_clauses(query)]
        return bool_query(filter=wanted, must_not=exclusions(query))
    if query.is_dense:
        has = {"exists": {"field": "embedding"}}
        return bool_query(filter=[has, *filter_clauses(query)], must_not=exclusions(query))
    matching: dict[str, Any] = matching_body(query)["query"]
    return matching


def read_facets(aggregations: Mapping[str, Any], fields: Sequence[str], size: int) -> Facets:
    """The counts in an answer to ``facets_body``."""
    return {
        field: _counts(field, aggregations[str(i)]["buckets"], size)
        for i, field in enumerate(fields)
    }


def uncertain(aggregations: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """The fields whose counts several shards may have cut short."""
    return [
        field
        for i, field in enumerate(fields)
        if field not in BOUNDS and aggregations[str(i)]["doc_count_error_upper_bound"] != 0
    ]


def all_values_body(query: Selection, field: str, after: object = None) -> dict[str, Any]:
    """The body of a request for the next values of a field, all of them in the end."""
    composite: dict[str, Any] = {
        "sources": [{"value": {"terms": {"field": field}}}],
        "size": MAX_VALUES,
    }
    if after is not None:
        composite["after"] = after
    return {"query": counted_query(query), "size": 0, "aggs": {"all": {"composite": composite}}}


def _aggregation(field: str, size: int) -> dict[str, Any]:
    if field not in BOUNDS:
        order = [{"_count": "desc"}, {"_key": "asc"}]
        terms = {"field": field, "size": size, "shard_size": MAX_VALUES, "order": order}
        return {"terms": terms}
    limits = []
    for item in ranges(field):
        limits.append(
            {"key": item.value}
            | ({} if item.low is None else {"from": item.low})
            | ({} if item.high is None else {"to": item.high})
        )
    return {"range": {"field": field, "ranges": limits}}


def _counts(field: str, buckets: Sequence[Mapping[str, Any]], size: int) -> list[FacetCount]:
    counts = [(bucket["key"], bucket["doc_count"]) for bucket in buckets]
    return most_frequent(counts, size) if field not in BOUNDS else not_empty(counts)
