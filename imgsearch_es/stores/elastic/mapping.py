"""The mapping of an Elasticsearch index: explicit, strict, and just as large as its vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.fetching import HIT
from imgsearch_es.stores.elastic.neighbors import MAX_DIMENSIONS, Neighbors, Version

_FIELDS_PER_TERM = 4
"""``synset.<key>`` and its wind, words and score."""
CHECKSUM: dict[str, Any] = {"checksum": {"type": "keyword", "index": False}}
"""Of ``Document.checksum``; an index made before there were any gets it when it is written to."""
_OTHER_FIELDS = 40
"""The fields below, with room for Elasticsearch's own and a person's additions."""

NO_NEIGHBORS = Neighbors()
MAX_SHARDS = 1024
"""The server's own limit for one index."""
BYTES_PER_PICTURE, BYTES_PER_DIMENSION = 2200, 14
"""As benchmarks/scaling.py measures them: a document, and each number of its deep feature."""
BYTES_PER_SHARD = 40 * 10**9
"""Elastic's advice is 10 to 50 GB: more takes long to move, less wastes heap."""
PICTURES_PER_SHARD = 10_000_000
"""A query is answered on one core for each shard: this bounds its time."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an index is spread over a cluster; what is None has a default.

    Attributes:
        shards: number of primary shards.
        replicas: copies of each shard.
        expected_pictures: how many the index will hold, for the number of shards.
        refresh_interval: as Elasticsearch writes times, "30s"; "-1" for never.
        lifecycle: name of an index lifecycle policy.
    """

    shards: int | None = None
    replicas: int | None = None
    expected_pictures: int | None = None
    refresh_interval: str | None = None
    lifecycle: str | None = None

    def __post_init__(self) -> None:
        for name, least, most in (
            ("shards", 1, MAX_SHARDS),
            ("replicas", 0, MAX_SHARDS),
            ("expected_pictures", 1, 10**12),
        ):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int) and least <= value <= most):
                raise ConfigurationError(
                    f"{name} is a whole number from {least} to {most:,}, not {value!r}"
                )
        if self.shards is not None and self.expected_pictures is not None:
            raise ConfigurationError("give shards or expected_pictures, not both")

    def changed_by(self, other: Layout) -> Layout:
        """This layout, with what the other one gives."""
        given = {f.name: getattr(other, f.name) for f in fields(other)}
        base = replace(self, shards=None) if other.expected_pictures else self
        return replace(base, **{name: value for name, value in given.items() if value is not None})

    def settings(self, embedding_dimensions: int) -> dict[str, Any]:
        """As settings of an index."""
        shards = self.shards
        if shards is None:
            shards = shards_for(self.expected_pictures or 1, embedding_dimensions)
        chosen: dict[str, Any] = {
            "index.number_of_shards": shards,
            "index.number_of_replicas": self.replicas or 0,
        }
        if self.refresh_interval is not None:
            chosen["index.refresh_interval"] = self.refresh_interval
        if self.lifecycle is not None:
            chosen["index.lifecycle.name"] = self.lifecycle
        return chosen


DEFAULT_LAYOUT = Layout()


def shards_for(pictures: int, embedding_dimensions: int) -> int:
    """The number of shards for so many pictures: see docs/scaling.md for the rule."""
    size = pictures * (BYTES_PER_PICTURE + BYTES_PER_DIMENSION * embedding_dimensions)
    wanted = max(pictures / PICTURES_PER_SHARD, size / BYTES_PER_SHARD)
    return min(max(1, math.ceil(wanted)), MAX_SHARDS)


def index_body(
    settings: IndexSettings,
    version: Version,
    layout: Layout = DEFAULT_LAYOUT,
    neighbors: Neighbors = NO_NEIGHBORS,
) -> dict[str, Any]:
    """Settings and mappings with which to create the index.

    Args:
        settings: what the index shall remember; kept in the mapping's ``_meta``.
        version: the server's (major, minor).
        layout: how to spread the index over the cluster.
        neighbors: how deep features are indexed.

    Raises:
        ConfigurationError: the server cannot index deep features so.
    """
    neighbors.check(settings.embedding_dimensions, version)
    return {
        "settings": {
            **layout.settings(settings.embedding_dimensions),
            "index.mapping.total_fields.limit": (
                _FIELDS_PER_TERM * len(settings.vocabulary) + _OTHER_FIELDS
            ),
        },
        "mappings": {
            "dynamic": "strict",
            "_source": {"excludes": [HIT]},
            "_meta": {"imgsearch_es": settings.to_stored()},
            "properties": _properties(settings, version, neighbors),
        },
    }


def _properties(settings: IndexSettings, version: Version, neighbors: Neighbors) -> dict[str, Any]:
    keyword = {"type": "keyword"}
    properties: dict[str, Any] = {
        "id": keyword,
        "filename": keyword,
        "uri": keyword,
        "sha256": keyword,
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "bytes": {"type": "long"},
        "format": keyword,
        "indexed_at": {"type": "date"},
        "label": keyword,
        "metadata": {"type": "flattened"},
        "synset": {"properties": {key: _term_properties() for key in settings.vocabulary.keys}},
        "posterior": _sparse_vector(version),
        "synsets": keyword,
        "top_synset": keyword,
        "top_score": {"type": "float"},
        "length": {"type": "double"},
        "norm": {"type": "double"},
        "words": {"type": "text"},
        HIT: {"type": "binary", "doc_values": True},
        **CHECKSUM,
    }
    if 0 < settings.embedding_dimensions <= MAX_DIMENSIONS:
        properties |= neighbors.fields(settings.embedding_dimensions)
    return properties


def _term_properties() -> dict[str, Any]:
    """The paper's Figure 2. wind and words say what the key says, so they have no index."""
    shown = {"type": "keyword", "index": False}
    return {"properties": {"wind": shown, "words": shown, "score": {"type": "float"}}}


def _sparse_vector(version: Version) -> dict[str, Any]:
    """Where the server would leave out weak terms of a query by default, it must not."""
    prunes = version >= (9, 1) or (8, 19) <= version < (9, 0)
    return {"type": "sparse_vector"} | ({"index_options": {"prune": False}} if prunes else {})
