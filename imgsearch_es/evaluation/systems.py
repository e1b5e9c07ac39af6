"""Systems: ways to answer that are compared, each with a short name that says all of it.

auto                                one of the strategies
bm25:k1=1.5:b=0.3                   with parameters
dense-cosine:candidates=200         an approximate answer
sqrt=1+dense-cosine=2               a fusion: a weighted sum of scores
auto+dense-cosine:rrf               reciprocal ranks; also :window=200 and :rank_constant=30
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.fusion import Fusion
from imgsearch_es.retrieval.strategies import MAX_RESULTS, STRATEGIES, strategy_of

AUTO = "auto"
"""The strategy where none is named."""


@dataclass(frozen=True, slots=True)
class System:
    """A way to answer a query.

    Attributes:
        name: as it was written, without spaces: the tag of TREC runs, and the name in tables.
        options: what ``ImageIndex.query`` takes for it.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """The strategies that make up its scores: one, or those that it fuses."""
        fusion: Fusion | None = self.options.get("fuse")
        return (self.options.get("strategy", AUTO),) if fusion is None else tuple(fusion.weights)

    @property
    def uses_features(self) -> bool:
        """Whether it compares deep features."""
        return any(part in COMPARISONS for part in self.parts)

    @property
    def uses_synsets(self) -> bool:
        """Whether it compares synsets."""
        return any(part not in COMPARISONS for part in self.parts)

    def scores_as(self, other: System) -> bool:
        """Whether both compute the same formula, so that their scores can be compared."""
        return self._formula == other._formula

    @property
    def _formula(self) -> object:
        fusion: Fusion | None = self.options.get("fuse")
        if fusion is not None:
            return fusion
        (name,) = self.parts
        return STRATEGIES[name].scores, dict(self.options.get("parameters", {}))

    @property
    def reach(self) -> int:
        """How many documents it can rank: of reciprocal ranks the window, which it fuses."""
        fusion = self.options.get("fuse")
        if isinstance(fusion, Fusion) and fusion.is_ranked:
            return fusion.window
        return MAX_RESULTS

    @classmethod
    def parse(cls, text: str) -> System:
        """Read the short name.

        Raises:
            QueryError: it names no strategy, or an option makes no sense.
        """
        name = "".join(text.split())
        parts, *options = name.split(":")
        weights = dict(_part(part, name) for part in parts.split("+"))
        if len(weights) < len(parts.split("+")):
            raise QueryError(f"{name} names a part twice")
        if len(weights) > 1 or "=" in parts or "rrf" in options:
            return cls(name, {"fuse": _fusion(weights, options, name)})
        return cls(name, {"strategy": _strategy(parts), **_options(options, name)})


def parse_systems(texts: str | Iterable[str | System]) -> tuple[System, ...]:
    """Systems by their short names, or one text with commas between them.

    Raises:
        QueryError: one of them is none, comes twice, or there is none.
    """
    asked = texts.split(",") if isinstance(texts, str) else list(texts)
    systems = [
        item if isinstance(item, System) else System.parse(item)
        for item in asked
        if isinstance(item, System) or item.strip()
    ]
    names = [system.name for system in systems]
    if not names or len(set(names)) < len(names):
        raise QueryError(
            f"name the strategies to compare, each once, not {', '.join(names) or 'none'}; "
            f"there are {', '.join(STRATEGIES)}"
        )
    return tuple(systems)


def _strategy(name: str) -> str:
    return strategy_of(name).name


def _part(text: str, name: str) -> tuple[str, float]:
    part, sign, weight = text.partition("=")
    return part, _number(weight, name) if sign else 1.0


def _options(options: Iterable[str], name: str) -> dict[str, Any]:
    numbers = dict(_named(option, name) for option in options)
    candidates = numbers.pop("candidates", None)
    found: dict[str, Any] = {"parameters": numbers} if numbers else {}
    if candidates is not None:
        found |= {"approximate": True, "candidates": int(candidates)}
    return found


def _fusion(weights: Mapping[str, float], options: Iterable[str], name: str) -> Fusion:
    listed = list(options)
    numbers = dict(_named(option, name) for option in listed if option != "rrf")
    if unknown := numbers.keys() - {"window", "rank_constant"}:
        raise QueryError(f"{name}: a fusion has no option {min(unknown)}; it has rrf, window and "
                         "rank_constant")  # fmt: skip
    if numbers and "rrf" not in listed:
        raise QueryError(f"{name}: window and rank_constant go with rrf")
    whole = {key: int(value) for key, value in numbers.items()}
    return Fusion(weights, "rrf" if "rrf" in listed else "sum", **whole)


def _named(option: str, name: str) -> tuple[str, float]:
    key, sign, value = option.partition("=")
    if not sign or not key:
        raise QueryError(f"{name}: {option!r} is no option such as k1=1.5")
    return key, _number(value, name)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise QueryError(f"{name}: {text!r} is no number") from error
