"""Vocabularies: the terms of an index, and how words name them.

A term is a synset of ImageNet or WordNet, or a person's own label. Words name terms directly
("tabby cat"), by another lemma ("Alsatian"), in the plural ("wolves") or through a hypernym ("dog":
118 breeds).
The synsets are WordNet 3.0's (WORDNET-LICENSE), derived by tools/build_synsets.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from imgsearch_es.errors import ConfigurationError, SchemaError
from imgsearch_es.vocabulary.lexicon import Lexicon, Match
from imgsearch_es.vocabulary.wordnet import Synset as Synset
from imgsearch_es.vocabulary.wordnet import near, own_synset, wordnet_synsets
from imgsearch_es.vocabulary.words import safe_keys


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
    """

    phrase: str
    senses: tuple[Synset, ...]
    keys: tuple[str, ...]
    how: str
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The terms of an index; immutable. Made by `imagenet`, `from_wnids` and `from_labels`.

    Attributes:
        name: "imagenet-1k", "wordnet" or "labels".
        synsets: the terms: the classifier's classes in class order, then the hypernyms if any.
        ancestors: the synsets above the terms that are not terms themselves.
        parents: the keys of the synsets right above each, by key.
        taught: how many of the synsets, the last ones, are words that an index was taught.
        has_hypernyms: whether every hypernym is a term, whose score sums those below it.
    """

    name: str
    synsets: tuple[Synset, ...]
    ancestors: tuple[Synset, ...] = ()
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    taught: int = 0
    has_hypernyms: bool = False

    def __len__(self) -> int:
        return len(self.synsets)

    def __iter__(self) -> Iterator[Synset]:
        return iter(self.synsets)

    def __contains__(self, key: object) -> bool:
        return key in self._terms

    def __getitem__(self, key: str) -> Synset:
        """A term by its exact key."""
        return self._terms[key]

    def __hash__(self) -> int:
        return hash((self.name, self.keys))

    def __repr__(self) -> str:
        return f"<Vocabulary {self.name}: {len(self)} terms>"

    def __reduce__(self) -> tuple[object, tuple[dict[str, object]]]:
        return Vocabulary.from_dict, (self.to_dict(),)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The terms' keys, in order."""
        return tuple(self._terms)

    @property
    def labels(self) -> list[str]:
        """Of the classes in their order: the wnid, or an own label as it was written."""
        classes = (synset for synset in self.synsets if synset.class_index is not None)
        return [synset.wnid or synset.name for synset in classes]

    def hypernyms(self, key: str) -> tuple[Synset, ...]:
        """All synsets above a term or hypernym, each after everything that is below it."""
        above: dict[str, int] = {}
        waiting = [(self._known[key].key, 0)]
        while waiting:
            below, distance = waiting.pop(0)
            for parent in self.parents.get(below, ()):
                if above.get(parent, 0) <= distance:
                    above[parent] = distance + 1
                    waiting.append((parent, distance + 1))
        return tuple(self._known[parent] for parent in sorted(above, key=above.__getitem__))

    def hyponyms(self, key: str) -> tuple[str, ...]:
        """The keys of the terms at or below a synset, in the vocabulary's order."""
        return tuple(self._below[self._known[key].key])

    def count_classes(self, keys: Iterable[str]) -> int:
        """How many classes there are at or below some terms; a taught word counts as one."""
        return len({b for key in keys for b in self._below[key] if not self._is_sum(b)})

    def _is_sum(self, key: str) -> bool:
        synset = self._known[key]
        return synset.class_index is None and key not in self.taught_keys

    def with_hypernyms(self) -> Vocabulary:
        """The vocabulary whose terms are these and then all their hypernyms, by wnid."""
        return self if self.has_hypernyms or not self.parents else self._with_hypernyms

    @cached_property
    def base(self) -> Vocabulary:
        """The vocabulary without taught words."""
        if not self.taught:
            return self
        own = {synset.key for synset in self.synsets[-self.taught :]}
        parents = {key: above for key, above in self.parents.items() if key not in own}
        return replace(self, synsets=self.synsets[: -self.taught], parents=parents, taught=0)

    def with_taught(self, words: Iterable[tuple[str, str, str]]) -> Vocabulary:
        """This vocabulary with taught words, given by key, name and gloss, instead of its own.

        A word that names synsets already stands below them: then both are meant by it.
        """
        base = self.base
        synsets = [
            Synset(key, "", name, (" ".join(name.replace("_", " ").split()),), gloss, None)
            for key, name, gloss in words
        ]
        if not synsets:
            return base
        parents = {synset.key: base.named_by(synset.name) for synset in synsets}
        return replace(
            base,
            synsets=(*base.synsets, *synsets),
            parents={**base.parents, **{key: named for key, named in parents.items() if named}},
            taught=len(synsets),
        )

    @cached_property
    def taught_keys(self) -> frozenset[str]:
        """The keys of the taught words."""
        return frozenset(self.keys[len(self) - self.taught :])

    def named_by(self, phrase: str) -> tuple[str, ...]:
        """The keys of the synsets that a phrase names, terms or not; none if it names nothing."""
        match = self._lexicon.find(phrase)
        return match.keys if match else ()

    def key_for(self, name: str) -> str:
        """The key of a taught word that is new here."""
        key, taken = safe_keys([name])[0], {known.casefold() for known in self._known}
        while key.casefold() in taken or self.base.named_by(key):
            key = f"{key[:190]}_taught"
        return key

    def resolve(self, phrase: str) -> Resolution:
        """What one word or phrase names.

        The first counts: exact key; then, whatever the case, accents, apostrophes, hyphens and
        underscores: key, wnid, name, lemma, plural. A word that names nothing may come near
        something: "cow" to the ox (`near`).

        Raises:
            UnknownWordError: it names nothing; carries suggestions.
            QueryError: it is empty.
        """
        return self._resolution(self._lexicon.find_one(phrase))

    def resolve_text(self, text: str) -> tuple[Resolution, ...]:
        """What each phrase of a text names, in the order of the text.

        The longest phrase counts ("tabby cat" before "cat"); a phrase in quotation marks is kept
        whole; a phrase does not extend over commas and the like; stop words are skipped. Other
        words that name nothing have a resolution without keys.

        Raises:
            QueryError: the text is empty or has only stop words.
        """
        return tuple(self._resolution(match) for match in self._lexicon.find_all(text))

    def suggest(self, word: str, limit: int = 3) -> tuple[str, ...]:
        """Known words and phrases that resemble a word or contain it, best first."""
        return self._lexicon.suggest(word, limit)

    def to_dict(self) -> dict[str, object]:
        """What `from_dict` needs to make this vocabulary again, fit for JSON."""
        if self.taught:
            own = self.synsets[-self.taught :]
            listed = [[synset.key, synset.name, synset.gloss] for synset in own]
            return {**self.base.to_dict(), "taught": listed}
        if self.name == "labels":
            return {"name": "labels", "labels": self.labels}
        labels = {"labels": self.labels} if self.name == "wordnet" else {}
        return {"name": self.name, **labels} | ({"hypernyms": True} if self.has_hypernyms else {})

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Vocabulary:
        """The vocabulary that `to_dict` described; SchemaError where this version has none such."""
        name, labels, taught = (data.get(part) for part in ("name", "labels", "taught"))
        if isinstance(taught, list):
            return cls.from_dict({**data, "taught": None}).with_taught(map(tuple, taught))
        if name == "imagenet-1k":
            return imagenet().with_hypernyms() if data.get("hypernyms") else imagenet()
        if name not in ("labels", "wordnet") or not isinstance(labels, list):
            raise SchemaError(
                f"the index has the unknown vocabulary {name!r}; open it with the version of "
                "imgsearch_es that wrote it, or build it again"
            )
        try:
            if name == "labels":
                return from_labels(labels)
            found = from_wnids(labels)
            return found.with_hypernyms() if data.get("hypernyms") else found
        except ConfigurationError as error:
            raise SchemaError(f"the index's list of labels is damaged: {error}") from error

    def _resolution(self, match: Match) -> Resolution:
        how, keys = match.how, match.keys
        if how in ("near", "unknown"):
            senses = tuple(self._known[key] for key in keys)
            return Resolution(match.phrase, senses, keys, how, match.weights)
        if how in ("key", "name", "lemma") and self._terms.keys().isdisjoint(keys):
            how = "hypernym"
        if self.taught and not (match.phrase in keys and match.phrase in self._same[1]):
            same = ((key, *self._same[0].get(key, ()), *self._same[1].get(key, ())) for key in keys)
            keys = tuple(dict.fromkeys(key for group in same for key in group))
        # A class of WordNet may stand above others; where it does not sum them, all are meant.
        alone = self.has_hypernyms or self.name != "wordnet"
        named = {
            term for key in keys for term in ((key,) if alone and key in self else self._below[key])
        }
        return Resolution(
            phrase=match.phrase,
            senses=tuple(self._known[key] for key in keys),
            keys=tuple(sorted(named, key=self._position.__getitem__)),
            how=how,
        )

    def _near(self, form: str) -> dict[str, float]:
        """The terms to which a normalized phrase comes near, with weights."""
        keys = ((self._by_wnid.get(wnid, ""), weight) for wnid, weight in near(form))
        return {key: weight for key, weight in keys if key in self}

    @cached_property
    def _by_wnid(self) -> dict[str, str]:
        return {synset.wnid: key for key, synset in self._known.items() if synset.wnid}

    @cached_property
    def _same(self) -> tuple[dict[str, list[str]], dict[str, tuple[str, ...]]]:
        """The taught words of each synset that has the same name, and the other way round."""
        above = {s.key: self.parents.get(s.key, ()) for s in self.synsets[len(self.base) :]}
        taught: dict[str, list[str]] = {}
        for key, parents in above.items():
            for parent in parents:
                taught.setdefault(parent, []).append(key)
        return taught, {key: parents for key, parents in above.items() if parents}

    @cached_property
    def _with_hypernyms(self) -> Vocabulary:
        terms = self.synsets + self.ancestors
        return replace(self, synsets=terms, ancestors=(), has_hypernyms=True)

    @cached_property
    def _terms(self) -> dict[str, Synset]:
        return {synset.key: synset for synset in self.synsets}

    @cached_property
    def _known(self) -> dict[str, Synset]:
        return {synset.key: synset for synset in self.synsets + self.ancestors}

    @cached_property
    def _position(self) -> dict[str, int]:
        return {key: position for position, key in enumerate(self.keys)}

    @cached_property
    def _below(self) -> dict[str, list[str]]:
        """The terms at or below every synset."""
        below: dict[str, list[str]] = {key: [] for key in self._known}
        over: dict[str, set[str]] = {}

        def at_or_above(key: str) -> set[str]:
            if key not in over:
                over[key] = {key}.union(*map(at_or_above, self.parents.get(key, ())))
            return over[key]

        for term in self.keys:
            for key in at_or_above(term):
                below[key].append(term)
        return below

    @cached_property
    def _lexicon(self) -> Lexicon:
        known = self._known.values()
        keys = [(synset.key, synset.key) for synset in known]
        wnids = [(synset.wnid, synset.key) for synset in known if synset.wnid]
        names = [(synset.name, synset.key) for synset in known]
        lemmas = [(lemma, synset.key) for synset in known for lemma in synset.lemmas]
        if wnids:
            tables = {"key": keys, "wnid": wnids, "name": names, "lemma": lemmas}
            return Lexicon(self._known, tables, (lemma for lemma, _ in lemmas), self._near)
        # Of own labels, which may differ in next to nothing, a key must not hide another's name.
        tables = {"name": names + keys + lemmas, "lemma": lemmas}
        return Lexicon(self._known, tables, (name for name, _ in names))


