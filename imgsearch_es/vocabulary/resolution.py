"""What a word or phrase names in a vocabulary."""

from __future__ import annotations

from dataclasses import dataclass

from imgsearch_es.vocabulary.wordnet import Synset


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a word or phrase names.

    Attributes:
        senses: the synsets that it names, terms or hypernyms.
        keys: the terms of the vocabulary that it stands for, in the vocabulary's order: a sense
            that is a term stands for itself, another for all terms below it.
        how: "key", "name" or "lemma" where a sense is a term, "hypernym" where none is; "wnid";
            "plural" of any of these; "near" where the senses are not what the phrase says, but come
            near it; "unknown" where there are none.
        weights: how near each key is, at most 1; empty where the phrase names them.
        color: the key of the color that the phrase names besides, as "orange" does; else empty.
    """

    phrase: str
    senses: tuple[Synset, ...]
    keys: tuple[str, ...]
    how: str
    weights: tuple[float, ...] = ()
    color: str = ""
