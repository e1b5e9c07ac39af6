"""The mapping of an Elasticsearch index: explicit, strict, and just as large as its vocabulary.

``embedding`` holds the deep feature as it is, for exact answers, which compare every vector. With
an index of nearest neighbors Elasticsearch finds candidates by a graph (HNSW) or by shorter
vectors, and ``dense`` compares these few exactly. Neighbors by inner product or Euclidean distance
are indexed on this field. For the cosine there is a second field, ``direction``: the vector divided
by its length. (Elasticsearch's own ``cosine`` refuses pictures whose feature is zero, and its
``_source`` gives back vectors that were rounded on the way.)

A lean index has no ``_source``: a document is in ``hit``, packed, and the other fields are there to
be searched, each in one structure (docs/decisions/019-lean-documents.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import elasticsearch
from elasticsearch import Elasticsearch

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.retrieval.strategies import APPROXIMABLE
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.clauses import VISUAL_WORDS
from imgsearch_es.stores.elastic.connection import Version
from imgsearch_es.stores.elastic.fetching import FIELDS, HIT, IMPACTS, MADE, MOST_NAMES, TEMPLATES

FULL, LEAN = "full", "lean"
"""Layouts of documents."""
LATER: dict[str, Any] = {
    "checksum": {"type": "keyword", "index": False, "doc_values": False},
    "taken_at": {"type": "date"},
    **{name: {"type": "keyword"} for name in ("camera", "lens", "caption", "keywords")},
    "place": {"type": "geo_point"},
    "ordered": {"type": "flattened"},
    "text": {"type": "keyword", "index": False, "doc_values": False},
    "ocr": {"type": "text", "analyzer": "whitespace", "search_analyzer": "standard"},
    "thumbnail": {"type": "keyword", "index": False, "doc_values": False},
}
"""Of ``Document.checksum``, its photo, the numbers and times in its metadata, its text, whose words
alone are searched, and its thumbnail; an index made before there were any gets them when it is
written to."""
UNLEAN = ("checksum", "text", "thumbnail")
"""Of these, those that a lean index has not: the first two are in ``hit``."""
REBUILT = frozenset(("ordered", *FIELDS))
"""Fields that an older index gets by being rebuilt alone, else they were of some documents."""
_FIELDS_PER_TERM, _OTHER_FIELDS = 4, 56
"""``synset.<key>`` and its wind, words and score; and the other fields, with room for
Elasticsearch's own and a person's additions."""

_SHOWN = {"type": "keyword", "index": False, "doc_values": False}
_TERM: dict[str, Any] = {
    "properties": {"wind": _SHOWN, "words": _SHOWN, "score": {"type": "float"}}
}
"""Of ``synset.<key>``: the paper's Figure 2. wind and words say what the key says, so they have no
index."""
_LEAN_TERM = {"properties": {"score": {"type": "float", "index": False}}}

_TYPES = {
    **dict.fromkeys(("id", "filename", "uri", "sha256", "format", "label"), "keyword"),
    **dict.fromkeys(("synsets", "top_synset"), "keyword"),
    **dict.fromkeys(("width", "height"), "integer"),
    **dict.fromkeys(("length", "norm"), "double"),
    "bytes": "long",
    "indexed_at": "date",
    "metadata": "flattened",
    "top_score": "float",
}
"""Of the plain fields."""
_BY_DOC_VALUES = ("id", "length", "norm")
"""Of these, those that are sorted or computed by, and need no index (``_id`` has one)."""
_LEAN_BY_DOC_VALUES = ("sha256", "width", "height", "bytes", "indexed_at", "top_score")
"""Fields that only conditions and looking for copies read: a lean index scans their doc values."""

UNCHANGED = {"index.default_pipeline": "_none", "index.final_pipeline": "_none"}
"""Of an index: documents are as they were sent, also where a template has a pipeline."""

_MAX_SHARDS = 1024
"""The server's own limit for one index."""
_BYTES_PER_PICTURE, _BYTES_PER_DIMENSION = 13_600, 14
"""As benchmarks/scaling.py measured them, of an index without decision 19: a document of 50 terms,
and each number of its deep feature."""
_BYTES_PER_SHARD = 40 * 10**9
"""Elastic's advice is 10 to 50 GB: more takes long to move, less wastes heap."""
_PICTURES_PER_SHARD = 10_000_000
"""A query is answered on one core for each shard: this bounds its time."""

