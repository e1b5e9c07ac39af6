"""What both stores do alike with queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, needs_statistics, part_queries, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.retrieval.strategies import Fusion, by_ranks
from imgsearch_es.stores.base import Scored, SearchResult, Store, known_settings


def listing(
    query: Query, documents: Iterable[Document], total: int, took_ms: float
) -> SearchResult:
    """The answer to a query that is sorted and not scored."""
    return SearchResult(
        hits=tuple(Scored(document, 0.0) for document in documents),
        total=total,
        terms=query.terms,
        strategy="sorted",
        exact=True,
        means="all that match were sorted",
        took_ms=took_ms,
    )


def check_features(store: Store, query: Query) -> None:
    """QueryError unless the index has what a query compares: such deep features, visual words."""
    settings = known_settings(store)
    given = 0 if query.embedding is None else len(query.embedding)
    if query.has_features and given != settings.embedding_dimensions:
        raise QueryError(
            f"the index's deep features have {settings.embedding_dimensions} dimensions, the "
            f"query's has {given}"
        )
    wants_words = query.by_words or (query.candidates and query.visual_words)
    if wants_words and not settings.visual_words:
        raise QueryError(
            f"{store.location} has no visual words: `imgsearch reindex --visual-words` adds them, "
            "without reading a picture"
        )
    if wants_words and query.visual_words != settings.visual_words:
        raise QueryError(
            f"{store.location} has {settings.visual_words} visual words of each picture, the query "
            f"was made for {query.visual_words}: build it again"
        )


def weighted_all(store: Store, queries: Sequence[Query]) -> list[tuple[Query, Statistics]]:
    """Each query with its synsets weighted by its strategy's formula, and what that is based on."""
    in_need = list(filter(needs_statistics, queries))
    keys = dict.fromkeys(term.key for query in in_need for term in query.terms)
    known = store.statistics(list(keys)) if in_need else NO_STATISTICS
    based_on = [known if needs_statistics(query) else NO_STATISTICS for query in queries]
    return [(with_weights(*item), item[1]) for item in zip(queries, based_on, strict=True)]


def search_parts(
    search_many: Callable[[Sequence[Query]], list[SearchResult]],
    listed: Callable[[Query], SearchResult],
    queries: Sequence[Query],
) -> list[SearchResult]:
    """Answer queries, those fused by ranks by way of their parts; all are asked together.

    Those that are sorted are ``listed`` one by one.
    """
    if any(query.sort is not None for query in queries):
        scored = [query for query in queries if query.sort is None]
        rest = iter(search_parts(search_many, listed, scored))
        return [next(rest) if query.sort is None else listed(query) for query in queries]
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
    rankings = [dict(found.ranking) for found in answers]
    places = {
        key: (found.hits, i)
        for found, scores in zip(answers, rankings, strict=True)
        for i, key in enumerate(scores)
    }
    fused = by_ranks(fusion, query.parts, rankings)
    answered = zip(query.parts, answers, strict=True)
    inexact = [part.name for part, answer in answered if not answer.exact]
    return SearchResult(
        hits=tuple(
            Scored(places[key][0][places[key][1]].document, score, parts)
            for key, score, parts in fused[query.offset : query.offset + query.k]
        ),
        total=len(fused),
        terms=query.terms,
        average_length=max(found.average_length for found in answers),
        strategy=fusion.method,
        exact=not inexact,
        means=f"the best {fusion.window} of each part were ranked and fused"
        + (f"; not certain of {', '.join(inexact)}" if inexact else ""),
        took_ms=sum(found.took_ms for found in answers),
        part_terms=tuple(found.terms for found in answers),
    )
