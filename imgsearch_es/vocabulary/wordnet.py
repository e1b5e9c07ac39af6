"""Synsets; WordNet 3.0's nouns by wnid, for labels that are wnids; and what comes near other words.

``nouns.tsv.xz`` (WORDNET-LICENSE) is derived by tools/build_synsets.py, ``near.tsv.xz`` by
tools/build_near.py.
"""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from imgsearch_es.vocabulary.words import safe_keys

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class Synset:
    """A set of words with one meaning, or a person's own label.

    Attributes:
        key: unique among all synsets, whatever the case: the name, with the wnid where two
            synsets share a name (``crane_n02012849``). No dots, no white space.
        wnid: WordNet 3.0 identifier, ``n02099601``; empty for an own label.
        name: as in Keras's decode_predictions, ``golden_retriever``; own label: as written.
        lemmas: the words, ``("golden retriever",)``.
        gloss: WordNet's definition.
        class_index: position in the model's output; None for a hypernym.
    """

    key: str
    wnid: str
    name: str
    lemmas: tuple[str, ...]
    gloss: str
    class_index: int | None


class Noun(NamedTuple):
    """A noun synset."""

    lemmas: tuple[str, ...]
    """The words, with spaces: ``("tabby", "tabby cat")``."""
    parents: tuple[str, ...]
    """The wnids right above it, of instances as well."""


def noun(wnid: str) -> Noun | None:
    """The synset of a wnid such as n02123045; None of any other text."""
    line = _lines().get(wnid) if _WNID.fullmatch(wnid) else None
    if line is None:
        return None
    lemmas, parents = line.split("\t")
    return Noun(tuple(lemmas.split("|")), tuple(parents.split()))


def nouns() -> tuple[str, ...]:
    """All wnids."""
    return tuple(_lines())


def above(wnids: Iterable[str]) -> dict[str, Noun]:
    """All synsets above some, those that are among them left out, by wnid and in its order."""
    below = set(wnids)
    found: dict[str, Noun] = {}
    waiting = [*below]
    while waiting:
        known = noun(waiting.pop())
        for parent in known.parents if known else ():
            if parent not in found and (synset := noun(parent)):
                found[parent] = synset
                waiting.append(parent)
    return {wnid: found[wnid] for wnid in sorted(found.keys() - below)}


def wordnet_synsets(
    labels: Sequence[str],
) -> tuple[tuple[Synset, ...], tuple[Synset, ...], Mapping[str, tuple[str, ...]]]:
    """The classes of distinct labels, the synsets above them, and the parents' keys by key."""
    classes = [(label.strip(), noun(label.strip())) for label in labels]
    rows = [*classes, *above(label for label, known in classes if known).items()]
    names = [known.lemmas[0].replace(" ", "_") if known else label for label, known in rows]
    of_all = Counter(map(str.casefold, names))
    of_classes = Counter(map(str.casefold, names[: len(classes)]))
    wanted = [
        f"{name}_{label}" if known and count[name.casefold()] > 1 else name
        for rank, count in ((slice(len(classes)), of_classes), (slice(len(classes), None), of_all))
        for name, (label, known) in zip(names[rank], rows[rank], strict=True)
    ]
    keys = {label: key for key, (label, _) in zip(safe_keys(wanted), rows, strict=True)}
    synsets = [
        Synset(keys[label], label, name, known.lemmas, "", i if i < len(classes) else None)
        if known
        else own_synset(keys[label], label, i)
        for i, (name, (label, known)) in enumerate(zip(names, rows, strict=True))
    ]
    over = {keys[label]: known.parents for label, known in rows if known}
    parents = {key: tuple(keys[wnid] for wnid in wnids) for key, wnids in over.items()}
    return tuple(synsets[: len(classes)]), tuple(synsets[len(classes) :]), parents


def own_synset(key: str, label: str, position: int) -> Synset:
    """The class of a label that names no synset."""
    lemma = " ".join(label.replace("_", " ").split()) or label
    return Synset(key, "", label, (lemma,), "", position)


def near(form: str) -> tuple[tuple[str, float], ...]:
    """ImageNet's classes that come near a normalized word, by wnid, with weights from 0.4 to 1."""
    pairs = (pair.split(":") for pair in _near_words().get(form, "").split())
    return tuple((wnid, float(weight)) for wnid, weight in pairs)


@lru_cache(maxsize=1)
def _near_words() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _table("near.tsv.xz"):
        words, _, classes = line.partition("\t")
        found.update(dict.fromkeys(words.split("|"), classes))
    return found


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    parts = (line.partition("\t") for line in _table("nouns.tsv.xz"))
    return {wnid: rest for wnid, _, rest in parts}


def _table(name: str) -> Iterator[str]:
    """The lines of a table without its heading."""
    with lzma.open(Path(__file__).with_name(name), "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            yield line.rstrip("\n")
