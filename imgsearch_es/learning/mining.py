"""Mining: which triplets of a batch a head learns from.

A triplet is an anchor, a positive (another picture of the anchor's object) and a negative (a
picture of another object). Every pair of anchor and positive in the batch is one triplet; the
strategies differ in its negative.

    semi-hard   the nearest negative that is farther than the positive; where there is none, the
                farthest. The very hardest negatives make a head collapse early in training
                (Schroff, Kalenichenko and Philbin, FaceNet, CVPR 2015, section 3.2)
    random      any negative

Mining is "online": distances are those of the head as it is at this step.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError

Triplets = NDArray[np.intp]
"""Places in a batch, shape (triplets, 3): anchor, positive, negative."""


class Mining(Protocol):
    """A strategy."""

    def __call__(
        self, embeddings: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
    ) -> Triplets:
        """Choose triplets.

        Args:
            embeddings: of the batch, shape (pictures, dimensions).
            groups: the object of each, shape (pictures,).
            rng: gives random numbers where they are needed.
        """
        ...


def semi_hard(
    embeddings: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
) -> Triplets:
    """The nearest negative beyond the positive; see the module."""
    anchors, positives = _pairs(groups)
    distances = squared_distances(embeddings)
    far = np.where(groups[anchors, None] == groups, np.inf, distances[anchors])
    beyond = np.where(far > distances[anchors, positives, None], far, np.inf)
    nearest = beyond.argmin(axis=1)
    is_there = np.isfinite(beyond[np.arange(len(anchors)), nearest])
    farthest = np.where(np.isfinite(far), far, -np.inf).argmax(axis=1)
    return np.stack([anchors, positives, np.where(is_there, nearest, farthest)], axis=1)


def random_triplets(
    embeddings: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
) -> Triplets:
    """Any negative, all with the same chance."""
    anchors, positives = _pairs(groups)
    lots = rng.random((len(anchors), len(groups)))
    negatives = np.where(groups[anchors, None] == groups, -1.0, lots).argmax(axis=1)
    return np.stack([anchors, positives, negatives], axis=1)


MINING: dict[str, Mining] = {"semi-hard": semi_hard, "random": random_triplets}


def mining(name: str) -> Mining:
    """A strategy by name.

    Raises:
        ConfigurationError: there is none of this name.
    """
    if name not in MINING:
        raise ConfigurationError(f"there is no mining {name!r}; there are {', '.join(MINING)}")
    return MINING[name]


def squared_distances(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """The squared Euclidean distance of each to each, shape (pictures, pictures)."""
    exact = embeddings.astype(np.float64)
    lengths = np.square(exact).sum(axis=1)
    return np.asarray(np.maximum(lengths[:, None] + lengths - 2 * exact @ exact.T, 0))


def _pairs(groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All (anchor, positive) that have a negative."""
    same = groups[:, None] == groups
    usable = same & ~np.eye(len(groups), dtype=bool) & ~same.all(axis=1)[:, None]
    anchors, positives = np.nonzero(usable)
    return anchors, positives
