"""How to train: the options of a training and their defaults."""

from __future__ import annotations

from dataclasses import dataclass

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.learning.head import DROPOUT, LAYERS
from imgsearch_es.learning.losses import loss
from imgsearch_es.learning.mining import mining


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train.

    Attributes:
        layers: units of the head's dense layers.
        shortcut: a linear layer beside them, which begins as half-whitening; see `linear`.
        dropout: share of features and hidden units that a step leaves out at random.
        shallow: a shallow network on the picture in parallel to the large one; see `shallow`.
        loss: "triplet" or "contrastive"; see `losses`.
        margin: of the loss; None for its usual one.
        mining: "semi-hard" or "random"; see `mining`.
        learning_rate: of Adam.
        epochs: the most; an epoch shows every object once.
        patience: epochs without a better N-S score after which training ends.
        validation: share of the objects that are held out.
        objects: in a batch.
        pictures: the most of one object in a batch.
        seed: of the division, the weights and the batches.
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
        chosen = loss(self.loss)
        mining(self.mining)
        if self.margin is None:
            object.__setattr__(self, "margin", chosen.margin)
        for name in ("margin", "learning_rate", "epochs", "patience"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is above 0, not {getattr(self, name)}")
        for name in ("objects", "pictures"):
            if getattr(self, name) < 2:
                raise ConfigurationError(f"{name} of a batch are 2 or more")
        if self.seed < 0:
            raise ConfigurationError(f"seed is 0 or more, not {self.seed}")


DEFAULTS = TrainingOptions()
