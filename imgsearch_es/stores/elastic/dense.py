"""Comparing deep features on Elasticsearch, and weighted sums of scores.

Deep features are compared by a script over all vectors, and in float64 for the best; approximately,
by the same script over the candidates that an index of nearest neighbors gives.

A fusion by "sum" is one request. Parts that share synsets with a document are clauses of a bool
query with the part's weight as boost: the inverted index for formula (1) and TF-IDF, a script for
the others. Where deep features are compared, a script adds them to ``_score``. The server never
ranks by too low a score: what it may lose (see ``_fused_script`` and ``_above``) is added, so that
its score bounds the exact one from above. The client computes the exact scores of a window from the
stored scores and vectors, and if the last one wanted is above the bound of the window's last,
nothing outside can enter, nor tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.dense import COMPARISONS, TO_POSITIVE, direction
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Statistics, score_of, summands
from imgsearch_es.retrieval.strategies import MAX_RESULTS, Part, fused_score, summed
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic.clauses import (
    ROUNDING,
    TRUNCATION,
    at_least,
    at_most,
    bool_query,
    least_of,
    lost_by,
    matching,
    rescoring,
    scale_of,
    script,
    sparse_clause,
    vanishing,
    words_clause,
)
from imgsearch_es.stores.elastic.fetching import (
    SOURCE,
    WHOLE,
    document_of,
    embedding_of,
    result,
    with_feature,
)

_ROUNDING = 4 * 2.0**-24
"""Error of the server's float32 sums, per dimension, relative to the score."""
_SPARE = 10
"""Documents that an approximate search fetches beyond those asked for: their order may be another
in float64."""


