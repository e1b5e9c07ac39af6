"""What an experiment or a sweep is asked to do, as JSON values that a manifest keeps."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from imgsearch_es.errors import EvaluationError
from imgsearch_es.pictures.manifests import PictureList

IN_PYTHON = "(given in Python)"
"""Stands for judgements, queries or runs that no file holds."""
_LIST = "list:"
"""Before the path of a list of pictures."""
P = TypeVar("P", bound="BasePlan")


class BasePlan:
    """What the plans of experiments and sweeps have in common."""

    kind: ClassVar[str]
    compare: str | None
    confidence: float
    interval: str
    seed: int

    @property
    def sureness(self) -> dict[str, Any]:
        """How sure means and differences are: options of ``significance.interval``."""
        return {"confidence": self.confidence, "kind": self.interval, "seed": self.seed}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def arguments(self) -> dict[str, Any]:
        """What ``evaluate`` or ``sweep`` takes to do it again."""
        values = self.to_dict()
        lost = [k for k, v in values.items() if IN_PYTHON in (v if isinstance(v, list) else [v])]
        if lost:
            raise EvaluationError(
                f"the {' and '.join(lost)} of this {self.kind} were given in Python, and no file "
                "holds them: give their files, or compare with differences(manifest, found)"
            )
        return values

    @classmethod
    def from_dict(cls: type[P], values: Mapping[str, Any]) -> P:
        """Read what ``to_dict`` gave."""
        kinds = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
        hints = get_type_hints(cls)
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        article = "an" if cls.kind[0] in "aeiou" else "a"
        if unknown := given.keys() - kinds.keys():
            raise EvaluationError(f"{article} {cls.kind} has no setting {min(unknown)}")
        for name, value in given.items():
            if not isinstance(value, _types(hints[name])) or isinstance(value, bool):
                raise EvaluationError(f"the {cls.kind}'s {name} cannot be {value!r}")
        needed = {name for name, field in kinds.items() if field.default is MISSING}
        if missing := needed - given.keys():
            raise EvaluationError(f"the {cls.kind} does not say its {min(missing)}")
        return cls(**given)


@dataclass(frozen=True)
class Plan(BasePlan):
    """The arguments of ``evaluate``, as text and numbers."""

    kind = "experiment"
    judgements: str
    systems: tuple[str, ...]
    measures: tuple[str, ...]
    compare: str | None = None
    queries: str | None = None
    pictures: str | None = None
    runs: tuple[str, ...] = ()
    depth: int = 1000
    sample: int | None = None
    confidence: float = 0.95
    interval: str = "t"
    seed: int = 0


@dataclass(frozen=True)
class SweepPlan(BasePlan):
    """The arguments of ``sweep``, as text and numbers; no picture where its cache was taken."""

    kind = "sweep"
    pictures: tuple[str, ...]
    judgements: str
    models: tuple[str, ...]
    systems: tuple[str, ...]
    measures: tuple[str, ...]
    top_k: tuple[int, ...]
    filters: tuple[str, ...]
    compare: str | None
    queries: str | None
    query_pictures: str | None
    depth: int
    sample: int | None
    timed: int
    confidence: float
    interval: str
    seed: int

    def arguments(self) -> dict[str, Any]:
        """What ``sweep`` takes to do it again."""
        pictures = [
            PictureList(place.removeprefix(_LIST)) if place.startswith(_LIST) else place
            for place in self.pictures
        ]
        return {**super().arguments(), "pictures": pictures or None}


def as_text(value: object) -> str:
    """A path, a name or a list of pictures; of what no file holds, IN_PYTHON."""
    if isinstance(value, PictureList):
        return f"{_LIST}{os.fspath(value.place)}"
    return os.fspath(value) if isinstance(value, str | os.PathLike) else IN_PYTHON


def _types(hint: Any) -> tuple[type, ...]:
    """What a setting may be in JSON, by its annotation."""
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _types(part))
    kind: type = get_origin(hint) or hint
    return (int, float) if kind is float else (kind,)
