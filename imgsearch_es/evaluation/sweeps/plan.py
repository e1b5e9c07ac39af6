"""What a sweep is asked to do, as JSON values that a manifest keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.pictures.manifests import PictureList

LIST = "list:"
"""Before the path of a list of pictures."""


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """The arguments of ``sweep``, as text and numbers.

    Attributes:
        pictures: paths and URLs, of lists after "list:"; empty where the cache was taken as it is.
        judgements: where they come from.
        models: names, or TOML files of analyzers.
        systems: short names.
        measures: names.
        top_k: numbers of terms.
        filters: short names of chains of term filters.
        compare: the point that others of its model are compared with.
        queries: the file of queries.
        query_pictures: the folder of query pictures.
        depth: of the rankings.
        sample: how many queries are asked; None for all.
        timed: how many queries are timed.
        confidence: of the intervals.
        interval: how they are made.
        seed: of all that is random.
    """

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

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def arguments(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of ``sweep`` in what ``to_dict`` gave.

        Raises:
            EvaluationError: it is not whole, or its judgements were given in Python.
        """
        names = cls.__dataclass_fields__.keys()
        if different := names ^ values.keys():
            raise EvaluationError(f"the sweep's setting {min(different)} is unknown or missing")
        arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        arguments["pictures"] = [
            PictureList(place.removeprefix(LIST)) if place.startswith(LIST) else place
            for place in arguments["pictures"]
        ] or None
        return arguments
