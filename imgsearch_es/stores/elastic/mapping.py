"""The mapping of an Elasticsearch index: explicit, strict, and just as large as its vocabulary."""

from __future__ import annotations

from typing import Any

from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.fetching import HIT
from imgsearch_es.stores.elastic.neighbors import MAX_DIMENSIONS, Neighbors, Version

_FIELDS_PER_TERM = 4
"""``synset.<key>`` and its wind, words and score."""
_OTHER_FIELDS = 40
"""The fields below, with room for Elasticsearch's own and a person's additions."""
NO_NEIGHBORS = Neighbors()


def index_body(
    settings: IndexSettings,
    version: Version,
    *,
    shards: int = 1,
    replicas: int = 0,
    neighbors: Neighbors = NO_NEIGHBORS,
) -> dict[str, Any]:
    """Settings and mappings with which to create the index.

    Args:
        settings: what the index shall remember; kept in the mapping's ``_meta``.
        version: the server's (major, minor).
        shards: number of primary shards.
        replicas: copies of each shard.
        neighbors: how deep features are indexed.

    Raises:
        ConfigurationError: the server cannot index deep features so.
    """
    neighbors.check(settings.embedding_dimensions, version)
    return {
        "settings": {
            "index.number_of_shards": shards,
            "index.number_of_replicas": replicas,
            "index.mapping.total_fields.limit": (
                _FIELDS_PER_TERM * len(settings.vocabulary) + _OTHER_FIELDS
            ),
        },
        "mappings": {
            "dynamic": "strict",
            "_source": {"excludes": [HIT]},
            "_meta": {"imgsearch_es": settings.to_dict()},
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
