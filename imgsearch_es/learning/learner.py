"""The learner: mined triplets of a batch, their loss, and one step; options and reports of it.

A triplet is an anchor, a positive (another picture of the anchor's object) and a negative (a
picture of another object). Every pair of anchor and positive in the batch is one triplet; ways of
mining differ in its negative. Formulas and sources are in docs/metric-learning.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.evaluation.significance import NOTHING, Interval
from imgsearch_es.evaluation.tables import show
from imgsearch_es.learning.head import DROPOUT, LAYERS, apply_head, one_or_more
from imgsearch_es.retrieval.ledger import reasons

if TYPE_CHECKING:
    import keras
    from matplotlib.figure import Figure

HEAD = "head"
"""What the head's own figures are called among others."""
Arrays = list[NDArray[Any]]
Triplets = NDArray[np.intp]
"""Places in a batch, shape (triplets, 3): anchor, positive, negative."""
Tensor = Any
"""A tensor of Keras's backend."""
_SMALLEST = 1e-12
"""Below it the slope of the square root has no bound."""


def semi_hard(
    embeddings: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
) -> Triplets:
    """Triplets with the nearest negative beyond the positive, or with the farthest."""
    anchors, positives = _pairs(groups)
    exact = embeddings.astype(np.float64)
    lengths = np.square(exact).sum(axis=1)
    distances = np.maximum(lengths[:, None] + lengths - 2 * exact @ exact.T, 0)
    far = np.where(groups[anchors, None] == groups, np.inf, distances[anchors])
    beyond = np.where(far > distances[anchors, positives, None], far, np.inf)
    nearest = beyond.argmin(axis=1)
    is_there = np.isfinite(beyond[np.arange(len(anchors)), nearest])
    farthest = np.where(np.isfinite(far), far, -np.inf).argmax(axis=1)
    return np.stack([anchors, positives, np.where(is_there, nearest, farthest)], axis=1)


def random_triplets(
    embeddings: NDArray[np.float32], groups: NDArray[np.intp], rng: np.random.Generator
) -> Triplets:
    """Triplets with any negative, all with the same chance; takes what ``semi_hard`` takes."""
    anchors, positives = _pairs(groups)
    lots = rng.random((len(anchors), len(groups)))
    negatives = np.where(groups[anchors, None] == groups, -1.0, lots).argmax(axis=1)
    return np.stack([anchors, positives, negatives], axis=1)


