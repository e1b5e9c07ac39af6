"""An index built beside another one, and the alias that is moved to it."""

from __future__ import annotations

import re
import time
from typing import Any

import elasticsearch
from elasticsearch import Elasticsearch

from imgsearch_es.errors import ConfigurationError, StoreError
from imgsearch_es.stores.elastic.mapping import Layout

_NUMBERED = re.compile(r"(?P<name>.+)-(?P<number>\d{6})")
_LAST_SEARCHES_SECONDS = 2.0
"""Between moving the alias and deleting the old index: for searches that began before."""


def own_alias(index: str) -> str:
    """An alias that leads to this index only, whatever replaces it."""
    return f"{index}-writes"


def next_name(index: str, location: str) -> str:
    """``pets-000002`` for ``pets-000001``.

    Raises:
        StoreError: the index has no such name.
    """
    found = _NUMBERED.fullmatch(index)
    if found is None:
        raise StoreError(
            f"{location} is the index {index}, which imgsearch did not name: a new one cannot be "
            "put in its place; export it and import it under another name"
        )
    return f"{found['name']}-{int(found['number']) + 1:06}"


def layout_of(client: Elasticsearch, index: str) -> Layout:
    """Shards and replicas of an index that exists."""
    found = client.indices.get_settings(index=index)[index]["settings"]["index"]
    return Layout(
        shards=int(found["number_of_shards"]),
        replicas=int(found["number_of_replicas"]),
        refresh_interval=found.get("refresh_interval"),
        lifecycle=found.get("lifecycle", {}).get("name"),
    )


def mark(client: Elasticsearch, index: str) -> str:
    """A text that is another one after any write to the index."""
    stats = client.indices.stats(index=index, level="shards")["indices"][index]
    numbers = (
        f"{shard}:{copy['seq_no']['max_seq_no']}"
        for shard, copies in stats["shards"].items()
        for copy in copies
        if copy["routing"]["primary"]
    )
    return " ".join([stats["uuid"], *sorted(numbers)])


def swap(
    client: Elasticsearch, alias: str, old: str, new: str, expected_mark: str, *, keep: bool
) -> bool:
    """Move the alias in one step, unless the old index was written to since it had the mark."""
    if alias == old:
        raise StoreError(f"{old} is an index and not an alias: open it by the name without number")
    client.indices.refresh(index=new)
    client.indices.add_block(index=old, block="write")  # waits for writing that is under way
    moved = False
    try:
        if mark(client, old) == expected_mark:
            moves: list[dict[str, Any]] = [
                {"remove": {"index": old, "alias": alias}},
                {"remove": {"index": old, "alias": own_alias(old), "must_exist": False}},
                {"add": {"index": new, "alias": alias, "is_write_index": True}},
            ]
            client.indices.update_aliases(actions=moves)
            moved = True
    finally:
        if not moved:
            client.indices.put_settings(index=old, settings={"index.blocks.write": None})
    if moved and not keep:
        time.sleep(_LAST_SEARCHES_SECONDS)
        client.indices.delete(index=old)
    return moved


def check_lifecycle(client: Elasticsearch, policy: str | None) -> None:
    """A policy must exist, and must not split the index or delete it.

    Raises:
        ConfigurationError: it cannot be used.
    """
    if policy is None:
        return
    try:
        found = client.ilm.get_lifecycle(name=policy)[policy]["policy"]
    except elasticsearch.NotFoundError as error:
        raise ConfigurationError(f"the server has no lifecycle policy {policy!r}") from error
    except elasticsearch.BadRequestError as error:
        raise ConfigurationError("this server has no index lifecycle management") from error
    harm = harmful_action(found)
    if harm is not None:
        raise ConfigurationError(
            f"the lifecycle policy {policy!r} has the action {harm!r}: an index of pictures is one "
            "index, whose ids are unique, and it does not age (see docs/scaling.md)"
        )


def harmful_action(policy: dict[str, Any]) -> str | None:
    """The first action of a lifecycle policy that an index of pictures does not survive.

    A rollover would put a picture that changes into a second index beside its older self.
    """
    actions = (name for phase in policy.get("phases", {}).values() for name in phase["actions"])
    return next((name for name in actions if name in ("rollover", "delete", "downsample")), None)
