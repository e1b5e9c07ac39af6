"""Which deep feature of a network: layer, pooling, scales, flips, and what is learnt beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from imgsearch_es.analysis.models.weights import LearntFile
from imgsearch_es.analysis.plugins import check_options
from imgsearch_es.errors import AnalyzerError

POOLINGS = ("avg", "max", "gem", "rmac", "spoc")
_OWN_OPTIONS = {"p": "gem", "levels": "rmac"}
_LARGEST_SCALE = 4.0


@dataclass(frozen=True)
class Parallel(LearntFile):
    """The file of a network that makes the deep feature of the model's own and of the picture."""

    what: ClassVar[str] = "a network in parallel"


@dataclass(frozen=True)
class DeepFeature:
    """A deep feature; the defaults are a model's own: the average of its last activation.

    docs/features.md says what the options mean, and has the formulas of the poolings.
    """

    layer: str | None = None
    pooling: str = "avg"
    p: float = 3.0
    levels: int = 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    parallel: Parallel | None = None

    def __post_init__(self) -> None:
        are_scales = isinstance(self.scales, tuple) and all(
            _is_number(scale, _LARGEST_SCALE) for scale in self.scales
        )
        rules = {
            "layer": (
                self.layer is None or (isinstance(self.layer, str) and self.layer != ""),
                "a layer's name",
            ),
            "pooling": (self.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
            "p": (_is_number(self.p, 100), "a number above 0 and up to 100"),
            "levels": (type(self.levels) is int and 1 <= self.levels <= 8, "1 to 8"),
            "flip": (isinstance(self.flip, bool), "true or false"),
            "scales": (
                are_scales and 0 < len(self.scales) == len(set(self.scales)),
                f"a list of different numbers above 0 and up to {_LARGEST_SCALE:g}",
            ),
        }
        for option, (is_right, wanted) in rules.items():
            if not is_right:
                given = getattr(self, option)
                raise AnalyzerError(f"embedding: {option} is {wanted}, not {given!r}")

    @property
    def is_default(self) -> bool:
        """Whether it is the model's own deep feature."""
        return self.to_config() == {}

    def to_config(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON values."""
        mine, default = asdict(self), asdict(_DEFAULT)
        found = {name: value for name, value in mine.items() if value != default[name]}
        for option, pooling in _OWN_OPTIONS.items():
            if self.pooling == pooling:
                found[option] = mine[option]
            else:
                found.pop(option, None)
        if "p" in found:
            found["p"] = float(self.p)
        if "scales" in found:
            found["scales"] = list(self.scales)
        return found

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DeepFeature:
        """Read what `to_config` gave, or what a person wrote."""
        check_options("embedding", config, [field.name for field in fields(cls)])
        for option, pooling in _OWN_OPTIONS.items():
            if option in config and config.get("pooling", "avg") != pooling:
                raise AnalyzerError(f'embedding: {option} is an option of pooling = "{pooling}"')
        options = dict(config)
        if isinstance(scales := options.get("scales"), list):
            options["scales"] = tuple(float(s) if _is_number(s) else s for s in scales)
        if "parallel" in options:
            options["parallel"] = _parallel(options["parallel"])
        return cls(**options)


def describe_feature(config: Mapping[str, Any]) -> str:
    """What `DeepFeature.to_config` gave, in a few words; its file need not be there."""
    options = dict(config)
    calls = {options.pop("pooling", "avg"): options}
    if "parallel" in options:
        calls["parallel"] = options.pop("parallel")
    return " -> ".join(
        f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"
        for name, given in calls.items()
    )


def _parallel(given: object) -> Parallel:
    """The option's value as a person writes it, a path, or as `to_config` gave it."""
    if isinstance(given, str | os.PathLike):
        return Parallel(os.fspath(given))
    if not isinstance(given, Mapping) or not {"path"} <= set(given) <= {"path", "sha256"}:
        wanted = "the path of a head, or its path and sha256"
        raise AnalyzerError(f"embedding: parallel is {wanted}, not {given!r}")
    return Parallel(**given)


def _is_number(value: object, most: float = sys.float_info.max) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value <= most


_DEFAULT = DeepFeature()
