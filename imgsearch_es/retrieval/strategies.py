"""Ways to score: each strategy once, with all that is told of it; and several of them fused.

Fusion is one ranking out of several parts of a query, each with a weight. A part is the pictures'
synsets ("image") or the words' ("words") by formula (1), or the whole query by a strategy ("sqrt",
"bm25", "dense-cosine", ...). Two methods put them together:

    sum    score(d) = sum over parts p of  w_p * s_p(d)
           s_p is the part's score, a float32 number; 0 where d lacks the part: where they share no
           synset, or d has no deep feature. By a distance 0 would be the best, so of the strategies
           that are minus a distance a document without a deep feature is no hit at all.
    rrf    score(d) = sum over parts p of  w_p / (c + rank_p(d))
           reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009, with c = 60 and all
           weights 1). A part ranks its best ``window`` documents; those behind get nothing of it.

Weights are float32 numbers. Equal scores are ordered by id. A hit has at least one of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import COMPARISONS, Comparison
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.scoring import FORMULAS, Formula, added

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


_IMAGE, _WORDS = "image", "words"
METHODS = ("sum", "rrf")
LIGHTEST, HEAVIEST = 1e-6, 1e6
"""Bounds of a weight: beyond them float32 scores lose what the lighter part says."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How to put parts together.

    >>> both = Fusion({"sqrt": 1, "dense-cosine": 2}, method="rrf")
    >>> len(index.search("photos/chelsea.jpg", fuse=both, k=3))
    3

    Attributes:
        weights: of each part, by name: "image", "words" or a strategy.
        method: "sum" (of weighted scores) or "rrf" (reciprocal rank fusion).
        rank_constant: c of the latter: the larger, the less the first ranks stand out.
        window: how many documents a part ranks for it.
    """

    weights: Mapping[str, float]
    method: str = "sum"
    rank_constant: int = 60
    window: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Mapping) or not self.weights:
            raise QueryError(
                "fuse= has a weight for each part, such as {'image': 1, 'dense-cosine': 2}, "
                f"not {self.weights!r}"
            )
        for name, weight in self.weights.items():
            if name not in (_IMAGE, _WORDS, *STRATEGIES):
                known = ", ".join((_IMAGE, _WORDS, *STRATEGIES))
                raise QueryError(f"there is no part {name!r} to fuse; there are {known}")
            is_number = isinstance(weight, int | float | np.number) and weight is not True
            if not is_number or not LIGHTEST <= weight <= HEAVIEST:
                raise QueryError(
                    f"the weight of {name} must be a number of {LIGHTEST:g} to {HEAVIEST:g}, "
                    f"not {weight!r}"
                )
        if self.method not in METHODS:
            raise QueryError(f"there is no fusion {self.method!r}; there are {', '.join(METHODS)}")
        for option, most in (("rank_constant", math.inf), ("window", MAX_RESULTS)):
            value = getattr(self, option)
            if type(value) is not int or not 1 <= value <= most:
                limit = f" and at most {most}" if most < math.inf else ""
                raise QueryError(
                    f"{option} must be a whole number, at least 1{limit}, not {value!r}"
                )

    @property
    def is_ranked(self) -> bool:
        """Whether ranks are fused, and not scores."""
        return self.method == "rrf"

    @property
    def has_features(self) -> bool:
        """Whether a part compares deep features."""
        return any(name in DENSE for name in self.weights)

    @property
    def needs_features(self) -> bool:
        """Whether only documents with a deep feature can be hits."""
        return not self.is_ranked and any(name in DISTANCES for name in self.weights)

    def parts(
        self, pictures: Sequence[Term], words: Sequence[Term], both: Sequence[Term]
    ) -> tuple[Part, ...]:
        """The parts of a query of which these are the synsets."""
        used = set(self.weights)
        if _WORDS in used and not words:
            raise QueryError("there are no words for the part 'words': give text=")
        if _IMAGE in used and not pictures:
            raise QueryError("there is no picture for the part 'image': give image= or like=")
        whole = used - {_IMAGE, _WORDS} - set(DENSE)
        if words and not whole and _WORDS not in used:
            raise QueryError("no part of the fusion uses the words: add 'words' and its weight")
        if pictures and used == {_WORDS}:
            raise QueryError("no part of the fusion uses the picture: add 'image' and its weight")
        terms = {_IMAGE: pictures, _WORDS: words}
        return tuple(
            Part(
                name,
                to_score(weight),
                name if name in STRATEGIES else "auto",
                () if name in DENSE else tuple(terms.get(name, both)),
            )
            for name, weight in self.weights.items()
        )

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {weight:g}" for name, weight in self.weights.items())
        return f"{listed} ({self.method})"


class ByStrategy:
    """What scores by the strategy that it names: a query, or a part of one."""

    __slots__ = ()
    strategy: str

    @property
    def is_dense(self) -> bool:
        """Whether the strategy compares deep features, and not synsets."""
        return STRATEGIES[self.strategy].is_dense

    @property
    def formula(self) -> Formula:
        """By which it scores synsets."""
        return STRATEGIES[self.strategy].formula


@dataclass(frozen=True, slots=True)
class Part(ByStrategy):
    """One part of a fused query; it has no terms where it compares deep features."""

    name: str
    weight: float
    strategy: str
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True)
class PartScore:
    """What a part adds to a document's score.

    Attributes:
        score: by the part alone; None where the document lacks it or is not among its best.
        rank: from 1, where ranks are fused.
    """

    name: str
    weight: float
    score: float | None
    rank: int | None
    contribution: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the rank only where ranks are fused."""
        ranked = {} if self.rank is None else {"rank": self.rank}
        fields = {"part": self.name, "weight": self.weight, "score": self.score, **ranked}
        return {**fields, "contribution": self.contribution}


def to_fusion(given: Fusion | Mapping[str, float] | None) -> Fusion | None:
    """A fusion, or the sum by these weights."""
    return given if given is None or isinstance(given, Fusion) else Fusion(given)


def summed(parts: Sequence[Part], scores: Sequence[float | None]) -> tuple[PartScore, ...]:
    """What each part adds to a document by the method "sum"; a score is None where it lacks it."""
    return tuple(
        PartScore(part.name, part.weight, score, None, part.weight * (score or 0.0))
        for part, score in zip(parts, scores, strict=True)
    )


def by_ranks(
    fusion: Fusion, parts: Sequence[Part], rankings: Sequence[Mapping[str, float]]
) -> list[tuple[str, float, tuple[PartScore, ...]]]:
    """Fuse each part's scores by id, best first, into ids, scores and what each part adds."""
    ranks = [{key: rank for rank, key in enumerate(ranking, start=1)} for ranking in rankings]
    fused = []
    for key in {key for ranking in rankings for key in ranking}:
        found = []
        for part, ranking, places in zip(parts, rankings, ranks, strict=True):
            rank = places.get(key)
            adds = 0.0 if rank is None else part.weight / (fusion.rank_constant + rank)
            found.append(PartScore(part.name, part.weight, ranking.get(key), rank, adds))
        fused.append((key, fused_score(found), tuple(found)))
    return sorted(fused, key=lambda item: (-item[1], item[0]))


def fused_score(parts: Iterable[PartScore]) -> float:
    """The score of a document to which the parts add this."""
    return added(part.contribution for part in parts)
