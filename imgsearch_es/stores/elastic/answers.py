"""Queries on Elasticsearch: which requests answer them, what the answers say, and pages of hits.

    script           the paper's: a script over every document
    script-filtered  the same script, over documents that share a synset with the query
    impact           the inverted index of a sparse_vector field, then exact rescoring of the best:
                     formula (1), TF-IDF, and formulas of which the index has impacts
    visual-words     the same on the field of visual words, and the best by their deep features

All rank alike. A sparse_vector keeps 9 significant bits of a weight (Lucene's FeatureField), so the
first pass of ``impact`` alone does not; ``is_proven`` tells when rescoring a window made it exact.
The window is scored again where it is read: its documents come with their terms anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

from elasticsearch import Elasticsearch

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.queries import Query, counted, needs_statistics, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics, score_of, summands
from imgsearch_es.retrieval.strategies import (
    FEATURES,
    MAX_RESULTS,
    PICTURES,
    POSTINGS,
    SHARING,
    STRATEGIES,
    WORDS,
)
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.elastic import dense, fetching
from imgsearch_es.stores.elastic.clauses import (
    at_least,
    at_most,
    bool_query,
    exact_scoring,
    least_of,
    matching,
    rescoring,
    script,
    sorting,
    sparse_clause,
)
from imgsearch_es.stores.elastic.fetching import SOURCE, Search, result
from imgsearch_es.stores.shared import listing
from imgsearch_es.vocabulary.colors import is_color

SMALLEST_WINDOW = 30
KEEP_ALIVE = "5m"
"""How long the server keeps the point in time after each request for a page."""
_LEAST = 100
"""Documents in one request for a page, at least."""
_LOOSEST = 2.0
"""Impacts that a formula may exceed more times prove too little: a script is quicker, if it can."""


def first_window(query: Query) -> int:
    """How many documents to rescore at first: small, because it is widened when not proven."""
    return min(max(SMALLEST_WINDOW, 2 * (query.offset + query.k)), MAX_RESULTS)


def first_pass(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The best by the inverted index, by their scores before rescoring."""
    wanted = bool_query(query, must=[sparse_clause(query.terms, fetching.field_of(query))])
    return {"query": wanted, "size": window, **_cut(query, statistics), **SOURCE}


def _cut(query: Query, statistics: Statistics) -> dict[str, Any]:
    """Leaves out what the inverted index scores so low that it is no hit."""
    if query.min_score is None or query.min_score <= 0:
        return {}
    excess = _excess(query, statistics, query.min_score)
    return {"min_score": max(0.0, at_least(query.terms, query.min_score / excess))}


