"""Synsets, WordNet 3.0's nouns by wnid, and what words mean beside what they name.

``nouns.tsv.xz`` (WORDNET-LICENSE) is derived by tools/build_synsets.py, the tables of what comes
near ImageNet's classes by tools/build_near.py, which says how.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple
from xml.parsers import expat

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.vocabulary.words import normalize, safe_keys, singulars, table

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True, slots=True)
class Synset:
    """A set of words with one meaning, or a person's own label.

    >>> imagenet()["tabby"].gloss
    'a cat with a grey or tawny coat mottled with black'

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

    @property
    def title(self) -> str:
        """The name as people write it."""
        return self.name.replace("_", " ") if self.wnid else self.name


class Noun(NamedTuple):
    """A noun synset: its words, with spaces, and the wnids right above it, of instances as well."""

    lemmas: tuple[str, ...]
    parents: tuple[str, ...]


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


def _nouns_above(wnids: Iterable[str]) -> dict[str, Noun]:
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


Synsets = tuple[tuple[Synset, ...], tuple[Synset, ...], Mapping[str, tuple[str, ...]]]
"""The classes, the synsets above them, and the parents' keys by key."""


def imagenet_synsets() -> Synsets:
    """ImageNet's."""
    rows = []
    for line in table("synsets.tsv"):
        wnid, index, key, name, lemmas, gloss, parents = line.split("\t")
        position = int(index) if index else None
        synset = Synset(key, wnid, name, tuple(lemmas.split("|")), gloss, position)
        rows.append((synset, parents.split()))
    keys = {synset.wnid: synset.key for synset, _ in rows}
    return (
        tuple(synset for synset, _ in rows if synset.class_index is not None),
        tuple(synset for synset, _ in rows if synset.class_index is None),
        {synset.key: tuple(keys[w] for w in wnids) for synset, wnids in rows},
    )


def wordnet_synsets(labels: Sequence[str]) -> Synsets:
    """Those of distinct labels."""
    classes = [(label.strip(), noun(label.strip())) for label in labels]
    rows = [*classes, *_nouns_above(label for label, known in classes if known).items()]
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


@lru_cache(maxsize=1)
def _lines() -> dict[str, str]:
    parts = (line.partition("\t") for line in table("nouns.tsv.xz"))
    return {wnid: rest for wnid, _, rest in parts}


def check_labels(labels: Sequence[str]) -> None:
    """ConfigurationError unless these are texts, none empty and each another one."""
    if isinstance(labels, str) or not labels:
        raise ConfigurationError("labels must be a list of at least one text, one per class")
    seen: dict[str, int] = {}
    for position, label in enumerate(labels):
        if not isinstance(label, str) or any("\ud800" <= c <= "\udfff" for c in label):
            raise ConfigurationError(f"label {position} is not text: {label!r}")
        if not label.strip():
            raise ConfigurationError(f"label {position} is empty; every class needs a name")
        first = seen.setdefault(label.strip(), position)
        if first != position:
            raise ConfigurationError(f"labels {first} and {position} are both {label.strip()!r}")


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


# -- words of other languages: the nouns of a wordnet in WN-LMF ----------------------------------
#
# WN-LMF is the form of the Open Multilingual Wordnet, https://globalwordnet.github.io/schemas/. A
# synset is WordNet's by its ili, which numbers WordNet 3.0's nouns in order from i35545 on
# (globalwordnet/cili, ili-map-pwn30.tab), or by an id that has WordNet 3.0's offset:
# omw-de-02084071-n, eng-30-02084071-n.

FIRST_NOUN = 35_545
MOST_BYTES, MOST_KEPT, LONGEST, LONGEST_TAG = 1 << 30, 1 << 28, 200, 1 << 20
"""Of a file when it is read, of its senses and synsets (their characters, and 64 for each), of the
characters of a word and the bytes of a tag."""
_ID = re.compile(r"(?:omw-[a-z_-]+|[a-z]{3}-30|pwn-30)-(\d{8})-n", re.IGNORECASE)
_ILI = re.compile(r"i(\d{1,7})")
_BLOCK = 1 << 16
_OPENED: Mapping[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open}  # type: ignore[dict-item]


def read_lexicon(path: str | os.PathLike[str]) -> tuple[tuple[str, str], ...]:
    """(word, wnid) of the nouns of a WN-LMF file, also compressed; else a ConfigurationError."""
    place = Path(path).expanduser()
    try:
        about = place.stat()
        found = _read(place, about.st_mtime_ns, about.st_size)
    except (OSError, EOFError, LookupError, lzma.LZMAError, expat.ExpatError, ValueError) as error:
        raise ConfigurationError(f"the lexicon {place} cannot be read: {error}") from error
    if not found:
        raise ConfigurationError(
            f"the lexicon {place} has no noun of WordNet 3.0: give a wordnet in WN-LMF whose "
            "synsets have an ili, or ids such as omw-de-02084071-n"
        )
    return found


@lru_cache(maxsize=2)
def _read(place: Path, changed_at: int, size: int) -> tuple[tuple[str, str], ...]:
    reader, read = _Reader(), 0
    with _OPENED.get(place.suffix.lower(), Path.open)(place, "rb") as file:  # type: ignore[call-arg]
        while block := file.read(_BLOCK):
            read += len(block)
            if read > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES >> 20:,} MB")
            reader.parser.Parse(block, False)
            if read - reader.parser.CurrentByteIndex > LONGEST_TAG:
                raise ValueError(f"it has a tag of more than {LONGEST_TAG >> 20} MB")
    reader.parser.Parse(b"", True)
    return reader.words()


class _Reader:
    """Reads the elements LexicalEntry, Lemma, Sense and Synset; all others are passed over."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EntityDeclHandler = self._refuse
        self._lemma = ""
        self._senses: dict[tuple[str, str], None] = {}
        self._ili: dict[str, str] = {}
        self._kept = 0

    def words(self) -> tuple[tuple[str, str], ...]:
        """The nouns that are WordNet's."""
        own = nouns()
        known = set(own)
        found: dict[tuple[str, str], None] = {}
        for word, synset in self._senses:
            number, by_id = _ILI.fullmatch(self._ili.get(synset, "")), _ID.fullmatch(synset)
            place = int(number[1]) - FIRST_NOUN if number else -1
            if 0 <= place < len(own):
                found[word, own[place]] = None
            elif not number and by_id and f"n{by_id[1]}" in known:
                found[word, f"n{by_id[1]}"] = None
        return tuple(found)

    def _start(self, name: str, given: dict[str, str]) -> None:
        if name == "Lemma":
            word = " ".join(given.get("writtenForm", "").replace("_", " ").split())
            is_noun = given.get("partOfSpeech", "n") == "n" and 0 < len(word) <= LONGEST
            self._lemma = word if is_noun else ""
        elif name == "Sense" and self._lemma:
            synset = given.get("synset", "")
            self._senses[self._lemma, synset] = None
            self._count(self._lemma, synset)
        elif name == "Synset" and given.get("ili"):
            self._ili[given.get("id", "")] = given["ili"]
            self._count(given.get("id", ""), given["ili"])

    def _count(self, *kept: str) -> None:
        self._kept += 64 + sum(map(len, kept))
        if self._kept > MOST_KEPT:
            raise ValueError("it has more senses and synsets than any wordnet")

    @staticmethod
    def _refuse(*declared: object) -> None:
        raise ValueError("it declares entities, which no wordnet needs")
