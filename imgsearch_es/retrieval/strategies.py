"""Ways to score: each strategy once, with all that is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import COMPARISONS, Comparison
from imgsearch_es.retrieval.scoring import FORMULAS, Formula

MAX_RESULTS = 10_000
"""offset + k may not exceed this: Elasticsearch's index.max_result_window."""

POSTINGS, SHARING, PICTURES, FEATURES, WORDS = (
    "the query's posting lists",
    "pictures that share a synset",
    "every picture",
    "every deep feature",
    "the posting lists of its visual words",
)


StrategyName = Literal[
    "auto", "impact", "script", "script-filtered", "tfidf", "cosine", "sqrt", "bm25",
    "dense-cosine", "dense-dot", "dense-euclidean", "dense-manhattan", "dense-chi2", "visual-words",
]  # fmt: skip
"""The keys of `STRATEGIES`, for editors and type checkers to complete."""


@dataclass(frozen=True)
class Strategy:
    """A way to score. Its answers are exact, unless an approximate one is asked for.

    Attributes:
        scores: the formula for synsets, or the comparison of deep features; None for visual words.
        reads: what a search reads on Elasticsearch, and so how it is executed there. The embedded
            store reads the query's posting lists, or every deep feature.
        label: as the page shows it, which offers only those that have one.
        is_distance: whether the score is minus a distance.
        can_be_approximate: whether an index of nearest neighbors can be made for it.
    """

    name: StrategyName
    description: str
    scores: Formula | Comparison | None
    reads: str
    label: str = ""
    is_distance: bool = False
    can_be_approximate: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether it compares deep features, or words made from them, and not synsets."""
        return not isinstance(self.scores, Formula)

    @property
    def compares_all(self) -> bool:
        """Whether it compares every deep feature."""
        return isinstance(self.scores, Comparison)

    @property
    def by_words(self) -> bool:
        """Whether it compares the visual words of deep features."""
        return self.scores is None

    @property
    def scores_by(self) -> str:
        """The name of the formula or comparison."""
        return self.name if self.scores is None else self.scores.name

    @property
    def formula(self) -> Formula:
        """Of the synsets; those that compare deep features rank none, and have formula (1)."""
        return self.scores if isinstance(self.scores, Formula) else FORMULAS["inner"]

    @property
    def parameters(self) -> Mapping[str, float]:
        """Of the formula, with their default values."""
        return self.formula.parameters

    @property
    def cost(self) -> str:
        """What a search reads on Elasticsearch, for people."""
        if self.reads == SHARING and not self.formula.is_linear:
            return f"{self.reads}, or posting lists of its impacts"
        return f"{self.reads}, or candidates" if self.can_be_approximate else self.reads

    def to_distance(self, score: float) -> float:
        """The distance that a score stands for, 0 for equal features; else a QueryError."""
        if self.name == "dense-cosine":
            return 1 - score
        if not self.is_distance:
            raise QueryError(
                f"a score of {self.name} stands for no distance: see imgsearch_es.retrieval.dense"
            )
        return abs(score)


_INNER, _TFIDF, _COSINE, _SQRT, _BM25 = FORMULAS.values()
_ANGLE, _DOT, _EUCLIDEAN, _MANHATTAN, _CHI2 = COMPARISONS.values()
# fmt: off
_ALL = (
    Strategy("auto", "impact, the fastest exact one",
             _INNER, POSTINGS, "Inner product"),
    Strategy("impact", "the inverted index of weights, then exact rescoring until the answer is "
             "proven", _INNER, POSTINGS),
    Strategy("script", "the paper's: a script scores every picture (time grows with the "
             "collection)", _INNER, PICTURES),
    Strategy("script-filtered", "the same script, over the pictures that share a synset with the "
             "query", _INNER, SHARING),
    Strategy("tfidf", "inner product of TF-IDF vectors, by the inverted index as impact",
             _TFIDF, POSTINGS, "TF-IDF"),
    Strategy("cosine", "cosine of the synset vectors", _COSINE, SHARING, "Cosine"),
    Strategy("sqrt", "sum of square roots of products (Bhattacharyya coefficient)",
             _SQRT, SHARING, "Bhattacharyya"),
    Strategy("bm25", "BM25 with the score as term frequency; parameters k1 (1.2) and b (0.75)",
             _BM25, SHARING, "BM25"),
    Strategy("dense-cosine", "cosine of the deep features",
             _ANGLE, FEATURES, "Deep feature, cosine", can_be_approximate=True),
    Strategy("dense-dot", "inner product of the deep features",
             _DOT, FEATURES, can_be_approximate=True),
    Strategy("dense-euclidean", "minus the Euclidean distance of the deep features",
             _EUCLIDEAN, FEATURES, "Deep feature, distance", True, True),
    Strategy("dense-manhattan", "minus the Manhattan distance of the deep features",
             _MANHATTAN, FEATURES, is_distance=True),
    Strategy("dense-chi2", "minus the chi-squared distance of the deep features",
             _CHI2, FEATURES, is_distance=True),
    Strategy("visual-words", "inner product of the visual words of deep features, by their own "
             "inverted index (an index made with visual_words)", None, WORDS, "Visual words"),
)
# fmt: on
STRATEGIES: Mapping[str, Strategy] = {strategy.name: strategy for strategy in _ALL}
"""By name. The first four all compute formula (1) and rank alike."""

APPROXIMABLE = tuple(name for name, way in STRATEGIES.items() if way.can_be_approximate)
DENSE = tuple(name for name, way in STRATEGIES.items() if way.is_dense)
DISTANCES = tuple(name for name, way in STRATEGIES.items() if way.is_distance)


def strategy_of(name: str) -> Strategy:
    """The strategy of this name; QueryError where there is none."""
    if name not in STRATEGIES:
        raise QueryError(f"there is no strategy {name!r}; there are {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
