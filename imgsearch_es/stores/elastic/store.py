"""The Elasticsearch store: an index behind an alias, on a server of 8.15 or newer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from itertools import count
from typing import Any

from imgsearch_es.errors import DamagedIndexError, StoreError
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import APPROXIMABLE, MAX_RESULTS
from imgsearch_es.stores.base import ANSWER_SECONDS, SearchResult, known_settings
from imgsearch_es.stores.elastic import inspecting, waiting
from imgsearch_es.stores.elastic.answers import (
    FALLBACK,
    IMPACT,
    Way,
    first_window,
    listing_body,
    pages,
    read_scored,
    way_of,
)
from imgsearch_es.stores.elastic.clauses import vanishing
from imgsearch_es.stores.elastic.connection import translated
from imgsearch_es.stores.elastic.fetching import (
    WHOLE_INDEX,
    by_doc_values,
    document_of,
    is_complete,
    whole_document_of,
)
from imgsearch_es.stores.elastic.writing import Writing
from imgsearch_es.stores.shared import check_features, listing, search_parts, weighted_all

_UNDER_WAY = 4
"""Requests of many queries at a time: the server answers some while others are read."""
_TOGETHER, _TOGETHER_HITS = 50, 10_000
"""Queries in one request, and the documents that they may ask for."""
_WIDER = 5
"""By how much the window grows when it did not prove the answer."""


class ElasticStore(Writing):
    """An index on Elasticsearch.

    Args:
        location: ``http(s)://[user:password@]host:port/index``.
        shards, replicas: of an index that is created; by default 1 and 0.
        expected_pictures: how many it will hold at the end, from which ``shards`` follows.
        refresh_interval: how soon written documents are found by others, such as "30s".
        lifecycle: the name of an index lifecycle policy; see docs/scaling.md.
        layout: how an index that is created keeps documents: "full" (the default), or "lean": a
            third of the bytes, without ``_source`` and the paper's fields; see docs/document.md.
        vectors: how an index that is created indexes deep features for approximate answers: not
            at all ("none", the default), or as one of ``mapping.KINDS``, such as "int8_hnsw".
        similarity: by what they are neighbors: "cosine" (the default), "dot" or "euclidean".
        impacts: the formulas of ``fetching.OFFERED`` for which an index that is created has
            inverted indexes: a list, or text such as "cosine,bm25"; by default none. Their searches
            take as long as those by ``auto``.
        api_key, username, password, ca_certs, verify_certs, timeout: see ``parse_address``, which
            also reads them from the environment.
    """

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Let requests wait for a server that cannot answer now, see ``waiting.py``."""
        return waiting.patience_of(self.client).waiting()

    def remove(self, ids: Sequence[str]) -> int:
        index = self._written_as if self._name == self._index else self._name
        with translated(self._address):  # counted before: answers may be lost on the way
            there = dict(waiting.sources_by_id(self.client, index, ids, False))
            answers = waiting.bulk(self.client, index, waiting.deletions([*there]), dict)
            self.client.indices.refresh(index=self._name)
        for answer in answers:
            if "error" in answer:
                raise StoreError(f"{self.location}: {waiting.why_not(answer)}")
        return len(there)

    def search(self, query: Query) -> SearchResult:
        if query.sort is not None or (query.fusion is not None and query.fusion.is_ranked):
            return self.search_many([query])[0]
        ((query, statistics),) = weighted_all(self, [self._checked(query)])
        with translated(self._address):
            return self._search(query, statistics)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for many queries in few requests; those whose first window proves nothing again."""
        return search_parts(self._search_many, self._listed, list(map(self._checked, queries)))

    def _listed(self, query: Query) -> SearchResult:
        with translated(self._address):
            answer = self._ask(listing_body(query))
        documents = map(document_of, answer["hits"]["hits"])
        return listing(query, documents, answer["hits"]["total"]["value"], answer["took"])

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        ready, found = weighted_all(self, queries), dict[int, SearchResult]()
        took = [0.0] * len(ready)
        asked = [(i, first_window(query)) for i, (query, _) in enumerate(ready)]
        with translated(self._address):
            ways = self._ways(ready)
            for windows in count(1):
                wider = []
                bodies = [ways[i].body(*ready[i], window) for i, window in asked]
                answers = self._ask_many(bodies, [window for _, window in asked])
                for (i, window), answer in zip(asked, answers, strict=True):
                    if "error" in answer or not is_complete(answer):
                        found[i] = self._search(*ready[i])
                        continue
                    took[i] += answer["took"]
                    one = ways[i].read(*ready[i], answer, window)
                    if one is not None:
                        times = windows if one.windows else 0
                        found[i] = replace(one, took_ms=took[i], windows=times)
                    elif window == MAX_RESULTS:
                        found[i] = self._of_all(*ready[i], ways[i], took[i], windows)
                    else:
                        wider.append((i, min(_WIDER * window, MAX_RESULTS)))
                asked = wider
                if not asked:
                    return [found[i] for i in range(len(ready))]
        raise AssertionError  # windows end at MAX_RESULTS

    def _ask_many(
        self, bodies: Sequence[dict[str, Any]], sizes: Sequence[int]
    ) -> Iterator[dict[str, Any]]:
        """Answers, or errors, to bodies that ask for so many documents each, in their order."""
        self.stored_settings()
        version, is_lean = self._connection[1], self._is_lean

        def ask(part: slice) -> list[dict[str, Any]]:
            searches: list[dict[str, Any]] = []
            for body in bodies[part]:
                searches += [WHOLE_INDEX, by_doc_values(body, version, lean=is_lean)]
            answers: list[dict[str, Any]] = self.client.msearch(
                index=self._name, searches=searches
            )["responses"]
            self._check_index(answers)
            return answers

        waiting: deque[Future[list[dict[str, Any]]]] = deque()
        soon = (ANSWER_SECONDS.get(),)
        pool = ThreadPoolExecutor(_UNDER_WAY, "imgsearch-ask", ANSWER_SECONDS.set, soon)
        try:
            for part in _batches(sizes):
                waiting.append(pool.submit(ask, part))
                if len(waiting) > _UNDER_WAY:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # who interrupts does not wait

    def _ways(self, queries: Sequence[tuple[Query, Statistics]]) -> list[Way]:
        """How each query is executed.

        A document may share a synset with a query and yet score 0. Where there is one, the first
        pass would count it; without fields to ask for, it may.
        """
        ways = [way_of(*item, self._impacts) for item in queries]
        light = {
            i: scores
            for i, ((query, _), way) in enumerate(zip(queries, ways, strict=True))
            if way is IMPACT
            and query.synset_fields
            and (scores := vanishing(query.terms, is_linear=query.formula.is_linear))
        }
        most: dict[str, float] = {}
        for scores in light.values():
            most |= {key: max(score, most.get(key, 0.0)) for key, score in scores.items()}
        if most and any(self._are_below([most])):
            for i, is_there in zip(light, self._are_below([*light.values()]), strict=True):
                ways[i] = FALLBACK if is_there else IMPACT
        return ways

    def _are_below(self, limits: Sequence[Mapping[str, float]]) -> list[bool]:
        """Of each of some limits of synsets' scores whether a document has a lower score."""
        bodies = []
        for scores in limits:
            clauses = [{"range": {f"synset.{k}.score": {"lte": s}}} for k, s in scores.items()]
            should = {"bool": {"should": clauses}}
            bodies.append({"size": 0, "track_total_hits": 1, "query": should})
        answers = self._ask_many(bodies, [0] * len(bodies))
        return ["error" in each or each["hits"]["total"]["value"] > 0 for each in answers]

    def _checked(self, query: Query) -> Query:
        """The query, if the index can answer it, with the way to its candidates."""
        query = self._of_fields(query)
        if query.candidates and query.strategy in self._neighbors.strategies:
            query = replace(query, visual_words=0)  # the nearest are found better than by words
        check_features(self, query)
        if query.candidates and not query.visual_words:
            self._neighbors.check_answers(query.strategy, self.location)
        return query

    def approximable(self) -> tuple[str, ...]:
        """The strategy of the index of nearest neighbors; all by visual words, if there are any."""
        return APPROXIMABLE if known_settings(self).visual_words else self._neighbors.strategies

    def _search(self, query: Query, statistics: Statistics) -> SearchResult:
        """Answer a query that is weighted already, with as many requests as it takes."""
        (way,), window, took = self._ways([(query, statistics)]), first_window(query), 0.0
        for windows in count(1):
            answer = self._ask(way.body(query, statistics, window))
            took += answer["took"]
            found = way.read(query, statistics, answer, window)
            if found is not None:
                return replace(found, took_ms=took, windows=windows if found.windows else 0)
            if window == MAX_RESULTS:
                return self._of_all(query, statistics, way, took, windows)
            window = min(_WIDER * window, MAX_RESULTS)
        raise AssertionError  # windows end at MAX_RESULTS

    def _of_all(
        self, query: Query, statistics: Statistics, way: Way, took: float, windows: int
    ) -> SearchResult:
        """Score all pictures that match, where so many windows, in that time, proved nothing."""
        means = "too many near-ties for a proof, so all matching pictures were scored"
        if query.by_words or not query.synset_fields:
            with closing(self._pages(query, statistics, way)) as found_pages:
                found = next(found_pages)
        else:
            answer = self._ask(FALLBACK.body(query, statistics, MAX_RESULTS))
            found = read_scored(query, statistics, answer, MAX_RESULTS)
        return replace(found, means=means, took_ms=took + found.took_ms, windows=windows)

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._answer(body, index=self._name)
        self._check_index([answer])
        return answer

    def _answer(self, body: Mapping[str, Any], **where: Any) -> dict[str, Any]:
        """An answer with its documents by doc values; by ``_source`` if one has none."""
        self.stored_settings()
        quick = by_doc_values(body, self._connection[1], lean=self._is_lean)
        answer = self.client.search(body=quick, **WHOLE_INDEX, **where).body
        if not (is_complete(answer) or self._is_lean):
            answer = self.client.search(body=self._in_full(body), **WHOLE_INDEX, **where).body
        return dict(answer)

    def pages(self, query: Query) -> Iterator[SearchResult]:
        ((query, statistics),) = weighted_all(self, [self._checked(query)])
        with translated(self._address):
            yield from self._pages(query, statistics, way_of(query, statistics, self._impacts))

    def _pages(
        self, query: Query, statistics: Statistics, way: Way
    ) -> Generator[SearchResult, None, None]:
        # By the index's own name, not the alias: the query was made for this index.
        return pages(self.client, self._index, query, statistics, way, self._answer)

    def mend(self) -> None:
        """Write documents of a lean index again whose weights are wrong, which they do not show."""
        settings = known_settings(self)
        wrong = inspecting.wrong_weights(settings, self._impacts)
        for query in wrong if self._is_lean else ():
            found = list[str]()
            with translated(self._address):
                ids = [hit["_id"] for hit in self._scan({"query": query})]
                for hit in self._of_ids(ids):
                    with suppress(DamagedIndexError):  # which is said of the document
                        found.append(whole_document_of(hit).id)
            self.change(found, replace)
        self.finish()


def _batches(sizes: Sequence[int]) -> Iterator[slice]:
    """Which queries to send together: so many, and so many documents in all."""
    first, wanted = 0, 0
    for i, size in enumerate(sizes):
        if i > first and (i - first == _TOGETHER or wanted + size > _TOGETHER_HITS):
            yield slice(first, i)
            first, wanted = i, 0
        wanted += size
    if first < len(sizes):
        yield slice(first, len(sizes))
