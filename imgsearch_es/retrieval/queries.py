"""Queries: a weighted synset vector, whether it came from a picture, from words or from both.

    sim(q, d) = sum over synsets j of q_j * d_j                        (1)

(Tanioka, "Super Easy Way of Building Image Search with Keras", SIGIR 2017 workshop LIARR, eq. 1.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.terms import word_key, word_scores, words_of
from imgsearch_es.errors import EmptyQueryError, QueryError
from imgsearch_es.pictures.files import filename
from imgsearch_es.retrieval.conditions import Filter, order
from imgsearch_es.retrieval.dense import CANDIDATES, COMPARISONS, Scores, Vectors
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.ledger import LONGEST_FEATURE
from imgsearch_es.retrieval.scoring import Statistics, heaviest_first
from imgsearch_es.retrieval.strategies import (
    APPROXIMABLE,
    MAX_RESULTS,
    STRATEGIES,
    ByStrategy,
    Fusion,
    Part,
    Strategy,
    strategy_of,
)
from imgsearch_es.vocabulary.synsets import Vocabulary

WELL = 0.1
"""The least score of a taught word that a picture in a query asks with (docs/benchmarks.md)."""

MAX_COSTLY = 32
"""Conditions that are a join of DuckDB's each: 64 on the score of dogs take more than 250 MB, 250
on metadata 20 s of 300 pictures."""
_HIGHEST = 1e38
"""Scores are lower: float32 numbers."""
ROLES = ("image", "like", "dislike")
"""What a picture may be in a query."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """Conditions alone: what meets them counts, and nothing scores; ``exclude`` are ids left out.

    ``synset_fields`` says whether Elasticsearch has a field for each synset, for what reads one.
    """

    filters: tuple[Filter, ...] = ()
    exclude: tuple[str, ...] = ()
    synset_fields: bool = True

    def __post_init__(self) -> None:
        if sum(item.cost for item in self.filters) > MAX_COSTLY:
            raise QueryError(
                f"there are more than {MAX_COSTLY} signs, patterns and conditions on scores and "
                "metadata: leave some out"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Query(ByStrategy, Selection):
    """What to search for; built by ``ImageIndex.query`` and understood by every store.

    The other fields are those of `SearchRequest`, as they were understood; of them ``text``,
    ``pictures``, ``roles``, ``part``, ``feedback``, ``hints`` and ``left_out`` are to be shown.

    >>> len(index.query("cat", where="width>=400").filters)
    1

    Attributes:
        terms: the weighted synset vector, heaviest first, ties by key; weights are float32. Of a
            fusion the synsets of its parts times the part's weight, added: to show, and for facets.
        embedding: the query's deep feature, which the strategies dense-* compare.
        min_score: the least score of a hit, a float32 number; of distances minus the largest.
        candidates: how many near pictures an approximate answer compares exactly, or 0 for all.
        visual_words: how many each picture of the index has, for approximate answers; or 0.
        pictures: URIs or pictures in memory, and ``roles`` what each is: one of ROLES.
        fusion: how the parts are put together; None for a query of one part, which is itself.
        parts: what is put together (see ``imgsearch_es.retrieval.strategies``).
        sort: the field by which all that meets terms and conditions is sorted, without scores.
        counts: which of the ranked pictures show what was asked for, and count: totals, facets and
            sorted lists are of these; None for all.
    """

    terms: tuple[Term, ...]
    k: int = 10
    offset: int = 0
    strategy: str = "auto"
    parameters: Mapping[str, float] = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = None
    min_score: float | None = None
    text: str | None = None
    pictures: tuple[str | Image.Image, ...] = ()
    hints: tuple[str, ...] = ()
    left_out: tuple[str, ...] = field(default=(), kw_only=True)
    roles: tuple[str, ...] = field(default=(), kw_only=True)
    part: str = field(default="", kw_only=True)
    feedback: int = field(default=0, kw_only=True)
    fusion: Fusion | None = field(default=None, kw_only=True)
    parts: tuple[Part, ...] = field(default=(), kw_only=True)
    candidates: int = field(default=0, kw_only=True)
    visual_words: int = field(default=0, kw_only=True)
    sort: str | None = field(default=None, kw_only=True)
    counts: Filter | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        Selection.__post_init__(self)
        strategy_of(self.strategy)
        if self.sort is not None:
            self._check_sort(self.sort)
        elif self.fusion is not None:
            self._check_fusion(self.fusion)
        elif self.is_dense:
            self._check_embedding()
        elif not self.terms:
            raise EmptyQueryError(
                "nothing to search for: the query has no synset with a weight above 0; add words "
                "or a picture, because conditions and exclusions select and do not score"
            )
        if self.min_score is not None:
            if not abs(self.min_score) < _HIGHEST:  # also not a number
                raise QueryError(f"min_score is no number that a score can be: {self.min_score}")
            object.__setattr__(self, "min_score", to_score(self.min_score))
        if self.candidates and self.strategy not in APPROXIMABLE:
            raise QueryError(
                f"{self.strategy} is always exact: {', '.join(APPROXIMABLE)} can be approximate"
            )
        if not 0 <= self.candidates <= MAX_RESULTS:
            raise QueryError(f"candidates are 1 to {MAX_RESULTS}, not {self.candidates}")
        if self.fusion is None:
            self.formula.with_defaults(self.parameters)
        rounded = tuple(Term(term.key, to_score(term.score)) for term in self.terms)
        object.__setattr__(self, "terms", rounded)
        if not all(isinstance(number, int | np.integer) for number in (self.k, self.offset)):
            raise QueryError(f"k and offset are whole numbers, not {self.k!r} and {self.offset!r}")
        if self.k < 1 or self.offset < 0:
            raise QueryError(f"k must be at least 1 and offset 0, not {self.k} and {self.offset}")
        if self.offset + self.k > MAX_RESULTS:
            raise QueryError(
                f"offset + k may be at most {MAX_RESULTS}: narrow the query by filters"
            )

    @property
    def has_features(self) -> bool:
        """Whether the strategy, or a part of a fusion, compares deep features."""
        return any(part.is_dense for part in self.parts or (self,))

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The strategy, or those of a fusion's parts."""
        return tuple(STRATEGIES[part.strategy] for part in self.parts or (self,))

    @property
    def compares_all(self) -> bool:
        """Whether the strategy, or a part of a fusion, compares every deep feature."""
        return any(way.compares_all for way in self.strategies)

    @property
    def by_words(self) -> bool:
        """Whether the strategy, or a part of a fusion, compares visual words."""
        return any(way.by_words for way in self.strategies)

    @property
    def words(self) -> list[tuple[int, float]]:
        """The visual words of its deep feature, heaviest first, ties by number."""
        return [] if self.embedding is None else words_of(self.embedding, self.visual_words)

    @property
    def word_terms(self) -> tuple[Term, ...]:
        """The same as terms, by the names of the words."""
        return tuple(Term(word_key(word), weight) for word, weight in self.words)

    def compare(self, vectors: Vectors) -> Scores:
        """Its scores of deep features, shape (pictures, dimensions), before they are rounded."""
        if self.embedding is None:
            raise QueryError(f"{self.strategy} compares deep features, and the query has none")
        if STRATEGIES[self.strategy].by_words:
            return word_scores(self.embedding, vectors, self.visual_words)
        return COMPARISONS[self.strategy].scores(self.embedding, vectors)

    def _check_sort(self, sort: str) -> None:
        order(sort)
        given = {
            "a fusion": self.fusion is not None,
            "a picture or a strategy": self.strategy != "auto" or self.pictures,
            "min_score": self.min_score is not None,
        }
        if what := next(filter(given.get, given), None):
            raise QueryError(
                f"sort= lists what meets words and conditions and scores nothing: leave out {what}"
            )

    def _check_fusion(self, fusion: Fusion) -> None:
        if not self.parts:
            raise QueryError("a fused query has parts: build it with ImageIndex.query")
        if self.strategy != "auto":
            raise QueryError(
                f"leave out the strategy {self.strategy}: the parts of a fusion are strategies, "
                f"such as fuse={{'image': 1, '{self.strategy}': 1}}"
            )
        if self.min_score is not None:
            raise QueryError(
                "min_score= is by the scores of one strategy, not of a fusion: leave it out"
            )
        if fusion.is_ranked and self.offset + self.k > fusion.window:
            raise QueryError(
                f"each part ranks {fusion.window} pictures, and offset + k is "
                f"{self.offset + self.k}: raise window"
            )
        known = {name for part in self.parts for name in part.formula.parameters}
        for name in self.parameters:
            if name not in known:
                has = ", ".join(sorted(known)) or "none"
                raise QueryError(f"no part has a parameter {name!r}; they have {has}")
        part_queries(self)  # each checks itself

    def _check_embedding(self) -> None:
        if self.embedding is None:
            raise QueryError(
                f"{self.strategy} compares the deep features of pictures: give a picture, to an "
                "index whose analyzer keeps them"
            )
        if not np.isfinite(self.embedding).all() or not self.embedding.any():
            raise QueryError("the query's deep feature is zero or not finite")
        length = float(np.linalg.norm(self.embedding.astype(np.float64)))
        if length > LONGEST_FEATURE:
            raise QueryError(
                f"the query's deep feature has the length {length:.3g}: more than "
                f"{LONGEST_FEATURE:.3g} cannot be compared, so divide the features by a number"
            )

    def to_elasticsearch(
        self, strategy: str | None = None, *, statistics: Statistics | None = None
    ) -> dict[str, Any]:
        """The body of the search request, as it would be sent or pasted into Kibana's console.

        Another strategy may be named. Those that weight by the collection need its statistics,
        ``index.store.statistics(keys)``.
        """
        from imgsearch_es.stores.elastic.answers import request_body

        return request_body(replace(self, strategy=strategy or self.strategy), statistics)

    def to_esql(self, index: str, *, statistics: Statistics | None = None) -> str:
        """The same in ES|QL, for Kibana's Discover: the scores of synsets, not rounded to float32.

        QueryError of what it cannot say: fusions, deep features and visual words.
        """
        from imgsearch_es.stores.elastic.esql import esql

        return esql(self, index, statistics)

    def __repr__(self) -> str:
        return f"Query({self}; {len(self.terms)} synsets, k={self.k}, strategy={self.strategy!r})"

    def __str__(self) -> str:
        names: dict[str, list[str]] = {}
        for i, picture in enumerate(self.pictures):
            name = filename(picture) if isinstance(picture, str) else "picture"
            names.setdefault(self.roles[i] if self.roles else "image", []).append(name)
        if self.part:
            names["image"] = [self.part]
        parts = [f"{role}: {', '.join(names[role])}" for role in ROLES if role in names]
        if self.text:
            parts.append(f"words: {self.text}")
        if self.feedback:
            parts.append(f"feedback: best {self.feedback}")
        if self.fusion is not None:
            parts.append(f"fused: {self.fusion}")
        parts += (str(item) for item in self.filters if not item.is_sign)
        if self.sort is not None:
            parts.append(f"sorted by {self.sort}")
        return "; ".join(parts)


