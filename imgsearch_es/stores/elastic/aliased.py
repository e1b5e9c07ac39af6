"""The index behind an alias: how to reach it, what it is, and whether it is still the same."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from elastic_transport import ObjectApiResponse
from elasticsearch import Elasticsearch

from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    IndexRebuiltError,
    SchemaError,
    StoreError,
)
from imgsearch_es.retrieval.documents import SCHEMA_VERSION
from imgsearch_es.stores.base import IndexSettings, known_settings
from imgsearch_es.stores.elastic import rebuilding
from imgsearch_es.stores.elastic.connection import connect, parse_address, translated
from imgsearch_es.stores.elastic.fetching import WHOLE_INDEX
from imgsearch_es.stores.elastic.ledger import ElasticLedger
from imgsearch_es.stores.elastic.mapping import CHECKSUM, Layout
from imgsearch_es.stores.elastic.neighbors import Neighbors, Version, wanted_neighbors

_TRUSTED_SECONDS = 1.0
"""How long the alias is taken to lead where it did. Within this time answers tell by themselves."""


class AliasedIndex:
    """An index on Elasticsearch, without what is done with it; see `ElasticStore`."""

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

    def _known_index(self) -> str:
        if self.stored_settings() is None:
            known_settings(self)  # raises
        return self._index

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

    def _gone(self) -> StoreError:
        """What became of the index that settings were read from."""
        with translated(self._address):
            if self.client.indices.exists(index=self._name):
                return self._rebuilt()
        return IndexNotFoundError(
            f"the index at {self.location} was deleted while it was written; run the command "
            "again to make it anew"
        )

    def _request(self, **options: Any) -> ObjectApiResponse[Any]:
        """Search all of the index: where a shard cannot answer, nothing is answered."""
        return self.client.search(index=self._name, **WHOLE_INDEX, **options)

    def close(self) -> None:
        """Close the connections."""
        if "_connection" in self.__dict__:
            self.client.close()
            del self.__dict__["_connection"]
