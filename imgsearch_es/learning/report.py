"""What a training did: its epochs, and what the head is worth on objects that it has not seen."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.evaluation.significance import NOTHING, Interval
from imgsearch_es.evaluation.tables import show
from imgsearch_es.retrieval.ledger import reasons

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = "head"
"""What the head's own figures are called among others."""


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
