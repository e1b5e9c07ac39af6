"""What an index on Elasticsearch holds: documents by id, content and place, and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, TypeVar

import elasticsearch
from elasticsearch import helpers

from imgsearch_es.errors import QueryError, StoreError
from imgsearch_es.retrieval import facets
from imgsearch_es.retrieval.conditions import CASELESS, METADATA, Filter
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import FacetCount, Facets
from imgsearch_es.retrieval.queries import Query, Selection, counted
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.spans import ZOOM
from imgsearch_es.stores.base import SAME, Known, known_settings
from imgsearch_es.stores.elastic import fetching, inspecting, waiting
from imgsearch_es.stores.elastic.aliased import AliasedIndex
from imgsearch_es.stores.elastic.clauses import matching, orders_metadata
from imgsearch_es.stores.elastic.connection import reason_of, translated
from imgsearch_es.stores.inspecting import Harm, Inspected

S = TypeVar("S", bound=Selection)
_LONGEST_PREFIX = 1000
"""Of a prefix query: the server's index.max_regex_length."""
_FOLDER = (
    "String uri = doc['uri'].value; int end = uri.lastIndexOf('/'); int of = uri.indexOf('::'); "
    "if (of > 0 && uri.startsWith('tar://')) { return uri.substring(of + 2) } "
    "return end > 0 ? uri.substring(0, end) : null"
)
"""The folder or tar file of a picture, in Painless."""
_SCRIPTED = {"script_score": {"query": {"match_all": {}}, "script": {"source": "1"}}}
_SCANNED, _KEEP_ALIVE = 500, "10m"
"""Documents in one answer of a scan, and how long the server keeps its view between two."""


