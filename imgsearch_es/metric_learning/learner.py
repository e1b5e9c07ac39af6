"""The learner: a head, its optimizer and one step of learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.metric_learning.checkpoints import Arrays
from imgsearch_es.metric_learning.head import apply_head, build_head, start_dropout, start_shortcut
from imgsearch_es.metric_learning.losses import Loss
from imgsearch_es.metric_learning.mining import Mining, Triplets
from imgsearch_es.models.runtime import import_keras


class Learner:
    """Adam on the loss of mined triplets.

    Args:
        features: to learn from; the head's shortcut begins with what they have in common.
        layers: units of the head's layers.
        shortcut: see `build_head`.
        dropout: see `build_head`.
        loss: what to make small.
        mining: which triplets of a batch count.
        margin: of the loss.
        learning_rate: of Adam.
        seed: of the weights.

    Attributes:
        head: the network.
    """

    def __init__(
        self,
        features: NDArray[np.float32],
        layers: Sequence[int],
        *,
        shortcut: bool,
        dropout: float,
        loss: Loss,
        mining: Mining,
        margin: float,
        learning_rate: float,
        seed: int,
    ) -> None:
        keras = import_keras()
        dimensions = features.shape[1]
        self.head = build_head(dimensions, layers, shortcut=shortcut, dropout=dropout, seed=seed)
        if shortcut:
            start_shortcut(self.head, features)
        self._loss, self._mining, self._margin = loss, mining, margin
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self.head.trainable_variables)
        self._step, self._measure = self._compiled(dimensions)

    def begin(self, rng: np.random.Generator) -> None:
        """Begin an epoch: what dropout leaves out follows from ``rng`` alone."""
        start_dropout(self.head, rng)

    def learn(
        self, features: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
    ) -> float:
        """One step on a batch; gives the loss before it, 0 where there is no triplet."""
        triplets = self._mine(features, groups, rng)
        return float(self._step(features, triplets)) if len(triplets) else 0.0

    def loss_of(
        self, features: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
    ) -> float:
        """The loss of a batch, without learning from it."""
        triplets = self._mine(features, groups, rng)
        return float(self._measure(features, triplets)) if len(triplets) else 0.0

    def weights(self) -> Arrays:
        """Copies of the head's weights."""
        return list(self.head.get_weights())

    def set_weights(self, weights: Arrays) -> None:
        """Put weights into the head."""
        self.head.set_weights(weights)

    def optimizer_state(self) -> Arrays:
        """Copies of the optimizer's variables."""
        return [np.asarray(variable) for variable in self._optimizer.variables]

    def restore(self, weights: Arrays, optimizer: Arrays) -> None:
        """Go on from what ``weights`` and ``optimizer_state`` gave."""
        self.set_weights(weights)
        for variable, value in zip(self._optimizer.variables, optimizer, strict=True):
            variable.assign(value)

    def _mine(
        self, features: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
    ) -> Triplets:
        return self._mining(apply_head(self.head, features), groups, rng)

    def _compiled(self, dimensions: int) -> tuple[Any, Any]:
        """The functions of (features, triplets): a step, and the loss alone."""
        import tensorflow as tf

        variables = self.head.trainable_variables

        def measure(features: tf.Tensor, triplets: tf.Tensor, training: bool = False) -> tf.Tensor:
            embeddings = self.head(features, training=training)
            return self._loss.of_triplets(embeddings, triplets, self._margin)

        def step(features: tf.Tensor, triplets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = measure(features, triplets, training=True)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            self._optimizer.apply(gradients, variables)
            return loss

        signature = [
            tf.TensorSpec((None, dimensions), tf.float32),
            tf.TensorSpec((None, 3), tf.int64),
        ]
        return tuple(
            tf.function(function, input_signature=signature, autograph=False)
            for function in (step, measure)
        )
