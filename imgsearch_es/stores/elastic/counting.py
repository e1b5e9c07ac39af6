"""Facets on Elasticsearch: aggregations over the documents that a query matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch_es.facets import (
    MAX_VALUES,
    VALUE_FIELDS,
    FacetCount,
    Facets,
    most_frequent,
    not_empty,
    ranges,
)
from imgsearch_es.queries import Query
from imgsearch_es.stores.elastic.fusion import candidates
from imgsearch_es.stores.elastic.strategies import (
    bool_query,
    exclusions,
    filter_clauses,
    matching_body,
)


def facets_body(query: Query | None, fields: Sequence[str], size: int) -> dict[str, Any]:
    """The body of the request that counts.

    A shard counts its MAX_VALUES most frequent values, so that several shards agree on the best
    ``size``; ``uncertain`` tells where that was not enough.
    """
    return {
        "query": counted_query(query),
        "size": 0,
        "aggs": {field: _aggregation(field, size) for field in fields},
    }


def counted_query(query: Query | None) -> dict[str, Any]:
    """Every document that a query matches, unscored."""
    if query is None:
        return {"match_all": {}}
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
    return {field: _counts(field, aggregations[field]["buckets"], size) for field in fields}


def uncertain(aggregations: Mapping[str, Any], fields: Sequence[str]) -> list[str]:
    """The fields whose counts several shards may have cut short."""
    return [
        field
        for field in fields
        if field in VALUE_FIELDS and aggregations[field]["doc_count_error_upper_bound"] != 0
    ]


def all_values_body(query: Query | None, field: str, after: object = None) -> dict[str, Any]:
    """The body of a request for the next values of a field, all of them in the end."""
    composite: dict[str, Any] = {
        "sources": [{field: {"terms": {"field": field}}}],
        "size": MAX_VALUES,
    }
    if after is not None:
        composite["after"] = after
    return {"query": counted_query(query), "size": 0, "aggs": {"all": {"composite": composite}}}


def _aggregation(field: str, size: int) -> dict[str, Any]:
    if field in VALUE_FIELDS:
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
    return most_frequent(counts, size) if field in VALUE_FIELDS else not_empty(counts)
