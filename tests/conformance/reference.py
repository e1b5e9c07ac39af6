"""Formula (1) by NumPy: what every store must answer, to the last bit of a float32."""

from __future__ import annotations

import fnmatch
import string
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any
from unicodedata import normalize

import numpy as np

from imgsearch_es.retrieval.conditions import CASELESS, Filter, of_score
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.vocabulary.colors import is_color

Ranking = list[tuple[float, str]]


def having(keys: Sequence[str], least: float = 0.0, *, negated: bool = False) -> tuple[Filter, ...]:
    """The condition that the scores of these synsets make more than this together."""
    return (of_score("x", keys, "gt", least, negated=negated),) if keys else ()


class Reference:
    """Ranks documents without any store: dense float64 vectors, summed, rounded once."""

    def __init__(self, documents: Iterable[Document], keys: Sequence[str]) -> None:
        self.documents = list(documents)
        self._column = {key: i for i, key in enumerate(keys)}
        self._scores = np.zeros((len(self.documents), len(keys)))
        self._is_synset = np.array([not is_color(key) for key in keys])
        for row, document in enumerate(self.documents):
            for term in document.postings:
                self._scores[row, self._column[term.key]] = np.float32(term.score)

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """What a store's statistics must be."""
        has = self._scores > 0
        return Statistics(
            len(self.documents),
            float(self._synsets.sum(axis=1).mean()),
            {key: int(has[:, self._column[key]].sum()) for key in keys},
        )

    @property
    def _synsets(self) -> np.ndarray:
        """The scores that make a document's length; colors do not."""
        return self._scores[:, self._is_synset]

    def score(self, query: Query) -> dict[str, float]:
        """The score by the query's formula of every document that shares a synset, by id."""
        keys = [term.key for term in query.terms]
        columns = [self._column[key] for key in keys]
        q = np.array([term.score for term in query.terms])
        d = self._scores[:, columns]
        known = self.statistics(keys)
        n = np.array([known.frequencies[key] for key in keys])
        count = known.documents
        with np.errstate(divide="ignore", invalid="ignore"):
            if query.strategy == "tfidf":
                parts = q * d * (1 + np.log((1 + count) / (1 + n))) ** 2
            elif query.strategy == "cosine":
                norms = np.linalg.norm(self._synsets, axis=1, keepdims=True)
                parts = q / np.linalg.norm(q) * d / norms
            elif query.strategy == "sqrt":
                parts = np.sqrt(q * d)
            else:
                k1 = query.parameters.get("k1", 1.2)
                b = query.parameters.get("b", 0.75)
                length = self._synsets.sum(axis=1, keepdims=True) / known.average_length
                idf = np.log(1 + (count - n + 0.5) / (n + 0.5))
                parts = idf * q * d * (k1 + 1) / (d + k1 * (1 - b + b * length))
        scores = np.nansum(np.where(d > 0, parts, 0), axis=1)
        return {
            document.id: float(score)
            for document, score in zip(self.documents, scores, strict=True)
            if score > 0 and np.float32(score) >= (query.min_score or 0)
        }

    def rank(self, query: Query) -> tuple[Ranking, int]:
        """The (score, id) pairs that the query asks for, and how many documents match."""
        sums = np.zeros(len(self.documents))
        for term in query.terms:  # one after the other: the order is part of the definition
            if term.key in self._column:
                sums += self._scores[:, self._column[term.key]] * float(np.float32(term.score))
        with np.errstate(under="ignore"):
            scores = sums.astype(np.float32)
        found = [
            (float(score), document.id)
            for score, document in zip(scores, self.documents, strict=True)
            if score > 0 and score >= (query.min_score or 0) and _is_wanted(document, query)
        ]
        found.sort(key=lambda item: (-item[0], item[1]))
        return found[query.offset : query.offset + query.k], len(found)


def _is_wanted(document: Document, query: Query) -> bool:
    return document.id not in query.exclude and all(
        _meets(document, item) != item.negated for item in query.filters
    )


def _meets(document: Document, item: Filter) -> bool:
    if item.either:
        return any(_meets(document, one) != one.negated for one in item.either)
    values = _values(document, item)
    if item.operator in ("in", "wildcard"):  # accents may be written in two ways
        ways = [(v, normalize("NFC", v), normalize("NFD", v)) if isinstance(v, str) else (v,)
                for v in item.values]  # fmt: skip
        item = replace(item, values=tuple(way for each in ways for way in each))
    if item.field == "indexed_at":
        if item.operator == "in" and values[0].date() in map(_day, item.values):
            return True
        operands: list[Any] = [_utc(str(value)) for value in item.values]
    elif item.field in CASELESS:
        operands = [_small(str(value)) for value in item.values]
    elif item.field.startswith("metadata."):
        operands = [_keyword(value) for value in item.values]
    else:
        operands = list(item.values)
    if item.operator == "in":
        return any(value in operands for value in values)
    if item.operator == "wildcard":
        patterns = [operand.replace("[", "[[]") for operand in operands]
        return any(fnmatch.fnmatchcase(value, each) for value in values for each in patterns)
    compare = {
        "gt": lambda a, b: a > b,
        "gte": lambda a, b: a >= b,
        "lt": lambda a, b: a < b,
        "lte": lambda a, b: a <= b,
    }[item.operator]
    return any(compare(value, operands[0]) for value in values)


def _values(document: Document, item: Filter) -> list[Any]:
    field = item.field
    if field == "label":
        return list(document.labels)
    if field == "synsets":
        return [term.key for term in document.terms]
    if field in ("top_synset", "top_score"):
        best = document.terms[:1]
        return [term.key if field == "top_synset" else term.score for term in best]
    if field == "album":
        return [folder(document.uri)]
    if field.startswith("score("):
        scores = {term.key: term.score for term in document.postings}
        total = 0.0
        for key in item.synsets:
            total += float(np.float32(scores.get(key, 0.0)))
        return [float(np.float32(total))]
    if field in CASELESS:
        found = getattr(document.photo, field)
        return [_small(text) for text in (found if field == "keywords" else [found]) if text]
    if field.startswith("metadata."):
        return _leaves(document.metadata, field.removeprefix("metadata."))
    return [getattr(document, field)]


def folder(uri: str) -> str:
    """What a picture lies in; a tar file counts, not the folders in it."""
    _, colons, archive = uri.removeprefix("tar://").partition("::")
    return archive if uri.startswith("tar://") and colons else uri.rpartition("/")[0]


def _leaves(value: Any, name: str | None) -> list[str]:
    """The values below a name whose dots separate names or belong to them; None: at its end."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item, name)]
    if not isinstance(value, dict):
        return [_keyword(value)] if name is None and value is not None else []
    found: list[str] = []
    for key, item in value.items() if name is not None else ():
        if key == name:
            found += _leaves(item, None)
        if name.startswith(f"{key}."):
            found += _leaves(item, name.removeprefix(f"{key}."))
    return found


def _keyword(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _small(text: str) -> str:
    """With small letters in place of A to Z, and of no others."""
    return text.translate({ord(c): c.lower() for c in string.ascii_uppercase})


def _day(value: object) -> date | None:
    return date.fromisoformat(str(value)) if len(str(value)) == 10 else None


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
