"""How pictures are indexed: what a run is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imgsearch_es.indexing.resolve import Labels
from imgsearch_es.pictures.files import Limits

DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Options:
    """How to run; see ``ImageIndex.add``."""

    labels: Labels = None
    metadata: Mapping[str, Any] | None = None
    prune: bool = False
    retry: bool = False
    batch_size: int | None = None
    workers: int | None = None
    limits: Limits = DEFAULT_LIMITS
