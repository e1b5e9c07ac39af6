"""Text that stands in pictures: how it is compared.

A text and what is looked for in it are lines of words, of one form: letters and digits as Unicode's
NFKC and its folding of cases give them, all else between words. Both stores compare words alone.
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+")
_PATTERN = re.compile(r"[^\W_*?]*(?:[*?]+[^\W_*?]*)+")
_LONGEST = 100
"""Characters of a word; the rest is another word."""


def searched(text: str) -> str:
    """The words of a text, a space before and after each; none for a text without words."""
    found = (
        word[start : start + _LONGEST]
        for word in _WORD.findall(_folded(text))
        for start in range(0, len(word), _LONGEST)
    )
    words = " ".join(found)
    return f" {words} " if words else ""


def pattern_of_word(pattern: str) -> str | None:
    """A pattern of one word (``*`` and ``?``) in the form of `searched`; None if it is none."""
    folded = _folded(pattern)
    return folded if _PATTERN.fullmatch(folded) else None


def marked(text: str, query: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is a word of a query."""
    wanted, pieces, at = set(searched(query).split()), [], 0
    for found in _WORD.finditer(text):
        if wanted & set(searched(found[0]).split()):
            pieces += [(text[at : found.start()], False), (found[0], True)]
            at = found.end()
    return [piece for piece in (*pieces, (text[at:], False)) if piece[0]]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
