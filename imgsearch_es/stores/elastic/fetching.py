"""Documents on the server: what is made of them to be sent, and how the server sends them.

Hits come by one doc value each, or by ``_source``. Deep features travel as bytes, in base64, where
the server can do that: as decimal numbers they take most of the time of an answer, and of a bulk
request. The field ``hit`` is all of a document but its
embedding in one value, which is quicker to read than ``_source``. It is kept out of ``_source``, so
a document that others change in part or copy (``_update``, ``_reindex``) loses it; an answer with
such a document is asked for again with sources. So no hit shows what its document was. A lean index
has no ``_source``: there all comes from ``hit``, and the server refuses to change a part.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any

import elasticsearch
import numpy as np
from elasticsearch import Elasticsearch
from numpy.typing import NDArray

from imgsearch_es.analysis.terms import word_key, words_of
from imgsearch_es.errors import (
    ConfigurationError,
    DamagedIndexError,
    IndexRebuiltError,
    ServerError,
)
from imgsearch_es.retrieval.documents import Document, facts_of
from imgsearch_es.retrieval.ledger import leaves
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import FORMULAS, Context, Statistics
from imgsearch_es.retrieval.spans import in_order, to_number
from imgsearch_es.retrieval.traces import most_trace
from imgsearch_es.stores.base import Scored, SearchResult
from imgsearch_es.stores.elastic.connection import Version
from imgsearch_es.vocabulary.synsets import Vocabulary

HIT = "hit"
AS_BYTES: Version = (9, 4)
"""Since when a dense_vector may be sent as base64, both ways."""
WHOLE_INDEX: dict[str, Any] = {"allow_partial_search_results": False}
"""Of every search: an answer without what a shard holds would not be exact."""
NOT_FETCHED = ("posterior", "embedding", "direction", "words", "kinds", "visual_words", "impacts")
"""Parts of ``_source`` that no document needs: they follow from the others, or come as fields."""
SOURCE: dict[str, Any] = {"_source": {"excludes": list(NOT_FETCHED)}}
WHOLE: dict[str, Any] = {**SOURCE, "fields": ["embedding"]}
"""What to ask for to have the deep feature, too: as a field, because in ``_source`` servers differ,
and newer ones leave vectors out. ``in_full`` says it to a server."""
_BY_SCRIPT = """
doc.containsKey('embedding') && doc['embedding'].size() != 0 ? doc['embedding'].vectorValue : null
"""
"""The deep feature on servers that give it as a field by ``_source`` alone."""
Search = Callable[[dict[str, Any]], dict[str, Any]]
"""Sends a request, in one form or another."""


def all_answers(
    client: Elasticsearch, index: str, body: dict[str, Any], keep_alive: str, search: Search
) -> Generator[dict[str, Any], None, None]:
    """Answers with all hits, ``body["size"]`` at a time, as the index is at the first."""
    try:
        view = client.open_point_in_time(index=index, keep_alive=keep_alive)["id"]
    except elasticsearch.NotFoundError as error:
        raise IndexRebuiltError(f"{index} was rebuilt or removed just now: search again") from error
    try:
        while True:
            body["pit"] = {"id": view, "keep_alive": keep_alive}
            answer = search(body)
            view, hits = answer["pit_id"], answer["hits"]["hits"]
            yield answer
            if len(hits) < body["size"]:
                return
            body |= {"search_after": hits[-1]["sort"], "track_total_hits": False}
    except elasticsearch.NotFoundError as error:
        raise ServerError(
            f"{index}: the server keeps what pages are read from for {keep_alive} after each "
            "page, and this one came later (or the server was restarted, or the index removed): "
            "search again"
        ) from error
    finally:
        # Where the index was closed, or the server is away, it ends by itself.
        with suppress(elasticsearch.ApiError, elasticsearch.TransportError):
            client.options(ignore_status=404).close_point_in_time(id=view)


def in_full(body: Mapping[str, Any], version: Version, *, lean: bool) -> dict[str, Any]:
    """A request like ``body`` as a server takes it, for documents with their ids.

    Deep features, if ``body`` asks for them, come as bytes where they can.
    """
    sent = dict(body)
    if lean:
        sent |= {"_source": False, "docvalue_fields": [HIT]}
    if sent.get("fields") == WHOLE["fields"]:
        if version >= AS_BYTES:
            del sent["fields"]
            vectors = {"field": "embedding", "format": "binary"}
            sent["docvalue_fields"] = [*sent.get("docvalue_fields", ()), vectors]
        elif lean:
            del sent["fields"]
            sent["script_fields"] = {"embedding": {"script": _BY_SCRIPT.strip()}}
    return sent


def by_doc_values(body: Mapping[str, Any], version: Version, *, lean: bool) -> dict[str, Any]:
    """A request like ``in_full``, whose hits come by doc values and not by ``_source`` or ids."""
    sent = in_full(body, version, lean=lean) | {"_source": False}
    vectors = (item for item in sent.get("docvalue_fields", ()) if item != HIT)
    sent["docvalue_fields"] = [HIT, *vectors]
    if not {"fields", "script_fields"} & sent.keys():  # whoever asks for these may not do without
        sent["stored_fields"] = "_none_"
    return sent


def is_complete(answer: Mapping[str, Any]) -> bool:
    """Whether every hit of an answer has its document, one way or the other."""
    hits = answer["hits"]["hits"]
    return all("_source" in hit or HIT in hit.get("fields", ()) for hit in hits)


def result(
    query: Query,
    statistics: Statistics,
    answer: Mapping[str, Any],
    hits: Sequence[Scored],
    **facts: Any,
) -> SearchResult:
    """The result that an answer holds, by ``facts`` about it and what is true of all results."""
    strategy = "impact" if query.strategy == "auto" else query.strategy
    return SearchResult(
        hits=tuple(hits),
        terms=query.terms,
        average_length=statistics.average_length,
        strategy=strategy if query.fusion is None else query.fusion.method,
        took_ms=answer["took"],
        **facts,
    )


def document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit, without its embedding; DamagedIndexError if it is none."""
    with reading(hit):
        if "_source" in hit:
            return Document.from_source(hit["_source"])
        return Document.from_hit(hit["fields"][HIT][0])