def counted(query: Selection) -> Selection:
    """What totals, facets and sorted lists are of."""
    if not isinstance(query, Query) or query.counts is None:
        return query
    filters = (*query.filters, query.counts)
    return Selection(filters=filters, exclude=query.exclude, synset_fields=query.synset_fields)


def part_queries(query: Query) -> tuple[Query, ...]:
    """Each part of a fused query as a query of its own, with the conditions of the whole."""
    fusion = query.fusion
    if fusion is None:
        return ()
    return tuple(
        replace(
            query,
            fusion=None,
            parts=(),
            strategy=part.strategy,
            terms=part.terms,
            parameters={n: v for n, v in query.parameters.items() if n in part.formula.parameters},
            embedding=query.embedding if part.is_dense else None,
            k=fusion.window if fusion.is_ranked else query.k,
            offset=0 if fusion.is_ranked else query.offset,
        )
        for part in query.parts
    )


def asked_of(query: Query, key: str) -> Query:
    """The query of the document of this id alone, which scores as before.

    Made of what is built: a request with one condition more may have other weights.
    """
    if query.fusion is not None and query.fusion.is_ranked:
        return replace(query, k=query.fusion.window)  # ranks are among all
    return replace(query, filters=(*query.filters, Filter("id", "in", (key,))))