def _pairs(groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All (anchor, positive) that have a negative."""
    same = groups[:, None] == groups
    usable = same & ~np.eye(len(groups), dtype=bool) & ~same.all(axis=1)[:, None]
    anchors, positives = np.nonzero(usable)
    return anchors, positives


MINING = {"semi-hard": semi_hard, "random": random_triplets}
LOSSES = {"triplet": 0.5, "contrastive": 1.0}
"""The losses, and the usual margin of each."""


def mean_loss(name: str, embeddings: Tensor, triplets: Tensor, margin: float) -> Tensor:
    """The mean loss of triplets among embeddings of shape (pictures, dimensions)."""
    from keras import ops

    count = ops.shape(embeddings)[0]
    anchors, positives, negatives = (
        ops.matmul(ops.one_hot(triplets[:, i], count), embeddings) for i in range(3)
    )  # products, because gathering rows adds up in no fixed order on a GPU
    to_positives = ops.sum(ops.square(anchors - positives), axis=1)
    to_negatives = ops.sum(ops.square(anchors - negatives), axis=1)
    if name == "triplet":
        return ops.mean(ops.relu(to_positives - to_negatives + margin))
    distances = ops.sqrt(ops.maximum(to_negatives, _SMALLEST))
    return ops.mean(0.5 * to_positives + 0.5 * ops.square(ops.relu(margin - distances)))


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes:
        layers: units of the head's dense layers.
        shortcut: a linear layer beside them, which begins as half-whitening.
        dropout: share of features and hidden units that a step leaves out at random.
        shallow: a shallow network on the picture in parallel to the large one; see `head`.
        loss: one of LOSSES.
        margin: of the loss; None for its usual one.
        mining: one of MINING.
        learning_rate: of Adam.
        epochs: the most.
        patience: epochs without a better N-S score after which training ends.
        validation: share of the objects that choose the epoch, and of those that give the result.
        objects: in a batch.
        pictures: the most of one object in a batch.
        seed: of the division, the weights and the batches.

    Raises:
        ConfigurationError: there is no such loss or mining, or a number is too small.
    """

    layers: tuple[int, ...] = LAYERS
    shortcut: bool = True
    dropout: float = DROPOUT
    shallow: bool = False
    loss: str = "triplet"
    margin: float | None = None
    mining: str = "semi-hard"
    learning_rate: float = 1e-4
    epochs: int = 100
    patience: int = 15
    validation: float = 0.2
    objects: int = 32
    pictures: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for what, name, known in (("loss", self.loss, LOSSES), ("mining", self.mining, MINING)):
            if name not in known:
                raise ConfigurationError(
                    f"there is no {what} {name!r}; there are {', '.join(known)}"
                )
        if self.margin is None:
            object.__setattr__(self, "margin", LOSSES[self.loss])
        for name in ("margin", "learning_rate", "epochs", "patience"):
            if not 0 < getattr(self, name) < np.inf:
                raise ConfigurationError(f"{name} is above 0 and finite, not {getattr(self, name)}")
        for name in ("objects", "pictures"):
            if getattr(self, name) < 2:
                raise ConfigurationError(f"{name} of a batch are 2 or more")
        if not 0 <= self.seed < 2**63:
            raise ConfigurationError(f"seed is 0 or more and below 2^63, not {self.seed}")


DEFAULTS = TrainingOptions()


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of an epoch, numbered from 1.

    Attributes:
        loss: mean over the batches.
        validation_loss: the same of the held-out objects.
        score: N-S of the held-out objects (see ``score``).
    """

    number: int
    loss: float
    validation_loss: float
    score: float


@dataclass(slots=True)
class TrainingReport:
    """What a training did.

    Attributes:
        path: of the head.
        raw_score: N-S of the held-out objects by the features as they are, compared by cosine.
        start_score: the same by the head before it learned.
        objects, pictures: how many were learned from, how many held out to choose the epoch, and
            how many kept for the result, on which nothing was chosen.
        options: the training's, as JSON values.
        data: fingerprint of the features, pictures and groups.
        unread: (uri, reason) of pictures that a shallow network cannot learn from, because they
            could not be read again.
        history: the epochs, in order.
        best: the number of the epoch whose weights the head has; 0 for those it began with.
        stopped_early: whether the score had stopped rising before the last epoch.
        tested: N-S of the objects that were kept for the result: by the features as they are, by
            PCA whitening of them, which learns nothing of objects, by the head as it began, and by
            the head. Intervals of 95 % are over the objects.
        gain: of the head over the best of the three others, on the same pictures.
    """

    path: Path
    raw_score: float
    start_score: float
    objects: tuple[int, int, int]
    pictures: tuple[int, int, int]
    options: dict[str, Any]
    data: str
    unread: list[tuple[str, str]] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped_early: bool = False
    tested: dict[str, Interval] = field(default_factory=dict)
    gain: Interval = NOTHING

    @property
    def best_score(self) -> float:
        """N-S of the held-out objects by the head."""
        return self.history[self.best - 1].score if self.best else self.start_score

    @property
    def helps(self) -> bool:
        """Whether the head is shown to be better than what learned nothing of objects."""
        return self.gain.low > 0

    @property
    def rival(self) -> str:
        """The best of what learned nothing of objects."""
        return max((n for n in self.tested if n != HEAD), key=lambda name: self.tested[name].mean)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        ends = {"path": str(self.path), "best_score": self.best_score}
        return {**asdict(self), **ends, "unread": reasons(self.unread)}

    def __str__(self) -> str:
        ended = ", stopped early" if self.stopped_early else ""
        left_out = f" ({len(self.unread)} could not be read again)" if self.unread else ""
        results = (f"  {name:<12} {show(found)}" for name, found in self.tested.items())
        shown = "" if self.helps else ", so no gain is shown"
        return "\n".join(
            [
                f"{self.path}: learned from {self.objects[0]} objects with {self.pictures[0]} "
                f"pictures{left_out}; epoch {self.best} of {len(self.history)}{ended}, which "
                f"{self.objects[1]} others chose: N-S {self.start_score:.3f} -> "
                f"{self.best_score:.3f}",
                f"N-S of {self.objects[2]} objects on which nothing was chosen, with 95% intervals "
                "by object:",
                *results,
                f"  {HEAD} against {self.rival}: {show(self.gain, sign=True)}{shown}",
            ]
        )

    __repr__ = __str__

    def plot(self) -> Figure:
        """The curves of loss and score.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from imgsearch_es.search.shown import plots

        return plots.plot_curves(self)

    def save_plot(self, path: str | os.PathLike[str]) -> None:
        """Write the curves into a file, of the kind that its name says."""
        from imgsearch_es.search.shown import plots

        plots.save_figure(self.plot(), path, "figure")


class Learner:
    """Adam on the loss of mined triplets; takes what `Examples.inputs` gives."""

    def __init__(self, head: keras.Model, options: TrainingOptions) -> None:
        self._head = head
        self._loss, self._mine = options.loss, MINING[options.mining]
        self._margin = float(options.margin or 0)
        self._optimizer = import_keras().optimizers.Adam(options.learning_rate)
        self._optimizer.build(self._head.trainable_variables)
        self._step, self._measure = self._compiled()

    def loss(
        self,
        inputs: Sequence[NDArray[np.float32]],
        groups: NDArray[np.intp],
        rng: np.random.Generator,
        *,
        learn: bool,
    ) -> float:
        """The loss of a batch, before a step of learning from it; 0 where there is no triplet."""
        triplets = self._mine(apply_head(self._head, *inputs), groups, rng)
        run = self._step if learn else self._measure
        return float(run(list(inputs), triplets)) if len(triplets) else 0.0

    def optimizer_state(self) -> Arrays:
        """Copies of the optimizer's variables."""
        return [np.asarray(variable) for variable in self._optimizer.variables]

    def restore(self, weights: Arrays, optimizer: Arrays) -> None:
        """Go on from weights of the head and what ``optimizer_state`` gave."""
        self._head.set_weights(weights)
        for variable, value in zip(self._optimizer.variables, optimizer, strict=True):
            variable.assign(value)

    def _compiled(self) -> tuple[Any, Any]:
        """The functions of (inputs, triplets): a step, and the loss alone."""
        import tensorflow as tf

        variables = self._head.trainable_variables

        def measure(
            inputs: list[tf.Tensor], triplets: tf.Tensor, training: bool = False
        ) -> tf.Tensor:
            embeddings = self._head(one_or_more(inputs), training=training)
            return mean_loss(self._loss, embeddings, triplets, self._margin)

        def step(inputs: list[tf.Tensor], triplets: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = measure(inputs, triplets, training=True)
            gradients = tape.gradient(loss, [variable.value for variable in variables])
            self._optimizer.apply(gradients, variables)
            return loss

        signature = [
            [tf.TensorSpec(given.shape, tf.float32) for given in self._head.inputs],
            tf.TensorSpec((None, 3), tf.int64),
        ]
        return tuple(
            tf.function(function, input_signature=signature, autograph=False)
            for function in (step, measure)
        )