def dense_body(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The body of the search request; ``window`` is how many an exact search fetches."""
    if query.candidates:
        search, window = _of_candidates(query), query.offset + query.k + _SPARE
        window = min(window, search["rescore"]["window_size"])
    else:
        scored: dict[str, Any] = {"query": matching(query), "script": _script(query)}
        if query.min_score is not None:
            least = COMPARISONS[query.strategy].to_painless(query.min_score)
            scored["min_score"] = max(0.0, least * (1 - _tolerance(query)))
        search = {"query": {"script_score": scored}}
    return {**search, "size": window, "track_total_hits": True, **WHOLE}


def words_body(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The best by the inverted index of visual words, by their scores before the exact ones."""
    body = {"query": bool_query(query, must=[words_clause(query)]), "size": window, **WHOLE}
    if query.min_score is not None:
        body["min_score"] = max(0.0, at_least(query.word_terms, query.min_score))
    return {**body, "track_total_hits": True}


def _of_candidates(query: Query) -> dict[str, Any]:
    """The nearest of those that meet the conditions, then all of these scored by the script."""
    by_cosine = query.strategy == "dense-cosine"
    vector = _feature(query)
    count = max(query.candidates, query.offset + query.k)
    scored = {"query": {"match_all": {}}, "script": _script(query)}
    again = rescoring(count, {"script_score": scored})
    if query.visual_words:
        return {"query": bool_query(query, must=[words_clause(query)]), "rescore": again}
    nearest: dict[str, Any] = {
        "field": "direction" if by_cosine else "embedding",
        "query_vector": (direction(vector) if by_cosine else vector).tolist(),
        "k": count,
        "num_candidates": count,
    }
    if query.filters or query.exclude:
        nearest["filter"] = matching(query)  # few are all compared: with vector or without
    return {"query": {"knn": nearest}, "rescore": again}


def _script(query: Query) -> dict[str, Any]:
    vector = _feature(query)
    by_cosine = query.strategy == "dense-cosine"
    given = {"direction": direction(vector)} if by_cosine else {"q": vector}
    parameters = {name: value.tolist() for name, value in given.items()}
    return {"source": COMPARISONS[query.strategy].painless, "params": parameters}


def read_dense(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``dense_body``; None where a wider window is needed."""
    hits, total = answer["hits"]["hits"], answer["hits"]["total"]["value"]
    ranked, last = compared(query, hits), query.offset + query.k
    fetched_all = len(hits) == total
    # Where a threshold cut them, what was not fetched may lie above it.
    proven = fetched_all or (
        len(ranked) >= last and is_above(query, ranked[last - 1].score, hits[-1]["_score"])
    )
    by_words = query.by_words
    if not proven and not query.candidates and (window < MAX_RESULTS or by_words):
        return None
    if by_words:
        means = f"the best {window} were compared again exactly, and no other picture can enter"
    elif query.candidates:
        total = min(total, max(query.candidates, last)) if query.visual_words else total
        means = f"of {total} near pictures the best were found exactly; nearer ones may be missing"
    else:
        means = "all vectors were compared, the best again in float64"
        means += "" if proven else "; more than the window are equally near"
    cut = query.candidates and query.min_score is not None  # the server cuts exact answers only
    return result(
        query, statistics, answer, ranked[query.offset : last],
        total=len(ranked) if fetched_all or cut else total,
        total_is_exact=not query.candidates and (fetched_all or query.min_score is None),
        exact=proven and not query.candidates, means=means, windows=0 if query.candidates else 1,
    )  # fmt: skip


def compared(query: Query, hits: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Hits by their float64 scores; those below the threshold are left out."""
    vectors = [vector for hit in hits if (vector := embedding_of(hit)) is not None]
    least = -np.inf if query.min_score is None else query.min_score
    least = least_of(query) if query.by_words else least
    scored = map(Scored, map(document_of, hits), _exact_scores(query, vectors))
    return best_first(item for item in scored if item.score >= least)


def is_above(query: Query, score: float, server: float) -> bool:
    """Whether an exact score is certainly above those of all that the server scores no higher."""
    if query.by_words:
        return score > at_most(query.word_terms, server)
    wanted = COMPARISONS[query.strategy].to_painless(score)
    return wanted > server * (1 + 2 * _tolerance(query))


def _exact_scores(query: Query, vectors: Sequence[NDArray[np.float32]]) -> list[float]:
    if not vectors:
        return []
    scores = query.compare(np.stack(vectors))
    return [float(score) for score in scores.astype(np.float32)]


def _tolerance(query: Query) -> float:
    """How far the server's score, as a number above 0, may be from the exact one, relative."""
    return _ROUNDING * len(_feature(query))


def _feature(query: Query) -> NDArray[np.float32]:
    assert query.embedding is not None  # noqa: S101  (checked when the query was made)
    return query.embedding


# -- weighted sums -----------------------------------------------------------------------------


def fused_body(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The body of the search request for the best ``window`` of a query fused by "sum"."""
    parts = zip(query.parts, part_queries(query), strict=True)
    clauses = [
        _clause(part, single, statistics) for part, single in parts if not single.compares_all
    ]
    if not query.compares_all:
        inner = bool_query(query, should=clauses)
        inner["bool"]["minimum_should_match"] = 1
        return {"query": inner, "size": window, **(WHOLE if query.has_features else SOURCE)}
    inner = matching(query)
    if clauses:
        inner["bool"] |= {"should": clauses, "minimum_should_match": 0}
    scored = {"query": inner, "script": _fused_script(query)}
    return {"query": {"script_score": scored}, "track_total_hits": True, "size": window, **WHOLE}


def _clause(part: Part, query: Query, statistics: Statistics) -> dict[str, Any]:
    """A part's score times its weight, for the documents that share a synset or word with it."""
    if query.by_words:
        return {"bool": {"must": [words_clause(query)], "boost": part.weight}}
    if part.formula.is_linear:
        boost = part.weight / scale_of(part.terms)
        return {"bool": {"must": [sparse_clause(part.terms)], "boost": boost}}
    scored = {"query": matching(query), "script": script(query, statistics)}
    return {"script_score": {**scored, "boost": part.weight}}


def _fused_script(query: Query) -> dict[str, Any]:
    """Adds the comparisons of deep features to ``_score``, and what the server may lack of them."""
    dense = [part for part in query.parts if part.strategy in COMPARISONS]
    lines = ["double total = _score * params.truncation;"]
    for i, part in enumerate(dense):
        comparison = COMPARISONS[part.strategy]
        lines += [
            "if (doc['embedding'].size() != 0) {",
            "double s = 0;",
            comparison.statement,
            f"total += params.weights[{i}] * (s + params.tolerance * (1 + {comparison.size}));",
            "}",
        ]
    lines.append(TO_POSITIVE.format("total"))
    vector = _feature(query)
    parameters = {
        "q": vector.tolist(),
        "direction": direction(vector).tolist(),
        "length": float(np.linalg.norm(vector.astype(np.float64))),
        "weights": [part.weight for part in dense],
        "tolerance": _tolerance(query),
        "truncation": (1 + TRUNCATION) * (1 + ROUNDING),
    }
    return {"source": "\n".join(lines), "params": parameters}


def read_fused(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``fused_body``; None where a wider window is needed."""
    hits, total = answer["hits"]["hits"], answer["hits"]["total"]
    ranked = _fused(query, statistics, list(map(with_feature, hits)))
    fetched_all = total == {"value": len(hits), "relation": "eq"}
    last = query.offset + query.k
    proven = fetched_all or (
        len(ranked) >= last and ranked[last - 1].score > _above(query, hits[-1]["_score"])
    )
    if not proven and window < MAX_RESULTS:
        return None
    vanish = any(vanishing(part.terms) for part in query.parts)
    rest = "no other picture can enter" if proven else "others are equally near"
    return result(
        query, statistics, answer, ranked[query.offset : last],
        total=len(ranked) if fetched_all or vanish else total["value"],
        total_is_exact=fetched_all or (not vanish and total["relation"] == "eq"),
        exact=proven, means=f"the best {window} were summed again exactly, and {rest}", windows=1,
        part_terms=tuple(part.terms for part in query.parts),
    )  # fmt: skip


def _above(query: Query, score: float) -> float:
    """The most that a document can score which the server gives this score."""
    terms = [(part.terms or query.word_terms) for part in query.parts]
    pairs = zip(query.parts, terms, strict=True)
    lost = sum(part.weight * lost_by(own) for part, own in pairs if own)
    if not query.compares_all:
        return score * (1 + TRUNCATION) * (1 + ROUNDING) + lost
    given = score * (1 + ROUNDING)
    return (given - 1 if given >= 1 else 1 - 1 / given) + lost


def _fused(query: Query, statistics: Statistics, documents: Sequence[Document]) -> list[Scored]:
    """The exact scores of documents that have one of the parts: best first, ties by id."""
    columns = [_part_scores(single, statistics, documents) for single in part_queries(query)]
    scored = []
    for document, *scores in zip(documents, *columns, strict=True):
        parts = summed(query.parts, scores)
        if any(part.score is not None for part in parts):
            scored.append(Scored(document, fused_score(parts), parts))
    return best_first(scored)


def _part_scores(
    query: Query, statistics: Statistics, documents: Sequence[Document]
) -> list[float | None]:
    """The part's scores; None where a sum is 0, because score 0 is no hit."""
    if not query.is_dense:
        ways = query.formula, query.parameters, query.terms, statistics.average_length
        return [score_of(summands(document, *ways)) or None for document in documents]
    vectors = [d.embedding for d in documents if d.embedding is not None]
    scores = iter(_exact_scores(query, vectors))
    found = [None if document.embedding is None else next(scores) for document in documents]
    return [score or None for score in found] if query.by_words else found
