"""Ways up and down from synset to synset, by the parents of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

Parents = Mapping[str, Sequence[str]]
"""The keys right above each, by key."""


def above(key: str, parents: Parents) -> list[str]:
    """All keys above one, each after everything that is below it."""
    found: dict[str, int] = {}
    waiting = [(key, 0)]
    while waiting:
        below, distance = waiting.pop(0)
        for parent in parents.get(below, ()):
            if found.get(parent, 0) <= distance:
                found[parent] = distance + 1
                waiting.append((parent, distance + 1))
    return sorted(found, key=found.__getitem__)


def below(keys: Iterable[str], terms: Iterable[str], parents: Parents) -> dict[str, list[str]]:
    """The terms at or below every key."""
    found: dict[str, list[str]] = {key: [] for key in keys}
    over: dict[str, set[str]] = {}

    def at_or_above(key: str) -> set[str]:
        if key not in over:
            over[key] = {key}.union(*map(at_or_above, parents.get(key, ())))
        return over[key]

    for term in terms:
        for key in at_or_above(term):
            found[key].append(term)
    return found
