"""Losses of triplets: what a head is trained to make small.

With D(a, b) the Euclidean distance of two embeddings and m the margin, for the triplet of anchor a,
positive p and negative n:

    triplet       max(0, D(a, p)^2 - D(a, n)^2 + m)       Schroff, Kalenichenko and Philbin,
                                                          FaceNet, CVPR 2015, section 3.1
    contrastive   1/2 D(a, p)^2 + 1/2 max(0, m - D(a, n))^2
                                                          Hadsell, Chopra and LeCun, CVPR 2006,
                                                          equation 4, of both pairs of the triplet

The mean over the triplets counts. Embeddings have length 1, so D^2 is between 0 and 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imgsearch_es.errors import ConfigurationError

Tensor = Any
"""A tensor of Keras's backend."""
_SMALLEST = 1e-12
"""Below it the slope of the square root has no bound."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss.

    Attributes:
        name: for options.
        margin: its usual margin.
        function: of the squared distances to positives and negatives, shape (triplets,), and the
            margin; gives the loss of each triplet.
    """

    name: str
    margin: float
    function: Callable[[Tensor, Tensor, float], Tensor]

    def of_triplets(self, embeddings: Tensor, triplets: Tensor, margin: float) -> Tensor:
        """The mean loss of the triplets.

        Args:
            embeddings: of a batch, shape (pictures, dimensions).
            triplets: places in the batch, shape (triplets, 3); see `mining`.
            margin: how much farther negatives shall be than positives.
        """
        from keras import ops

        count = ops.shape(embeddings)[0]
        anchors, positives, negatives = (
            ops.matmul(ops.one_hot(triplets[:, i], count), embeddings) for i in range(3)
        )  # products, because gathering rows adds up in no fixed order on a GPU
        to_positives = ops.sum(ops.square(anchors - positives), axis=1)
        to_negatives = ops.sum(ops.square(anchors - negatives), axis=1)
        return ops.mean(self.function(to_positives, to_negatives, margin))


def _triplet(to_positives: Tensor, to_negatives: Tensor, margin: float) -> Tensor:
    from keras import ops

    return ops.relu(to_positives - to_negatives + margin)


def _contrastive(to_positives: Tensor, to_negatives: Tensor, margin: float) -> Tensor:
    from keras import ops

    distances = ops.sqrt(ops.maximum(to_negatives, _SMALLEST))
    return 0.5 * to_positives + 0.5 * ops.square(ops.relu(margin - distances))


LOSSES = {
    loss.name: loss
    for loss in (Loss("triplet", 0.5, _triplet), Loss("contrastive", 1.0, _contrastive))
}


def loss(name: str) -> Loss:
    """A loss by name.

    Raises:
        ConfigurationError: there is none of this name.
    """
    if name not in LOSSES:
        raise ConfigurationError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}")
    return LOSSES[name]
