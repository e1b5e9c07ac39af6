"""Requests for a query and the results in their answers, without a connection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.queries import Query, needs_statistics, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic import dense, fusion
from imgsearch_es.stores.elastic.fetching import document_of
from imgsearch_es.stores.elastic.strategies import (
    Exhaustive,
    Impact,
    first_window,
    get_strategy,
    is_proven,
)

_TOGETHER, _TOGETHER_HITS = 100, 20_000
"""Queries in one request, and the documents that they may ask for."""


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
    query = with_weights(query, statistics)
    if query.is_dense:
        return dense.dense_body(query)
    strategy = None if query.fusion is not None else get_strategy(query.strategy)
    return strategy.body(query) if isinstance(strategy, Impact) else first_body(query, statistics)


def rank(
    documents: Sequence[Document], scores: Sequence[float], threshold: float | None
) -> list[Scored]:
    """Documents with their scores: best first, ties by id, none below the threshold."""
    scored = map(Scored, documents, scores)
    kept = [item for item in scored if threshold is None or item.score >= to_score(threshold)]
    return best_first(kept)


def _result(
    query: Query,
    answer: Mapping[str, Any],
    ranked: Sequence[Scored],
    strategy: str,
    means: str,
    *,
    first: int = 0,
) -> SearchResult:
    """The hits of a ranking from ``query.offset`` on; the server left out ``first`` before it."""
    hits = [item for item in ranked if item.score > 0]
    start = query.offset - first
    total = answer["hits"]["total"]
    if total["value"] == len(ranked):  # all are here, those too whose score underflows to 0
        total = {**total, "value": len(hits)}
    return SearchResult(
        hits=tuple(hits[start : start + query.k]),
        total=total["value"],
        total_is_exact=total["relation"] == "eq",
        terms=query.terms,
        average_length=0.0,
        strategy=strategy,
        exact=True,
        means=means,
        took_ms=answer["took"],
    )


def first_body(query: Query, statistics: Statistics, window: int | None = None) -> dict[str, Any]:
    """The request for a query that is weighted already; by default with the first window."""
    window = window or first_window(query)
    if query.fusion is not None:
        return fusion.fused_body(query, statistics, window)
    if query.is_dense:
        return dense.dense_body(query, window)
    strategy = get_strategy(query.strategy)
    if isinstance(strategy, Impact):
        return strategy.first_pass(query, window)
    return strategy.body(query, statistics.average_length)


def read(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int | None = None
) -> SearchResult | None:
    """The result in an answer to ``_first_body``; None where a wider window is needed."""
    window = window or first_window(query)
    if query.fusion is not None:
        return fusion.read_fused(query, statistics, answer, window)
    if query.is_dense:
        return _read_dense(query, answer, window)
    strategy = get_strategy(query.strategy)
    if isinstance(strategy, Exhaustive):
        return read_exhaustive(strategy, query, statistics, answer)
    hits = answer["hits"]["hits"]
    ranked = best_first(rescored(query.terms, map(document_of, hits)))
    last = hits[-1]["_score"] if hits else 0.0
    if not is_proven(query, [item.score for item in ranked], last, len(hits) < window):
        return None
    means = f"the best {window} were rescored, and no other picture can enter"
    result = _result(query, answer, ranked, strategy.name, means)
    return replace(result, average_length=statistics.average_length, windows=1)


def rescored(terms: Sequence[Term], documents: Iterable[Document]) -> Iterator[Scored]:
    """Documents with their scores by formula (1), summed in the order of the query's terms."""
    for document in documents:
        scores = {term.key: term.score for term in document.terms}
        total = 0.0
        for term in terms:  # not sum(), which since Python 3.12 rounds otherwise than the stores
            total += term.score * scores.get(term.key, 0.0)
        yield Scored(document, to_score(total))


def read_exhaustive(
    strategy: Exhaustive, query: Query, statistics: Statistics, answer: Mapping[str, Any]
) -> SearchResult:
    """The result in an answer to a strategy that scored every document."""
    means = f"{'all' if strategy.name == 'script' else 'matching'} pictures were scored"
    hits = answer["hits"]["hits"]
    ranked = best_first(Scored(document_of(hit), to_score(hit["_score"])) for hit in hits)
    result = _result(query, answer, ranked, strategy.name, means, first=query.offset)
    return replace(result, average_length=statistics.average_length)


def _read_dense(query: Query, answer: Mapping[str, Any], window: int) -> SearchResult | None:
    hits, total = answer["hits"]["hits"], answer["hits"]["total"]["value"]
    documents = list(map(document_of, hits))
    scores = dense.exact_scores(query, dense.vectors_of(hits))
    ranked = rank(documents, scores, query.threshold)
    fetched_all = len(hits) == total
    lowest = hits[-1]["_score"] if hits else 0.0
    proven = dense.is_proven(query, [item.score for item in ranked], lowest, fetched_all)
    if not proven and window < MAX_RESULTS and not query.candidates:
        return None
    cut = query.candidates and query.threshold is not None  # the server cuts exact answers only
    if query.candidates:
        means = f"of {total} near pictures the best were found exactly; nearer ones may be missing"
    else:
        means = "all vectors were compared, the best again in float64"
        means += "" if proven else "; more than the window are equally near"
    return SearchResult(
        hits=tuple(ranked[query.offset : query.offset + query.k]),
        total=len(ranked) if fetched_all or cut else total,
        total_is_exact=not query.candidates and (fetched_all or query.threshold is None),
        terms=query.terms,
        average_length=0.0,
        strategy=query.strategy,
        exact=proven and not query.candidates,
        means=means,
        took_ms=answer["took"],
        windows=0 if query.candidates else 1,
    )


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
