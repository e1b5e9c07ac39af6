"""Completes the last word of a query that is being typed: synsets, their lemmas and hypernyms."""

from __future__ import annotations

import re
from functools import lru_cache

from imgsearch_es.vocabulary.synsets import Vocabulary
from imgsearch_es.vocabulary.words import normalize

LIMIT = 12
_BEGINNING = re.compile(r"(?<![^\s+\-])[^\s+\-]")
_SIGN = re.compile(r"(?:^|\s)[+\-]$")


def complete(vocabulary: Vocabulary, text: str, limit: int = LIMIT) -> list[str]:
    """The ways in which a query may go on, as whole queries; phrases that begin so come first.

    A phrase may have several words, so of "a golden re" not only "re" is looked at but also
    "golden re", the longest first: "a golden retriever". A quotation that has not ended is one
    phrase, and after a sign a phrase of several words is put in quotation marks.
    """
    for start in _starts(text):
        typed = text[start:].lstrip('"')
        signed = _SIGN.search(text[:start]) or text[start:] != typed
        found = []
        for phrase in phrases(vocabulary, typed, limit):
            shown = f'"{phrase}"' if signed and " " in phrase else phrase
            found.append(text[:start] + shown)
        if found := [whole for whole in found if whole != text]:
            return found
    return []


def phrases(vocabulary: Vocabulary, typed: str, limit: int = LIMIT) -> list[str]:
    """The phrases that begin as typed, then those with a later word that does; shortest first."""
    form, spoken = normalize(typed), _spoken(vocabulary)
    if not form:
        return []
    whole = [phrase for words, phrase in spoken.items() if words.startswith(form)]
    later = [phrase for words, phrase in spoken.items() if f" {form}" in words]
    found = [*sorted(sorted(whole), key=len), *sorted(sorted(later), key=len)]
    return list(dict.fromkeys(found))[:limit]


def _starts(text: str) -> list[int]:
    """Where the phrase that is being typed may begin, the longest first."""
    if text.count('"') % 2:
        return [text.rindex('"')]
    if not text or text[-1].isspace():
        return []
    begin = text.rfind('"') + 1
    return [begin + place.start() for place in _BEGINNING.finditer(text[begin:])]


@lru_cache(maxsize=4)
def _spoken(vocabulary: Vocabulary) -> dict[str, str]:
    spoken: dict[str, str] = {}
    names = (synset.name.replace("_", " ") for synset in (*vocabulary, *vocabulary.ancestors))
    for phrase in (*names, *(word for word, _ in vocabulary.spoken)):
        spoken.setdefault(normalize(phrase), phrase)
    return spoken
