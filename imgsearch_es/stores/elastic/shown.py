"""Fields by which people find a picture in Kibana: kinds, words, and typed metadata.

``kinds`` are the synsets that a picture shows more than a trace of, and those above them, so that
``kinds: dog`` finds every breed, as ``+dog`` does in the language of queries. Nothing of this
scores. All of it follows from the rest of a document.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from typing import Any

from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import leaves
from imgsearch_es.retrieval.spans import in_order, to_number
from imgsearch_es.retrieval.traces import most_trace
from imgsearch_es.vocabulary.synsets import Vocabulary

WORDS, KINDS = "words", "kinds"
MADE = (KINDS, WORDS)
"""Those that are not in ``_source``."""
_TYPED: dict[str, dict[str, Any]] = {
    "numbers": {"type": "double", "ignore_malformed": True},
    "dates": {"type": "date", "ignore_malformed": True},
    "texts": {"type": "keyword", "ignore_above": 1024},
}
"""Objects of the values in people's metadata, and how each of their fields is indexed."""
TEMPLATES = [
    {name: {"path_match": f"{name}.*", "mapping": field}} for name, field in _TYPED.items()
]
"""Dynamic templates of a mapping."""
FIELDS: dict[str, Any] = {
    KINDS: {"type": "keyword", "normalizer": "lowercase"},
    WORDS: {"type": "text", "analyzer": "english"},
    **{name: {"type": "object", "dynamic": True, "subobjects": False} for name in _TYPED},
}
"""Properties of a mapping. An index made before there were any has none, until it is rebuilt."""
MOST_NAMES = 300
"""Names in metadata that get fields of their own; the rest is in ``metadata`` alone."""
_NAME = re.compile(r"\w[\w -]*(\.\w[\w -]*)*")
_ABOVE_ALL = frozenset(
    ("n00001740", "n00001930", "n00002137", "n00002452", "n00002684", "n00003553")
)
"""entity, physical entity, abstraction, thing, object, whole: what they name says nothing."""


class Shown:
    """What documents of a vocabulary get; what follows from a synset is looked up once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._kinds: dict[str, tuple[str, ...]] = {}
        self._words: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, str] = {}
        self._least: dict[str, float] = {}

    def fields(self, document: Document, *, lean: bool) -> dict[str, Any]:
        """The values of a document's fields; a lean index has none of ``MADE``."""
        found: dict[str, Any] = _typed(document.metadata)
        if not lean:
            found[KINDS] = self._kinds_of(document)
            words = chain.from_iterable(self._words_of(term.key) for term in document.terms)
            found[WORDS] = ", ".join(dict.fromkeys(words))
        return found

    def _kinds_of(self, document: Document) -> list[str]:
        sums: dict[str, float] = {}
        for term in document.terms:
            for key in self._at_or_above(term.key):
                sums[key] = sums.get(key, 0.0) + term.score
        kinds = (self._names[key] for key, total in sums.items() if total > self._least[key])
        return list(dict.fromkeys(kinds))

    def _at_or_above(self, key: str) -> tuple[str, ...]:
        """The keys of a term and what is above it; none of a term that sums others."""
        if key not in self._kinds:
            own = self._vocabulary[key]
            is_sum = own.class_index is None and key not in self._vocabulary.taught_keys
            found = () if is_sum else (own, *self._vocabulary.hypernyms(key))
            named = [synset for synset in found if synset.wnid not in _ABOVE_ALL]
            for synset in named:
                below = self._vocabulary.hyponyms(synset.key)
                self._least[synset.key] = most_trace(self._vocabulary, below)
                self._names[synset.key] = synset.name.replace(" ", "_").lower()
            self._kinds[key] = tuple(synset.key for synset in named)
        return self._kinds[key]

    def _words_of(self, key: str) -> tuple[str, ...]:
        """A synset's names and lemmas, and those above it, nearest first."""
        if key not in self._words:
            own, above = self._vocabulary[key], self._vocabulary.hypernyms(key)
            lemmas = (lemma for s in above if s.wnid not in _ABOVE_ALL for lemma in s.lemmas)
            self._words[key] = tuple(dict.fromkeys([own.title, *own.lemmas, *lemmas]))
        return self._words[key]


@lru_cache(maxsize=4)
def shown_by(vocabulary: Vocabulary) -> Shown:
    """The same for all batches of documents."""
    return Shown(vocabulary)


def _typed(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, dates and other texts of metadata, by their dotted names."""
    found: dict[str, dict[str, list[Any]]] = {}
    for path, text in leaves(metadata):
        if not text or len(path) > 200 or not _NAME.fullmatch(path):
            continue
        text = text.lower() if text in ("True", "False") else text  # as JSON has them
        value = in_order(text)
        kind = "texts" if value is None else "dates" if isinstance(value, str) else "numbers"
        typed = to_number(text) if kind == "numbers" else value or text
        found.setdefault(kind, {}).setdefault(path, []).append(typed)
    return found
