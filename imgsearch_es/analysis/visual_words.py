"""Visual words: the largest numbers of a deep feature, as sparse terms for an inverted index.

    w_j(x) = x_j / sqrt(sum of x_i^2 over the k largest)      of the k largest numbers, else 0

The word of a number is where it stands in the feature; of a negative number, which is taken by its
size, it is that plus the feature's dimensions. So weights are above 0, and a feature has
2 x dimensions words. They follow from the deep feature: an index keeps no more than its postings.
After Amato, Carrara, Falchi, Gennaro and Vadicamo, "Large-scale instance-level image retrieval",
Information Processing and Management 57(6), 2020, who index deep features as surrogate text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError, QueryError

if TYPE_CHECKING:
    from imgsearch_es.vocabulary.synsets import Vocabulary

DEFAULT_WORDS = 128
"""Of a picture: of 1,280 numbers these rank as well as all (docs/visual-words.md)."""
MOST_WORDS = 1024
"""Of a picture: as many terms as Elasticsearch takes in a query."""
_NAMED = 3
"""Synsets in the name of a word."""
_LEAST = np.float32(2.0**-20)
"""A smaller weight is no word: no sum of products is then too small for float32."""

Vectors = NDArray[np.float32]


def to_word_count(wanted: object) -> int:
    """The option ``visual_words``: how many words a picture has; true for the default, 0 without.

    Raises:
        ConfigurationError: it is no such number.
    """
    if isinstance(wanted, bool):
        return DEFAULT_WORDS if wanted else 0
    if not isinstance(wanted, int) or not 1 <= wanted <= MOST_WORDS:
        raise ConfigurationError(
            f"visual_words is true, false or a number of words of each picture, 1 to {MOST_WORDS}, "
            f"not {wanted!r}"
        )
    return wanted


def visual_words(vectors: Vectors, count: int) -> tuple[NDArray[np.int32], Vectors]:
    """The words of deep features of shape (pictures, dimensions), and their weights.

    Both have the shape (pictures, ``count``, or the dimensions if these are fewer), the heaviest
    word first, ties by number. A weight of 0 is no word.
    """
    values = np.where(np.isfinite(vectors), vectors, 0).astype(np.float64)
    places = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(values, places, axis=1)
    # One after the other, so that the sum is the same on every processor.
    squares = np.add.accumulate(np.square(chosen), axis=1)[:, -1:]
    lengths = np.where(squares > 0, np.sqrt(squares), 1)
    weights = (np.abs(chosen) / lengths).astype(np.float32)
    weights[weights < _LEAST] = 0
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
    best = np.argsort(-row, kind="stable")[:_NAMED]
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
