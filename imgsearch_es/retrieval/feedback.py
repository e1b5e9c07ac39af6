"""Queries by example: several pictures, liked and disliked ones, parts and views of a picture.

A picture is a vector of synsets and a deep feature, so several are their mean, and what a person
says of pictures moves the query towards the liked and away from the disliked ones (Rocchio 1971;
Manning, Raghavan and Schuetze 2008, equation 9.3):

    q' = alpha q + beta mean(liked) - gamma mean(disliked)                              (2)

with their alpha 1, beta 0.75 and gamma 0.15. Taking a query's own best hits as liked is
pseudo-relevance feedback (their section 9.1.6); on deep features it is known as average query
expansion (Chum et al. 2007), which weighs query and hits alike: ``Rocchio(beta=n)`` for n hits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.analyzer import Analysis, Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import heaviest_first
from imgsearch_es.retrieval.strategies import HEAVIEST

Embedding = NDArray[np.float32]
Region = Sequence[float]
"""left, top, right, bottom: pixels of the upright picture, or fractions where all are 1 or less."""

_SMALLEST_WEIGHT = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A picture in a query; ``shown`` is what to show of it: a URI or a picture in memory."""

    uri: str
    terms: tuple[Term, ...]
    embedding: Embedding | None
    shown: str | Image.Image


Represented = Example | Document | Analysis
"""What has both representations of a picture."""


@dataclass(frozen=True, slots=True)
class Rocchio:
    """The weights of equation (2): of the query, and of the means of what is liked and disliked.

    >>> closer = index.search("cat", like="photos/chelsea.jpg", rocchio=Rocchio(beta=2), k=1)
    >>> closer[0].filename
    'chelsea-cropped.jpg'
    """

    alpha: float = 1.0
    beta: float = 0.75
    gamma: float = 0.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= HEAVIEST:
                raise QueryError(
                    f"Rocchio: {name} must be a number from 0 to {HEAVIEST:g}, not {value!r}"
                )

    def terms(
        self,
        query: Sequence[Term],
        liked: Sequence[Sequence[Term]] = (),
        disliked: Sequence[Sequence[Term]] = (),
    ) -> tuple[Term, ...]:
        """Equation (2) on vectors of synsets; what is not above 0 is left out, as (9.3) has it.

        The order of the pictures does not matter: sums are rounded once, to float32.
        """
        if not liked and not disliked:
            return tuple(query)
        parts = (
            (self.alpha, _by_key([query])),
            (self.beta, _by_key(liked)),
            (-self.gamma, _by_key(disliked)),
        )
        keys = {key for _, means in parts for key in means}
        return _ranked(
            (key, math.fsum(weight * means.get(key, 0.0) for weight, means in parts))
            for key in keys
        )

    def embedding(
        self,
        query: Embedding | None,
        liked: Sequence[Embedding] = (),
        disliked: Sequence[Embedding] = (),
    ) -> Embedding | None:
        """Equation (2) on deep features, which keep their signs; None when nothing pulls.

        The sum is divided by the sum of the weights of the parts there are, so that it is as long
        as a feature: distances need that, and it changes no ranking by cosine or inner product.
        """
        own = () if query is None else (query,)
        if not liked and (not own or not disliked):
            return query
        weighted = ((self.alpha, own), (self.beta, liked), (-self.gamma, disliked))
        parts = [(weight, mean_embedding(vectors)) for weight, vectors in weighted if vectors]
        total = math.fsum(weight for weight, _ in parts)
        if total <= 0:
            raise QueryError(
                "the disliked pictures weigh as much as the rest of the query: lower gamma"
            )
        moved = sum(weight * mean.astype(np.float64) for weight, mean in parts) / total
        return np.asarray(moved, dtype=np.float32)

    def expand(
        self, query: Query, liked: Sequence[Represented] = (), disliked: Sequence[Represented] = ()
    ) -> Query:
        """Move a query; of a strategy dense-* the deep feature, of the others the synsets."""
        if query.is_dense:
            moved = self.embedding(query.embedding, features(liked), features(disliked))
            return replace(query, embedding=moved)
        terms = self.terms(query.terms, [p.terms for p in liked], [p.terms for p in disliked])
        if not terms and not disliked:
            raise QueryError(
                "what is liked has no synsets: search by like= with a strategy dense-*"
            )
        if not terms:
            raise QueryError("nothing is left of the query after what is disliked: lower gamma")
        return replace(query, terms=terms, counts=None)


