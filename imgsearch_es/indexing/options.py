"""How pictures are indexed: what a run is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from imgsearch_es.indexing.resolve import Labels
from imgsearch_es.pictures.files import Limits

DEFAULT_LIMITS = Limits()


class AddOptions(TypedDict, total=False):
    """The fields of `Options`, as arguments of ``ImageIndex.add``."""

    labels: Labels
    metadata: Mapping[str, Any] | None
    prune: bool
    retry: bool
    batch_size: int | None
    workers: int | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class Options:
    """How to run.

    Attributes:
        labels: what to call the pictures that their list gives no label: one label, several,
            or a function of the URI (see ``folder_label``). None leaves the labels that are
            stored.
        metadata: a person's own fields for each of them, JSON values; a list's come first.
        prune: also remove documents below the folders named whose files are gone.
        retry: also try pictures again that were rejected before and have not changed.
        batch_size: pictures per forward pass; by default 32.
        workers: processes that decode; by default as many as the model can use, at most one
            per core. With Ray: actors, each with a model.
        limits: the largest picture to accept.
    """

    labels: Labels = None
    metadata: Mapping[str, Any] | None = None
    prune: bool = False
    retry: bool = False
    batch_size: int | None = None
    workers: int | None = None
    limits: Limits = DEFAULT_LIMITS
