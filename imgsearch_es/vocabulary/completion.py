"""Completes the last word of a query that is being typed: synsets, their lemmas and hypernyms."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
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
    form = normalize(typed)
    found: list[str] = []
    for forms, spoken in _tables(vocabulary) if form else ():
        first = bisect_left(forms, form)
        after = bisect_right(forms, form + "\U0010ffff")
        found += sorted(spoken[first:after], key=lambda phrase: (len(phrase), phrase))
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
def _tables(vocabulary: Vocabulary) -> tuple[tuple[list[str], list[str]], ...]:
    """Normalized beginnings and phrases, sorted: of whole phrases, then of their later words."""
    spoken: dict[str, str] = {}
    for synset in (*vocabulary, *vocabulary.ancestors):
        for phrase in (synset.name.replace("_", " "), *synset.lemmas):
            spoken.setdefault(normalize(phrase), phrase)
    spoken.pop("", None)
    later = [
        (" ".join(form.split(" ")[i:]), phrase)
        for form, phrase in spoken.items()
        for i in range(1, form.count(" ") + 1)
    ]
    return tuple(
        (list(forms), list(names))
        for forms, names in (zip(*sorted(pairs), strict=True) for pairs in (spoken.items(), later))
        if forms
    )