ROCCHIO = Rocchio()
"""The book's weights."""


def mean_terms(vectors: Sequence[Sequence[Term]]) -> tuple[Term, ...]:
    """The mean of vectors of synsets, a synset that a picture lacks counting 0; of one, itself."""
    return _ranked(_by_key(vectors).items())


def mean_embedding(vectors: Sequence[Embedding]) -> Embedding:
    """The mean of deep features, each of shape (dimensions,); their order does not matter.

    QueryError where they differ in length, as a person's own may from a picture's.
    """
    if sizes := sorted({len(vector) for vector in vectors})[1:]:
        raise QueryError(
            f"deep features of one query differ in length: one has {sizes[-1]} numbers"
        )
    ordered = np.sort(np.stack(vectors).astype(np.float64), axis=0)
    return np.asarray(ordered.sum(axis=0) / len(vectors), dtype=np.float32)


def features(pictures: Iterable[Represented]) -> list[Embedding]:
    """The deep features of pictures; QueryError where one has none."""
    found = []
    for picture in pictures:
        if picture.embedding is None:
            raise QueryError(
                "the strategies dense-* compare the deep features of pictures, and one has none: "
                "the index's analyzer keeps none, or it is lost, which `imgsearch verify` tells"
            )
        found.append(picture.embedding)
    return found


def _by_key(vectors: Sequence[Sequence[Term]]) -> dict[str, float]:
    weights: dict[str, list[float]] = {}
    for vector in vectors:
        for term in vector:
            weights.setdefault(term.key, []).append(term.score)
    return {key: math.fsum(scores) / len(vectors) for key, scores in weights.items()}


def _ranked(weights: Iterable[tuple[str, float]]) -> tuple[Term, ...]:
    rounded = (Term(key, to_score(weight)) for key, weight in weights)
    return heaviest_first(term for term in rounded if term.score >= _SMALLEST_WEIGHT)


# -- parts and views of a picture --------------------------------------------------------------


def crop(image: Image.Image, region: Region) -> Image.Image:
    """A part of an upright picture; QueryError where it has no area or reaches outside."""
    try:
        kinds = int | float | np.number
        is_one = len(region) == 4 and all(isinstance(v, kinds) and math.isfinite(v) for v in region)
    except (TypeError, OverflowError):
        is_one = False
    if not is_one:
        raise QueryError(f"a region is four numbers, left,top,right,bottom, not {region!r:.60}")
    text = ",".join(f"{value:g}" for value in region)
    width, height = image.size
    scale = (width, height, width, height) if max(region) <= 1 else (1, 1, 1, 1)
    left, top, right, bottom = (round(v * s) for v, s in zip(region, scale, strict=True))
    if min(region) < 0 or not (left < right <= width and top < bottom <= height):
        raise QueryError(
            f"the region {text} (left,top,right,bottom) is empty or reaches outside the picture, "
            f"which is {width} x {height} pixels"
        )
    return image.crop((left, top, right, bottom))


def _crops(image: Image.Image) -> list[Image.Image]:
    width, height = (max(1, round(0.75 * side)) for side in image.size)
    right, below = image.width - width, image.height - height
    corners = [(0, 0), (right, 0), (0, below), (right, below), (right // 2, below // 2)]
    return [image.crop((x, y, x + width, y + height)) for x, y in corners]


def _turned(*ways: Image.Transpose) -> Callable[[Image.Image], list[Image.Image]]:
    return lambda image: [image.transpose(way) for way in ways]


_TURN = Image.Transpose
VIEWS = {
    "mirror": _turned(_TURN.FLIP_LEFT_RIGHT),
    "rotations": _turned(_TURN.ROTATE_90, _TURN.ROTATE_180, _TURN.ROTATE_270),
    "crops": _crops,
}
"""The mirror image; quarter turns; four corners and the middle, three quarters wide and high
(as Krizhevsky, Sutskever and Hinton 2012 average the predictions of five crops and mirrors)."""


def views_of(image: Image.Image, views: Iterable[str]) -> Iterator[Image.Image]:
    """The picture itself, then its views, each made when it is asked for."""
    yield image
    for name in dict.fromkeys([views] if isinstance(views, str) else views):
        if name not in VIEWS:
            raise QueryError(f"there is no view {name!r}; there are {', '.join(VIEWS)}")
        yield from VIEWS[name](image)
