"""Queries: a weighted synset vector, whether it came from a picture, from words or from both.

    sim(q, d) = sum over synsets j of q_j * d_j                        (1)

(Tanioka, "Super Easy Way of Building Image Search with Keras", SIGIR 2017 workshop LIARR, eq. 1.)
A picture's weights are its classifier's scores; words weigh 1 on each synset they name or include.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis import Term
from imgsearch_es.conditions import Filter
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.errors import QueryError
from imgsearch_es.scoring import Statistics, formula_of

if TYPE_CHECKING:
    from PIL import Image

STRATEGIES = {
    "auto": "impact, the fastest exact one",
    "impact": "the inverted index of weights, then exact rescoring until the answer is proven",
    "script": "the paper's: a script scores every picture (time grows with the collection)",
    "script-filtered": "the same script, over the pictures that share a synset with the query",
    "tfidf": "inner product of TF-IDF vectors, by the inverted index as impact",
    "cosine": "cosine of the synset vectors",
    "sqrt": "sum of square roots of products (Bhattacharyya coefficient)",
    "bm25": "BM25 with the score as term frequency; parameters k1 (1.2) and b (0.75)",
    "dense-cosine": "cosine of the deep features",
    "dense-dot": "inner product of the deep features",
    "dense-euclidean": "minus the Euclidean distance of the deep features",
    "dense-manhattan": "minus the Manhattan distance of the deep features",
    "dense-chi2": "minus the chi-squared distance of the deep features",
}
"""Ways to score. The first four all compute formula (1) and rank alike."""

MAX_RESULTS = 10_000
"""offset + k may not exceed this: Elasticsearch's index.max_result_window."""

ROLES = ("image", "like", "dislike")
"""What a picture may be in a query."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions alone: what meets them counts, and nothing scores. As the parts of a Query."""

    filters: tuple[Filter, ...] = ()
    must: tuple[tuple[str, ...], ...] = ()
    must_not: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What to search for; built by ``ImageIndex.query`` and understood by every store.

    Attributes:
        terms: the weighted synset vector, heaviest first, ties by key; weights are float32.
        must_not: keys of synsets that a hit must not have.
        must: groups of keys; a hit must have a synset of each group.
        filters: conditions that every hit meets, or must not meet.
        exclude: ids of documents left out.
        k: how many hits, after leaving out the first ``offset``.
        strategy: how to score, one of STRATEGIES.
        parameters: of the strategy's formula.
        embedding: the query's deep feature, which the strategies dense-* compare.
        threshold: the least score of a hit; of distances (whose scores are negative) minus the
            largest distance.
        text: the words as understood, to show.
        pictures: URIs or pictures in memory, to show.
        roles: what each of the pictures is: "image", "like" or "dislike"; to show.
        part: which part of which picture was taken, to show.
        feedback: how many of its own best hits the query was expanded by, to show.
        hints: how words with several meanings were taken, one sentence each, to show.
    """

    terms: tuple[Term, ...]
    must_not: tuple[str, ...] = ()
    must: tuple[tuple[str, ...], ...] = ()
    filters: tuple[Filter, ...] = ()
    exclude: tuple[str, ...] = ()
    k: int = 10
    offset: int = 0
    strategy: str = "auto"
    parameters: Mapping[str, float] = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = None
    threshold: float | None = None
    text: str | None = None
    pictures: tuple[str | Image.Image, ...] = ()
    hints: tuple[str, ...] = ()
    roles: tuple[str, ...] = field(default=(), kw_only=True)
    part: str = field(default="", kw_only=True)
    feedback: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise QueryError(
                f"there is no strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}"
            )
        if self.is_dense:
            self._check_embedding()
        elif not self.terms:
            raise QueryError(
                "nothing to search for: the query has no synset with a weight above 0; add words "
                "or a picture, because conditions and exclusions select and do not score"
            )
        if self.threshold is not None and not self.is_dense:
            raise QueryError(f"a threshold goes with the strategies dense-*, not {self.strategy}")
        formula_of(self.strategy).with_defaults(self.parameters)
        if self.k < 1 or self.offset < 0:
            raise QueryError(f"k must be at least 1 and offset 0, not {self.k} and {self.offset}")
        if self.offset + self.k > MAX_RESULTS:
            raise QueryError(
                f"offset + k may be at most {MAX_RESULTS}: narrow the query by filters"
            )

    @property
    def is_dense(self) -> bool:
        """Whether the strategy compares deep features, and not synsets."""
        return self.strategy in COMPARISONS

    def _check_embedding(self) -> None:
        if self.embedding is None:
            raise QueryError(
                f"{self.strategy} compares the deep features of pictures: give a picture alone, to "
                "an index whose analyzer keeps them"
            )
        if not np.isfinite(self.embedding).all() or not self.embedding.any():
            raise QueryError("the query's deep feature is zero or not finite")

    def to_elasticsearch(
        self, strategy: str | None = None, *, statistics: Statistics | None = None
    ) -> dict[str, Any]:
        """The body of the search request, as it would be sent or pasted into Kibana's console.

        Args:
            strategy: another way to score than the query's.
            statistics: of the collection (``index.store.statistics(keys)``), for the strategies
                that weight by them.

        Raises:
            QueryError: the strategy needs statistics.
        """
        from imgsearch_es.stores.elastic.answers import request_body

        query = self if strategy is None else replace(self, strategy=strategy)
        known = statistics or Statistics(0, 0.0, {})
        if query.is_dense:
            return request_body(query, known)
        formula = formula_of(query.strategy)
        if formula.needs_statistics and statistics is None:
            raise QueryError(f"{query.strategy} weights by the collection: give its statistics")
        weighted = replace(query, terms=formula.query_weights(query.terms, known))
        return request_body(weighted, known)

    def __str__(self) -> str:
        names: dict[str, list[str]] = {}
        for i, picture in enumerate(self.pictures):
            name = picture.rpartition("/")[2] if isinstance(picture, str) else "picture"
            names.setdefault(self.roles[i] if self.roles else "image", []).append(name)
        if self.part:
            names["image"] = [self.part]
        parts = [f"{role}: {', '.join(names[role])}" for role in ROLES if role in names]
        if self.text:
            parts.append(f"words: {self.text}")
        if self.feedback:
            parts.append(f"feedback: best {self.feedback}")
        parts += map(str, self.filters)
        return "; ".join(parts)


def synset_vector(*vectors: Iterable[Term]) -> tuple[Term, ...]:
    """Add vectors of terms, synset by synset; heaviest first, ties by key.

    The order is part of the definition: both stores and the NumPy reference add the products of
    formula (1) in it.
    """
    weights: dict[str, float] = {}
    for vector in vectors:
        for term in vector:
            weights[term.key] = weights.get(term.key, 0.0) + term.score
    terms = (Term(key, float(np.float32(weight))) for key, weight in weights.items() if weight > 0)
    return tuple(sorted(terms, key=lambda term: (-term.score, term.key)))
