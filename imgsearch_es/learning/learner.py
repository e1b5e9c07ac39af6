"""The learner: a head, its optimizer and one step of learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.learning.checkpoints import Arrays
from imgsearch_es.learning.head import apply_head, run_head, start_dropout
from imgsearch_es.learning.losses import Loss
from imgsearch_es.learning.mining import Mining, Triplets

if TYPE_CHECKING:
    import keras

Inputs = Sequence[NDArray[np.float32]]
"""What the head takes of a batch: features, and small pictures where it has a shallow network."""


class Learner:
    """Adam on the loss of mined triplets.

    Args:
        head: the network, as it begins.
        loss: what to make small.
        mining: which triplets of a batch count.
        margin: of the loss.
        learning_rate: of Adam.

    Attributes:
        head: the network.
    """

    def __init__(
        self,
        head: keras.Model,
        *,
        loss: Loss,
        mining: Mining,
        margin: float,
        learning_rate: float,
    ) -> None:
        keras = import_keras()
        self.head = head
        self._loss, self._mining, self._margin = loss, mining, margin
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(self.head.trainable_variables)
        self._step, self._measure = self._compiled()

    def begin(self, rng: np.random.Generator) -> None:
        """Begin an epoch: what dropout leaves out follows from ``rng`` alone."""
        start_dropout(self.head, rng)

    def learn(self, inputs: Inputs, groups: NDArray[np.intp], rng: np.random.Generator) -> float:
        """One step on a batch; gives the loss before it, 0 where there is no triplet."""
        triplets = self._mine(inputs, groups, rng)
        return float(self._step(list(inputs), triplets)) if len(triplets) else 0.0

    def loss_of(self, inputs: Inputs, groups: NDArray[np.intp], rng: np.random.Generator) -> float:
        """The loss of a batch, without learning from it."""
        triplets = self._mine(inputs, groups, rng)
        return float(self._measure(list(inputs), triplets)) if len(triplets) else 0.0

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

    def _mine(self, inputs: Inputs, groups: NDArray[np.intp], rng: np.random.Generator) -> Triplets:
        return self._mining(apply_head(self.head, *inputs), groups, rng)

    def _compiled(self) -> tuple[Any, Any]:
        """The functions of (inputs, triplets): a step, and the loss alone."""
        import tensorflow as tf

        variables = self.head.trainable_variables

        def measure(
            inputs: list[tf.Tensor], triplets: tf.Tensor, training: bool = False
        ) -> tf.Tensor:
            embeddings = run_head(self.head, inputs, training=training)
            return self._loss.of_triplets(embeddings, triplets, self._margin)

        def step(inputs: list[tf.Tensor], triplets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = measure(inputs, triplets, training=True)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            self._optimizer.apply(gradients, variables)
            return loss

        signature = [
            [tf.TensorSpec(given.shape, tf.float32) for given in self.head.inputs],
            tf.TensorSpec((None, 3), tf.int64),
        ]
        return tuple(
            tf.function(function, input_signature=signature, autograph=False)
            for function in (step, measure)
        )
