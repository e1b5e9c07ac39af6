"""What is said of words that were taken for something else, or left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from imgsearch_es.errors import UnknownWordError
from imgsearch_es.retrieval.color_words import why_unknown
from imgsearch_es.vocabulary.synsets import Resolution, Vocabulary

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