@lru_cache(maxsize=1)
def imagenet() -> Vocabulary:
    """The 1,000 ImageNet classes (ILSVRC 2012), in the order of Keras's models."""
    rows = []
    path = Path(__file__).with_name("synsets.tsv")
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        wnid, index, key, name, lemmas, gloss, parents = line.split("\t")
        position = int(index) if index else None
        synset = Synset(key, wnid, name, tuple(lemmas.split("|")), gloss, position)
        rows.append((synset, parents.split()))
    keys = {synset.wnid: synset.key for synset, _ in rows}
    return Vocabulary(
        name="imagenet-1k",
        synsets=tuple(synset for synset, _ in rows if synset.class_index is not None),
        ancestors=tuple(synset for synset, _ in rows if synset.class_index is None),
        parents={synset.key: tuple(keys[w] for w in wnids) for synset, wnids in rows},
    )


def from_labels(labels: Sequence[str]) -> Vocabulary:
    """The vocabulary of a person's own labels, which are a model's classes in order.

    Raises:
        ConfigurationError: there are no labels, or one is empty, a duplicate or not text.
    """
    _check(labels)
    synsets = tuple(
        own_synset(key, label, position)
        for position, (label, key) in enumerate(zip(labels, safe_keys(labels), strict=True))
    )
    return Vocabulary("labels", synsets)


def from_wnids(labels: Sequence[str]) -> Vocabulary:
    """The vocabulary of labels that are wnids of WordNet's nouns; others among them are own labels.

    A key is the synset's first word, with the wnid where another class has that word, too.

    Raises:
        ConfigurationError: as of `from_labels`.
    """
    _check(labels)
    return Vocabulary("wordnet", *wordnet_synsets(labels))


def _check(labels: Sequence[str]) -> None:
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
