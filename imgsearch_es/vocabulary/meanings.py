"""What words mean: what they name, come near, are doubtful about, or are alike.

The tables of ImageNet's classes are derived from WordNet by tools/build_near.py, which says how.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from imgsearch_es.vocabulary.wordnet import Synset, table
from imgsearch_es.vocabulary.words import normalize, singulars


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a word or phrase names.

    Attributes:
        senses: the synsets that it names, terms or hypernyms.
        keys: the terms of the vocabulary that it stands for, in the vocabulary's order: a sense
            that is a term stands for itself, another for all terms below it.
        how: "key", "name" or "lemma" where a sense is a term, "hypernym" where none is; "wnid";
            "plural" of any of these; "near" where the senses are not what the phrase says, but come
            near it; "doubtful" where the phrase names something, and may mean something else;
            "unknown" where there are none.
        weights: how near each key is, at most 1; empty where the phrase surely means them.
        color: the key of the color that the phrase names besides, as "orange" does; else empty.
    """

    phrase: str
    senses: tuple[Synset, ...]
    keys: tuple[str, ...]
    how: str
    weights: tuple[float, ...] = ()
    color: str = ""


def near(form: str) -> tuple[tuple[str, float], ...]:
    """The classes that come near a normalized word, by wnid, with weights from 0.4 to 1."""
    return _weights("near.tsv.xz", [form])


def doubts(phrase: str) -> tuple[tuple[str, float], ...]:
    """The classes that a phrase stands for which names a synset, if its sense is doubtful."""
    return _weights("doubts.tsv", _forms(phrase))


def alike(phrase: str) -> tuple[str, ...]:
    """The classes to suggest for an unknown word, by wnid, best first."""
    found = (_words("alike.tsv.xz").get(form) for form in _forms(phrase))
    return tuple(next(filter(None, found), "").split())


def _forms(phrase: str) -> Sequence[str]:
    form = normalize(phrase)
    return form, *singulars(form)


def _weights(name: str, forms: Iterable[str]) -> tuple[tuple[str, float], ...]:
    found = next(filter(None, (_words(name).get(form) for form in forms)), "")
    pairs = (pair.split(":") for pair in found.split())
    return tuple((wnid, float(weight)) for wnid, weight in pairs)


@lru_cache(maxsize=3)
def _words(name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in table(name):
        words, _, classes = line.partition("\t")
        found.update(dict.fromkeys(words.split("|"), classes))
    return found