def fused_terms(parts: Iterable[Part]) -> tuple[Term, ...]:
    """The parts' synsets, each times its part's weight, added."""
    return synset_vector(
        *([Term(term.key, part.weight * term.score) for term in part.terms] for part in parts)
    )


def needs_statistics(query: Query) -> bool:
    """Whether a formula of the query weights by the collection."""
    return any(part.formula.needs_statistics for part in query.parts or (query,))


def with_weights(query: Query, statistics: Statistics) -> Query:
    """The query with its synsets, or those of its parts, as the formula weights them."""

    def weighted(one: Query | Part) -> tuple[Term, ...]:
        return one.formula.query_weights(one.terms, statistics)

    terms = weighted(query)
    if terms is query.terms and not query.parts:  # as they are
        return query
    parts = tuple(replace(part, terms=weighted(part)) for part in query.parts)
    return replace(query, terms=terms, parts=parts)


def synset_vector(*vectors: Iterable[Term]) -> tuple[Term, ...]:
    """Add vectors of terms, synset by synset; heaviest first, ties by key.

    The order is part of the definition: all stores add the products of formula (1) in it.
    """
    weights: dict[str, float] = {}
    for vector in vectors:
        for term in vector:
            weights[term.key] = weights.get(term.key, 0.0) + term.score
    terms = (Term(key, to_score(weight)) for key, weight in weights.items())
    return heaviest_first(term for term in terms if term.score > 0)


def best_classes(
    terms: Sequence[Term], count: int | None, vocabulary: Vocabulary
) -> tuple[Term, ...]:
    """The terms of a picture that a query asks with: its best classes, and what is above these.

    Of equal classes the first in the vocabulary; all terms where ``count`` is None. Beside them
    the taught words that it has well, by a score of ``WELL`` or more.
    """
    if count is None:
        return tuple(terms)
    classes = [
        (-term.score, index, term.key)
        for term in terms
        if (index := vocabulary[term.key].class_index) is not None
    ]
    best = [key for *_, key in sorted(classes)[:count]]
    asked = {*best, *(above.key for key in best for above in vocabulary.hypernyms(key))}
    asked |= {t.key for t in terms if t.score >= WELL and t.key in vocabulary.taught_keys}
    return tuple(term for term in terms if term.key in asked)


def to_candidates(approximate: bool, candidates: int | None) -> int:
    """A query's ``candidates`` from what a person asks for."""
    if candidates is None:
        return CANDIDATES if approximate else 0
    if not approximate:
        raise QueryError(
            "candidates are of an approximate search: also say approximate=True (--approximate)"
        )
    if candidates < 1:
        raise QueryError(f"candidates are 1 to {MAX_RESULTS}, not {candidates}")
    return candidates
