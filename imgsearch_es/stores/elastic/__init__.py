"""The Elasticsearch store: an index behind an alias, on a server of 8.15 or newer."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import elasticsearch
import numpy as np
from elasticsearch import Elasticsearch, helpers

from imgsearch_es.conditions import Filter
from imgsearch_es.documents import SCHEMA_VERSION, Document
from imgsearch_es.duplicates import Fingerprint
from imgsearch_es.errors import IndexRebuiltError, SchemaError, StoreError
from imgsearch_es.facets import Facets, most_frequent
from imgsearch_es.queries import MAX_RESULTS, Query
from imgsearch_es.scoring import Statistics
from imgsearch_es.stores.base import (
    IndexSettings,
    Known,
    SearchResult,
    WriteReport,
    check_dimensions,
    known_settings,
    weighted_all,
)
from imgsearch_es.stores.elastic import counting, rebuilding, scanning
from imgsearch_es.stores.elastic.answers import batches, first_body, read, read_exhaustive
from imgsearch_es.stores.elastic.connection import (
    connect,
    is_missing_index,
    parse_address,
    translated,
)
from imgsearch_es.stores.elastic.mapping import Layout, Version, index_body
from imgsearch_es.stores.elastic.strategies import (
    FALLBACK,
    Exhaustive,
    first_window,
    get_strategy,
    matching_body,
)

_RETRIES = 5
_LONGEST_PREFIX = 1000
"""Of a prefix query: the server's index.max_regex_length."""
_BULK_BYTES = 20 * 1024**2
_WIDER = 5
"""By how much the window grows when it did not prove the answer."""
_SCANNED = 500
"""Vectors in one answer of a scan."""
_TRUSTED_SECONDS = 1.0
"""How long the alias is taken to lead where it did. Within this time answers tell by themselves."""


