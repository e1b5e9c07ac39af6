"""The ledger on Elasticsearch: an index of its own, ``<name>-rejected``, made with its first entry.

An index of its own, because searches, counts and facets must never meet a rejected picture, and
because Kibana then shows it by a data view of that name: when, what, and why (see
docs/decisions). The index is created with the settings of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import elasticsearch
from elasticsearch import Elasticsearch, helpers

from imgsearch_es.errors import StoreError
from imgsearch_es.pictures.files import filename
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.elastic import waiting
from imgsearch_es.stores.elastic.connection import Address, translated

T = TypeVar("T")
_TOGETHER = 1000
_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "uri": {"type": "keyword"},
        "filename": {"type": "keyword"},
        "reason": {"type": "keyword"},
        "rejected_at": {"type": "date"},
        "sha256": {"type": "keyword"},
        "tried_with": {"type": "keyword"},
        "given": {"type": "keyword", "index": False, "doc_values": False},
    },
}


class ElasticLedger:
    """The rejected pictures of an index.

    Args:
        client: gives the connected client.
        address: of the index whose pictures these are.
        replicas: copies of each shard, of an index that is created.
    """

    def __init__(
        self, client: Callable[[], Elasticsearch], address: Address, replicas: int
    ) -> None:
        self._client = client
        self._address = address
        self._replicas = replicas
        self.name = f"{address.index}-rejected"

    def write(self, entries: Sequence[Rejected]) -> None:
        """Note rejected pictures in bulk.

        Raises:
            StoreError: the server refuses one.
        """
        if not entries:
            return
        self._create()
        self._bulk(
            {entry.id: entry for entry in entries},
            lambda entry: {"_id": entry.id, "_source": _source(entry)},
        )

    def read(self, ids: Sequence[str] | None = None) -> list[Rejected]:
        """The entries of these ids, or all; in the order of their URIs."""
        with translated(self._address):
            try:
                found = list(self._all() if ids is None else self._some(ids))
            except elasticsearch.NotFoundError:
                return []
        return sorted(map(_entry, found), key=lambda entry: entry.uri)

    def remove(self, ids: Sequence[str]) -> None:
        """Strike entries out."""
        self._bulk({entry.id: entry.id for entry in self.read(ids)}, waiting.deletion)

    def _create(self) -> None:
        indices = self._client().indices
        with translated(self._address):
            if indices.exists(index=self.name):
                found = indices.get_mapping(index=self.name)
                (mapping,) = found.values() if len(found) == 1 else ({},)
                found_mappings = mapping.get("mappings", {})
                if found_mappings.get("_meta", {}).get("rejected_of"):
                    if "given" not in found_mappings["properties"]:  # made by an older version
                        given = {"given": _MAPPINGS["properties"]["given"]}
                        indices.put_mapping(index=self.name, properties=given)
                    return
                raise StoreError(
                    f"rejected pictures of {self._address} are noted in the index {self.name}, "
                    "but another one has this name: rename it, or index under another name"
                )
            try:
                indices.create(
                    index=self.name,
                    settings={"number_of_replicas": self._replicas},
                    mappings={**_MAPPINGS, "_meta": {"rejected_of": self._address.index}},
                )
            except elasticsearch.BadRequestError as error:
                if error.error != "resource_already_exists_exception":  # another run was faster
                    raise

    def _bulk(self, items: Mapping[str, T], action: Callable[[T], dict[str, Any]]) -> None:
        with translated(self._address):
            answers = waiting.bulk(self._client(), self.name, items, action)
        for answer in answers:
            if "error" in answer:
                reason = answer["error"].get("reason", "refused")
                raise StoreError(f"{self._address}: a rejected picture is not noted: {reason}")

    def _all(self) -> Iterator[dict[str, Any]]:
        self._client().indices.refresh(index=self.name)
        for hit in helpers.scan(self._client(), index=self.name):
            yield hit["_source"]

    def _some(self, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _TOGETHER):
            part = list(ids[start : start + _TOGETHER])
            found = waiting.items_by_id(self._client(), self.name, part)
            yield from (item["_source"] for item in found)


def _source(entry: Rejected) -> dict[str, Any]:
    return {
        "uri": entry.uri,
        "filename": filename(entry.uri),
        "reason": entry.reason,
        "rejected_at": entry.rejected_at.isoformat(),
        "sha256": entry.sha256,
        "tried_with": entry.tried_with,
        "given": entry.given,
    }


def _entry(source: dict[str, Any]) -> Rejected:
    at = datetime.fromisoformat(source["rejected_at"])
    return Rejected(
        source["uri"], source["reason"], at, source["sha256"], source["tried_with"],
        given=source.get("given", ""),
    )  # fmt: skip
