"""The Elasticsearch store: an index behind an alias, on a server of 8.15 or newer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from typing import Any

import elasticsearch

from imgsearch_es.errors import StoreError
from imgsearch_es.retrieval.dense import direction
from imgsearch_es.retrieval.documents import Document, storable
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import IndexSettings, SearchResult, WriteReport, known_settings
from imgsearch_es.stores.elastic import paging, rebuilding, waiting
from imgsearch_es.stores.elastic.answers import batches, first_body, read, read_exhaustive
from imgsearch_es.stores.elastic.connection import is_missing_index, translated
from imgsearch_es.stores.elastic.fetching import (
    WHOLE_INDEX,
    by_doc_values,
    is_complete,
    sent_vector,
)
from imgsearch_es.stores.elastic.mapping import CHECKSUM, index_body
from imgsearch_es.stores.elastic.neighbors import Neighbors
from imgsearch_es.stores.elastic.reading import Reading
from imgsearch_es.stores.elastic.strategies import (
    FALLBACK,
    Exhaustive,
    Impact,
    bool_query,
    first_window,
    get_strategy,
    vanishing,
)
from imgsearch_es.stores.fusion import search_parts
from imgsearch_es.stores.weighting import check_dimensions, weighted_all
from imgsearch_es.vocabulary.synsets import Vocabulary

_SENDERS = 4
"""Bulk requests at once, as elasticsearch-py's parallel_bulk has."""
_LEAST_TOGETHER = 64
"""Documents that are not worth two requests."""
_WIDER = 5
"""By how much the window grows when it did not prove the answer."""
_LONGEST_REASON = 300
"""Characters of the server's reason for refusing a document."""


