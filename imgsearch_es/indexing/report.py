"""What a run did: counts that add up, rejected pictures with reasons, time by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from imgsearch_es.retrieval.ledger import Rejected

STAGES = ("find", "read", "decode", "analyze", "write")


class Stages:
    """Work by stage, of all threads together.

    Attributes:
        seconds: of work; stages overlap, so they exceed the run's.
        pictures: how many were decoded and analyzed; those in memory are decoded already.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.pictures = dict.fromkeys(STAGES, 0)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float, pictures: int = 0) -> None:
        """Add time and pictures to a stage; any thread may."""
        with self._lock:
            self.seconds[stage] += seconds
            self.pictures[stage] += pictures

    def shares(self) -> dict[str, float]:
        """Each stage's part of the work, from 0 to 1."""
        total = sum(self.seconds.values()) or 1.0
        return {stage: seconds / total for stage, seconds in self.seconds.items()}


@dataclass(slots=True)
class IndexReport:
    """What a run did: found = added + updated + unchanged + rejected.

    Attributes:
        added: pictures new in the index.
        updated: pictures whose content, labels or metadata changed.
        unchanged: pictures that the index had already.
        removed: documents removed because their files are gone (only with ``prune``) or no longer
            hold a picture.
        rejected: pictures that could not be read or stored, with reasons.
        reused: those of added and updated that needed no analysis, as a picture with the same
            content had one: moved files and copies.
        as_before: those of rejected that were not tried again, as they are unchanged.
        seconds: what the run took.
        stages: what each stage worked; see `Stages`.
    """

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    reused: int = 0
    as_before: int = 0
    seconds: float = 0.0
    stages: Stages = field(default_factory=Stages, compare=False, repr=False)

    @property
    def found(self) -> int:
        """How many pictures were looked at."""
        return self.added + self.updated + self.unchanged + len(self.rejected)

    @property
    def shortages(self) -> int:
        """How many of rejected failed for want of memory or time; the next run tries them again."""
        return sum(entry.is_shortage for entry in self.rejected)

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.found / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        counts = ("found", "added", "updated", "unchanged", "removed", "reused")
        return {
            **{name: getattr(self, name) for name in counts},
            "rejected": [item.to_dict() for item in self.rejected],
            "as_before": self.as_before,
            "shortages": self.shortages,
            "seconds": round(self.seconds, 3),
            "pictures_per_second": round(self.rate, 2),
            "stages": {stage: round(share, 4) for stage, share in self.stages.shares().items()},
        }

    def __str__(self) -> str:
        parts = [f"{self.added} added", f"{self.updated} updated", f"{self.unchanged} unchanged"]
        if self.removed:
            parts.append(f"{self.removed} removed")
        parts.append(f"{len(self.rejected)} rejected")
        if self.shortages:
            parts.append(f"{self.shortages} of them for want of memory or time")
        if self.reused:
            parts.append(f"{self.reused} of them without analysis, as their content was known")
        return ", ".join(parts)


Progress = Callable[[IndexReport, "int | None"], None]
"""Called with the report so far and the number of pictures, None while they are being found."""
