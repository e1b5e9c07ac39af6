"""The index of nearest neighbors, which answers approximately: how deep features are kept for it.

By default there is none: every vector is compared. With one, Elasticsearch finds candidates by a
graph (HNSW) or by shorter vectors, and ``dense`` compares these few exactly.

``embedding`` holds the deep feature as it is, for exact answers. Neighbors by inner product or
Euclidean distance are indexed on this field. For the cosine there is a second field, ``direction``:
the vector divided by its length. (Elasticsearch's own ``cosine`` refuses pictures whose feature is
zero, and its ``_source`` gives back vectors that were rounded on the way.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.retrieval.strategies import APPROXIMABLE

Version = tuple[int, int]

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


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The index of nearest neighbors of an index.

    Attributes:
        kind: "none", or one of KINDS.
        similarity: one of SIMILARITIES.

    Raises:
        ConfigurationError: there is no such kind or similarity.
    """

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
        """The strategies that can be answered approximately: one, or none."""
        return () if self.kind == NONE else (SIMILARITIES[self.similarity],)

    @property
    def has_directions(self) -> bool:
        """Whether documents have the field ``direction``."""
        return self.kind != NONE and self.similarity == "cosine"

    def __str__(self) -> str:
        if self.kind == NONE:
            return f"vectors={NONE!r}"
        return f"vectors={self.kind!r}, similarity={self.similarity!r}"

    def check(self, dimensions: int, version: Version) -> None:
        """Whether a server can index deep features of this length so.

        Raises:
            ConfigurationError: it cannot.
        """
        if self.kind == NONE:
            return
        if not 0 < dimensions <= MAX_DIMENSIONS:
            raise ConfigurationError(
                f"vectors={self.kind!r} indexes deep features of 1 to {MAX_DIMENSIONS} "
                f"dimensions, this analyzer's have {dimensions}: leave vectors out"
            )
        if self.kind.startswith("bbq"):
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
        """Whether a strategy can be answered approximately.

        Raises:
            QueryError: it cannot; says how to make an index that can.
        """
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

    def fields(self, dimensions: int) -> dict[str, Any]:
        """The mapping of ``embedding`` and, where there is one, of ``direction``."""
        stored = {"type": "dense_vector", "dims": dimensions, "index": False}
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
        if not embedding.get("index", False):
            return cls()
        similarity = "euclidean" if embedding["similarity"] == "l2_norm" else "dot"
        return cls(embedding["index_options"]["type"], similarity)


def wanted_neighbors(vectors: str | None, similarity: str | None) -> Neighbors | None:
    """What a person's options ask for; None where they say nothing.

    Raises:
        ConfigurationError: an option has no such value, or there is only a similarity.
    """
    if vectors is None and similarity is None:
        return None
    if similarity is not None and vectors in (None, NONE):
        raise ConfigurationError(
            f"similarity={similarity!r} is that of an index of nearest neighbors: also say which, "
            "such as vectors='int8_hnsw'"
        )
    return Neighbors(vectors or NONE, similarity or "cosine")
