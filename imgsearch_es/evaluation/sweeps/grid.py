"""The settings of a sweep: how many terms a picture keeps and asks with, and which filters run.

Chains of term filters have short names, in the order in which they run:

plain                       nothing but top_k
sqrt                        top_k, then square roots
min_score=0.01+sqrt         top_k, then these two
hypernyms+top_k             hypernyms before the cut: what is cut are classes and hypernyms together

``top_k`` runs first unless a chain says where. A filter's only option stands behind ``=``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from imgsearch_es.analysis.filters import TERM_FILTERS, create_term_filter
from imgsearch_es.analysis.plugins import load_plugin
from imgsearch_es.errors import EvaluationError
from imgsearch_es.vocabulary.synsets import Vocabulary

TOP_K = (1, 2, 5, 10, 20, 50, 100, 1000)
PLAIN = "plain"
_CUT = "top_k"


@dataclass(frozen=True, slots=True)
class Chain:
    """Term filters before and after the cut to so many terms, and what they are called."""

    name: str
    before: tuple[dict[str, Any], ...] = ()
    after: tuple[dict[str, Any], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Chain:
        """Read the short name."""
        name = "".join(text.split())
        parts = [] if name == PLAIN else name.split("+")
        cuts = [i for i, part in enumerate(parts) if part == _CUT]
        if len(cuts) > 1 or any(part.startswith(f"{_CUT}=") for part in parts):
            raise EvaluationError(
                f"{name}: how many terms are kept is the sweep's to say; top_k stands there once, "
                "without a number, or not at all"
            )
        at = cuts[0] if cuts else -1
        before, after = parts[: max(at, 0)], parts[at + 1 :]
        return cls(name, tuple(map(_filter, before)), tuple(map(_filter, after)))

    def term_filters(self, top_k: int) -> list[dict[str, Any]]:
        """The configurations of an analyzer's term filters."""
        return [*self.before, {"name": _CUT, "k": top_k}, *self.after]

    def terms_to_cut(self, classes: Vocabulary) -> int:
        """How many terms there are where the cut is made, of a model with these classes."""
        for config in self.before:
            classes = create_term_filter(config).vocabulary(classes)
        return len(classes)


class Setting(NamedTuple):
    """One way to make terms of a posterior."""

    chain: Chain
    top_k: int
    query_terms: int | None = None


def settings(
    chains: Sequence[Chain],
    top_k: Sequence[int],
    query_terms: Sequence[int],
    classes: Vocabulary,
) -> list[Setting]:
    """Every chain with every number of terms; numbers above all there are become all, once.

    Without ``query_terms``, a query picture asks with all terms. Of several that are at least as
    many as a picture keeps, the least stands for all.
    """
    asks = dict.fromkeys(min(n, len(classes)) for n in query_terms) or (None,)
    return [
        Setting(chain, k, asked)
        for chain in chains
        for asked in asks
        for k in dict.fromkeys(min(k, chain.terms_to_cut(classes)) for k in top_k)
        if asked is None or not any(n is not None and k <= n < asked for n in asks)
    ]


def parse_chains(texts: str | Iterable[str]) -> tuple[Chain, ...]:
    """Chains by their short names, or one text with commas between them."""
    names = texts.split(",") if isinstance(texts, str) else list(texts)
    chains = tuple(Chain.parse(name) for name in names if name.strip())
    if not chains or len({chain.name for chain in chains}) < len(chains):
        raise EvaluationError(
            f"name chains of term filters, each once, such as {PLAIN},sqrt,hypernyms"
        )
    return chains


def parse_numbers(option: str, numbers: str | Iterable[int]) -> tuple[int, ...]:
    """Numbers of terms, ascending, or one text with commas between them."""
    given = numbers.split(",") if isinstance(numbers, str) else list(numbers)
    try:
        found = sorted({int(number) for number in given})
    except ValueError as error:
        raise EvaluationError(f"{option} takes whole numbers such as 1,10,100: {error}") from error
    if not found or found[0] < 1:
        raise EvaluationError(f"{option} takes whole numbers above 0, not {numbers!r}")
    return tuple(found)


def _filter(text: str) -> dict[str, Any]:
    """The configuration of one filter, checked and complete."""
    name, sign, value = text.partition("=")
    config: dict[str, Any] = {"name": name}
    if sign:
        factory = load_plugin(TERM_FILTERS, name)
        fields = dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()
        if len(fields) != 1:
            raise EvaluationError(f"the term filter {name} has no option of its own")
        config[fields[0].name] = _number(value, text)
    create_term_filter(config)
    return config


def _number(text: str, where: str) -> float | int:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    raise EvaluationError(f"{where}: {text!r} is no number")
