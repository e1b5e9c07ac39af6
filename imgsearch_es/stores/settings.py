"""What an index remembers of how its documents were made, and the terms that follow from that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from imgsearch_es.analysis.analyzer import add_taught
from imgsearch_es.analysis.filters import VIEWS
from imgsearch_es.analysis.terms import TaughtWord, to_word_count
from imgsearch_es.errors import ConfigurationError, SchemaError
from imgsearch_es.pictures.photo import KEPT, to_kept
from imgsearch_es.pictures.thumbnails import to_side
from imgsearch_es.retrieval.documents import COLOR_SCHEMA, SCHEMA_VERSION, TAUGHT_SCHEMA, Document
from imgsearch_es.retrieval.feedback import Example
from imgsearch_es.retrieval.queries import best_classes
from imgsearch_es.vocabulary.synsets import Vocabulary, imagenet
from imgsearch_es.vocabulary.words import safe_keys

MOST_FIELDS = 1000
"""Classes of which each has fields of its own on Elasticsearch: more make its mapping too large."""
P = TypeVar("P", "Document", "Example")

MOST_TAUGHT = 1000
"""Taught words of an index."""
LONGEST_NAME = 100
"""Characters of a taught word."""
_KEEPING = frozenset(("top_k", "min_score", "hypernyms"))
"""Term filters that keep a classifier's scores as they are, or add them."""
_NO_ANALYZER: Mapping[str, Any] = {
    "model": {"name": "features"},
    "image_filters": [],
    "term_filters": [],
    "embedding": True,
}
"""In place of an analyzer's configuration, for an index made from a file of features."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index remembers of how its documents were made.

    Attributes:
        analyzer: the analyzer's full configuration.
        weights: the fingerprint of its model's weights.
        vocabulary: the terms that the documents may have, with the taught words.
        embedding_dimensions: length of the deep feature; 0 when the analyzer gives none.
        schema_version: of the stored form.
        checksum: that was stored with these settings; empty where there was none.
        taught: the words that the index was taught, in the order of the vocabulary.
        synset_fields: whether Elasticsearch has a field for each synset; False above MOST_FIELDS.
    """

    analyzer: Mapping[str, Any]
    weights: str
    vocabulary: Vocabulary
    embedding_dimensions: int
    schema_version: int = SCHEMA_VERSION
    checksum: str = field(default="", compare=False)
    taught: tuple[TaughtWord, ...] = ()
    synset_fields: bool = True

    @classmethod
    def of_features(cls, dimensions: int) -> IndexSettings:
        """Of an index of deep features that come from elsewhere, without a model."""
        return cls(dict(_NO_ANALYZER), "none", imagenet(), dimensions)

    @property
    def has_model(self) -> bool:
        """Whether it is known which model made the documents."""
        return bool(self.analyzer.get("model") != _NO_ANALYZER["model"])

    @property
    def has_synsets(self) -> bool:
        """Whether documents can have synsets: a model's, or words that were taught."""
        return self.has_model or bool(self.taught)

    @property
    def has_posteriors(self) -> bool:
        """Whether terms have a classifier's scores, and Elasticsearch can compare those of each."""
        filters = {each["name"] for each in self.analyzer.get("term_filters", ())}
        return self.synset_fields and filters <= _KEEPING

    def asking(self, pictures: Iterable[P]) -> list[P]:
        """Pictures of a query, with those of their terms alone that they ask with."""
        count = self.analyzer.get("query_terms")
        return [
            replace(picture, terms=best_classes(picture.terms, count, self.vocabulary))
            for picture in pictures
        ]

    @property
    def visual_words(self) -> int:
        """How many visual words of each picture are indexed; 0 where none are."""
        return int(self.analyzer.get("visual_words", 0))

    def with_visual_words(self, count: int) -> IndexSettings:
        """The same with so many visual words of each picture, or none."""
        if count and not self.embedding_dimensions:
            raise ConfigurationError(
                "visual words are made from the deep feature, and this index has none"
            )
        return self._saying("visual_words", count or None)

    def _saying(self, name: str, value: object) -> IndexSettings:
        """The same with another option of the analyzer; None takes it out."""
        rest = {key: kept for key, kept in self.analyzer.items() if key != name}
        return replace(self, analyzer=rest if value is None else {**rest, name: value})

    @property
    def photo(self) -> str:
        """What it keeps of how pictures were taken: one of ``photo.KEPT``."""
        return str(self.analyzer.get("photo", KEPT[0]))

    @property
    def thumbnails(self) -> int:
        """The longer side of the thumbnail that it keeps of each picture; 0 where it has none."""
        return int(self.analyzer.get("thumbnails", 0))

    def with_thumbnails(self, side: int) -> IndexSettings:
        """The same with thumbnails of another size, or without."""
        return self._saying("thumbnails", side or None)

    def with_photo(self, what: str) -> IndexSettings:
        """The same, keeping something else of how pictures were taken."""
        return self._saying("photo", None if what == KEPT[0] else what)

    def with_colors(self) -> IndexSettings:
        """The same with the colors among the terms, if pictures are read for it."""
        if not self.has_model:
            return self
        base = self.vocabulary.with_colors()
        more = len(base) - len(self.vocabulary.base)
        words = [replace(word, number=word.number + more) for word in self.taught]
        return replace(self, vocabulary=base).with_taught(words)

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each term by key; that of a taught word stays when another is forgotten."""
        base = {key: number for number, key in enumerate(self.vocabulary.base.keys)}
        return base | {word.key: word.number for word in self.taught}

    def with_taught(self, words: Iterable[TaughtWord]) -> IndexSettings:
        """These settings with other taught words."""
        taught = tuple(sorted(words, key=lambda word: word.number))
        known = self.vocabulary.with_taught((w.key, w.name, w.described) for w in taught)
        return replace(self, taught=taught, vocabulary=known)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, to be kept with the index."""
        words = {"taught": [word.to_dict() for word in self.taught]} if self.taught else {}
        fields = {} if self.synset_fields else {"synset_fields": False}
        schema = TAUGHT_SCHEMA if self.taught else self.schema_version
        return {
            **words,  # left out otherwise, as in indexes made before there were any
            **fields,
            "analyzer": dict(self.analyzer),
            "weights": self.weights,
            "vocabulary": self.vocabulary.base.to_dict(),
            "embedding_dimensions": self.embedding_dimensions,
            "schema_version": COLOR_SCHEMA if self.vocabulary.has_colors else schema,
        }

    def to_stored(self) -> dict[str, Any]:
        """``to_dict`` with a checksum, which tells whether what is stored is what was written."""
        return {**self.to_dict(), "checksum": self.right_checksum()}

    def right_checksum(self) -> str:
        """What ``checksum`` must be."""
        whole = {**self.to_dict(), "schema_version": self.schema_version}
        text = json.dumps(whole, sort_keys=True)
        return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IndexSettings:
        """Read what ``to_dict`` gave."""
        settings = cls(
            analyzer=data["analyzer"],
            weights=data["weights"],
            vocabulary=Vocabulary.from_dict(data["vocabulary"]),
            embedding_dimensions=data["embedding_dimensions"],
            schema_version=min(data["schema_version"], SCHEMA_VERSION),
            checksum=data.get("checksum", ""),
            synset_fields=data.get("synset_fields", True),
        )
        _check_analyzer(settings.analyzer)
        if type(settings.weights) is not str or type(settings.embedding_dimensions) is not int:
            raise TypeError("weights is a text, embedding_dimensions a whole number")
        taught = [TaughtWord.from_dict(word) for word in data.get("taught") or ()]
        settings._check_taught(taught)
        return settings.with_taught(taught)

    def _check_taught(self, words: Sequence[TaughtWord]) -> None:
        """ValueError of taught words that this index cannot have been taught."""
        base = self.vocabulary.base
        taken = {known.key.casefold() for known in (*base, *base.ancestors)}
        numbers = set(range(len(base)))
        for word in words:
            if (
                word.key.casefold() in taken
                or safe_keys([word.key]) != [word.key]
                or not 0 < len(word.name) <= LONGEST_NAME
                or not len(base) <= word.number < len(base) + MOST_TAUGHT
                or word.number in numbers
                or len(word.weights) != self.embedding_dimensions
            ):
                raise ValueError(f"the taught word {word.name!r:.60} cannot be one of this index")
            taken.add(word.key.casefold())
            numbers.add(word.number)