def rescored(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The first pass ranked by a second one, for people; as it is without fields of synsets."""
    if not query.synset_fields:
        return first_pass(query, statistics, window)
    again = rescoring(window, {"function_score": exact_scoring(query.terms)})
    return {**first_pass(query, statistics, window), "rescore": again}


def scripted(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """Every document, or those that share a synset with the query, scored by a script."""
    scoring = {"script_score": {"script": script(query, statistics)}, "boost_mode": "replace"}
    every = STRATEGIES[query.strategy].reads == PICTURES
    return _scored(query, bool_query(query) if every else matching(query), scoring)


def factored(query: Query, statistics: Statistics, window: int) -> dict[str, Any]:
    """The documents that share a synset, scored exactly: by formula (1) without a script."""
    if not query.formula.is_linear:
        return scripted(query, statistics, window)
    documents = matching(query)
    if cut := _cut(query, statistics):  # the inverted index rules out most, quickly
        near = {"query": sparse_clause(query.terms), **cut}
        documents = bool_query(query, filter=[{"function_score": near}])
    return _scored(query, documents, exact_scoring(query.terms))


def _scored(query: Query, documents: dict[str, Any], scoring: dict[str, Any]) -> dict[str, Any]:
    return {
        "query": {"function_score": {"query": documents, **scoring}},
        "min_score": least_of(query),
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
    ranked = best_first(_as_scored(answer["hits"]["hits"]))
    counted = _counted(answer, len(ranked), sum(item.score > 0 for item in ranked))
    return result(query, statistics, answer, ranked, means=means, **counted)


def listing_body(query: Query) -> dict[str, Any]:
    """What matches, sorted and not scored."""
    return {
        "query": matching(counted(query)),
        "sort": sorting(query),
        "from": query.offset,
        "size": query.k,
        "track_total_hits": True,
        **SOURCE,
    }


def _as_scored(hits: Sequence[Mapping[str, Any]]) -> list[Scored]:
    """Hits with the server's scores; 0 where it sorted by something else."""
    return [Scored(fetching.document_of(hit), to_score(hit["_score"] or 0.0)) for hit in hits]


def read_first_pass(
    query: Query, statistics: Statistics, answer: Mapping[str, Any], window: int
) -> SearchResult | None:
    """The result in an answer to ``first_pass``; None where a wider window is needed."""
    hits = answer["hits"]["hits"]
    ranked = _rescored(query, statistics, hits)
    last, scores = hits[-1]["_score"] if hits else 0.0, [item.score for item in ranked]
    if not is_proven(query, scores, last, len(hits) < window, statistics):
        return None
    means = f"the best {window} were rescored, and no other picture can enter"
    best = [item for item in ranked if item.score >= least_of(query)]
    page = best[query.offset : query.offset + query.k]
    found = [Scored(fetching.document_of(item.hit), item.score) for item in page]
    counted = _counted(answer, len(ranked), len(best))
    counted["total_is_exact"] &= query.min_score is None or len(hits) < window
    return result(query, statistics, answer, found, means=means, windows=1, **counted)


def _of_first_pass(
    statistics: Statistics, query: Query, hits: Sequence[Mapping[str, Any]]
) -> list[Scored]:
    least = least_of(query)
    found = (item for item in _rescored(query, statistics, hits) if item.score >= least)
    return [Scored(fetching.document_of(item.hit), item.score) for item in found]


class _Rescored(NamedTuple):
    """A hit with its exact score, before its document is made: most of a window are no hits."""

    score: float
    id: str
    hit: Mapping[str, Any]


def _rescored(
    query: Query, statistics: Statistics, hits: Sequence[Mapping[str, Any]]
) -> list[_Rescored]:
    """Hits by their scores, each summed in the order of the query's terms; best first."""
    ways = query.formula, query.parameters, query.terms, statistics.average_length
    found = []
    for hit in hits:
        if not query.formula.is_linear:
            document = fetching.document_of(hit)
            score = score_of(summands(document, *ways))
            found.append(_Rescored(score, document.id, hit))
            continue
        key, scores = fetching.terms_of(hit)
        total = 0.0
        for term in query.terms:  # not sum(), which since Python 3.12 rounds otherwise
            total += term.score * scores.get(term.key, 0.0)
        found.append(_Rescored(to_score(total), key, hit))
    return sorted(found, key=lambda item: (-item.score, item.id))


def _counted(answer: Mapping[str, Any], fetched: int, hits: int) -> dict[str, Any]:
    """The total: of the hits, where all are here, those too that score too little."""
    total = answer["hits"]["total"]
    value = hits if total["value"] == fetched else total["value"]
    return {"total": value, "total_is_exact": total["relation"] == "eq", "exact": True}


def is_proven(
    query: Query,
    scores: Sequence[float],
    last: float,
    fetched_all: bool,
    statistics: Statistics = NO_STATISTICS,
) -> bool:
    """Whether the best offset + k of a rescored window are certainly the best of the index.

    No document outside the window has a first-pass score above ``last``, the server's own score of
    the window's last document. When the last exact score wanted is above all that this may stand
    for, no such document can enter, nor tie. With several shards it is the last of all.
    """
    if fetched_all:
        return True
    if len(scores) < query.offset + query.k:
        return False  # some underflow to 0, and are no hits
    return _is_above(query, statistics, scores[query.offset + query.k - 1], last)


def _is_above(query: Query, statistics: Statistics, score: float, server: float) -> bool:
    """Whether a score is above those of all that the inverted index scores no higher."""
    return score > at_most(query.terms, server) * _excess(query, statistics, score)


def _excess(query: Query, statistics: Statistics, least: float) -> float:
    parameters = query.formula.with_defaults(query.parameters)
    least = 0.0 if any(is_color(term.key) for term in query.terms) else least
    return query.formula.excess(least, query.terms[0].score, statistics, parameters)


class Way(NamedTuple):
    """How a query that is weighted already is executed, for a window of so many documents."""

    body: Callable[[Query, Statistics, int], dict[str, Any]]
    read: Callable[[Query, Statistics, Mapping[str, Any], int], SearchResult | None]
    """None where a wider window is needed."""


IMPACT = Way(first_pass, read_first_pass)
FALLBACK = Way(factored, read_scored)
"""What answers when no window of ``IMPACT`` proves the ranking."""
_DENSE, _FUSED = Way(dense.dense_body, dense.read_dense), Way(dense.fused_body, dense.read_fused)
_WORDS = Way(dense.words_body, dense.read_dense)
_WAYS = {
    POSTINGS: IMPACT,
    SHARING: Way(scripted, read_scored),
    PICTURES: Way(scripted, read_scored),
    FEATURES: _DENSE,
    WORDS: _WORDS,
}


def way_of(
    query: Query, statistics: Statistics = NO_STATISTICS, impacts: Sequence[str] = ()
) -> Way:
    """How a weighted query is executed: by what its strategy reads, or an index has impacts of."""
    if query.fusion is not None:
        return _FUSED
    most = _LOOSEST if query.synset_fields else math.inf
    way = _WAYS[STRATEGIES[query.strategy].reads]
    if query.formula.name in impacts and _excess(query, statistics, 0.0) <= most:
        way = IMPACT
    if way is IMPACT and query.min_score is not None and query.synset_fields:
        return FALLBACK  # the server counts what scores as much
    return way


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
    if query.sort is not None:
        return listing_body(query)
    query, way = with_weights(query, statistics), way_of(query)
    if way in (_DENSE, _WORDS):
        return way.body(query, statistics, query.offset + query.k)
    return (rescored if way is IMPACT else way.body)(query, statistics, first_window(query))


def pages(
    client: Elasticsearch,
    index: str,
    query: Query,
    statistics: Statistics,
    way: Way,
    search: Search,
) -> Generator[SearchResult, None, None]:
    """The hits of a query that is weighted already, ``query.k`` at a time from its offset on.

    A point in time keeps the index as it is, and ``search_after`` goes on where the page before
    ended. All matching documents are scored; where the server's scores are not exact, one is given
    when none that the server has not sent yet can score as much.
    """
    way = FALLBACK if way is IMPACT and query.synset_fields else way
    is_listed, size = query.sort is not None, max(query.k, _LEAST)
    is_bound = not is_listed and way in (_DENSE, _WORDS, IMPACT)
    read = partial(_of_first_pass, statistics) if way is IMPACT else dense.compared
    of_server = partial(_is_above, query, statistics)
    above = of_server if way is IMPACT else partial(dense.is_above, query)
    if is_listed:
        body = listing_body(query) | {"size": size}
    else:
        body = way.body(query if is_bound else replace(query, k=size, offset=0), statistics, size)
        body |= {"sort": [{"_score": "desc"}, {"id": "asc"}], "track_total_hits": True}
    body.pop("from", None)
    waiting: list[Scored] = []  # not certain yet
    ready: list[Scored] = []  # not given yet
    total, skip, took = 0, query.offset, 0.0
    with closing(fetching.all_answers(client, index, body, KEEP_ALIVE, search)) as answers:
        for answer in answers:
            hits = answer["hits"]["hits"]
            is_last, took = len(hits) < size, took + answer["took"]
            found = read(query, hits) if is_bound else _as_scored(hits)
            counted = answer["hits"].get("total", {"value": total})
            total = counted["value"] - len(hits) + len(found)
            waiting = found if is_listed else best_first([*waiting, *found])
            count = len(waiting)
            if is_bound and not is_last:
                ahead = (above(item.score, hits[-1]["_score"]) for item in waiting)
                count = sum(takewhile(bool, ahead))
            ready, waiting = [*ready, *waiting[:count]], waiting[count:]
            ready, skip = ready[skip:], max(0, skip - len(ready))
            while len(ready) >= query.k or (is_last and ready):
                page, ready = ready[: query.k], ready[query.k :]
                if is_listed:
                    yield listing(query, (one.document for one in page), total, took)
                else:
                    yield result(
                        query, statistics, {"took": took}, page, total=total, exact=True,
                        total_is_exact=query.min_score is None or is_last,
                        means="all matching pictures were scored, at one point in time",
                    )  # fmt: skip
                took = 0.0