def terms_of(hit: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """The id of a hit's document, and the scores of its terms by key; raises the same."""
    with reading(hit):
        if "_source" in hit:
            document = Document.from_source(hit["_source"])
            return document.id, {term.key: term.score for term in document.postings}
        return Document.terms_of_hit(hit["fields"][HIT][0])


@contextmanager
def reading(hit: Mapping[str, Any]) -> Iterator[None]:
    """Whatever cannot be read of a hit is a DamagedIndexError."""
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _harmed(hit, "cannot be read") from error


def with_feature(hit: Mapping[str, Any]) -> Document:
    """The document of a hit with its embedding; DamagedIndexError if it is none."""
    with reading(hit):
        return replace(document_of(hit), embedding=embedding_of(hit))


def whole_document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit with its embedding; DamagedIndexError if it is not as written."""
    document = with_feature(hit)
    written = hit["_source"] if "_source" in hit else facts_of(hit["fields"][HIT][0])
    if written.get("checksum") not in (None, document.checksum):
        raise _harmed(hit, "is not as it was written")
    return document


def _harmed(hit: Mapping[str, Any], what: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"{hit['_index']} is harmed inside: the document {hit.get('_id', '')} {what}; "
        "`imgsearch verify` says what is wrong and what to do"
    )


def sent_vector(vector: NDArray[np.float32], version: Version) -> object:
    """A deep feature as it is sent to a server to be indexed: text, or a list of numbers."""
    if version < AS_BYTES:
        return vector.tolist()
    return base64.b64encode(vector.astype(">f4").tobytes()).decode("ascii")


def sent_words(vector: NDArray[np.float32], count: int) -> dict[str, float]:
    """The visual words of a deep feature as they are sent: weights by the names of the words."""
    return {word_key(word): weight for word, weight in words_of(vector, count)}


def embedding_of(hit: Mapping[str, Any], name: str = "embedding") -> NDArray[np.float32] | None:
    """The deep feature of a hit: bytes, the highest of each number first, or a list of numbers."""
    value = hit.get("fields", {}).get(name)
    if value and (value[0] is None or isinstance(value[0], list)):
        (value,) = value  # as scripts give it
    if value is None:
        return None
    if isinstance(value[0], str):
        return np.frombuffer(base64.b64decode(value[0]), dtype=">f4").astype(np.float32)
    return np.asarray(value, dtype=np.float32)


# -- impacts: what formulas make of a document's scores, in inverted indexes of their own --------

IMPACTS = "impacts"
"""The object of their fields, one for each formula that is no inner product of stored scores. The
best by it come first, as by ``posterior`` for formula (1), and are proven."""
OFFERED = tuple(name for name, formula in FORMULAS.items() if not formula.is_linear)
"""The formulas that an index may have impacts of."""
NONE = "none"
_LEAST = 2.0**-126
"""The smallest weight that Elasticsearch takes; a larger one than the true one is a bound, too."""


def wanted_impacts(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The formulas that a person's option names; None where it says nothing."""
    if names is None:
        return None
    given = names.split(",") if isinstance(names, str) else list(names)
    asked = {name.strip() for name in given} - {NONE, ""}
    for name in sorted(asked - {*OFFERED}):
        raise ConfigurationError(
            f"impacts={name!r} names none of the formulas with impacts: "
            f"{', '.join(OFFERED)}, or {NONE}"
        )
    return tuple(name for name in OFFERED if name in asked)


def impacts_in(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The formulas of a mapping's properties, as the server gives them back."""
    return tuple(
        name for name in OFFERED if name in properties.get(IMPACTS, {}).get("properties", ())
    )


def field_of(query: Query) -> str:
    """The inverted index by which a query's formula ranks."""
    formula = query.formula
    return "posterior" if formula.is_linear else f"{IMPACTS}.{formula.name}"


def impacts_of(document: Document, formulas: Sequence[str]) -> dict[str, dict[str, float]]:
    """Weights by synsets, for each formula; of colors whose synsets were lost maybe infinite."""
    scores = np.array([term.score for term in document.postings])
    context = Context(document.length, document.norm, 1.0, {})
    found = {}
    for name in formulas:
        with np.errstate(divide="ignore"):
            impact = FORMULAS[name].impact(scores, context)
        weights = np.maximum(impact, _LEAST).astype(np.float32)
        keys = (term.key for term in document.postings)
        found[name] = dict(zip(keys, weights.tolist(), strict=True))
    return found


# -- fields by which people find a picture in Kibana: kinds, words, and typed metadata -----------

WORDS, KINDS = "words", "kinds"
"""Kinds are the synsets that a picture shows more than a trace of, and those above them, so that
``kinds: dog`` finds every breed, as ``+dog`` does in the language of queries. They do not score."""
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
            sums: dict[str, float] = {}
            for term in document.terms:
                for key in self._at_or_above(term.key):
                    sums[key] = sums.get(key, 0.0) + term.score
            kinds = (self._names[key] for key, total in sums.items() if total > self._least[key])
            found[KINDS] = list(dict.fromkeys(kinds))
            words = chain.from_iterable(self._words_of(term.key) for term in document.terms)
            found[WORDS] = ", ".join(dict.fromkeys(words))
        return found

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


shown_by = lru_cache(maxsize=4)(Shown)
"""The same for all batches of documents."""


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
