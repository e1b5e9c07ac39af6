"""What an experiment is asked to do, as JSON values that a manifest keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.systems import System

IN_PYTHON = "(given in Python)"
"""Stands for judgements, queries or runs that no file holds."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The arguments of ``evaluate``, as text and numbers.

    Attributes:
        judgements: where they come from.
        systems: short names.
        measures: names.
        compare: the baseline's name.
        queries: the file of queries.
        pictures: the folder of query pictures.
        runs: files of other programs' runs.
        depth: of the rankings.
        sample: how many queries are asked; None for all.
        confidence: of the intervals.
        interval: how they are made.
        seed: of all that is random.
    """

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

    @classmethod
    def of(
        cls,
        judgements: str | os.PathLike[str] | Judgements,
        systems: Sequence[System],
        measures: tuple[str, ...],
        compare: str | None,
        queries: str | os.PathLike[str] | Mapping[str, Any] | None,
        pictures: str | os.PathLike[str] | None,
        runs: Iterable[str | os.PathLike[str] | Run],
        **numbers: Any,
    ) -> Plan:
        """The plan of what ``evaluate`` was given."""
        return cls(
            as_text(judgements),
            tuple(system.name for system in systems),
            measures,
            compare,
            None if queries is None else as_text(queries),
            None if pictures is None else as_text(pictures),
            tuple(map(as_text, runs)),
            **numbers,
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """Read what ``to_dict`` gave.

        Raises:
            EvaluationError: it is no plan.
        """
        given: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        if unknown := given.keys() - _KINDS.keys():
            raise EvaluationError(f"an experiment has no setting {min(unknown)}")
        for name, value in given.items():
            if not isinstance(value, _KINDS[name]) or isinstance(value, bool):
                raise EvaluationError(f"the experiment's {name} cannot be {value!r}")
        if missing := {"judgements", "systems", "measures"} - given.keys():
            raise EvaluationError(f"the experiment does not say its {min(missing)}")
        return cls(**given)


_TEXT, _MAYBE = (str,), (str, type(None))
_KINDS: dict[str, tuple[type, ...]] = {
    **{"judgements": _TEXT, "systems": (tuple,), "measures": (tuple,), "runs": (tuple,)},
    **{"compare": _MAYBE, "queries": _MAYBE, "pictures": _MAYBE, "interval": _TEXT},
    **{"depth": (int,), "sample": (int, type(None)), "seed": (int,), "confidence": (int, float)},
}
"""What each setting may be in JSON."""


def as_text(value: object) -> str:
    """A path or a name; of what no file holds, IN_PYTHON."""
    return os.fspath(value) if isinstance(value, str | os.PathLike) else IN_PYTHON