class ElasticStore:
    """An index on Elasticsearch.

    Args:
        location: ``http(s)://[user:password@]host:port/index``.
        shards, replicas: of an index that is created; by default 1 and 0.
        expected_pictures: how many it will hold at the end, from which ``shards`` follows.
        refresh_interval: how soon written documents are found by others, such as "30s".
        lifecycle: the name of an index lifecycle policy; see docs/scaling.md.
        credentials: ``api_key``, ``username``, ``password``, ``ca_certs``, ``verify_certs``,
            ``timeout``: see ``parse_address``, which also reads them from the environment.
    """

    def __init__(
        self,
        location: str,
        *,
        shards: int | None = None,
        replicas: int | None = None,
        expected_pictures: int | None = None,
        refresh_interval: str | None = None,
        lifecycle: str | None = None,
        **credentials: Any,
    ) -> None:
        self._address = parse_address(os.fspath(location), **credentials)
        self.location = str(self._address)
        self._name = self._address.index
        self._layout = Layout(shards, replicas, expected_pictures, refresh_interval, lifecycle)
        self._index = f"{self._name}-000001"
        """The index behind the alias."""
        self._aliases: dict[str, Any] = {self._name: {"is_write_index": True}}
        """What shall lead to the index, once it is created."""
        self._settings: IndexSettings | None = None
        self._written_as = self._name
        """What documents are written to: an alias of this very index, and of none that replaces it.
        Documents of another analyzer cannot get into an index that was rebuilt meanwhile."""
        self._looked_at = 0.0

    @cached_property
    def _connection(self) -> tuple[Elasticsearch, Version]:
        return connect(self._address)

    @property
    def client(self) -> Elasticsearch:
        """The connected client, for what this library does not do."""
        return self._connection[0]

    def settings(self) -> IndexSettings | None:
        """What the index remembers; None when there is no index yet."""
        settings = self.stored_settings()
        if settings is not None and settings.schema_version != SCHEMA_VERSION:
            raise SchemaError(
                f"{self.location} has the schema {settings.schema_version} of an older version; "
                "`imgsearch reindex` brings it up to date"
            )
        return settings

    def stored_settings(self) -> IndexSettings | None:
        """What the index remembers, although an older version may have written it."""
        if self._settings is None:
            client = self.client
            with translated(self._address):
                if not client.indices.exists(index=self._name):
                    return None
                found = client.indices.get(index=self._name, features=["aliases", "mappings"])
            self._remember(dict(found))
        return self._settings

    def renew(self) -> None:
        """Forget the settings when the alias leads to another index now; asks once a second."""
        if self._settings is None or time.monotonic() < self._looked_at + _TRUSTED_SECONDS:
            return
        if self._find_index() != self._index:
            self._settings = None
        self._looked_at = time.monotonic()

    def _find_index(self) -> str | None:
        with translated(self._address):
            found = self.client.indices.get_alias(index=self._name, ignore_unavailable=True)
        return next(iter(found.keys()), None)

    def _remember(self, found: Mapping[str, Any]) -> None:
        ((index, facts),) = found.items() if len(found) == 1 else (("", {}),)
        data = facts.get("mappings", {}).get("_meta", {}).get("imgsearch_es")
        if data is None:
            raise SchemaError(
                f"{self.location} exists, but imgsearch did not make it; choose another name"
            )
        if data["schema_version"] > SCHEMA_VERSION:
            raise SchemaError(
                f"{self.location} was written by a newer imgsearch-es (schema "
                f"{data['schema_version']}, this one knows {SCHEMA_VERSION}): upgrade this "
                "installation"
            )
        own = rebuilding.own_alias(index)
        self._written_as = own if own in facts["aliases"] else self._name
        self._index, self._looked_at = index, time.monotonic()
        self._settings = IndexSettings.from_dict(data)

    def create(self, settings: IndexSettings) -> None:
        """Create ``<name>-000001`` with the explicit mapping, and the alias ``<name>`` on it."""
        client, version = self._connection
        body = index_body(settings, version, self._layout)
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
        self._settings, self._looked_at = settings, time.monotonic()

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add or replace documents in bulk; a refused document does not stop the others."""
        vocabulary = known_settings(self).vocabulary
        uris = {document.id: document.uri for document in documents}
        report = WriteReport()

        def actions() -> Iterator[dict[str, Any]]:
            for document in documents:
                yield {"_id": document.id, "_source": document.to_source(vocabulary)}

        with translated(self._address):
            outcomes = helpers.streaming_bulk(
                self.client,
                actions(),
                index=self._written_as,
                max_retries=_RETRIES,
                initial_backoff=0.5,
                max_backoff=30,
                max_chunk_bytes=_BULK_BYTES,
                raise_on_error=False,
                require_alias=True,
            )
            for stored, outcome in outcomes:
                answer = outcome["index"]
                if stored:
                    report.stored += 1
                elif is_missing_index(answer):
                    self._settings = None
                    raise self._rebuilt()
                else:
                    report.rejected.append((uris[answer["_id"]], _why(answer)))
        return report

    def finish(self) -> None:
        """Make everything written searchable."""
        with translated(self._address):
            self.client.indices.refresh(index=self._name)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents by id; they are gone from searches at once."""
        removed = 0
        actions = ({"_op_type": "delete", "_id": item} for item in ids)
        with translated(self._address):
            for done, _ in helpers.streaming_bulk(
                self.client,
                actions,
                index=self._name,
                max_retries=_RETRIES,
                raise_on_error=False,
            ):
                removed += done
            self.client.indices.refresh(index=self._name)
        return removed

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The stored documents of these ids, with their embeddings."""
        client, version = self._connection
        source = scanning.source_of_document(version)
        found: dict[str, Document] = {}
        with translated(self._address):
            for part in _parts(ids, 1000):
                answer = client.search(
                    index=self._name, query={"ids": {"values": part}}, size=len(part), source=source
                )
                for hit in answer["hits"]["hits"]:
                    found[hit["_id"]] = Document.from_source(hit["_source"])
        return found

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Hash, labels and metadata of the stored ones of these ids, refreshed or not."""
        fields = ["sha256", "label", "metadata"]
        found: dict[str, Known] = {}
        with translated(self._address):
            for part in _parts(ids, 1000):
                answer = self.client.mget(index=self._name, ids=part, source_includes=fields)
                for item in answer["docs"]:
                    if item.get("found"):
                        source = item["_source"]
                        labels, metadata = tuple(source["label"]), source["metadata"]
                        found[item["_id"]] = Known(source["sha256"], labels, metadata)
        return found

    def below(self, prefix: str) -> list[tuple[str, str]]:
        """(id, uri) of the documents below a folder."""
        start = prefix[:_LONGEST_PREFIX]
        body = {"query": {"prefix": {"uri": {"value": start}}}, "_source": ["uri"]}
        with translated(self._address):
            hits = helpers.scan(self.client, query=body, index=self._name)
            found = ((hit["_id"], hit["_source"]["uri"]) for hit in hits)
            return sorted((item for item in found if item[1].startswith(prefix)), key=itemgetter(1))

    def matching(self, query: Query) -> list[str]:
        """The ids of all documents that score above 0."""
        with translated(self._address):
            hits = helpers.scan(
                self.client, query=matching_body(query), index=self._name, _source=False
            )
            return sorted(hit["_id"] for hit in hits)

    def count(self) -> int:
        """How many documents there are."""
        with translated(self._address):
            return int(self.client.count(index=self._name)["count"])

    def stats(self) -> dict[str, Any]:
        """Figures of the index."""
        client, version = self._connection
        with translated(self._address):
            indices = client.indices.stats(index=self._name, metric=["docs", "store"])
            answer = client.search(
                index=self._name,
                size=0,
                aggs={
                    "synsets": {"terms": {"field": "synsets", "size": 10}},
                    "labels": {"terms": {"field": "label", "size": 10}},
                },
            )
            synsets = answer["aggregations"]["synsets"]["buckets"]
            means = self._mean_scores([bucket["key"] for bucket in synsets])
        primaries = indices["_all"]["primaries"]
        return {
            "store": "elasticsearch",
            "location": self.location,
            "server": f"{version[0]}.{version[1]}",
            "documents": self.count(),
            "bytes": primaries["store"]["size_in_bytes"],
            "synsets": [
                {"synset": b["key"], "documents": b["doc_count"], "mean_score": means[b["key"]]}
                for b in synsets
            ],
            "labels": [
                {"label": b["key"], "documents": b["doc_count"]}
                for b in answer["aggregations"]["labels"]["buckets"]
            ],
        }

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents; the server keeps them until the index changes."""
        with translated(self._address):
            answer = self.client.search(
                index=self._name,
                size=0,
                track_total_hits=True,
                aggs={
                    "length": {"avg": {"field": "length"}},
                    "synsets": {
                        "terms": {"field": "synsets", "include": list(keys), "size": len(keys)}
                    },
                },
            )
        found = answer["aggregations"]
        return Statistics(
            answer["hits"]["total"]["value"],
            found["length"]["value"] or 0.0,
            {b["key"]: b["doc_count"] for b in found["synsets"]["buckets"]},
        )

    def features(self) -> dict[str, str]:
        """The server's version, and what of it we use that some builds lack."""
        client, version = self._connection
        with translated(self._address):
            nodes = client.nodes.info(metric=["plugins"])["nodes"]
        modules = {module["name"] for node in nodes.values() for module in node.get("modules", ())}
        scripts = "yes" if "lang-painless" in modules else "no: the strategies script* do not work"
        return {
            "store": f"Elasticsearch {version[0]}.{version[1]} at {self._address.server}, "
            f"client {'.'.join(map(str, elasticsearch.__version__))}",
            "sparse_vector": "yes",
            "painless scripts": scripts,
        }

    def _mean_scores(self, keys: Sequence[str]) -> dict[str, float]:
        if not keys:
            return {}
        aggregations = {
            str(i): {"avg": {"field": f"synset.{key}.score"}} for i, key in enumerate(keys)
        }
        answer = self.client.search(index=self._name, size=0, aggs=aggregations)
        return {key: answer["aggregations"][str(i)]["value"] for i, key in enumerate(keys)}

    def search(self, query: Query) -> SearchResult:
        """Rank in the way that the query's strategy says."""
        self._check(query)
        ((query, statistics),) = weighted_all(self, [query])
        with translated(self._address):
            return self._search(query, statistics)

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """Rank for many queries in one request; those whose first window proves nothing again."""
        for query in queries:
            self._check(query)
        results: list[SearchResult] = []
        for part in batches(weighted_all(self, queries)):
            searches: list[dict[str, Any]] = []
            for query, statistics in part:
                searches += [{}, first_body(query, statistics)]
            with translated(self._address):
                answers = self.client.msearch(index=self._name, searches=searches)["responses"]
                for (query, statistics), answer in zip(part, answers, strict=True):
                    found = None if "error" in answer else read(query, statistics, answer)
                    results.append(found or self._search(query, statistics))
                self._check_index(answer)
        return results

    def _check_index(self, answer: Mapping[str, Any]) -> None:
        """The query was made for the index that answered, and not for the one before it."""
        hits = answer.get("hits", {}).get("hits")
        if (hits[0]["_index"] if hits else self._find_index()) != self._index:
            self._settings = None
            raise self._rebuilt()

    def _rebuilt(self) -> IndexRebuiltError:
        return IndexRebuiltError(f"{self.location} was rebuilt since it was opened; try again")

    def _check(self, query: Query) -> None:
        settings = known_settings(self)
        if query.is_dense:
            check_dimensions(settings, query)

    def _search(self, query: Query, statistics: Statistics) -> SearchResult:
        """Answer a query that is weighted already, with as many requests as it takes."""
        strategy = None if query.is_dense else get_strategy(query.strategy)
        if isinstance(strategy, Exhaustive):
            return self._search_exhaustively(strategy, query, statistics)
        window, took = first_window(query), 0
        while True:
            answer = self.client.search(
                index=self._name, body=first_body(query, statistics, window)
            )
            took += answer["took"]
            self._check_index(answer.body)
            found = read(query, statistics, answer.body, window)
            if found is not None:
                return replace(found, took_ms=took)
            if window == MAX_RESULTS:
                found = self._search_exhaustively(FALLBACK, query, statistics)
                means = "too many near-ties for a proof, so all matching pictures were scored"
                return replace(found, means=means, took_ms=took + found.took_ms)
            window = min(_WIDER * window, MAX_RESULTS)

    def _search_exhaustively(
        self, strategy: Exhaustive, query: Query, statistics: Statistics
    ) -> SearchResult:
        body = strategy.body(query, statistics.average_length)
        answer = self.client.search(index=self._name, body=body)
        self._check_index(answer.body)
        return read_exhaustive(strategy, query, statistics, answer.body)

    def facets(self, query: Query | None, fields: Sequence[str], size: int) -> Facets:
        """Count by aggregations; where shards cut a list short, by all values of that field."""
        known_settings(self)
        if not fields:
            return {}
        with translated(self._address):
            body = counting.facets_body(query, fields, size)
            answer = self.client.search(index=self._name, body=body)["aggregations"]
            counted = counting.read_facets(answer, fields, size)
            for field in counting.uncertain(answer, fields):
                counted[field] = most_frequent(self._all_values(query, field), size)
        return counted

    def _all_values(self, query: Query | None, field: str) -> Iterator[tuple[str, int]]:
        after = None
        while True:
            body = counting.all_values_body(query, field, after)
            found = self.client.search(index=self._name, body=body)["aggregations"]["all"]
            yield from ((bucket["key"][field], bucket["doc_count"]) for bucket in found["buckets"])
            after = found.get("after_key")
            if after is None:
                return

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        """Hash and deep feature of every document, by a scroll."""
        known_settings(self)
        client, version = self._connection
        source: dict[str, Any] = {"includes": ["sha256", *["embedding"] * embeddings]}
        if version >= (9, 1):
            source["exclude_vectors"] = not embeddings
        with translated(self._address):
            for hit in helpers.scan(
                client, query={"_source": source}, index=self._name, size=_SCANNED
            ):
                vector = hit["_source"].get("embedding")
                yield Fingerprint(
                    hit["_id"],
                    hit["_source"]["sha256"],
                    None if vector is None else np.asarray(vector, dtype=np.float32),
                )

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        """Every document that meets conditions, as the index is when the first is asked for."""
        client, version = self._connection
        with translated(self._address):
            yield from scanning.documents(client, version, self._name, filters)

    def beside(self) -> ElasticStore:
        """The index with the next number, ``<name>-000002``, which no alias leads to yet."""
        known_index = self._known_index()
        new = copy(self)
        new._name = new._index = rebuilding.next_name(known_index, self.location)
        new.location = f"{self._address.server}/{new._name}"
        new._aliases, new._settings = {}, None
        with translated(self._address):
            present = rebuilding.layout_of(self.client, known_index)
        new._layout = present.changed_by(self._layout)
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

    def _known_index(self) -> str:
        if self.stored_settings() is None:
            known_settings(self)  # raises
        return self._index

    def close(self) -> None:
        """Close the connections."""
        if "_connection" in self.__dict__:
            self.client.close()
            del self.__dict__["_connection"]


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


def _why(answer: Mapping[str, Any]) -> str:
    """The server's reason for refusing one document."""
    error = answer.get("error", {})
    if not isinstance(error, Mapping):
        return str(error)
    cause = error.get("caused_by", {}).get("reason")
    return f"{error.get('reason', 'refused')}" + (f": {cause}" if cause else "")
