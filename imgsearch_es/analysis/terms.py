"""What an analyzer says of a picture: weighted terms, of the classifier and of three other kinds.

Colors follow from the pixels; words that an index was taught, and visual words, from the deep
feature.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.vocabulary.colors import COLOR, COLORS

if TYPE_CHECKING:
    from imgsearch_es.vocabulary.synsets import Vocabulary


@dataclass(frozen=True, slots=True)
class Term:
    """One synset of a picture (or of a query) with its weight.

    >>> index.get("photos/coffee.jpg").terms[0].key
    'espresso'
    """

    key: str
    """The synset's unique key in the vocabulary."""
    score: float
    """Finite and above zero; a float32 number, so both stores hold the same value."""
    view: int | None = None
    """Of a picture that was analyzed in several views, the one in which this term scored best: an
    index of `imgsearch_es.analysis.filters.PARTS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What an analyzer says of one picture.

    >>> analysis = index.analyze("photos/coffee.jpg")
    >>> analysis.terms[0].key, analysis.embedding.shape
    ('espresso', (1280,))
    """

    terms: tuple[Term, ...]
    """Best first; equal scores in the order of the vocabulary."""
    embedding: NDArray[np.float32] | None
    """The deep feature, of shape (dimensions,), or None."""
    colors: tuple[Term, ...] = ()
    """The shares of its colors, largest first; see `colors_of`."""


STEPS = 32
LETTERS = "kwrgybnoPpe"
"""Of the colors in the table, in their order."""
TABLE = Path(__file__).with_name("colors.txt")
LEAST = 0.03
"""The least share that is kept: less is noise in the names."""


def colors_of(pixels: NDArray[np.uint8]) -> tuple[Term, ...]:
    """The share of a picture's pixels that has each of the basic color terms, largest first.

        share(c) = sum of w over the pixels that are called c / sum of w over all
        w(x, y)  = (1 - x²) (1 - y²)           x and y from -1 to 1, so the middle counts most

    The picture has the shape (height, width, 3); of more than 64 x 64 pixels as many are looked at,
    evenly spaced. A table of 32 x 32 x 32 colors names each (tools/build_colors.py made it of a
    survey). Shares are float32 numbers from LEAST to 1; equal ones are in the order of COLORS. All
    numbers but the last division are whole, so shares are the same on every processor.
    """
    height, width, _ = pixels.shape
    rows, columns = _places(height), _places(width)
    seen = pixels[rows[:, np.newaxis], columns] >> 3
    places = (seen[..., 0].astype(np.intp) * STEPS + seen[..., 1]) * STEPS + seen[..., 2]
    weights = _weights(len(rows))[:, np.newaxis] * _weights(len(columns))
    counts = np.bincount(_table()[places].ravel(), weights.ravel(), len(COLORS))
    shares = (counts / counts.sum()).astype(np.float32)
    best_first = np.argsort(-shares, kind="stable")
    return tuple(
        Term(COLOR + COLORS[i], float(shares[i])) for i in best_first if shares[i] >= LEAST
    )


