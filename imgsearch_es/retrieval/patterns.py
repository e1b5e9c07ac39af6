"""Patterns of texts: ``*`` is any text, ``?`` any one character."""

from __future__ import annotations

import re

_MAX_EFFORT = 20_000
"""To make a pattern deterministic; Lucene, which counts alike, gives up at 100,000."""


def wildcard_matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches all of a text."""
    at = start = 0
    star = -1
    while at < len(text):
        place = start
        if place < len(pattern) and pattern[place] == "*":
            star, retry, start = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, start = at + 1, start + 1
        elif star >= 0:
            retry += 1
            at, start = retry, star + 1
        else:
            return False
    return not pattern[start:].strip("*")


def is_complex(pattern: str) -> bool:
    """Whether the deterministic automaton of a pattern is large: ``*a??????????`` has 2^10 states.

    A set of places in the pattern is the bits of a number, as is what each character can match.
    """
    pattern = re.sub(r"\*+", "*", pattern)
    stars = sum(1 << i for i, character in enumerate(pattern) if character == "*")
    any_one = sum(1 << i for i, character in enumerate(pattern) if character == "?")
    matches = {
        character: any_one | sum(1 << i for i, other in enumerate(pattern) if other == character)
        for character in set(pattern) - {"*", "?"}
    }
    start = 0b11 if stars & 1 else 0b1  # before a star is also after it
    waiting, seen, effort = [start], {start}, 0
    while waiting:
        places = waiting.pop()
        effort += places.bit_count()
        if effort > _MAX_EFFORT:
            return True
        for matched in {any_one, *matches.values()}:
            after = (places & matched) << 1
            after |= places & stars | (after & stars) << 1 | (places & stars) << 1
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False