NONE = "none"
KINDS = ("flat", "int8_flat", "bbq_flat", "hnsw", "int8_hnsw", "bbq_hnsw")
"""Elasticsearch's index types: HNSW graphs, or flat lists (which compare everything), of numbers of
32 bits, of 8 bits, or of one bit."""
SIMILARITIES = {name.removeprefix("dense-"): name for name in APPROXIMABLE}
"""What makes neighbors near, and the strategy that scores by it."""
_SERVER_SIMILARITIES = {
    "cosine": "max_inner_product",  # of directions; unlike dot_product it takes a zero vector
    "dot": "max_inner_product",
    "euclidean": "l2_norm",
}
_BBQ_SINCE: Version = (8, 18)
_BBQ_DIMENSIONS = 64
MAX_DIMENSIONS = 4096
"""Of any dense_vector."""
_RESTORED_SINCE: Version = (9, 2)
"""Since when an indexed vector is left out of ``_source``, and put back for whoever updates or
copies a document."""
_IGNORES_SINCE: Version = (8, 17)
"""Since when a template can say that longer keywords are not found."""
_KEPT = {"imgsearch_es": "not for neighbors"}
"""The ``meta`` of a field that is an indexed vector only to be left out of ``_source``."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How an index lies on its server: see `ElasticStore`; what is None has a default."""

    shards: int | None = None
    replicas: int | None = None
    expected_pictures: int | None = None
    refresh_interval: str | None = None
    lifecycle: str | None = None
    layout: str | None = None

    def __post_init__(self) -> None:
        if self.layout not in (None, FULL, LEAN):
            raise ConfigurationError(f"layout is {FULL!r} or {LEAN!r}, not {self.layout!r}")
        for name, least, most in (
            ("shards", 1, _MAX_SHARDS),
            ("replicas", 0, _MAX_SHARDS),
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
        base = replace(self, shards=None) if other.expected_pictures else self
        given = {name: value for name, value in asdict(other).items() if value is not None}
        return replace(base, **given)

    @property
    def is_lean(self) -> bool:
        """Whether documents have no ``_source``."""
        return self.layout == LEAN

    def settings(self, embedding_dimensions: int) -> dict[str, Any]:
        pictures = self.expected_pictures or 1
        chosen: dict[str, Any] = {
            "index.codec": "best_compression",
            "index.number_of_shards": self.shards or shards_for(pictures, embedding_dimensions),
            "index.number_of_replicas": self.replicas or 0,
            "index.refresh_interval": self.refresh_interval,
            "index.lifecycle.name": self.lifecycle,
        }
        return {name: value for name, value in chosen.items() if value is not None}


def shards_for(pictures: int, embedding_dimensions: int) -> int:
    """The number of shards for so many pictures: see docs/scaling.md for the rule."""
    size = pictures * (_BYTES_PER_PICTURE + _BYTES_PER_DIMENSION * embedding_dimensions)
    wanted = max(pictures / _PICTURES_PER_SHARD, size / _BYTES_PER_SHARD)
    return min(max(1, math.ceil(wanted)), _MAX_SHARDS)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The index of nearest neighbors of an index: of one of KINDS or "none", and SIMILARITIES."""

    kind: str = NONE
    similarity: str = "cosine"

    def __post_init__(self) -> None:
        if self.kind not in (NONE, *KINDS):
            raise ConfigurationError(
                f"vectors={self.kind!r} is no way to index deep features: there are {NONE}, "
                f"{', '.join(KINDS)}"
            )
        if self.similarity not in SIMILARITIES:
            raise ConfigurationError(
                f"similarity={self.similarity!r} is none of {', '.join(SIMILARITIES)}"
            )

    @property
    def strategies(self) -> tuple[str, ...]:
        return () if self.kind == NONE else (SIMILARITIES[self.similarity],)

    @property
    def has_directions(self) -> bool:
        return self.kind != NONE and self.similarity == "cosine"

    def __str__(self) -> str:
        if self.kind == NONE:
            return f"vectors={NONE!r}"
        return f"vectors={self.kind!r}, similarity={self.similarity!r}"

    def check(self, dimensions: int, version: Version) -> None:
        """Raise a ConfigurationError where a server cannot index deep features of this length."""
        if self.kind == NONE:
            return
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise ConfigurationError(
                f"vectors={self.kind!r} indexes deep features of 1 to {MAX_DIMENSIONS} "
                f"dimensions, this analyzer's have {dimensions}: leave vectors out"
            )
        if not self.kind.startswith("bbq"):
            return
        if version < _BBQ_SINCE:
            raise ConfigurationError(
                f"vectors={self.kind!r} needs Elasticsearch {_BBQ_SINCE[0]}.{_BBQ_SINCE[1]}, "
                f"the server has {version[0]}.{version[1]}: take int8_hnsw"
            )
        if dimensions < _BBQ_DIMENSIONS:
            raise ConfigurationError(
                f"vectors={self.kind!r} needs at least {_BBQ_DIMENSIONS} dimensions, this "
                f"analyzer's deep features have {dimensions}: take int8_hnsw"
            )

    def check_answers(self, strategy: str, location: str) -> None:
        """Raise a QueryError where a strategy cannot be answered approximately."""
        if strategy in self.strategies:
            return
        similarity = strategy.removeprefix("dense-")
        has = f"one for {self.strategies[0]} only" if self.strategies else "none"
        raise QueryError(
            f"{strategy} cannot be approximate here: that takes an index of nearest neighbors for "
            f"it, and {location} has {has}. Search exactly, or index the pictures under "
            f"another name with vectors='int8_hnsw', similarity={similarity!r} (on the command "
            f"line --vectors int8_hnsw --similarity {similarity})"
        )

    def fields(self, dimensions: int, version: Version) -> dict[str, Any]:
        stored: dict[str, Any] = {"type": "dense_vector", "dims": dimensions, "index": False}
        if version >= _RESTORED_SINCE:
            flat = {"similarity": "l2_norm", "index_options": {"type": "flat"}}
            stored |= {"index": True, **flat, "meta": _KEPT}
        if self.kind == NONE:
            return {"embedding": stored}
        indexed = {
            "type": "dense_vector",
            "dims": dimensions,
            "index": True,
            "similarity": _SERVER_SIMILARITIES[self.similarity],
            "index_options": {"type": self.kind},
        }
        if self.has_directions:
            return {"embedding": stored, "direction": indexed}
        return {"embedding": indexed}

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Neighbors:
        """What a mapping's properties, as the server gives them back, say."""
        if "direction" in properties:
            return cls(properties["direction"]["index_options"]["type"], "cosine")
        embedding = properties.get("embedding", {})
        if not embedding.get("index", False) or embedding.get("meta") == _KEPT:
            return NO_NEIGHBORS
        similarity = "euclidean" if embedding["similarity"] == "l2_norm" else "dot"
        return cls(embedding["index_options"]["type"], similarity)

    @classmethod
    def wanted(cls, vectors: str | None, similarity: str | None) -> Neighbors | None:
        """What a person's options ask for; None where they say nothing."""
        if vectors is None and similarity is None:
            return None
        if similarity is not None and vectors in (None, NONE):
            raise ConfigurationError(
                f"similarity={similarity!r} is that of an index of nearest neighbors: also say "
                "which, such as vectors='int8_hnsw'"
            )
        return cls(vectors or NONE, similarity or "cosine")


DEFAULT_LAYOUT, NO_NEIGHBORS = Layout(), Neighbors()


def index_body(
    settings: IndexSettings,
    version: Version,
    layout: Layout = DEFAULT_LAYOUT,
    neighbors: Neighbors = NO_NEIGHBORS,
    impacts: Sequence[str] = (),
) -> dict[str, Any]:
    """Settings and mappings with which to create the index, its own in ``_meta``."""
    neighbors.check(settings.embedding_dimensions, version)
    limit = field_limit(len(settings.vocabulary) if settings.synset_fields else 0)
    chosen = layout.settings(settings.embedding_dimensions)
    if version >= _IGNORES_SINCE:
        chosen["index.mapping.ignore_above"] = 2**31 - 1
    if layout.is_lean and version >= _RESTORED_SINCE and not settings.embedding_dimensions:
        # There are no weights to be put back into any source, so they need no second copy.
        chosen["index.mapping.exclude_source_vectors"] = False
    return {
        "settings": {
            **chosen,
            **UNCHANGED,
            "index.mapping.total_fields.limit": limit,
            "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
        },
        "mappings": {
            "dynamic": "strict",
            "dynamic_templates": TEMPLATES,
            # Also where a template of the server says something else.
            "_routing": {"required": False},
            "_source": {"enabled": False}
            if layout.is_lean
            else {"enabled": True, "excludes": [HIT, *MADE]},
            "_meta": {"imgsearch_es": settings.to_stored()},
            "properties": _properties(settings, version, neighbors, impacts, lean=layout.is_lean),
        },
    }


def is_lean(mappings: Mapping[str, Any]) -> bool:
    """Whether a mapping, as the server gives it back, is that of a lean index."""
    return mappings.get("_source", {}).get("enabled") is False


def term_fields(keys: Iterable[str], *, lean: bool) -> dict[str, Any]:
    """The mapping of ``synset`` for these keys."""
    return {"properties": dict.fromkeys(keys, _LEAN_TERM if lean else _TERM)}


def field_limit(terms: int) -> int:
    """How many fields an index of so many terms may have."""
    return _FIELDS_PER_TERM * terms + _OTHER_FIELDS + MOST_NAMES


def _properties(
    settings: IndexSettings,
    version: Version,
    neighbors: Neighbors,
    impacts: Sequence[str],
    *,
    lean: bool,
) -> dict[str, Any]:
    # Where the server would leave out weak terms of a query by default, it must not.
    prunes = version >= (9, 1) or (8, 19) <= version < (9, 0)
    unpruned = {"index_options": {"prune": False}} if prunes else {}
    properties: dict[str, Any] = {name: {"type": kind} for name, kind in _TYPES.items()}
    for name in _BY_DOC_VALUES + (_LEAN_BY_DOC_VALUES if lean else ()):
        properties[name]["index"] = False
    properties |= {
        "posterior": {"type": "sparse_vector", **unpruned},
        HIT: {"type": "binary", "doc_values": True},
        **LATER,
        **FIELDS,
    }
    if lean:
        for name in (*UNLEAN, *MADE):
            del properties[name]
    else:
        properties["views"] = {"type": "byte", "index": False, "doc_values": False}
    if settings.synset_fields:
        properties["synset"] = term_fields(settings.vocabulary.keys, lean=lean)
    elif not lean:
        properties["scores"] = {"type": "float", "index": False, "doc_values": False}
    if settings.vocabulary.has_colors:
        properties["colors"] = {"type": "keyword"}
    if settings.visual_words:
        properties[VISUAL_WORDS] = {"type": "sparse_vector", **unpruned}
    if impacts:
        weights = {"type": "sparse_vector", **unpruned}
        properties[IMPACTS] = {"properties": dict.fromkeys(impacts, weights)}
    if 0 < settings.embedding_dimensions <= MAX_DIMENSIONS:
        properties |= neighbors.fields(settings.embedding_dimensions, version)
    return properties


def check_lifecycle(client: Elasticsearch, policy: str | None) -> None:
    """A policy must exist, and must not split the index or delete it."""
    if policy is None:
        return
    try:
        found = client.ilm.get_lifecycle(name=policy)[policy]["policy"]
    except elasticsearch.NotFoundError as error:
        raise ConfigurationError(f"the server has no lifecycle policy {policy!r}") from error
    except elasticsearch.BadRequestError as error:
        raise ConfigurationError("this server has no index lifecycle management") from error
    if harm := harmful_action(found):
        raise ConfigurationError(
            f"the lifecycle policy {policy!r} has the action {harm!r}: an index of pictures is one "
            "index, whose ids are unique, and it does not age (see docs/scaling.md)"
        )


def harmful_action(policy: Mapping[str, Any]) -> str | None:
    """The first action of a policy that an index does not survive.

    A rollover would put a picture that changes into a second index beside its older self.
    """
    actions = (name for phase in policy.get("phases", {}).values() for name in phase["actions"])
    return next((name for name in actions if name in ("rollover", "delete", "downsample")), None)
