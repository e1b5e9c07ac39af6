"""The index behind an alias: reached, created, looked at again, and replaced by a new one."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import elasticsearch
from elastic_transport import ObjectApiResponse
from elasticsearch import Elasticsearch

from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    IndexRebuiltError,
    SchemaError,
    StoreError,
)
from imgsearch_es.retrieval.documents import COLOR_SCHEMA, SCHEMA_VERSION
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.stores.elastic import mapping, waiting
from imgsearch_es.stores.elastic.connection import Version, connect, parse_address, translated
from imgsearch_es.stores.elastic.fetching import NONE, WHOLE_INDEX, impacts_in, wanted_impacts
from imgsearch_es.stores.elastic.mapping import NO_NEIGHBORS, Layout, Neighbors
from imgsearch_es.stores.settings import read_settings

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

TRUSTED_SECONDS = 1.0
"""How long the alias is taken to lead where it did. Within this time answers tell by themselves."""
_LAST_SEARCHES_SECONDS = 2.0
"""Between moving the alias and deleting the old index: for searches that began before."""
_BUILT = "-built-"
"""In an alias of an index that is built beside another, by which its one builder writes."""


class AliasedIndex(Store):
    """An index on Elasticsearch, without what is done with its documents; see `ElasticStore`."""

    def __init__(
        self,
        location: str,
        *,
        vectors: str | None = None,
        similarity: str | None = None,
        impacts: str | Iterable[str] | None = None,
        **options: Any,
    ) -> None:
        layout = {name: options.pop(name) for name in Layout.__slots__ if name in options}
        self._address = parse_address(os.fspath(location), **options)
        self.location = str(self._address)
        self._name = self._address.index
        self._layout = Layout(**layout)
        self._wanted = Neighbors.wanted(vectors, similarity)
        self._neighbors = NO_NEIGHBORS
        self._wanted_impacts = wanted_impacts(impacts)
        self._impacts: tuple[str, ...] = ()
        self._index = f"{self._name}-000001"  # behind the alias
        self._settings: IndexSettings | None = None
        self._written_as = self._name  # see ``_own_alias``
        self._looked_at, self._making = 0.0, threading.RLock()
        self._lacks: set[str] = set()
        self._is_lean = self._is_part = False

    @cached_property
    def _connection(self) -> tuple[Elasticsearch, Version]:
        return connect(self._address)

    @property
    def client(self) -> Elasticsearch:
        """The connected client, for what this library does not do."""
        return self._connection[0]

    def settings(self) -> IndexSettings | None:
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
        if settings is not None and self._wanted_impacts not in (None, self._impacts):
            raise ConfigurationError(
                f"{self.location} was made with impacts={','.join(self._impacts) or NONE}: leave "
                "this option out, or give it to `imgsearch reindex`, which makes it anew"
            )
        if settings is not None and self._layout.layout not in (None, self.layout):
            raise ConfigurationError(
                f"{self.location} was made with layout={self.layout!r}, not with "
                f"{self._layout.layout!r}: leave this option out, or give it to `imgsearch "
                "reindex`, which makes it anew"
            )
        return settings

    @property
    def keeps_thumbnails(self) -> bool:  # type: ignore[override]
        return not (self._layout.is_lean if self.stored_settings() is None else self._is_lean)

    @property
    def not_compared(self) -> str:  # type: ignore[override]
        """What a lean index does not give back."""
        what = "the words of texts, typed metadata, and the weights of impacts and visual words"
        return f"{what}: a lean index does not give them back" if self._is_lean else ""

    @property
    def layout(self) -> str:
        return mapping.LEAN if self._is_lean else mapping.FULL

    def stored_settings(self) -> IndexSettings | None:
        if self._settings is None:
            client, asked_at = self.client, time.monotonic()
            with translated(self._address), self._making:  # a new one has no shard at once
                found = waiting.facts_of(client, self._name, ["aliases", "mappings"])
            if not found:
                return None
            self._remember(found)
            self._looked_at = asked_at
        return self._settings

    def renew(self) -> None:
        """Forget the settings when the alias leads to another index now; asks once a second."""
        if self._settings is None or time.monotonic() < self._looked_at + TRUSTED_SECONDS:
            return
        if self._look_again() != self._index:
            self._settings = None

    def _look_again(self) -> str | None:
        """Which index the alias leads to; forget the settings if words were taught meanwhile."""
        wanted = [
            f"*.mappings._meta.imgsearch_es.{name}" for name in ("schema_version", "checksum")
        ]
        before, asked_at = self._looked_at, time.monotonic()
        with translated(self._address):
            found = self.client.indices.get(
                index=self._name,
                features=["aliases", "mappings"],
                ignore_unavailable=True,
                filter_path=["*.aliases", *wanted],
            )
        if self._looked_at == before:  # else another thread knows better
            self._looked_at = asked_at
        index = self._only(found)
        if index is not None and index == self._index and self._settings is not None:
            meta = found[index].get("mappings", {}).get("_meta", {})
            if meta.get("imgsearch_es", {}).get("checksum", "") != self._settings.checksum:
                self._settings = None
        return index

    def _find_index(self) -> str | None:
        with translated(self._address):
            found = self.client.indices.get_alias(index=self._name, ignore_unavailable=True)
        return self._only(found)

    def _only(self, found: Iterable[str]) -> str | None:
        """The one index, if any; SchemaError if there are several."""
        names = sorted(found)
        if len(names) > 1:
            self._looked_at = 0.0  # until there is one
            raise SchemaError(
                f"{self.location} leads to {len(names)} indices, {' and '.join(names)}: "
                "take the alias off all but the one that imgsearch made"
            )
        return names[0] if names else None

    def _remember(self, found: Mapping[str, Any]) -> None:
        index = self._only(found) or ""
        facts = found.get(index, {})
        data = facts.get("mappings", {}).get("_meta", {}).get("imgsearch_es")
        if not isinstance(data, dict) or not isinstance(data.get("schema_version"), int):
            raise SchemaError(
                f"{self.location} exists, but imgsearch did not make it; choose another name"
            )
        if data["schema_version"] > COLOR_SCHEMA:
            raise SchemaError(
                f"{self.location} was written by a newer imgsearch-es (schema "
                f"{data['schema_version']}, this one knows {COLOR_SCHEMA}): upgrade this "
                "installation"
            )
        own, properties = _own_alias(index), facts["mappings"]["properties"]
        if _BUILT not in self._written_as:  # else it stays its builder's
            built = (name for name in facts["aliases"] if name.startswith(f"{index}{_BUILT}"))
            usual = own if own in facts["aliases"] else self._name
            self._written_as = next(built, usual) if self._name == index else usual
        self._index = index
        shown_by = facts["aliases"].get(self._name, {})
        self._is_part = not shown_by.keys().isdisjoint(("filter", "search_routing"))
        self._neighbors, self._impacts = Neighbors.of(properties), impacts_in(properties)
        self._is_lean = mapping.is_lean(facts["mappings"])
        self._lacks = (mapping.LATER.keys() | mapping.REBUILT) - properties.keys()
        if self._is_lean:
            self._lacks -= {*mapping.UNLEAN}
        self._settings = read_settings(data, self.location)

    def check_whole(self) -> None:
        """StoreError where an alias shows a part of the index, which is not to be taken for all."""
        if self._is_part:
            raise StoreError(
                f"{self.location} is an alias with a filter or a routing, and shows a part of "
                f"{self._index}: do this by a name that shows all of it"
            )

    def _known_index(self) -> str:
        if self.stored_settings() is None:
            known_settings(self)  # raises
        return self._index

    def _check_index(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """The index that answered is the queries' own; where there is no hit, the alias tells."""
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
            if waiting.facts_of(self.client, self._name):
                return self._rebuilt()
        return IndexNotFoundError(
            f"the index at {self.location} was deleted while it was written; run the command "
            "again to make it anew"
        )

    def create(self, settings: IndexSettings) -> None:
        """Create ``<name>-000001`` with the explicit mapping, and the alias ``<name>`` on it."""
        client, version = self._connection
        neighbors = self._wanted or NO_NEIGHBORS
        impacts = self._wanted_impacts or ()
        body = mapping.index_body(settings, version, self._layout, neighbors, impacts)
        aliases: dict[str, Any] = {_own_alias(self._index): {}}
        if self._name != self._index:
            aliases[self._name] = {"is_write_index": True}
        else:  # it is built beside one that has the name, and nobody else may build it
            self._written_as = f"{self._index}{_BUILT}{token_hex(4)}"
            aliases[self._written_as] = {}
        with translated(self._address), self._making:
            if waiting.facts_of(client, self._name):
                raise StoreError(f"{self.location} exists already")
            mapping.check_lifecycle(client, self._layout.lifecycle)
            self._settings = None  # to be read as they are
            try:
                client.indices.create(index=self._index, aliases=aliases, **body)
            except elasticsearch.BadRequestError as error:  # an answer may have been lost
                is_there = error.error == "resource_already_exists_exception"
                is_there = is_there and bool(client.indices.exists_alias(name=self._written_as))
                if not is_there or self.stored_settings() != settings:
                    raise

    def beside(self) -> Self:
        """The next number that is free, or begun; one begun with other options is deleted."""
        known_index = self._known_index()
        self.check_whole()
        if self._name == known_index:
            raise StoreError(
                f"{known_index} is an index and not an alias: open it by the name without number"
            )
        new, is_anothers = copy(self), True
        while is_anothers:  # such as one that was kept, or copied
            new._name = new._index = next_name(new._index, self.location)
            new.location, new._settings = f"{self._address.server}/{new._name}", None
            is_anothers = new.stored_settings() is not None and _BUILT not in new._written_as
        new._layout = self._layout_of(known_index).changed_by(self._layout)
        new._wanted = self._wanted or self._neighbors
        if self._wanted_impacts is None:
            new._wanted_impacts = self._impacts
        if new.stored_settings() is not None:
            begun = self._layout_of(new._index)
            made = new._neighbors, new._impacts, begun.layout
            wanted = new._wanted, new._wanted_impacts, new._layout.layout
            if new._layout.shards not in (None, begun.shards) or made != wanted:
                new.delete()
        return new

    def _layout_of(self, index: str) -> Layout:
        with translated(self._address):
            facts = self.client.indices.get(index=index, features=["settings", "mappings"])[index]
        found = facts["settings"]["index"]
        return Layout(
            layout=mapping.LEAN if mapping.is_lean(facts["mappings"]) else mapping.FULL,
            shards=int(found["number_of_shards"]),
            replicas=int(found["number_of_replicas"]),
            refresh_interval=found.get("refresh_interval"),
            lifecycle=found.get("lifecycle", {}).get("name"),
        )

    def delete(self) -> None:
        if (index := self._find_index()) is not None:
            with translated(self._address):
                self.client.indices.delete(index=index, ignore_unavailable=True)
        self._settings = None

    def mark(self) -> str:
        """The numbers of the shards' last operations."""
        index, indices = self._known_index(), self.client.options(ignore_status=404).indices
        with translated(self._address):
            found = indices.stats(index=index, level="shards")
        if "indices" not in found:
            raise self._gone()
        stats = found["indices"][index]
        numbers = (
            f"{shard}:{copy['seq_no']['max_seq_no']}"
            for shard, copies in stats["shards"].items()
            for copy in copies
            if copy["routing"]["primary"]
        )
        return " ".join([stats["uuid"], *sorted(numbers)])

    def replace(self, new: Self, mark: str, *, keep: bool) -> bool:
        """Let all aliases lead to the new index; writing to this one is blocked before."""
        old, indices = self._known_index(), self.client.indices
        made = new.mark().partition(" ")[0]  # of the index, whatever is written to it
        moved, blocked = False, f"{old}{waiting.BLOCKED}{token_hex(4)}"
        with translated(self._address), self.patient():
            indices.refresh(index=new._index)
            indices.put_alias(index=old, name=blocked)
            try:
                indices.add_block(index=old, block="write")  # waits for writing that is under way
                if self._look_again() != old:
                    raise self._rebuilt()
                if self._settings is not None and self.mark() == mark:  # and nothing was taught
                    moves: list[dict[str, Any]] = [
                        {"remove": {"index": old, "alias": blocked, "must_exist": True}},
                        {"remove": {"index": old, "alias": self._name}},
                        {"remove": {"index": old, "alias": _own_alias(old), "must_exist": False}},
                        {"add": {"index": new._index, "alias": self._name, "is_write_index": True}},
                    ]
                    if not keep:
                        moves.append({"add": {"index": old, "alias": old + waiting.REPLACED}})
                    for alias, facts in indices.get_alias(index=old)[old]["aliases"].items():
                        if alias not in (self._name, _own_alias(old)) and _is_given(alias):
                            moves.append({"remove": {"index": old, "alias": alias}})
                            moves.append({"add": {"index": new._index, "alias": alias, **facts}})
                    if _BUILT in new._written_as:
                        own = {"index": new._index, "alias": new._written_as, "must_exist": True}
                        moves.insert(0, {"remove": own})
                    indices.update_aliases(actions=moves)
                    moved = True
            except elasticsearch.NotFoundError as error:
                moved = self._find_index() == new._index and new.mark().startswith(made)
                # Another program builds it anew, or took the block off; else an answer was lost.
                if not moved and waiting.blocked_by(self.client, old):
                    raise self._rebuilt() from error
            finally:
                if not moved:
                    waiting.unblock(self.client, waiting.blocked_by(self.client, old))
            if moved and not keep:
                time.sleep(_LAST_SEARCHES_SECONDS)
                waiting.discard(self.client, old)
        if moved:
            self._settings = None
        return moved

    def _request(self, **options: Any) -> ObjectApiResponse[Any]:
        """Search all of the index: where a shard cannot answer, nothing is answered."""
        return self.client.search(index=self._name, **WHOLE_INDEX, **options)

    def close(self) -> None:
        client, _ = self.__dict__.pop("_connection", (None, None))
        if client is not None:
            waiting.patience_of(client).end()
            client.close()


def _own_alias(index: str) -> str:
    """Of this index only: writing by it cannot get into one that was rebuilt meanwhile."""
    return f"{index}-writes"


def _is_given(alias: str) -> bool:
    """Whether people gave it, as one with a filter for a part of the pictures."""
    return waiting.BLOCKED not in alias and _BUILT not in alias


def next_name(index: str, location: str) -> str:
    """``pets-000002`` for ``pets-000001``; StoreError where the index has no such name."""
    found = re.fullmatch(r"(.+)-(\d{6})", index)
    if found is None:
        raise StoreError(
            f"{location} is the index {index}, which imgsearch did not name: a new one cannot be "
            "put in its place; export it and import it under another name"
        )
    return f"{found[1]}-{int(found[2]) + 1:06}"
