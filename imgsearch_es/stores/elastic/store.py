"""The Elasticsearch store: an index behind an alias, on a server of 8.15 or newer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import Any

import elasticsearch
from elastic_transport import ObjectApiResponse
from elasticsearch import Elasticsearch, helpers

from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    IndexRebuiltError,
    SchemaError,
    StoreError,
)
from imgsearch_es.retrieval.conditions import METADATA, Filter
from imgsearch_es.retrieval.dense import direction
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document, to_score
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import MAX_VALUES, Facets, most_frequent
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.storable import storable
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import (
    IndexSettings,
    Known,
    SearchResult,
    WriteReport,
    check_dimensions,
    known_settings,
    weighted_all,
)
from imgsearch_es.stores.elastic import (
    counting,
    inspecting,
    paging,
    rebuilding,
    scanning,
    waiting,
)
from imgsearch_es.stores.elastic.answers import batches, first_body, read, read_exhaustive
from imgsearch_es.stores.elastic.connection import (
    connect,
    is_missing_index,
    parse_address,
    translated,
)
from imgsearch_es.stores.elastic.fetching import (
    WHOLE,
    WHOLE_INDEX,
    by_doc_values,
    embedding_of,
    is_complete,
    sent_vector,
    whole_document_of,
)
from imgsearch_es.stores.elastic.ledger import ElasticLedger
from imgsearch_es.stores.elastic.mapping import CHECKSUM, Layout, index_body
from imgsearch_es.stores.elastic.neighbors import Neighbors, Version, wanted_neighbors
from imgsearch_es.stores.elastic.strategies import (
    FALLBACK,
    Exhaustive,
    Impact,
    bool_query,
    first_window,
    get_strategy,
    matching_body,
    vanishing,
)
from imgsearch_es.stores.fusion import search_parts
from imgsearch_es.stores.inspecting import Harm, Inspected
from imgsearch_es.vocabulary.synsets import Vocabulary

_LONGEST_PREFIX = 1000
"""Of a prefix query: the server's index.max_regex_length."""
_SENDERS = 4
"""Bulk requests at once, as elasticsearch-py's parallel_bulk has."""
_LEAST_TOGETHER = 64
"""Documents that are not worth two requests."""
_WIDER = 5
"""By how much the window grows when it did not prove the answer."""
_LONGEST_REASON = 300
"""Characters of the server's reason for refusing a document."""
_NOT_FOUND = 404
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
        vectors: how an index that is created indexes deep features for approximate answers: not
            at all ("none", the default), or as one of ``neighbors.KINDS``, such as "int8_hnsw".
        similarity: by what they are neighbors: "cosine" (the default), "dot" or "euclidean".
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
        vectors: str | None = None,
        similarity: str | None = None,
        **credentials: Any,
    ) -> None:
        self._address = parse_address(os.fspath(location), **credentials)
        self.location = str(self._address)
        self._name = self._address.index
        self._layout = Layout(shards, replicas, expected_pictures, refresh_interval, lifecycle)
        self._wanted = wanted_neighbors(vectors, similarity)
        self._neighbors = Neighbors()
        self.ledger = ElasticLedger(lambda: self.client, self._address, replicas or 0)
        self._index = f"{self._name}-000001"
        """The index behind the alias."""
        self._aliases: dict[str, Any] = {self._name: {"is_write_index": True}}
        """What shall lead to the index, once it is created."""
        self._settings: IndexSettings | None = None
        self._written_as = self._name
        """What documents are written to: an alias of this very index, and of none that replaces it.
        Documents of another analyzer cannot get into an index that was rebuilt meanwhile."""
        self._looked_at = 0.0
        self._has_checksums = True

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
        if settings is not None and self._wanted not in (None, self._neighbors):
            raise ConfigurationError(
                f"{self.location} was made with {self._neighbors}, not with {self._wanted}: leave "
                "these options out, or give them to `imgsearch reindex`, which makes it anew"
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
        self._neighbors = Neighbors.of(facts["mappings"]["properties"])
        self._has_checksums = CHECKSUM.keys() <= facts["mappings"]["properties"].keys()
        self._settings = IndexSettings.from_dict(data)

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

    def _gone(self) -> StoreError:
        """What became of the index that settings were read from."""
        with translated(self._address):
            if self.client.indices.exists(index=self._name):
                return self._rebuilt()
        return IndexNotFoundError(
            f"the index at {self.location} was deleted while it was written; run the command "
            "again to make it anew"
        )

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

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The stored documents of these ids, with their embeddings."""
        found: dict[str, Document] = {}
        with translated(self._address):
            for part in _parts(ids, 1000):
                body = {"query": {"ids": {"values": part}}, "size": len(part), **WHOLE}
                answer = self._request(body=body)
                for hit in answer["hits"]["hits"]:
                    found[hit["_id"]] = whole_document_of(hit)
        return found

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Hash, labels and metadata of the stored ones of these ids, refreshed or not."""
        fields = ["sha256", "label", "metadata"]
        found: dict[str, Known] = {}
        with translated(self._address):
            for part in _parts(ids, 1000):
                for item in waiting.items_by_id(self.client, self._name, part, fields):
                    source = item["_source"]
                    labels, metadata = tuple(source["label"]), source["metadata"]
                    found[item["_id"]] = Known(source["sha256"], labels, metadata)
        return found

    def by_content(self, hashes: Sequence[str]) -> dict[str, str]:
        """The least id of each of these sha256 that a document has, as far as refreshed."""
        found: dict[str, str] = {}
        with translated(self._address):
            for part in _parts(list(dict.fromkeys(hashes)), 1000):
                answer = self._request(
                    query={"terms": {"sha256": part}},
                    collapse={"field": "sha256"},
                    sort=[{"id": "asc"}],
                    size=len(part),
                    source={"includes": ["sha256"]},
                )
                for hit in answer["hits"]["hits"]:
                    found[hit["_source"]["sha256"]] = hit["_id"]
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
        """The ids of all documents that share a synset with the query."""
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
            counted = self.facets(Selection(), ["synsets", "label"], 10)
            means = self._mean_scores([found["value"] for found in counted["synsets"]])
        primaries = indices["_all"]["primaries"]
        return {
            "store": "elasticsearch",
            "location": self.location,
            "server": f"{version[0]}.{version[1]}",
            "documents": self.count(),
            "bytes": primaries["store"]["size_in_bytes"],
            "synsets": [
                {
                    "synset": found["value"],
                    "documents": found["count"],
                    "mean_score": means[found["value"]],
                }
                for found in counted["synsets"]
            ],
            "labels": [
                {"label": found["value"], "documents": found["count"]} for found in counted["label"]
            ],
        }

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents; the server keeps them until the index changes."""
        with translated(self._address):
            answer = self._request(
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
            to_score(found["length"]["value"] or 0.0),
            {b["key"]: b["doc_count"] for b in found["synsets"]["buckets"]},
        )

    def sample(self, size: int) -> list[Document]:
        """The documents with the smallest ids."""
        known_settings(self)
        with translated(self._address):
            answer = self._request(size=size, sort=[{"id": "asc"}], source=False)
        ids = [hit["_id"] for hit in answer["hits"]["hits"]]
        found = self.get(ids)
        return [found[key] for key in ids if key in found]

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
        answer = self._request(size=0, aggs=aggregations)
        return {key: answer["aggregations"][str(i)]["value"] for i, key in enumerate(keys)}

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

    def _check_index(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """The queries were made for the index that answered, and not for the one before it.

        Only hits name their index. Where an answer has none, the alias tells.
        """
        found = [answer.get("hits", {}).get("hits") for answer in answers]
        names = {hits[0]["_index"] for hits in found if hits}
        if not all(found):
            names.add(self._find_index())
        if names != {self._index}:
            raise self._rebuilt()

    def _rebuilt(self) -> IndexRebuiltError:
        self._looked_at = 0.0  # the next ``renew`` shall look
        return IndexRebuiltError(f"{self.location} was rebuilt since it was opened; try again")

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

    def _request(self, **options: Any) -> ObjectApiResponse[Any]:
        """Search all of the index: where a shard cannot answer, nothing is answered."""
        return self.client.search(index=self._name, **WHOLE_INDEX, **options)

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

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        """Count by aggregations; where shards cut a list short, by all values of that field."""
        known_settings(self)
        if not fields:
            return {}
        with translated(self._address):
            body = counting.facets_body(query, fields, size)
            answer = self._request(body=body)["aggregations"]
            counted = counting.read_facets(answer, fields, size)
            for field in counting.uncertain(answer, fields):
                if field.startswith(METADATA):  # composite aggregations do not count these right
                    raise StoreError(
                        f"{self.location} has more than {MAX_VALUES:,} values of {field} on "
                        "several shards, which cannot be counted exactly: narrow them by where="
                    )
                counted[field] = most_frequent(self._all_values(query, field), size)
        return counted

    def _all_values(self, query: Selection, field: str) -> Iterator[tuple[str, int]]:
        after = None
        while True:
            body = counting.all_values_body(query, field, after)
            found = self._request(body=body)["aggregations"]["all"]
            yield from (
                (bucket["key"]["value"], bucket["doc_count"]) for bucket in found["buckets"]
            )
            after = found.get("after_key")
            if after is None:
                return

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        """Hash and deep feature of every document, by a scroll."""
        known_settings(self)
        body = {"_source": ["sha256"], "fields": ["embedding"] if embeddings else []}
        with translated(self._address):
            for hit in helpers.scan(self.client, query=body, index=self._name, size=_SCANNED):
                yield Fingerprint(hit["_id"], hit["_source"]["sha256"], embedding_of(hit))

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        """Every document that meets conditions, as the index is when the first is asked for."""
        with translated(self._address):
            yield from scanning.documents(self.client, self._name, filters)

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

    def _known_index(self) -> str:
        if self.stored_settings() is None:
            known_settings(self)  # raises
        return self._index

    def glance(self) -> list[Harm]:
        """What counts of the posting lists say."""
        keys = known_settings(self).vocabulary.keys
        with translated(self._address):
            return inspecting.glance(self.client, self._name, keys)

    def inspect(self) -> Iterator[Inspected]:
        """Every document as the index is when the first is asked for."""
        settings, asked = known_settings(self), inspecting.body(self._connection[1])
        with translated(self._address):
            for hit in scanning.hits(self.client, self._name, (), asked):
                yield inspecting.inspect_hit(hit, settings)

    def mend(self) -> None:
        """Nothing: Elasticsearch keeps nothing that is of no document."""

    def close(self) -> None:
        """Close the connections."""
        if "_connection" in self.__dict__:
            self.client.close()
            del self.__dict__["_connection"]


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])


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
