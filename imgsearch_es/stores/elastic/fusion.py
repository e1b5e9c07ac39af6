"""Weighted sums of scores on Elasticsearch: one request, then exact sums for the best.

Parts that share synsets with a document are clauses of a bool query with the part's weight as
boost: the inverted index for formula (1) and TF-IDF, a script for the others. Where deep features
are compared, a script adds them to ``_score``. The server never ranks by too low a score: what it
may lose (see ``_script`` and ``_above``) is added, so that its score bounds the exact one from
above. The client computes the exact scores of a window from the stored scores and vectors, and if
the last one wanted is above the bound of the window's last, nothing outside can enter, nor tie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imgsearch_es.retrieval.dense import COMPARISONS, TO_POSITIVE, direction
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Statistics, score_of, summands
from imgsearch_es.retrieval.strategies import MAX_RESULTS, Part, fused_score, summed
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic.clauses import (
    ROUNDING,
    TRUNCATION,
    bool_query,
    lost_by,
    matching,
    scale_of,
    script,
    sparse_clause,
    vanishing,
    words_clause,
)
from imgsearch_es.stores.elastic.dense import exact_scores, feature, tolerance
from imgsearch_es.stores.elastic.fetching import SOURCE, WHOLE, result, with_feature


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
    scored = {"query": inner, "script": _script(query)}
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


def _script(query: Query) -> dict[str, Any]:
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
    vector = feature(query)
    parameters = {
        "q": vector.tolist(),
        "direction": direction(vector).tolist(),
        "length": float(np.linalg.norm(vector.astype(np.float64))),
        "weights": [part.weight for part in dense],
        "tolerance": tolerance(query),
        "truncation": (1 + TRUNCATION) * (1 + ROUNDING),
    }
    return {"source": "\n".join(lines), "params": parameters}


def read_fused(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``fused_body``; None where a wider window is needed."""
    hits, total = answer["hits"]["hits"], answer["hits"]["total"]
    ranked = _scored(query, statistics, list(map(with_feature, hits)))
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


def _scored(query: Query, statistics: Statistics, documents: Sequence[Document]) -> list[Scored]:
    """The exact scores of documents that have one of the parts: best first, ties by id."""
    columns = [
        (_dense_scores if single.is_dense else _sparse_scores)(single, statistics, documents)
        for single in part_queries(query)
    ]
    scored = []
    for document, *scores in zip(documents, *columns, strict=True):
        parts = summed(query.parts, scores)
        if any(part.score is not None for part in parts):
            scored.append(Scored(document, fused_score(parts), parts))
    return best_first(scored)


def _dense_scores(
    query: Query, statistics: Statistics, documents: Sequence[Document]
) -> list[float | None]:
    vectors = [d.embedding for d in documents if d.embedding is not None]
    scores = iter(exact_scores(query, vectors))
    found = [None if document.embedding is None else next(scores) for document in documents]
    return [score or None for score in found] if query.by_words else found


def _sparse_scores(
    query: Query, statistics: Statistics, documents: Sequence[Document]
) -> list[float | None]:
    """The part's scores; None where one is 0, because score 0 is no hit."""
    ways = query.formula, query.parameters, query.terms, statistics.average_length
    return [score_of(summands(document, *ways)) or None for document in documents]