def _check_analyzer(config: Mapping[str, Any]) -> None:
    """TypeError or ConfigurationError of a configuration by which no index can be searched."""
    if not isinstance(config["model"]["name"], str):
        raise TypeError("the model's name is a text")
    for kind in ("image_filters", "term_filters", "embedding_filters"):
        if not all(isinstance(each["name"], str) for each in config.get(kind, ())):
            raise TypeError("the name of a filter is a text")
    asked = config.get("query_terms", 1)
    if type(asked) is not int or asked < 1:
        raise TypeError("query_terms is a whole number above 0")
    if config.get("views", "tiles") not in VIEWS:
        raise TypeError(f"views is {' or '.join(VIEWS)}")
    to_word_count(config.get("visual_words", False))
    to_kept(config.get("photo", KEPT[0]))
    to_side(config.get("thumbnails", 0))


def read_settings(data: Mapping[str, Any], location: str) -> IndexSettings:
    """The settings that are stored at a place; SchemaError if they are harmed."""
    try:
        return IndexSettings.from_dict(data)
    except (AttributeError, ConfigurationError, KeyError, TypeError, ValueError) as error:
        raise SchemaError(
            f"{location}: its settings are not those that were written ({error}); restore a copy, "
            "or index again under another name"
        ) from error


def fitted(documents: Sequence[Document], settings: IndexSettings) -> list[Document]:
    """Documents with the terms of an index's taught words, by their deep features, or none.

    And with colors if the index keeps them, and they have other synsets: formulas that divide by
    the length of a document need one.
    """
    base = settings.vocabulary.base
    own = [tuple(term for term in document.terms if term.key in base) for document in documents]
    documents = [
        d if not d.colors or (base.has_colors and terms) else replace(d, colors=())
        for d, terms in zip(documents, own, strict=True)
    ]
    places = [i for i, d in enumerate(documents) if d.embedding is not None]
    if settings.taught and places:
        vectors = np.stack([v for d in documents if (v := d.embedding) is not None])
        made = add_taught([own[i] for i in places], vectors, settings.taught)
        for i, terms in zip(places, made, strict=True):
            own[i] = terms
    return [
        d if terms == d.terms else replace(d, terms=terms)
        for d, terms in zip(documents, own, strict=True)
    ]
