"""Ways to rank by synsets on Elasticsearch: the bodies of requests, and what their answers say.

    script           the paper's: a script over every document
    script-filtered  the same script, over documents that share a synset with the query
    impact           the inverted index of the sparse_vector field, then exact rescoring of the best

All rank alike. A sparse_vector keeps 9 significant bits of a weight (Lucene's FeatureField), so the
first pass of ``impact`` alone does not; ``is_proven`` tells when rescoring a window made it exact.
The window is scored again where it is read: its documents come with their terms anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic.clauses import (
    ABOVE_ZERO,
    ROUNDING,
    TRUNCATION,
    bool_query,
    exact_scoring,
    lost_by,
    matching,
    scale_of,
    script,
    sparse_clause,
)
from imgsearch_es.stores.elastic.fetching import SOURCE, document_of

SMALLEST_WINDOW = 30


def first_window(query: Query) -> int:
    """How many documents to rescore at first: small, because it is widened when not proven."""
    return min(max(SMALLEST_WINDOW, 2 * (query.offset + query.k)), MAX_RESULTS)


def first_pass(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The best by the inverted index, by their scores before rescoring."""
    wanted = bool_query(query, must=[sparse_clause(query.terms)])
    return {"query": wanted, "size": window, **SOURCE}


def rescored(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The first pass with a second one, so that its answer is ranked already: for people."""
    again = {
        "rescore_query": {"function_score": exact_scoring(query.terms)},
        "query_weight": 0.0,
        "rescore_query_weight": 1.0,
    }
    body = first_pass(query, statistics, window)
    return {**body, "rescore": {"window_size": window, "query": again}}


def scripted_all(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """Every document, scored by the formula's script."""
    return _scored(bool_query(query), _by_script(query, statistics), query)


def scripted(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The documents that share a synset with the query, scored by the formula's script."""
    return _scored(matching(query), _by_script(query, statistics), query)


def factored(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The same by formula (1), on servers without scripts, too."""
    return _scored(matching(query), exact_scoring(query.terms), query)


def _by_script(query: Query, statistics: Statistics) -> dict[str, Any]:
    return {"script_score": {"script": script(query, statistics)}, "boost_mode": "replace"}


def _scored(documents: dict[str, Any], scoring: dict[str, Any], query: Query) -> dict[str, Any]:
    return {
        "query": {"function_score": {"query": documents, **scoring}},
        "min_score": ABOVE_ZERO,
        "sort": [{"_score": "desc"}, {"id": "asc"}],
        "from": query.offset,
        "size": query.k,
        **SOURCE,
    }


def read_scored(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult:
    """The result in an answer in which the server scored every document exactly."""
    means = f"{'all' if query.strategy == 'script' else 'matching'} pictures were scored"
    hits = as_scored(answer["hits"]["hits"])
    return _result(query, statistics, answer, hits, 0, means=means)


def as_scored(hits: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Hits by the server's scores."""
    return best_first(Scored(document_of(hit), to_score(hit["_score"])) for hit in hits)


def read_first_pass(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``first_pass``; None where a wider window is needed."""
    hits = answer["hits"]["hits"]
    ranked = best_first(_by_formula_1(query, hit) for hit in hits)
    last = hits[-1]["_score"] if hits else 0.0
    if not is_proven(query, [item.score for item in ranked], last, len(hits) < window):
        return None
    means = f"the best {window} were rescored, and no other picture can enter"
    return _result(query, statistics, answer, ranked, query.offset, means=means, windows=1)


def _by_formula_1(query: Query, hit: Mapping[str, Any]) -> Scored:
    """A document with its score, summed in the order of the query's terms."""
    document, total = document_of(hit), 0.0
    scores = {term.key: term.score for term in document.terms}
    for term in query.terms:  # not sum(), which since Python 3.12 rounds otherwise than the stores
        total += term.score * scores.get(term.key, 0.0)
    return Scored(document, to_score(total))


def _result(
    query: Query,
    statistics: Statistics,
    answer: Mapping[str, Any],
    ranked: Sequence[Scored],
    start: int,
    *,
    means: str,
    windows: int = 0,
) -> SearchResult:
    """The hits of a ranking from ``start`` on."""
    hits = [item for item in ranked if item.score > 0]
    total = answer["hits"]["total"]
    all_here = total["value"] == len(ranked)  # those too whose score underflows to 0
    return SearchResult(
        hits=tuple(hits[start : start + query.k]),
        total=len(hits) if all_here else total["value"],
        total_is_exact=total["relation"] == "eq",
        terms=query.terms,
        average_length=statistics.average_length,
        strategy="impact" if query.strategy == "auto" else query.strategy,
        exact=True,
        means=means,
        took_ms=answer["took"],
        windows=windows,
    )


def is_proven(query: Query, scores: Sequence[float], last: float, fetched_all: bool) -> bool:
    """Whether the best offset + k of a rescored window are certainly the best of the index.

    No document outside the window has a first-pass score above the window's last one, a. So its
    exact score is below a (1 + 2^-8). When the last score wanted is above that, no such document
    can enter, nor tie. With several shards a is the last of all that they found together.

    Args:
        query: the query.
        scores: exact scores of the window, best first.
        last: the server's own score of the window's last document.
        fetched_all: whether the window holds every document that matches.
    """
    if fetched_all:
        return True
    if len(scores) < query.offset + query.k:
        return False  # some underflow to 0, and are no hits
    most = (last / scale_of(query.terms)) * (1 + TRUNCATION) * (1 + ROUNDING)
    return scores[query.offset + query.k - 1] > most + lost_by(query.terms)
