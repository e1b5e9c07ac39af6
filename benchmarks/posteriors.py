"""Collections of posteriors for benchmarks: ten terms a picture or more, in a sparse matrix.

``Synthetic`` draws Zipf classes with confusable neighbors, some steep and some flat. ``Jittered``
takes the posteriors of real photos and multiplies their classes' odds by log-normal noise, so that
there are as many as wanted, each as a classifier might have given it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from copy import copy
from datetime import datetime, timezone
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
from needs import needs

from imgsearch_es.analysis.analyzer import Analyzer, Term
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.sources import find_images
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.vocabulary.synsets import imagenet

with needs("benchmark"):
    from scipy import sparse

KEYS = imagenet().keys
COLUMNS = {key: i for i, key in enumerate(KEYS)}
TERMS = 10
BEST = 10
"""Pictures that a query asks for."""
Answer = list[tuple[str, float]]
"""Their ids and scores, best first."""
_CANDIDATES = 100
"""Classes of a real photo whose odds are jittered."""
_JITTER = 1.0
"""Standard deviation of the noise on the logarithm of the odds."""


def identity(number: int) -> str:
    """The id of a picture: its digits are as random as real ones, so no store can compress them."""
    return f"{places(number):08x}{md5(str(number).encode()).hexdigest()[:24]}"  # noqa: S324


def places(numbers: Any) -> Any:
    """What ids are sorted by, of numbers below 2^32: another one for each."""
    return numbers * 2654435761 % 2**32


class Collection(ABC):
    """Seeded posteriors.

    Attributes:
        classes: of each picture, best first, shape (pictures, terms).
        scores: of these classes, float32, shape (pictures, terms).
        matrix: the same as float64 columns of classes, shape (pictures, 1000).
    """

    def __init__(self, documents: int, seed: int = 0, terms: int = TERMS) -> None:
        self.random, self.terms = np.random.default_rng(seed), terms
        self.prepare()
        self._take(*self.posteriors(documents))

    def _take(self, classes: np.ndarray, scores: np.ndarray) -> None:
        self.classes, self.scores = classes, scores
        documents, terms = classes.shape
        rows = np.repeat(np.arange(documents, dtype=np.int32), terms)
        entries = (scores.ravel().astype(np.float64), (rows, classes.ravel()))
        self.matrix = sparse.csc_matrix(entries, shape=(documents, len(KEYS)))

    def cut(self, terms: int) -> Collection:
        """The same pictures with so many of their best terms."""
        other = copy(self)
        other._take(self.classes[:, :terms], self.scores[:, :terms])
        return other

    @abstractmethod
    def prepare(self) -> None:
        """What is drawn once for all posteriors."""

    @abstractmethod
    def posteriors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes and their scores, best first, both of shape (count, terms)."""

    def documents(self, first: int = 0) -> Iterator[Document]:
        """The collection, one document a picture, whose numbers begin with ``first``."""
        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        rows = zip(self.classes, self.scores, strict=True)
        for i, (classes, scores) in enumerate(rows, first):
            terms = tuple(
                Term(KEYS[c], float(s)) for c, s in zip(classes, scores, strict=True) if s > 1e-30
            )
            uri, content = f"/pictures/{i:08}.jpg", sha256(str(i).encode()).hexdigest()
            yield Document(
                identity(i), uri, uri[10:], content, 640, 480, 99_999, "JPEG", now, terms
            )

    def queries(self, count: int, **options: Any) -> list[Query]:
        """Queries by new posteriors of the same kind."""
        classes, scores = self.posteriors(count)
        return [
            Query(
                synset_vector(Term(KEYS[c], float(s)) for c, s in zip(cs, ss, strict=True)),
                **options,
            )
            for cs, ss in zip(classes, scores, strict=True)
        ]


