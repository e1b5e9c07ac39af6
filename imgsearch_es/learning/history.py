"""What a training did, epoch by epoch, and the report at its end."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of an epoch, numbered from 1.

    Attributes:
        loss: mean over the batches.
        validation_loss: the same of the held-out objects.
        score: N-S of the held-out objects (see ``training.score``).
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
        objects, pictures: how many were learned from, and how many held out.
        options: the training's, as JSON values.
        data: fingerprint of the features, pictures and groups.
        unread: (uri, reason) of pictures that a shallow network cannot learn from, because they
            could not be read again.
        history: the epochs, in order.
        best: the number of the epoch whose weights the head has; 0 for those it began with.
        stopped_early: whether the score had stopped rising before the last epoch.
    """

    path: Path
    raw_score: float
    start_score: float
    objects: tuple[int, int]
    pictures: tuple[int, int]
    options: dict[str, Any]
    data: str
    unread: list[tuple[str, str]] = field(default_factory=list)
    history: list[Epoch] = field(default_factory=list)
    best: int = 0
    stopped_early: bool = False

    @property
    def best_score(self) -> float:
        """N-S of the held-out objects by the head."""
        return self.history[self.best - 1].score if self.best else self.start_score

    @property
    def helps(self) -> bool:
        """Whether the head scores better than the features as they are."""
        return self.best_score > self.raw_score

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        unread = [{"uri": uri, "reason": reason} for uri, reason in self.unread]
        ends = {"path": str(self.path), "best_score": self.best_score, "unread": unread}
        return {**asdict(self), **ends}

    def __str__(self) -> str:
        ended = ", stopped early" if self.stopped_early else ""
        left_out = f" ({len(self.unread)} could not be read again)" if self.unread else ""
        return (
            f"{self.path}: N-S of {self.objects[1]} held-out objects {self.raw_score:.3f} -> "
            f"{self.best_score:.3f} (epoch {self.best} of {len(self.history)}{ended}), learned "
            f"from {self.objects[0]} objects with {self.pictures[0]} pictures{left_out}"
        )

    def plot(self) -> Figure:
        """The curves of loss and score.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        from imgsearch_es.search.shown import evaluation

        return evaluation.plot_curves(self)

    def save_plot(self, path: str | os.PathLike[str]) -> None:
        """Write the curves into a file, of the kind that its name says."""
        from imgsearch_es.search.shown import figures

        figures.save_figure(self.plot(), path, "figure")