def _places(length: int) -> NDArray[np.intp]:
    count = min(length, 64)
    return (np.arange(count) * length + length // 2) // count


def _weights(count: int) -> NDArray[np.int64]:
    """1 - x² at the middle of each pixel, times count²."""
    offsets = 2 * np.arange(count, dtype=np.int64) - count + 1
    return count**2 - offsets**2


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """The number of the term of each color."""
    numbers = {ord(letter): number for number, letter in enumerate(LETTERS)}
    letters = TABLE.read_bytes().replace(b"\n", b"")
    return np.array([numbers[letter] for letter in letters], np.uint8)


FLOOR = 0.001
"""The least score that is a term."""
_TOGETHER = 512
"""Deep features whose float64 copies are in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class TaughtWord:
    """A word that an index was taught: a linear classifier of deep features.

    ``search.teaching`` learns it from a few examples. Its score of a picture is the probability
    that the picture shows it; below FLOOR it is no term, so that documents stay sparse.

    Attributes:
        name: as it was given; ``key`` is that of its synset.
        number: of its term; a word keeps it until it is forgotten.
        weights: float32 of shape (dimensions,), and ``bias``: of the classifier, see ``scores``.
        like, unlike: the URIs of the pictures that show it, and of those that do not.
        quality: mean average precision in cross-validation, 0 to 1; None where the examples were
            too few for it.
    """

    name: str
    key: str
    number: int
    weights: NDArray[np.float32]
    bias: float
    like: tuple[str, ...]
    unlike: tuple[str, ...] = ()
    quality: float | None = None

    @property
    def described(self) -> str:
        """How the index came to it, for a person."""
        return f"taught from {len(self.like) + len(self.unlike)} pictures"

    def scores(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores, float32 of shape (pictures,), of deep features of shape (pictures, dimensions).

        1 / (1 + exp(-(w x + b))) with x as ``to_inputs`` gives it; below FLOOR it is 0. A score
        does not depend on the other rows.
        """
        parts = [
            (to_inputs(vectors[i : i + _TOGETHER]) * self.weights).sum(axis=1)
            for i in range(0, len(vectors), _TOGETHER)
        ]
        logits = np.concatenate([*parts, np.empty(0)]) + self.bias
        scores = (1 / (1 + np.exp(-np.clip(logits, -500, 500)))).astype(np.float32)
        return np.where(scores >= np.float32(FLOOR), scores, np.float32(0))

    def forgotten(self) -> TaughtWord:
        """This word while it is taken back: with this bias no picture has it."""
        return replace(self, weights=np.zeros_like(self.weights), bias=-1000.0)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the weights as base64 of little-endian numbers."""
        numbers = base64.b64encode(self.weights.astype("<f4").tobytes()).decode("ascii")
        known = {name: getattr(self, name) for name in self.__slots__}
        return {**known, "weights": numbers, "like": list(self.like), "unlike": list(self.unlike)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaughtWord:
        """Read what ``to_dict`` gave; TypeError or ValueError of anything else."""
        weights = np.frombuffer(base64.b64decode(data["weights"]), "<f4").astype(np.float32)
        like, unlike = tuple(data["like"]), tuple(data["unlike"])
        word = cls(**{**data, "weights": weights, "like": like, "unlike": unlike})
        quality = word.quality or 0.0
        "".join((word.name, word.key, *like, *unlike)).encode()  # they are texts
        if not (
            isinstance(word.number, int)
            and all(isinstance(number, int | float) for number in (word.bias, quality))
            and np.isfinite([word.bias, quality, *weights]).all()
        ):
            raise ValueError(f"the taught word {word.name!r:.60} is not as it was written")
        return word

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaughtWord) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.key, self.bias))


def to_inputs(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Deep features as classifiers take them: the root of each number, at length 1.

    Roots (with the number's sign) make a few large numbers count for less.
    """
    wide = vectors.astype(np.float64)
    roots = np.sign(wide) * np.sqrt(np.abs(wide))
    lengths = np.sqrt(np.abs(wide).sum(axis=1, keepdims=True))
    return np.asarray(roots / np.where(lengths > 0, lengths, 1))


DEFAULT_WORDS = 128
"""Of a picture: of 1,280 numbers these rank as well as all (docs/visual-words.md)."""
MOST_WORDS = 1024
"""Of a picture: as many terms as Elasticsearch takes in a query."""
_LEAST_WEIGHT = np.float32(2.0**-20)
"""A smaller weight is no word: no sum of products is then too small for float32."""

Vectors = NDArray[np.float32]


def to_word_count(wanted: object) -> int:
    """How many words a picture has by the option ``visual_words``; true is the default, false 0."""
    if isinstance(wanted, bool):
        return DEFAULT_WORDS if wanted else 0
    if not isinstance(wanted, int) or not 1 <= wanted <= MOST_WORDS:
        raise ConfigurationError(
            f"visual_words is true, false or a number of words of each picture, 1 to {MOST_WORDS}, "
            f"not {wanted!r}"
        )
    return wanted


def visual_words(vectors: Vectors, count: int) -> tuple[NDArray[np.int32], Vectors]:
    """The largest numbers of deep features, as sparse terms for an inverted index.

        w_j(x) = x_j / sqrt(sum of x_i^2 over the k largest)      of the k largest numbers, else 0

    The word of a number is where it stands in the feature; of a negative number, which is taken by
    its size, it is that plus the feature's dimensions. So weights are above 0, and a feature has
    2 x dimensions words. They follow from the deep feature: an index keeps no more than its
    postings. After Amato, Carrara, Falchi, Gennaro and Vadicamo, "Large-scale instance-level image
    retrieval", Information Processing and Management 57(6), 2020.

    Of vectors of shape (pictures, dimensions), words and weights have the shape (pictures,
    ``count``, or the dimensions if these are fewer), the heaviest word first, ties by number. A
    weight of 0 is no word.
    """
    values = np.where(np.isfinite(vectors), vectors, 0).astype(np.float64)
    places = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(values, places, axis=1)
    # One after the other, so that the sum is the same on every processor.
    squares = np.add.accumulate(np.square(chosen), axis=1)[:, -1:]
    lengths = np.where(squares > 0, np.sqrt(squares), 1)
    weights = (np.abs(chosen) / lengths).astype(np.float32)
    weights[weights < _LEAST_WEIGHT] = 0
    words = np.where(chosen < 0, places + vectors.shape[1], places).astype(np.int32)
    # Equal weights in the order of the words, also of one number that is negative.
    order = np.lexsort((words, -weights), axis=1)
    return np.take_along_axis(words, order, axis=1), np.take_along_axis(weights, order, axis=1)


def words_of(vector: Vectors, count: int) -> list[tuple[int, float]]:
    """The words of one deep feature with their weights, heaviest first, ties by number."""
    words, weights = visual_words(vector[np.newaxis], count)
    found = zip(words[0].tolist(), weights[0].tolist(), strict=True)
    return [(word, weight) for word, weight in found if weight > 0]


def word_scores(query: Vectors, vectors: Vectors, count: int) -> NDArray[np.float64]:
    """The inner product of a query's words with those of each of some deep features.

    Products are added in double precision in the order of the query's words.
    """
    words, weights = visual_words(vectors, count)
    mine = words_of(query, count)
    columns = np.full(2 * vectors.shape[1], len(mine))  # words that the query lacks share one
    columns[[word for word, _ in mine]] = range(len(mine))
    table = np.zeros((len(vectors), len(mine) + 1))
    np.put_along_axis(table, columns[words], weights.astype(np.float64), axis=1)
    total = np.zeros(len(vectors))
    for column, (_, weight) in enumerate(mine):
        total += weight * table[:, column]
    return total


def word_key(word: int) -> str:
    """``vw412`` for 412: how Elasticsearch and people call a word."""
    return f"vw{word}"


def word_number(key: str) -> int:
    """412 for ``vw412``, also with its name behind it, or a QueryError."""
    if not is_word(key):
        raise QueryError(f"{key!r} is no visual word: they are called vw0, vw1, ...")
    return int(key.partition(":")[0][2:])


def word_name(key: str, weights: Vectors | None, classes: Vocabulary) -> str:
    """A word with the classes that draw most from its number: "vw412: tabby, tiger cat, lynx".

    Weights, of shape (dimensions, classes), are those of the classifier's last layer. Without them,
    or where they are of another vocabulary, it is the word alone.
    """
    number = word_number(key)
    if weights is None or number >= 2 * len(weights) or weights.shape[1] != len(classes):
        return word_key(number)
    row = weights[number % len(weights)] * (1 if number < len(weights) else -1)
    best = np.argsort(-row, kind="stable")[:3]
    names = (classes[classes.keys[i]].name.replace("_", " ") for i in best)
    return f"{word_key(number)}: {', '.join(names)}"


def word_vector(key: str, dimensions: int) -> Vectors:
    """The deep feature that has this word alone, shape (dimensions,); QueryError if none can."""
    number = word_number(key)
    if not dimensions:
        raise QueryError("visual words are made from the deep feature, and this index has none")
    if number >= 2 * dimensions:
        raise QueryError(
            f"there is no visual word {key}: deep features of {dimensions} dimensions have "
            f"{2 * dimensions:,} words, vw0 to vw{2 * dimensions - 1}"
        )
    vector = np.zeros(dimensions, np.float32)
    vector[number % dimensions] = 1 if number < dimensions else -1
    return vector


def is_word(key: str) -> bool:
    """Whether this is a visual word, with or without its name."""
    return re.fullmatch(r"vw[0-9]{1,9}(: .*)?", key) is not None