class Synthetic(Collection):
    """Zipf classes, each with thirty that it may be confused with (three times the terms)."""

    def prepare(self) -> None:
        """How frequent classes are, and which are confused with which."""
        popularity = 1 / np.arange(1, len(KEYS) + 1) ** 0.8
        self._popularity = popularity / popularity.sum()
        near = 3 * self.terms
        self._neighbors = np.stack([self.random.permutation(len(KEYS))[:near] for _ in KEYS])

    def posteriors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """A class, some of those it is confused with, and scores of three kinds of steepness."""
        terms = self.terms
        first = self.random.choice(len(KEYS), size=count, p=self._popularity)
        others = self.random.random((count, 3 * terms)).argsort(axis=1)[:, : terms - 1]
        classes = np.column_stack([first, np.take_along_axis(self._neighbors[first], others, 1)])
        for row in np.flatnonzero([len(set(row)) < terms for row in classes]):
            classes[row] = (first[row] + np.arange(terms) * 37) % len(KEYS)
        steepness = self.random.choice([0.15, 0.5, 2.0], size=count)[:, None]
        odds = self.random.gamma(steepness, size=(count, terms)) + 1e-9
        scores = np.sort(odds / odds.sum(axis=1, keepdims=True), axis=1)[:, ::-1]
        return classes, scores.astype(np.float32)


class Jittered(Collection):
    """The posteriors of real photos, with noise.

    Args:
        documents: how many.
        images: a folder of JPEG photos.
        model: the classifier.
    """

    def __init__(self, documents: int, images: Path, model: str, seed: int = 0) -> None:
        filters = [{"name": "top_k", "k": _CANDIDATES}]
        analyzer = Analyzer({"model": {"name": model}, "term_filters": filters})
        photos = sorted(find_images([images]))
        analyses = [analyzer.analyze(open_image(photo).image) for photo in photos]
        self._bases = [
            (np.array([COLUMNS[t.key] for t in a.terms]), np.array([t.score for t in a.terms]))
            for a in analyses
        ]
        super().__init__(documents, seed)

    def prepare(self) -> None:
        """The photos are all there is."""

    def posteriors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The best classes of photos drawn at random, after the noise."""
        classes = np.empty((count, self.terms), dtype=np.int64)
        scores = np.empty((count, self.terms), dtype=np.float32)
        chosen = self.random.integers(len(self._bases), size=count)
        for number, (columns, odds) in enumerate(self._bases):
            rows = np.flatnonzero(chosen == number)
            noise = self.random.normal(0, _JITTER, size=(len(rows), len(odds)))
            jittered = odds * np.exp(noise)
            jittered /= jittered.sum(axis=1, keepdims=True)
            best = np.argsort(-jittered, axis=1)[:, : self.terms]
            classes[rows] = columns[best]
            scores[rows] = np.take_along_axis(jittered, best, axis=1)
        return classes, scores


def numpy_postings(collection: Collection) -> Callable[[Query], Answer]:
    """The posting lists in memory: added into one array, and the best of what was touched.

    It answers with numbers and scores alone, from float64 lists that never change.
    """
    matrix = collection.matrix
    total = np.zeros(matrix.shape[0])

    def answer(query: Query) -> Answer:
        touched = []
        for term in query.terms:
            first, end = matrix.indptr[COLUMNS[term.key]], matrix.indptr[COLUMNS[term.key] + 1]
            rows = matrix.indices[first:end]
            total[rows] += term.score * matrix.data[first:end]
            touched.append(rows)
        rows = np.concatenate(touched)
        scores = total[rows].astype(np.float32)
        last = np.partition(scores, -20 * BEST)[-20 * BEST] if len(scores) > 20 * BEST else 0
        rows = np.unique(rows[scores >= last])  # a picture stands there once for each list
        scores = total[rows].astype(np.float32)
        best = rows[np.lexsort((places(rows.astype(np.int64)), -scores))][:BEST].tolist()
        found = [(identity(i), float(np.float32(total[i]))) for i in best]
        total[np.concatenate(touched)] = 0
        return found

    return answer
