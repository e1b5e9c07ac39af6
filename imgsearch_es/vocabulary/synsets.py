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

from imgsearch_es.errors import ConfigurationError, SchemaError
from imgsearch_es.vocabulary.colors import COLOR_SYNSETS, NAMED, is_color
from imgsearch_es.vocabulary.wordnet import Resolution as Resolution
from imgsearch_es.vocabulary.wordnet import Synset as Synset
from imgsearch_es.vocabulary.wordnet import (
    above,
    alike,
    below,
    check_labels,
    doubts,
    imagenet_synsets,
    near,
    noun,
    own_synset,
    wordnet_synsets,
)
from imgsearch_es.vocabulary.words import Lexicon, Match, normalize, safe_keys


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """The terms of an index; immutable. Made by `imagenet`, `from_wnids` and `from_labels`.

    >>> len(imagenet().synsets), "tabby" in imagenet()
    (1000, True)

    Attributes:
        name: "imagenet-1k", "wordnet" or "labels".
        synsets: the terms: the classifier's classes in class order, then the hypernyms if any, the
            colors if the index keeps them, and its taught words.
        ancestors: the synsets above the terms that are not terms themselves.
        parents: the keys of the synsets right above each, by key.
        taught: how many of the synsets, the last ones, are words that an index was taught.
        has_hypernyms: whether every hypernym is a term, whose score sums those below it.
        lexicon: words of other languages, with the wnids of nouns; not kept with an index.
    """

    name: str
    synsets: tuple[Synset, ...]
    ancestors: tuple[Synset, ...] = ()
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    taught: int = 0
    has_hypernyms: bool = False
    lexicon: tuple[tuple[str, str], ...] = ()

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
        return tuple(self._known[each] for each in above(self._known[key].key, self.parents))

    def hyponyms(self, key: str) -> tuple[str, ...]:
        """The keys of the terms at or below a synset, in the vocabulary's order."""
        return tuple(self._below[self._known[key].key])

    def classes(self, keys: Iterable[str]) -> set[str]:
        """The classes at or below some terms; a taught word is one."""
        found = {own for key in keys for own in self._below[key]}
        sums = {key for key in found if self._known[key].class_index is None}
        return found - {key for key in sums - self.taught_keys if not is_color(key)}

    def with_hypernyms(self) -> Vocabulary:
        """The vocabulary whose terms are these and then all their hypernyms, by wnid."""
        return self if self.has_hypernyms or not self.parents else self._with_hypernyms

    @property
    def has_colors(self) -> bool:
        """Whether the basic color terms are among the terms."""
        return COLOR_SYNSETS[0].key in self

    def with_colors(self) -> Vocabulary:
        """The vocabulary, without taught words, whose last terms are the colors."""
        base = self.base
        return base if base.has_colors else replace(base, synsets=base.synsets + COLOR_SYNSETS)

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

    def with_lexicon(self, words: tuple[tuple[str, str], ...]) -> Vocabulary:
        """This vocabulary with words of other languages; see ``read_lexicon``."""
        taught = self.synsets[len(self) - self.taught :]
        spoken = replace(self.base, lexicon=words)
        return spoken.with_taught((synset.key, synset.name, synset.gloss) for synset in taught)

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
        """Known words to use instead of one: alike in meaning, then in spelling; best first."""
        return self._lexicon.suggest(word, limit)

    def to_dict(self) -> dict[str, object]:
        """What `from_dict` needs to make this vocabulary again, fit for JSON."""
        if self.taught:
            own = self.synsets[-self.taught :]
            listed = [[synset.key, synset.name, synset.gloss] for synset in own]
            return {**self.base.to_dict(), "taught": listed}
        if self.has_colors:
            plain = replace(self, synsets=self.synsets[: -len(COLOR_SYNSETS)])
            return {**plain.to_dict(), "colors": True}
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
        if data.get("colors"):
            return cls.from_dict({**data, "colors": False}).with_colors()
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
        if self.taught and not self._is_taught_alone(match.phrase):
            same = ((key, *self._same[0].get(key, ()), *self._same[1].get(key, ())) for key in keys)
            keys = tuple(dict.fromkeys(key for group in same for key in group))
        keys = tuple(key for key in keys if not is_color(key)) or keys
        # A class of WordNet may stand above others; where it does not sum them, all are meant.
        alone = self.has_hypernyms or self.name != "wordnet"
        named = {
            term for key in keys for term in ((key,) if alone and key in self else self._below[key])
        }
        weights = {} if how == "wnid" else self._doubts(match.phrase, keys)
        if weights:
            keys, how = tuple(weights), "doubtful"
        may_be_color = self.has_colors and not is_color(keys[0])
        return Resolution(
            phrase=match.phrase,
            senses=tuple(self._known[key] for key in keys),
            keys=keys if weights else tuple(sorted(named, key=self._position.__getitem__)),
            how=how,
            weights=tuple(weights.values()),
            color=NAMED.get(normalize(match.phrase), "") if may_be_color else "",
        )

    def _is_taught_alone(self, phrase: str) -> bool:
        """Whether a phrase is a taught word's key, and not its name, which others have as well."""
        return phrase in self._same[1] and phrase != self._terms[phrase].name

    def _doubts(self, phrase: str, keys: Sequence[str]) -> dict[str, float]:
        """What a phrase stands for that names some synsets, by weight, if its sense is doubtful.

        That is so where it names the same classes here as among ImageNet's.
        """
        weights = {self._by_wnid.get(wnid, ""): weight for wnid, weight in doubts(phrase)}
        if not weights or not weights.keys() <= self._terms.keys():
            return {}
        own = imagenet()
        there = {own[key].wnid for key in own.classes(own.named_by(phrase))}
        return weights if {self[k].wnid for k in self.classes(keys)} == there else {}

    def _near(self, form: str) -> dict[str, float]:
        found = near(form)
        for known in filter(None, map(noun, () if found else self._foreign.get(form, ()))):
            found = found or near(normalize(known.lemmas[0]))
        keys = ((self._by_wnid.get(wnid, ""), weight) for wnid, weight in found)
        return {key: weight for key, weight in keys if key in self}

    def _alike(self, word: str) -> list[str]:
        known = self._by_wnid
        return [self[k].lemmas[0] for w in alike(word) if (k := known.get(w, "")) in self]

    @cached_property
    def _by_wnid(self) -> dict[str, str]:
        return {synset.wnid: key for key, synset in self._known.items() if synset.wnid}

    @cached_property
    def _foreign(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for word, wnid in self.lexicon:
            found.setdefault(normalize(word), []).append(wnid)
        return found

    @property
    def spoken(self) -> list[tuple[str, str]]:
        """The words of all terms and hypernyms, each with its key; those of the lexicon last."""
        lemmas = [(lemma, synset.key) for synset in self._known.values() for lemma in synset.lemmas]
        words = ((word, self._by_wnid.get(wnid)) for word, wnid in self.lexicon)
        return lemmas + [(word, key) for word, key in words if key]

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
        return below(self._known, self.keys, self.parents)

    @cached_property
    def _lexicon(self) -> Lexicon:
        known, lemmas = self._known.values(), self.spoken
        keys = [(synset.key, synset.key) for synset in known]
        names = [(synset.name, synset.key) for synset in known]
        if wnids := [*self._by_wnid.items()]:
            tables = {"key": keys, "wnid": wnids, "name": names, "lemma": lemmas}
            spoken = (lemma for lemma, _ in lemmas)
            return Lexicon(self._known, tables, spoken, near=self._near, alike=self._alike)
        # Of own labels, which may differ in next to nothing, a key must not hide another's name.
        tables = {"name": names + keys + lemmas, "lemma": lemmas}
        own = (key for key in self._known if not is_color(key))  # a label may be "color:blue"
        return Lexicon(own, tables, (name for name, _ in names))


@lru_cache(maxsize=1)
def imagenet() -> Vocabulary:
    """The 1,000 ImageNet classes (ILSVRC 2012), in the order of Keras's models.

    >>> imagenet()["golden_retriever"].wnid
    'n02099601'
    """
    return Vocabulary("imagenet-1k", *imagenet_synsets())


def from_labels(labels: Sequence[str]) -> Vocabulary:
    """The vocabulary of a person's own labels, which are a model's classes in order.

    Raises:
        ConfigurationError: there are no labels, or one is empty, a duplicate or not text.
    """
    check_labels(labels)
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
    check_labels(labels)
    return Vocabulary("wordnet", *wordnet_synsets(labels))
