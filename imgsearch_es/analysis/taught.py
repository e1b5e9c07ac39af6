"""Taught words: terms that follow from a picture's deep feature.

A taught word is a linear classifier (``search.teaching`` learns it from a few examples). Its
score of a picture is the probability that the picture shows it. Scores below ``FLOOR`` are no term,
so that the documents of an index stay sparse.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.001
"""The least score that is a term."""
_FORGOTTEN = -1000.0
"""A bias with which no picture has the word."""
_TOGETHER = 512
"""Deep features whose float64 copies are in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class TaughtWord:
    """A word that an index was taught.

    Attributes:
        name: as it was given; ``key`` is that of its synset.
        number: of its term; a word keeps it until it is forgotten.
        weights: float32 of shape (dimensions,), and ``bias``: of the classifier, see ``scores``.
        like, unlike: the URIs of the pictures that show it, and of those that do not.
        quality: mean average precision in cross-validation, 0 to 1; None where the examples were
            too few for it.
    """

    name: str
    key: str
    number: int
    weights: NDArray[np.float32]
    bias: float
    like: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    quality: float | None = None

    @property
    def described(self) -> str:
        """How the index came to it, for a person."""
        return f"taught from {len(self.like) + len(self.unlike)} pictures"

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores, float32 of shape (pictures,), of deep features of shape (pictures, dimensions).

        1 / (1 + exp(-(w x + b))) with x as ``to_inputs`` gives it; below FLOOR it is 0. A score
        does not depend on the other rows.
        """
        parts = [
            (to_inputs(vectors[i : i + _TOGETHER]) * self.weights).sum(axis=1)
            for i in range(0, len(vectors), _TOGETHER)
        ]
        logits = np.concatenate([*parts, np.empty(0)]) + self.bias
        scores = (1 / (1 + np.exp(-np.clip(logits, -500, 500)))).astype(np.float32)
        return np.where(scores >= np.float32(FLOOR), scores, np.float32(0))

    def forgotten(self) -> TaughtWord:
        """This word while it is taken back: no picture has it."""
        return replace(self, weights=np.zeros_like(self.weights), bias=_FORGOTTEN)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the weights as base64 of little-endian numbers."""
        return {
            "name": self.name,
            "key": self.key,
            "number": self.number,
            "weights": base64.b64encode(self.weights.astype("<f4").tobytes()).decode("ascii"),
            "bias": self.bias,
            "like": list(self.like),
            "unlike": list(self.unlike),
            "quality": self.quality,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaughtWord:
        """Read what ``to_dict`` gave."""
        weights = np.frombuffer(base64.b64decode(data["weights"]), "<f4").astype(np.float32)
        like, unlike = tuple(data["like"]), tuple(data["unlike"])
        return cls(**{**data, "weights": weights, "like": like, "unlike": unlike})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaughtWord) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.key, self.bias))


def to_inputs(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Deep features as classifiers take them: the root of each number, at length 1.

    Roots (with the number's sign) make a few large numbers count for less.
    """
    wide = vectors.astype(np.float64)
    roots = np.sign(wide) * np.sqrt(np.abs(wide))
    lengths = np.sqrt(np.abs(wide).sum(axis=1, keepdims=True))
    return np.asarray(roots / np.where(lengths > 0, lengths, 1))
