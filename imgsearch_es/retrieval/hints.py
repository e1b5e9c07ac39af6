"""What is said of words that were taken for something else, as for a color, or left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping

from imgsearch_es.errors import UnknownWordError
from imgsearch_es.retrieval.conditions import shown_value
from imgsearch_es.vocabulary.colors import COLOR, NAMED, is_color
from imgsearch_es.vocabulary.synsets import Resolution, Vocabulary
from imgsearch_es.vocabulary.words import normalize

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
    """The error of a line of which nothing is known, with suggestions."""
    why = why_unknown(word, vocabulary)
    return UnknownWordError(word, () if why else vocabulary.suggest(word), why)


def left_out(phrases: Collection[str], vocabulary: Vocabulary) -> Iterator[str]:
    """That words are unknown, and what comes near them."""
    for i, phrase in enumerate(phrases):
        if i == _SUGGESTED and len(phrases) > _SUGGESTED + 1:
            yield f"{len(phrases) - _SUGGESTED} more words were left out"
            return
        if why := why_unknown(phrase, vocabulary):
            yield f"{why}; it was left out"
            continue
        near = ", ".join(vocabulary.suggest(phrase))
        ending = f"; near: {near}" if near else ""
        yield f"{phrase!r:.60} is not in this index's vocabulary and was left out{ending}"


# -- colors, as words of their own or beside others ------------------------------------------------


def chosen(weights: MutableMapping[str, float], both: Mapping[str, Resolution]) -> Iterator[str]:
    """Take words that name synsets and a color for the color where synsets are asked for besides.

    Alone they are the synsets: "orange" is the fruit, "orange cat" a cat. Gives a hint for each.

    Args:
        weights: of synsets and colors, which are changed.
        both: the words.
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
