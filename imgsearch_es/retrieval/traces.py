"""How much of a word is more than a trace of it, what words with a sign select, and hints.

A trace of a word is a score of at most 0.04 times the root of the number of its classes, and of at
most a half: 0.04 of tabby, 0.43 of dog. What is excluded may be more than a trace where a picture
has as much of the words asked for, class for class: classifiers give the 118 breeds of a dog
something of every cat (docs/benchmarks.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from imgsearch_es.errors import UnknownWordError
from imgsearch_es.retrieval.conditions import Filter, any_of, of_score, shown_value
from imgsearch_es.retrieval.tokens import shown_phrase
from imgsearch_es.vocabulary.colors import COLOR, NAMED, is_color
from imgsearch_es.vocabulary.synsets import Resolution, Vocabulary
from imgsearch_es.vocabulary.words import normalize

TRACE, MOST_TRACE = 0.04, 0.5
_STEPS = (0.5, 0.7, 1.0)
"""In which what is excluded is compared with what is asked for, so that no store needs more than
conditions on scores: half a posterior, its root, and all of it."""
_COMPARED = 3
"""Excluded words that are compared; each makes six conditions."""
_COUNTED = 16
"""Words of which a picture that shows one counts; of more all that is ranked does."""


def most_trace(vocabulary: Vocabulary, keys: Iterable[str], trace: float = TRACE) -> float:
    """The largest score of some synsets together that is no more than a trace of them.

    A taught word changes nothing of what a trace is of the synsets that have its name.
    """
    classes = vocabulary.classes(keys) - vocabulary.taught_keys
    return min(trace * math.sqrt(max(1, len(classes))), MOST_TRACE)


class Said(NamedTuple):
    """A word as it was understood: how it is shown, its synsets, and "+", "-" or nothing."""

    shown: str
    keys: tuple[str, ...]
    sign: str


@dataclass(frozen=True, slots=True)
class Traces:
    """What is more than a trace: ``trace`` of one class, or 0 where scores are no posteriors."""

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
        # Of classes alone: a hypernym may sum what is excluded, or another word's, as well.
        others = sorted(self.vocabulary.classes(asked) - own)
        share = len(others) / max(len(own), 1)
        least = self._least(one.keys)
        for low, high in pairwise([least, *(step for step in _STEPS if step > least)]):
            no_more = of_score(one.shown, one.keys, "gt", low, negated=True)
            if not 0 < share * high < 1:
                yield no_more
                return
            yield any_of((no_more, of_score("what is asked for", others, "gt", share * high)))


# -- what is said of words that were taken for something else, as for a color, or left out --------

_SUGGESTED = 8
"""Words left out, of one line, that get suggestions."""


def near_hint(found: Resolution) -> str:
    """That a word was taken for what comes near it, or for what it may not mean."""
    pairs = zip(found.senses, found.weights, strict=True)
    shown = ", ".join(f"{sense.key} {weight:.2f}" for sense, weight in pairs)
    if found.how == "doubtful":
        gloss = found.senses[0].gloss.partition(";")[0] if len(found.senses) == 1 else ""
        return f"{found.phrase!r} was taken as {shown}" + (f": {gloss}" if gloss else "")
    return f"{found.phrase!r} is no class of this index; searched for what is near: {shown}"


def unknown_word(word: str, vocabulary: Vocabulary) -> UnknownWordError:
    """The error of a line of which nothing is known."""
    why = why_unknown(word, vocabulary)
    near = () if why else tuple(map(shown_phrase, vocabulary.suggest(word)))
    return UnknownWordError(word, near, why)


def left_out(phrases: Collection[str], vocabulary: Vocabulary) -> Iterator[str]:
    """That words are unknown, and what comes near them."""
    for i, phrase in enumerate(phrases):
        if i == _SUGGESTED and len(phrases) > _SUGGESTED + 1:
            yield f"{len(phrases) - _SUGGESTED} more words were left out"
            return
        if why := why_unknown(phrase, vocabulary):
            yield f"{why}; it was left out"
            continue
        near = ", ".join(map(shown_phrase, vocabulary.suggest(phrase)))
        ending = f"; near: {near}" if near else ""
        yield f"{phrase!r:.60} is not in this index's vocabulary and was left out{ending}"


# -- colors, as words of their own or beside others ------------------------------------------------


def chosen(weights: MutableMapping[str, float], both: Mapping[str, Resolution]) -> Iterator[str]:
    """Take words that name synsets and a color for the color where synsets are asked for besides.

    Alone they are the synsets: "orange" is the fruit, "orange cat" a cat. Changes the weights of
    synsets and colors, and gives a hint for each of the words.
    """
    own = {key for found in both.values() for key in found.keys}
    is_beside = any(not is_color(key) and key not in own for key in weights)
    for word, found in both.items():
        synsets = " ".join(f"synset:{shown_value(sense.key)}" for sense in found.senses)
        if not is_beside:
            yield f"{word!r} was taken for {synsets}; {found.color} is the color"
            continue
        heaviest = max(weights.pop(key, 0.0) for key in found.keys)
        weights[found.color] = max(heaviest, weights.get(found.color, 0.0))
        yield f"{word!r} was taken for the color; {synsets} is what else it means"


def meant(said: Iterable[Said], weights: Collection[str]) -> Iterator[Said]:
    """Words with what was chosen for them; what is excluded may be either."""
    for one in said:
        keys = tuple(key for key in one.keys if key in weights)
        yield one._replace(keys=keys) if keys and one.sign != "-" else one


def described(weights: Collection[str]) -> tuple[str, ...]:
    """The synsets beside which colors are asked for; none where either is missing."""
    synsets = tuple(key for key in weights if not is_color(key))
    return synsets if len(synsets) < len(weights) else ()


def color_key(name: str, vocabulary: Vocabulary) -> str | None:
    """The key of the color of this name; None where there is none, or the index keeps none."""
    return NAMED.get(normalize(name)) if vocabulary.has_colors else None


def why_unknown(word: str, vocabulary: Vocabulary) -> str:
    """What to say of a word that an index without colors does not know; empty of other words."""
    if normalize(word.removeprefix(COLOR)) not in NAMED or vocabulary.has_colors:
        return ""
    return f"{word!r} is a color, and this index keeps none: `imgsearch reindex` adds them"
