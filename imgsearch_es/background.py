"""What scores mean: which of them pictures reach that have nothing to do with each other.

Every picture matches something. The background is the distribution of scores between stored
pictures that the classifier takes for different things: neither has the other's best synset among
its terms. A hit that scores less than most of those is marked as chance.

It is measured on the documents with the smallest ids. An id is a hash, so that is a random sample,
and every store draws the same one. See docs/decisions/007-a-background-of-unrelated-pairs.md.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis import Term
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.documents import Document, to_score
from imgsearch_es.errors import ImgsearchError, StoreError
from imgsearch_es.queries import Query
from imgsearch_es.scoring import FORMULAS, Context, Formula, Statistics, formula_of
from imgsearch_es.stores.base import IndexSettings, Store

SAMPLE = 300
"""Pictures in the sample; all pairs of them are compared."""
DENSE_QUERIES = 40
"""Of these, pictures whose deep feature is compared with all others."""
LEAST_PAIRS = 100
"""With fewer unrelated pairs nothing is said."""
QUANTILE = "0.99"
"""A hit below this quantile of the background is marked."""
QUANTILES = ("0.5", "0.9", "0.95", QUANTILE, "0.999")
NOTE = "background"
"""The name by which stores keep it."""

_SCALES = {"inner": 1.0, "tfidf": 1.0, "bm25": 1.0, "sqrt": 0.5, "cosine": 0.0}
"""By which power of a factor to all weights of the query a score grows."""
_FRESH_SECONDS = 60.0
"""How long what another process may have replaced is not read again."""


@dataclass(frozen=True)
class Background:
    """Scores between unrelated pictures.

    Attributes:
        documents: how many the index had.
        heaviest: the largest sum of weights of a sampled picture.
        pictures: quantiles by formula or comparison, of queries by picture.
        words: quantiles by formula, of queries by one synset with weight 1.
    """

    documents: int
    heaviest: float
    pictures: dict[str, dict[str, float]]
    words: dict[str, dict[str, float]]

    def chance_score(self, query: Query) -> float | None:
        """What a hit of this query must reach not to be marked; None where that is not known.

        A picture's weights are as they are: a picture that the classifier is unsure of scores
        low, and that is the point. Only a query heavier than any picture, as Rocchio's, is
        compared as if it were as heavy. Words weigh 1, boosted ones more.
        """
        if query.fusion is not None:
            return None  # sums and ranks of parts are not measured
        if query.is_dense:
            return self.pictures.get(query.strategy, {}).get(QUANTILE)
        formula = formula_of(query.strategy)
        if formula.with_defaults(query.parameters) != formula.parameters:
            return None  # measured with the parameters' default values only
        known = self.words if _is_of_words(query) else self.pictures
        score = known.get(formula.name, {}).get(QUANTILE)
        if score is None:
            return None
        weights = [term.score for term in query.terms]
        if known is self.pictures:
            factor = max(1.0, math.fsum(weights) / self.heaviest)
        elif formula.name == "cosine":  # the query's length is 1, whatever number of words has it
            return to_score(score * weights[0] / math.hypot(*weights))
        else:
            factor = weights[0]
        return to_score(score * factor ** _SCALES[formula.name])


def _is_of_words(query: Query) -> bool:
    """Whether words decide: they weigh 1 or more, which no synset of a picture does."""
    return query.text is not None and (not query.pictures or query.terms[0].score >= 1)


class Chance:
    """The score below which the hits of one query are marked, looked up when first asked for."""

    def __init__(self, query: Query, store: Store | None) -> None:
        self._query, self._store = query, store
        self._score: float | None = None

    @property
    def score(self) -> float | None:
        """None where it is not known: few pictures, or the index can no longer be read."""
        store, self._store = self._store, None
        if store is not None:
            try:
                found = background_of(store)
            except ImgsearchError:  # showing hits needs no index
                return None
            self._score = found.chance_score(self._query)
        return self._score


@dataclass(frozen=True)
class _Kept:
    """A background in memory: until when it is taken for current, and of which index it is."""

    until: float
    settings: IndexSettings | None
    background: Background


_cache: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()


def background_of(store: Store) -> Background:
    """The background that an index keeps; measured where it keeps none."""
    known = _cache.get(store)
    if known is not None and known.settings is not store.settings():
        known = None  # the index was rebuilt
    if known is not None and time.monotonic() < known.until:
        return known.background
    kept = store.read_note(NOTE)
    if kept is None and known is not None:
        return known.background
    return _keep(store, measure(store) if kept is None else Background(**json.loads(kept)))


def _keep(store: Store, found: Background) -> Background:
    _cache[store] = _Kept(time.monotonic() + _FRESH_SECONDS, store.settings(), found)
    return found


def refresh(store: Store, changed: int) -> None:
    """After indexing: measure and keep the background, when the collection is another one.

    Args:
        store: an index that exists.
        changed: how many documents were written or removed since; half of all is much.
    """
    kept, count = store.read_note(NOTE), store.count()
    before = 0 if kept is None else json.loads(kept)["documents"]
    if kept is not None and before / 2 < count < 2 * before and 2 * changed < count:
        return
    found = measure(store)
    with suppress(StoreError):  # who may write documents only keeps none: searches measure it
        store.write_note(NOTE, json.dumps(asdict(found)))
    _keep(store, found)


def measure(store: Store) -> Background:
    """Compare a sample of an index with itself, in every way that there is."""
    documents = store.sample(SAMPLE)
    keys = list(dict.fromkeys(term.key for document in documents for term in document.terms))
    sample = _Sample(documents, keys)
    statistics = store.statistics(keys) if keys else Statistics(len(documents), 0.0, {})
    pictures, words = {}, {}
    for formula in FORMULAS.values():
        pictures[formula.name] = _quantiles(sample.scores(formula, statistics))
        words[formula.name] = _quantiles(sample.word_scores(formula, statistics))
    for name in COMPARISONS:
        pictures[name] = _quantiles(sample.dense_scores(name))
    return Background(
        documents=store.count(),
        heaviest=max((document.length for document in documents), default=0.0),
        pictures={name: found for name, found in pictures.items() if found},
        words={name: found for name, found in words.items() if found},
    )


class _Sample:
    """Documents, and which of them are unrelated."""

    def __init__(self, documents: Sequence[Document], keys: Sequence[str]) -> None:
        self.documents = documents
        self._sizes = [(document.length, document.norm) for document in documents]
        column = {key: i for i, key in enumerate(keys)}
        has = np.zeros((len(documents), len(keys) + 1), dtype=bool)  # the last: no synset
        self.postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, document in enumerate(documents):
            for term in document.terms:
                has[row, column[term.key]] = True
                self.postings[term.key].append((row, term.score))
        best = [column[d.terms[0].key] if d.terms else -1 for d in documents]
        self.seen: NDArray[np.bool_] = has[:, best]
        """Whether the row's picture has the best synset of the column's among its terms."""
        self.unrelated: NDArray[np.bool_] = ~(self.seen | self.seen.T)
        # Of a picture that no classifier has seen it is not known what it has to do with others.
        unknown = np.array([not d.terms and not d.is_read for d in documents], dtype=bool)
        self.unrelated[unknown] = self.unrelated[:, unknown] = False
        np.fill_diagonal(self.unrelated, False)

    def scores(self, formula: Formula, statistics: Statistics) -> Iterator[float]:
        """Of unrelated pictures that match at all: score 0 is no hit."""
        for row, document in enumerate(self.documents):
            if document.terms:
                terms = formula.query_weights(document.terms, statistics)
                yield from self._scores(formula, statistics, terms, self.unrelated[row])

    def word_scores(self, formula: Formula, statistics: Statistics) -> Iterator[float]:
        """Of a picture's best synset, as a word, with pictures whose best synset it has not."""
        for row, document in enumerate(self.documents):
            if document.terms:
                word = (Term(document.terms[0].key, 1.0),)
                terms = formula.query_weights(word, statistics)
                yield from self._scores(formula, statistics, terms, ~self.seen[row])

    def _scores(
        self,
        formula: Formula,
        statistics: Statistics,
        terms: Sequence[Term],
        wanted: NDArray[np.bool_],
    ) -> Iterator[float]:
        if not wanted.any():  # as where every picture has every synset
            return
        average, parameters = statistics.average_length, formula.parameters
        summands = defaultdict(list)
        for term in terms:
            for row, score in self.postings[term.key]:
                if wanted[row]:
                    context = Context(*self._sizes[row], average, parameters)
                    summands[row].append(float(formula.summand(term.score, score, context)))
        yield from map(math.fsum, summands.values())

    def dense_scores(self, name: str) -> Iterator[float]:
        """Of unrelated pictures' deep features."""
        having = [i for i, d in enumerate(self.documents) if d.embedding is not None]
        if not having:
            return
        vectors = np.stack([v for d in self.documents if (v := d.embedding) is not None])
        for row, vector in zip(having[:DENSE_QUERIES], vectors, strict=False):
            if vector.any():
                scores = COMPARISONS[name].scores(vector, vectors)
                yield from scores[self.unrelated[row][having]].tolist()


def _quantiles(scores: Iterator[float]) -> dict[str, float]:
    """Empty where there are too few to say."""
    found = [score for score in scores if math.isfinite(score)]
    if len(found) < LEAST_PAIRS:
        return {}
    values = np.quantile(found, [float(q) for q in QUANTILES])
    return {q: to_score(value) for q, value in zip(QUANTILES, values, strict=True)}
