"""Reciprocal rank fusion on any store: its parts are queries, and their answers are fused here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from imgsearch_es.retrieval.fusion import Fusion, by_ranks
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.stores.base import Scored, SearchResult


def search_parts(
    search_many: Callable[[Sequence[Query]], list[SearchResult]], queries: Sequence[Query]
) -> list[SearchResult]:
    """Answer queries, those fused by ranks by way of their parts; all are asked together."""
    ranked = [
        query.fusion if query.fusion and query.fusion.is_ranked else None for query in queries
    ]
    searches = [
        part_queries(query) if fusion else (query,)
        for query, fusion in zip(queries, ranked, strict=True)
    ]
    answers = iter(search_many([single for singles in searches for single in singles]))
    found = [list(islice(answers, len(singles))) for singles in searches]
    return [
        _fuse(query, fusion, several) if fusion else several[0]
        for query, fusion, several in zip(queries, ranked, found, strict=True)
    ]


def _fuse(query: Query, fusion: Fusion, answers: Sequence[SearchResult]) -> SearchResult:
    documents = {hit.document.id: hit.document for found in answers for hit in found.hits}
    rankings = [{hit.document.id: hit.score for hit in found.hits} for found in answers]
    fused = by_ranks(fusion, query.parts, rankings)
    answered = zip(query.parts, answers, strict=True)
    inexact = [part.name for part, answer in answered if not answer.exact]
    return SearchResult(
        hits=tuple(
            Scored(documents[key], score, parts)
            for key, score, parts in fused[query.offset : query.offset + query.k]
        ),
        total=len(fused),
        total_is_exact=True,
        terms=query.terms,
        average_length=max(found.average_length for found in answers),
        strategy=fusion.method,
        exact=not inexact,
        means=f"the best {fusion.window} of each part were ranked and fused"
        + (f"; not certain of {', '.join(inexact)}" if inexact else ""),
        took_ms=sum(found.took_ms for found in answers),
        part_terms=tuple(found.terms for found in answers),
    )
