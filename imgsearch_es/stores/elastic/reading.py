"""What an index on Elasticsearch holds: documents by id, content and place, and figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import elasticsearch
from elasticsearch import helpers

from imgsearch_es.errors import StoreError
from imgsearch_es.retrieval.conditions import METADATA, Filter
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import MAX_VALUES, Facets, most_frequent
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import Known, known_settings
from imgsearch_es.stores.elastic import counting, inspecting, scanning, waiting
from imgsearch_es.stores.elastic.aliased import AliasedIndex
from imgsearch_es.stores.elastic.connection import translated
from imgsearch_es.stores.elastic.fetching import WHOLE, embedding_of, whole_document_of
from imgsearch_es.stores.elastic.strategies import matching_body
from imgsearch_es.stores.inspecting import Harm, Inspected

_LONGEST_PREFIX = 1000
"""Of a prefix query: the server's index.max_regex_length."""
_SCANNED = 500
"""Vectors in one answer of a scan."""


class Reading(AliasedIndex):
    """An index that is read."""

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

    def _mean_scores(self, keys: Sequence[str]) -> dict[str, float]:
        if not keys:
            return {}
        aggregations = {
            str(i): {"avg": {"field": f"synset.{key}.score"}} for i, key in enumerate(keys)
        }
        answer = self._request(size=0, aggs=aggregations)
        return {key: answer["aggregations"][str(i)]["value"] for i, key in enumerate(keys)}

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


def _parts(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield list(ids[start : start + size])
