"""The rejected pictures of an index on Elasticsearch.

They are an index of their own, ``<name>-rejected``, made with the first entry. So searches, counts
and facets never meet a rejected picture, and Kibana shows them by a data view of that name
(docs/decisions/007-the-ledger.md).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import elasticsearch
from elasticsearch import Elasticsearch, helpers

from imgsearch_es.errors import StoreError
from imgsearch_es.pictures.files import filename
from imgsearch_es.retrieval.ledger import Ledger, Rejected
from imgsearch_es.stores.elastic import fetching, waiting
from imgsearch_es.stores.elastic.connection import Address, translated
from imgsearch_es.stores.elastic.mapping import UNCHANGED

_FIELDS: dict[str, Any] = {  # 8191 characters fit into Lucene's longest term, as a URL may not
    **{
        name: {"type": "keyword", "ignore_above": 8191}
        for name in ("filename", "uri", "reason", "sha256", "tried_with")
    },
    "rejected_at": {"type": "date"},
    **{
        name: {"type": "keyword", "index": False, "doc_values": False}
        for name in ("given", "checksum")
    },
}
_MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "_source": {"enabled": True},  # whatever a template of the server says
    "properties": _FIELDS,
}


class ElasticLedger(Ledger):
    """The rejected pictures of an index; ``client`` gives the connected client."""

    def __init__(
        self, client: Callable[[], Elasticsearch], address: Address, replicas: int
    ) -> None:
        self._client, self._address, self._replicas = client, address, replicas
        self.name = f"{address.index}-rejected"

    def write(self, entries: Sequence[Rejected]) -> None:
        if not entries:
            return
        names, actions = self._create(), {}
        for entry in entries:
            source = {**entry.to_stored(), "filename": filename(entry.uri)}
            source = {name: value for name, value in source.items() if name in names}
            actions[entry.id] = {"_id": entry.id, "_source": source}
        self._bulk(actions)

    def read(self, ids: Sequence[str] | None = None) -> list[Rejected]:
        client = self._client()
        with translated(self._address):
            if ids is None and not waiting.facts_of(client, self.name):
                return []
            if ids is None:
                client.indices.refresh(index=self.name)
                hits = helpers.scan(client, index=self.name, **fetching.WHOLE_INDEX)
                found = [hit["_source"] for hit in hits]
            else:
                found = [source for _, source in waiting.sources_by_id(client, self.name, ids)]
            return sorted(map(Rejected.stored, found), key=lambda entry: entry.uri)

    def remove(self, ids: Sequence[str]) -> None:
        self._bulk(waiting.deletions([entry.id for entry in self.read(ids)]))

    def _create(self) -> Collection[str]:
        """Make the index if there is none; gives the fields that it has."""
        client = self._client()
        with translated(self._address):
            if found := waiting.facts_of(client, self.name, ["mappings"]):
                return self._check(found)
            try:
                client.indices.create(
                    index=self.name,
                    settings={"number_of_replicas": self._replicas, **UNCHANGED},
                    mappings={**_MAPPINGS, "_meta": {"rejected_of": self._address.index}},
                )
            except elasticsearch.BadRequestError as error:
                if error.error != "resource_already_exists_exception":  # another run was faster
                    raise
        return _FIELDS

    def _check(self, found: Mapping[str, Any]) -> Collection[str]:
        """The index that is there is a ledger; one of an older version gets what it lacks."""
        (only,) = found.values() if len(found) == 1 else ({},)
        mappings = only.get("mappings", {})
        if not mappings.get("_meta", {}).get("rejected_of"):
            raise StoreError(
                f"rejected pictures of {self._address} are noted in the index {self.name}, "
                "but another one has this name: rename it, or index under another name"
            )
        known = mappings["properties"]
        if not known.keys() >= _FIELDS.keys() or "ignore_above" not in known["uri"]:
            try:
                self._client().indices.put_mapping(index=self.name, properties=_FIELDS)
            except elasticsearch.AuthorizationException:  # most entries do without it
                return dict(known)
        return _FIELDS

    def _bulk(self, actions: Mapping[str, dict[str, Any]]) -> None:
        with translated(self._address):
            answers = waiting.bulk(self._client(), self.name, actions, dict)
        for answer in answers:
            if "error" in answer:
                why = waiting.why_not(answer)
                raise StoreError(f"{self._address}: a rejected picture is not noted: {why}")