class Reading(AliasedIndex):
    """An index that is read."""

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        with translated(self._address):
            return {hit["_id"]: fetching.whole_document_of(hit) for hit in self._of_ids(ids)}

    def _in_full(self, body: Mapping[str, Any]) -> dict[str, Any]:
        settings = self.stored_settings()
        if settings is not None and not settings.embedding_dimensions:  # needs no script for it
            body = {name: value for name, value in body.items() if name != "fields"}
        return fetching.in_full(body, self._connection[1], lean=self._is_lean)

    def _of_ids(self, ids: Sequence[str], **more: Any) -> Iterator[dict[str, Any]]:
        for part in waiting.parts(ids):
            body = {"query": {"ids": {"values": part}}, "size": len(part), **fetching.WHOLE, **more}
            yield from self._request(body=self._in_full(body))["hits"]["hits"]

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """As written, whether the server has refreshed the index or not."""
        fields = ["sha256", "label", "metadata", "text"]
        if self.stored_settings() is not None and self._is_lean:
            with translated(self._address):  # by hits, after a refresh if any of these is there
                there = [k for k, _ in waiting.sources_by_id(self.client, self._name, ids, False)]
                if there:
                    self.client.indices.refresh(index=self._name)
                found = map(fetching.document_of, self._of_ids(there))
                return {d.id: Known(d.sha256, d.labels, d.metadata, d.text) for d in found}
        with translated(self._address):
            found_there = waiting.sources_by_id(self.client, self._name, ids, fields)
            return {key: Known.readable(*map(source.get, fields)) for key, source in found_there}

    def by_content(self, hashes: Sequence[str]) -> dict[str, dict[str, str]]:
        first = {"size": SAME, "sort": [{"id": "asc"}], "docvalue_fields": ["uri"]}
        copies = {"first": {"top_hits": {**first, "_source": False}}}
        found: dict[str, dict[str, str]] = {}
        with translated(self._address):
            for part in waiting.parts(list(dict.fromkeys(hashes))):
                by_hash = {"terms": {"field": "sha256", "size": len(part)}, "aggs": copies}
                query = {"terms": {"sha256": part}}
                answer = self._request(query=query, aggs={"same": by_hash}, size=0)
                for bucket in answer["aggregations"]["same"]["buckets"]:
                    hits = bucket["first"]["hits"]["hits"]
                    found[bucket["key"]] = {hit["_id"]: hit["fields"]["uri"][0] for hit in hits}
        return found

    def below(self, prefix: str) -> list[tuple[str, str]]:
        start = prefix[:_LONGEST_PREFIX]
        body = {"query": {"prefix": {"uri": {"value": start}}}, "docvalue_fields": ["uri"]}
        with translated(self._address):
            found = ((hit["_id"], hit["fields"]["uri"][0]) for hit in self._scan(body))
            return sorted((item for item in found if item[1].startswith(prefix)), key=itemgetter(1))

    def matching(self, query: Query) -> list[str]:
        body = {"query": matching(counted(self._of_fields(query)))}
        with translated(self._address):
            return sorted(hit["_id"] for hit in self._scan(body))

    def count(self, query: Query | None = None) -> int:
        body: dict[str, Any] = {"size": 0, "track_total_hits": True}
        if query is not None:
            body["query"] = matching(counted(self._of_fields(query)))
        with translated(self._address):  # not by _count, which leaves out shards that are not there
            return int(self._request(body=body)["hits"]["total"]["value"])

    def stats(self) -> dict[str, Any]:
        client, version = self._connection
        with translated(self._address):
            indices = client.indices.stats(index=self._name, metric=["docs", "store"])
            counted = self.facets(Selection(), ["synsets", "label"], 10)
            means = self._mean_scores([found["value"] for found in counted["synsets"]])
        primaries = indices["_all"]["primaries"]
        return {
            "store": "elasticsearch",
            "layout": self.layout,
            "location": self.location,
            "server": f"{version[0]}.{version[1]}",
            "documents": self.count(),
            "bytes": primaries["store"]["size_in_bytes"],
            "synsets": [
                {"synset": key, "documents": number, "mean_score": means[key]}
                for key, number in map(itemgetter("value", "count"), counted["synsets"])
            ],
            "labels": [
                {"label": found["value"], "documents": found["count"]} for found in counted["label"]
            ],
        }

    def _of_fields(self, query: S) -> S:
        """A query that knows whether the index has a field for each synset."""
        settings = self.stored_settings()
        if settings is not None and "ordered" in self._lacks and orders_metadata(query):
            raise QueryError(
                f"{self.location} was made before metadata was compared as numbers and dates: "
                "`imgsearch reindex` adds that"
            )
        return replace(query, synset_fields=settings is None or settings.synset_fields)

    def _mean_scores(self, keys: Sequence[str]) -> dict[str, float | None]:
        if not keys or not known_settings(self).synset_fields:
            return dict.fromkeys(keys)
        aggregations = {
            str(i): {"avg": {"field": f"synset.{key}.score"}} for i, key in enumerate(keys)
        }
        answer = self._request(size=0, aggs=aggregations)
        return {key: answer["aggregations"][str(i)]["value"] for i, key in enumerate(keys)}

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents, and the mean length by a request of its own.

        That reads every document, but the server keeps the answer until the index changes.
        """
        counted = {"include": list(keys), "size": len(keys)}
        fields = ("synsets", "colors")
        terms = {field: {"terms": {"field": field, **counted}} for field in fields}
        lengths = {"length": {"avg": {"field": "length"}}}
        with translated(self._address):
            answer = self._request(size=0, track_total_hits=True, aggs=terms)
            mean = self._request(size=0, aggs=lengths)["aggregations"]["length"]["value"]
        buckets = [each for f in fields for each in answer["aggregations"][f]["buckets"]]
        return Statistics(
            answer["hits"]["total"]["value"],
            to_score(mean or 0.0),
            {bucket["key"]: bucket["doc_count"] for bucket in buckets},
        )

    def sample(self, size: int) -> list[Document]:
        known_settings(self)
        with translated(self._address):
            answer = self._request(size=size, sort=[{"id": "asc"}], source=False)
        ids = [hit["_id"] for hit in answer["hits"]["hits"]]
        found = self.get(ids)
        return [found[key] for key in ids if key in found]

    def features(self) -> dict[str, str]:
        _, version = self._connection
        found = {
            "store": f"Elasticsearch {version[0]}.{version[1]} at {self._address.server}, "
            f"client {'.'.join(map(str, elasticsearch.__version__))}",
            "sparse_vector": "yes",
        }
        with translated(self._address):
            try:  # a module that is there may be forbidden; without an index nobody is asked
                asked = self._request(query=_SCRIPTED, size=0, ignore_unavailable=True)
                found |= {"painless scripts": "yes"} if asked["_shards"]["total"] else {}
            except elasticsearch.BadRequestError as error:
                found["painless scripts"] = f"no, what needs them does not work: {reason_of(error)}"
        return found

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        """Count by aggregations; where shards cut a list short, by all values of that field.

        Fields go by their number, because the server forbids some characters in a name. A shard
        counts its MAX_VALUES most frequent values, so that several shards agree on the best
        ``size``; answers tell where that was not enough.
        """
        query = self._of_fields(query)
        if not fields:
            return {}
        wanted = {str(i): _aggregation(field, size) for i, field in enumerate(fields)}
        body = {"query": matching(counted(query)), "size": 0, "aggs": wanted}
        with translated(self._address):
            answer = self._request(body=body)["aggregations"]
            return {
                field: self._counted(query, field, answer[str(i)], size)
                for i, field in enumerate(fields)
            }

    def _counted(
        self, query: Selection, field: str, found: Mapping[str, Any], size: int
    ) -> list[FacetCount]:
        name = "key_as_string" if field in facets.PERIODS else "key"
        counts = [(bucket[name], bucket["doc_count"]) for bucket in found["buckets"]]
        if field in facets.PERIODS:
            return facets.by_time(counts)
        if field in facets.BOUNDS:
            return facets.not_empty(counts)
        if field in CASELESS:
            all_values = self._all_values(query, field) if found["sum_other_doc_count"] else counts
            return facets.most_frequent(self._without_case(query, field, all_values), size)
        if field == facets.PLACE or not found["doc_count_error_upper_bound"]:
            return facets.most_frequent(counts, size)
        # Composite aggregations do not count metadata right, and have no fields for folders.
        if field == facets.ALBUM or field.startswith(METADATA):
            raise StoreError(
                f"{self.location} has more than {facets.MAX_VALUES:,} values of {field} on several "
                "shards, which cannot be counted exactly: narrow them by where="
            )
        return facets.most_frequent(self._all_values(query, field), size)

    def _without_case(
        self, query: Selection, field: str, counts: Iterable[tuple[str, int]]
    ) -> Iterator[tuple[str, int]]:
        """Of keywords a picture may have several spellings: such pictures are counted again."""
        spelled = facets.spellings(counts)
        several = [small for small, ways in spelled.items() if len(ways) > 1]
        together: dict[str, int] = {}
        for part in waiting.parts(several if field == "keywords" else ()):
            ways = [{"terms": {field: list(spelled[small])}} for small in part]
            aggregation = {"all": {"filters": {"filters": ways}}}
            body = {"query": matching(counted(query)), "size": 0, "aggs": aggregation}
            buckets = self._request(body=body)["aggregations"]["all"]["buckets"]
            together |= zip(part, (bucket["doc_count"] for bucket in buckets), strict=True)
        return facets.without_case(spelled, together)

    def _all_values(self, query: Selection, field: str) -> Iterator[tuple[str, int]]:
        sources = [{"value": {"terms": {"field": field}}}]
        composite: dict[str, Any] = {"sources": sources, "size": facets.MAX_VALUES}
        body = {"query": matching(counted(query)), "size": 0}
        while composite.get("after", {}) is not None:
            found = self._request(body={**body, "aggs": {"all": {"composite": composite}}})
            for bucket in found["aggregations"]["all"]["buckets"]:
                yield bucket["key"]["value"], bucket["doc_count"]
            composite["after"] = found["aggregations"]["all"].get("after_key")

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        known_settings(self)
        body = self._in_full(fetching.WHOLE) if embeddings else {}
        vectors = (item for item in body.get("docvalue_fields", ()) if item != fetching.HIT)
        body["docvalue_fields"] = ["sha256", *vectors]
        with translated(self._address):
            for hit in self._scan(body, size=_SCANNED):
                with fetching.reading(hit):
                    (sha256,), vector = hit["fields"]["sha256"], fetching.embedding_of(hit)
                yield Fingerprint(hit["_id"], sha256, vector)

    def _scan(self, body: dict[str, Any], **options: Any) -> Iterable[dict[str, Any]]:
        """All hits, without sources."""
        body = {**body, "_source": False}
        return helpers.scan(
            self.client, query=body, index=self._name, **fetching.WHOLE_INDEX, **options
        )

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        with translated(self._address):
            hits = self._hits(filters, self._in_full(fetching.WHOLE))
            yield from map(fetching.whole_document_of, hits)

    def glance(self) -> list[Harm]:
        settings = known_settings(self)
        with translated(self._address):
            return inspecting.glance(
                self.client, self._name, settings, self._impacts, lean=self._is_lean
            )

    def inspect(self) -> Iterator[Inspected]:
        settings = known_settings(self)
        wanted = fetching.WHOLE if settings.embedding_dimensions else fetching.SOURCE
        asked = inspecting.body(wanted, self._connection[1], lean=self._is_lean)
        with translated(self._address):
            for hit in self._hits((), asked):
                found = inspecting.inspect_hit(
                    hit, settings, self._impacts, lean=self._is_lean, lacks=self._lacks
                )
                yield replace(found, was=(hit["_seq_no"], hit["_primary_term"]))

    def _hits(
        self, filters: Sequence[Filter], asked: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        self.client.indices.refresh(index=self._name)
        wanted = matching(self._of_fields(Selection(filters=tuple(filters))))
        body = {"query": wanted, "size": _SCANNED, "sort": ["_shard_doc"], **asked}
        body["track_total_hits"] = False

        def search(body: dict[str, Any]) -> dict[str, Any]:
            return dict(self.client.search(body=body, **fetching.WHOLE_INDEX).body)

        for answer in fetching.all_answers(self.client, self._name, body, _KEEP_ALIVE, search):
            yield from answer["hits"]["hits"]


def _aggregation(field: str, size: int) -> dict[str, Any]:
    if field in facets.PERIODS:
        shown = {facets.YEAR: "yyyy", facets.MONTH: "yyyy-MM"}[field]
        periods = {"calendar_interval": field, "format": shown, "min_doc_count": 1}
        return {"date_histogram": {"field": "taken_at", **periods}}
    if field == facets.PLACE:
        grid = {"field": facets.PLACE, "precision": ZOOM, "size": facets.MAX_VALUES}
        return {"geotile_grid": grid}
    if field not in facets.BOUNDS:
        order = [{"_count": "desc"}, {"_key": "asc"}]
        of = {"script": _FOLDER} if field == facets.ALBUM else {"field": field}
        size = facets.MAX_VALUES if field in CASELESS else size
        terms = {**of, "size": size, "shard_size": facets.MAX_VALUES, "order": order}
        return {"terms": terms}
    limits = [
        {"key": item.value, "from": item.low, "to": item.high} for item in facets.ranges(field)
    ]
    given = [{k: v for k, v in limit.items() if v is not None} for limit in limits]
    return {"range": {"field": field, "ranges": given}}