class ElasticStore(Reading):
    """An index on Elasticsearch.

    Args:
        location: ``http(s)://[user:password@]host:port/index``.
        shards, replicas: of an index that is created; by default 1 and 0.
        expected_pictures: how many it will hold at the end, from which ``shards`` follows.
        refresh_interval: how soon written documents are found by others, such as "30s".
        lifecycle: the name of an index lifecycle policy; see docs/scaling.md.
        vectors: how an index that is created indexes deep features for approximate answers: not
            at all ("none", the default), or as one of ``neighbors.KINDS``, such as "int8_hnsw".
        similarity: by what they are neighbors: "cosine" (the default), "dot" or "euclidean".
        credentials: ``api_key``, ``username``, ``password``, ``ca_certs``, ``verify_certs``,
            ``timeout``: see ``parse_address``, which also reads them from the environment.
    """

    def create(self, settings: IndexSettings) -> None:
        """Create ``<name>-000001`` with the explicit mapping, and the alias ``<name>`` on it."""
        client, version = self._connection
        neighbors = self._wanted or Neighbors()
        body = index_body(settings, version, self._layout, neighbors)
        with translated(self._address):
            if client.indices.exists(index=self._name):
                raise StoreError(f"{self.location} exists already")
            rebuilding.check_lifecycle(client, self._layout.lifecycle)
            client.indices.create(
                index=self._index,
                settings=body["settings"],
                mappings=body["mappings"],
                aliases={**self._aliases, rebuilding.own_alias(self._index): {}},
            )
        self._written_as = rebuilding.own_alias(self._index)
        self._neighbors, self._settings = neighbors, settings
        self._has_checksums = True
        self._looked_at = time.monotonic()

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add or replace documents in bulk; a refused document does not stop the others.

        Several requests are on their way at once: while the server works on one, the next is put
        into JSON.
        """
        vocabulary = known_settings(self).vocabulary
        self._add_checksums()
        taken, refused = storable(documents)
        size = max(_LEAST_TOGETHER, -(-len(taken) // _SENDERS))
        report = WriteReport(0, refused)
        with ThreadPoolExecutor(_SENDERS, "imgsearch-bulk") as senders:
            parts = [taken[i : i + size] for i in range(0, len(taken), size)]
            for stored, rejected in senders.map(lambda part: self._send(part, vocabulary), parts):
                report.stored += stored
                report.rejected += rejected
        return report

    def _add_checksums(self) -> None:
        """An index made before there were checksums gets their field, if we may change it."""
        if not self._has_checksums:
            denied = elasticsearch.AuthorizationException
            with translated(self._address), suppress(denied):
                self.client.indices.put_mapping(index=self._index, properties=CHECKSUM)
                self._has_checksums = True

    def _send(
        self, documents: Sequence[Document], vocabulary: Vocabulary
    ) -> tuple[int, list[tuple[str, str]]]:
        version = self._connection[1]

        def action(document: Document) -> dict[str, Any]:
            source = document.to_source(vocabulary, lambda vector: sent_vector(vector, version))
            if not self._has_checksums:
                del source["checksum"]
            if document.embedding is not None and self._neighbors.has_directions:
                source["direction"] = sent_vector(direction(document.embedding), version)
            return {"_id": document.id, "_source": source}

        items = {document.id: document for document in documents}
        options = {"chunk_size": len(documents), "require_alias": True}
        with translated(self._address):
            answers = waiting.bulk(self.client, self._written_as, items, action, **options)
        refused = [answer for answer in answers if "error" in answer]
        if any(map(is_missing_index, refused)):
            raise self._gone()
        rejected = [(items[answer["_id"]].uri, _why(answer)) for answer in refused]
        return len(answers) - len(refused), rejected

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Let requests wait for a server that cannot answer now, see ``waiting.py``."""
        return waiting.patience_of(self.client).waiting()

    def finish(self) -> None:
        """Make everything written searchable."""
        with translated(self._address):
            self.client.indices.refresh(index=self._name)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents by id; they are gone from searches at once."""
        with translated(self._address):
            items = {key: key for key in ids}
            answers = waiting.bulk(self.client, self._name, items, waiting.deletion)
            self.client.indices.refresh(index=self._name)
        return sum(answer.get("result") == "deleted" for answer in answers)

    def search(self, query: Query) -> SearchResult:
        """Rank in the way that the query's strategy says."""
        self._check(query)
        if query.fusion is not None and query.fusion.is_ranked:
            return self.search_many([query])[0]
        ((query, statistics),) = weighted_all(self, [query])
        with translated(self._address):
            return self._search(query, statistics)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for many queries in one request; those whose first window proves nothing again."""
        for query in queries:
            self._check(query)
        return search_parts(self._search_many, queries)

    def _search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        results: list[SearchResult] = []
        version = self._connection[1]
        for part in batches(weighted_all(self, queries)):
            searches: list[dict[str, Any]] = []
            for query, statistics in part:
                searches += [WHOLE_INDEX, by_doc_values(first_body(query, statistics), version)]
            with translated(self._address):
                answers = self.client.msearch(index=self._name, searches=searches)["responses"]
                self._check_index(answers)
                for (query, statistics), answer in zip(part, answers, strict=True):
                    is_read = "error" not in answer and is_complete(answer)
                    is_read = is_read and not vanishing(query.terms)
                    found = read(query, statistics, answer) if is_read else None
                    results.append(found or self._search(query, statistics))
        return results

    def _check(self, query: Query) -> None:
        settings = known_settings(self)
        if query.has_features:
            check_dimensions(settings, query)
        if query.candidates:
            self._neighbors.check_answers(query.strategy, self.location)

    def approximable(self) -> tuple[str, ...]:
        """The strategy that the index of nearest neighbors answers, if there is one."""
        known_settings(self)
        return self._neighbors.strategies

    def _search(self, query: Query, statistics: Statistics) -> SearchResult:
        """Answer a query that is weighted already, with as many requests as it takes."""
        is_sparse = not query.is_dense and query.fusion is None
        strategy = get_strategy(query.strategy) if is_sparse else None
        if isinstance(strategy, Impact) and self._may_vanish(query):
            strategy = FALLBACK  # the first pass would count documents that score 0
        if isinstance(strategy, Exhaustive):
            return self._search_exhaustively(strategy, query, statistics)
        window, windows, took = first_window(query), 1, 0
        while True:
            answer = self._ask(first_body(query, statistics, window))
            took += answer["took"]
            found = read(query, statistics, answer, window)
            if found is not None:
                return replace(found, took_ms=took, windows=windows if found.windows else 0)
            if window == MAX_RESULTS:
                found = self._search_exhaustively(FALLBACK, query, statistics)
                means = "too many near-ties for a proof, so all matching pictures were scored"
                took_ms = took + found.took_ms
                return replace(found, means=means, took_ms=took_ms, windows=windows)
            window, windows = min(_WIDER * window, MAX_RESULTS), windows + 1

    def _may_vanish(self, query: Query) -> bool:
        """Whether a document may share a synset with the query and yet score 0."""
        clauses = vanishing(query.terms)
        if not clauses:
            return False
        found = self._request(size=0, track_total_hits=1, query=bool_query(should=clauses))
        return bool(found["hits"]["total"]["value"])

    def _search_exhaustively(
        self, strategy: Exhaustive, query: Query, statistics: Statistics
    ) -> SearchResult:
        answer = self._ask(strategy.body(query, statistics.average_length))
        return read_exhaustive(strategy, query, statistics, answer)

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._request(body=by_doc_values(body, self._connection[1])).body
        if not is_complete(answer):
            answer = self._request(body=body).body
        self._check_index([answer])
        return dict(answer)

    def pages(self, query: Query) -> Iterator[SearchResult]:
        """Read on from page to page, at one point in time."""
        self._check(query)
        ((query, statistics),) = weighted_all(self, [query])
        with translated(self._address):
            # By the index's own name, not the alias: the query was made for this index.
            yield from paging.pages(self.client, self._index, query, statistics)

    def beside(self) -> ElasticStore:
        """The index with the next number, ``<name>-000002``, which no alias leads to yet.

        One that was begun with other options than these is deleted.
        """
        known_index = self._known_index()
        new = copy(self)
        new._name = new._index = rebuilding.next_name(known_index, self.location)
        new.location = f"{self._address.server}/{new._name}"
        new._aliases, new._settings = {}, None
        with translated(self._address):
            present = rebuilding.layout_of(self.client, known_index)
        new._layout = present.changed_by(self._layout)
        new._wanted = self._wanted or self._neighbors
        if new.stored_settings() is not None:
            with translated(self._address):
                begun = rebuilding.layout_of(self.client, new._index)
            if new._layout.shards not in (None, begun.shards) or new._neighbors != new._wanted:
                new.delete()
        return new

    def delete(self) -> None:
        """Delete the index and its aliases."""
        index = self._find_index()
        if index is not None:
            with translated(self._address):
                self.client.indices.delete(index=index)
        self._settings = None

    def mark(self) -> str:
        """The numbers of the shards' last operations."""
        with translated(self._address):
            return rebuilding.mark(self.client, self._known_index())

    def replace(self, new: ElasticStore, mark: str, *, keep: bool) -> bool:
        """Let the alias lead to the new index; writing to this one is blocked before."""
        with translated(self._address):
            done = rebuilding.swap(
                self.client, self._name, self._known_index(), new._index, mark, keep=keep
            )
        if done:
            self._settings = None
        return done

    def mend(self) -> None:
        """Nothing: Elasticsearch keeps nothing that is of no document."""


def _why(answer: Mapping[str, Any]) -> str:
    """The server's reason for refusing one document; it may quote the whole document."""
    error = answer.get("error", {})
    if not isinstance(error, Mapping):
        return str(error)[:_LONGEST_REASON]
    cause = error.get("caused_by", {}).get("reason")
    texts = [
        str(text)[:_LONGEST_REASON] for text in (error.get("reason", "refused"), cause) if text
    ]
    return ": ".join(texts)
