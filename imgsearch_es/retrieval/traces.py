"""How much of a word is more than a trace of it, and what words with a sign select.

A trace of a word is a score of at most 0.04 times the root of the number of its classes, and of at
most a half: 0.04 of tabby, 0.43 of dog. What is excluded may be more than a trace where a picture
has as much of the words asked for, class for class: classifiers give the 118 breeds of a dog
something of every cat (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from imgsearch_es.retrieval.conditions import Filter, any_of, of_score
from imgsearch_es.vocabulary.colors import is_color
from imgsearch_es.vocabulary.synsets import Vocabulary

TRACE, MOST_TRACE = 0.04, 0.5
_STEPS = (0.5, 0.7, 1.0)
"""In which what is excluded is compared with what is asked for, so that no store needs more than
conditions on scores: half a posterior, its root, and all of it."""
_COMPARED = 3
"""Excluded words that are compared; each makes six conditions."""
_COUNTED = 16
"""Words of which a picture that shows one counts; of more all that is ranked does."""


def most_trace(vocabulary: Vocabulary, keys: Iterable[str], trace: float = TRACE) -> float:
    """The largest score of some synsets together that is no more than a trace of them."""
    return min(trace * math.sqrt(len(vocabulary.classes(keys))), MOST_TRACE)


class Said(NamedTuple):
    """A word as it was understood: how it is shown, its synsets, and "+", "-" or nothing."""

    shown: str
    keys: tuple[str, ...]
    sign: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What is more than a trace, of a vocabulary.

    Attributes:
        trace: what is no more than a trace of one class; 0 where scores are no posteriors.
    """

    vocabulary: Vocabulary
    trace: float

    def signs(self, said: Sequence[Said]) -> Iterator[Filter]:
        """What words with a plus or a minus select."""
        words = (one.keys for one in said if one.sign != "-")
        asked = {key for keys in words for key in keys if not is_color(key)}
        are_few = sum(one.sign == "-" for one in said) <= _COMPARED
        for one in said:
            if one.sign == "+":
                yield replace(self._shown(one), is_sign=True)
            elif one.sign == "-":
                compares = are_few and self.trace and not any(map(is_color, one.keys))
                kept = self._without(one, asked if compares else ())
                yield from (replace(item, is_sign=True) for item in kept)

    def counted(self, said: Iterable[Said]) -> Filter | None:
        """Whether a picture shows one of the words; None where all that is ranked counts."""
        shown = dict.fromkeys(self._shown(one) for one in said if one.sign != "-")
        return any_of(tuple(shown)) if self.trace and 0 < len(shown) <= _COUNTED else None

    def _least(self, keys: Iterable[str]) -> float:
        return most_trace(self.vocabulary, keys, self.trace)

    def _shown(self, one: Said) -> Filter:
        return of_score(one.shown, one.keys, "gt", self._least(one.keys))

    def _without(self, one: Said, asked: Collection[str]) -> Iterator[Filter]:
        """No more than a trace, or, in steps, more of what is asked for, class for class."""
        own = self.vocabulary.classes(one.keys)
        others = [key for key in asked if not self.vocabulary.classes([key]) <= own]
        share = len(self.vocabulary.classes(others) - own) / max(len(own), 1)
        least = self._least(one.keys)
        for low, high in pairwise([least, *(step for step in _STEPS if step > least)]):
            no_more = of_score(one.shown, one.keys, "gt", low, negated=True)
            if not 0 < share * high < 1:
                yield no_more
                return
            yield any_of((no_more, of_score("what is asked for", others, "gt", share * high)))
