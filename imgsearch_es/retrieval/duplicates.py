"""Duplicates: pictures with the same bytes, and pictures that look the same to the model.

Exact duplicates have the same SHA-256. Near duplicates have deep features whose cosine is at or
above a threshold; they are grouped by connected components, so two pictures of one group may be
less alike than the threshold when a third is between them.

All pairs are compared, and none is missed. The vectors wait in a temporary file and are multiplied
block by block in float32, which takes time quadratic in the number of pictures and memory for two
blocks and their products. A product so close to the threshold that rounding could decide is
computed again in float64, as the strategy ``dense-cosine`` computes it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import COMPARISONS, Vectors
from imgsearch_es.retrieval.documents import Document

NEAR = 0.95
"""The least cosine of near duplicates, unless told otherwise."""
BLOCK = 2048
"""Vectors in a block."""
_ROUNDING = 4 * 2.0**-24
"""Error of a float32 product of unit vectors, per dimension."""


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What tells whether two pictures are the same.

    Attributes:
        id: of the document.
        sha256: of the file's bytes.
        embedding: the deep feature, float32 of shape (dimensions,), or None.
    """

    id: str
    sha256: str
    embedding: Vectors | None = None


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Pictures that are the same, or nearly.

    Attributes:
        pictures: at least two; the one with the most pixels first, then by bytes and URI.
        exact: whether all have the same bytes.
        similarities: cosine of each picture's deep feature with the first one's, a float32 number;
            None where one of the two has none, 1 where the bytes are the same.
    """

    pictures: tuple[Document, ...]
    exact: bool
    similarities: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "exact": self.exact,
            "pictures": [
                {
                    "id": document.id,
                    "uri": document.uri,
                    "sha256": document.sha256,
                    "width": document.width,
                    "height": document.height,
                    "bytes": document.bytes,
                    "format": document.format,
                    "similarity": similarity,
                }
                for document, similarity in zip(self.pictures, self.similarities, strict=True)
            ],
        }


def to_threshold(near: float | bool | None) -> float | None:
    """The threshold that ``near`` asks for: True takes NEAR; None and False ask for none.

    Raises:
        QueryError: it is not above 0 and at most 1.
    """
    if near is None or near is False:
        return None
    threshold = NEAR if near is True else near
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise QueryError(f"near is a cosine above 0 and at most 1, such as {NEAR}, not {near!r}")
    return float(threshold)


def find_groups(
    fingerprints: Iterable[Fingerprint], threshold: float | None = None, *, block: int = BLOCK
) -> list[list[str]]:
    """Group the ids of pictures that are the same, or nearly.

    Args:
        fingerprints: of all pictures, in any order; read once.
        threshold: the least cosine of near duplicates; None finds exact ones only.
        block: vectors to compare at a time.

    Returns:
        The ids of every group of two and more, sorted; groups by their first id.
    """
    ids: dict[str, int] = {}
    first_of: dict[str, int] = {}
    groups: list[int] = []
    with _Spool.open() as spool:
        for item in fingerprints:
            if item.id in ids:  # written again while we read
                continue
            number = ids[item.id] = len(ids)
            groups.append(first_of.setdefault(item.sha256, number))
            if threshold is not None and item.embedding is not None and item.embedding.any():
                spool.add(number, item.embedding)
        labels = np.array(groups, dtype=np.int64)
        if threshold is not None:
            _join_near(labels, spool, threshold, block)
    return _groups(list(ids), labels)


def in_batches(groups: Iterable[list[str]], size: int = 1000) -> Iterator[list[list[str]]]:
    """Groups together until they have ``size`` ids, so that documents are fetched in bulk."""
    batch: list[list[str]] = []
    for group in groups:
        batch.append(group)
        if sum(map(len, batch)) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def describe_group(documents: Sequence[Document]) -> DuplicateGroup:
    """Order the pictures of a group, and compare each with the first."""
    ranked = sorted(documents, key=lambda d: (-d.width * d.height, -d.bytes, d.uri))
    return DuplicateGroup(
        pictures=tuple(replace(document, embedding=None) for document in ranked),
        exact=len({document.sha256 for document in ranked}) == 1,
        similarities=tuple(_similarity(ranked[0], document) for document in ranked),
    )


def _similarity(first: Document, other: Document) -> float | None:
    if first.sha256 == other.sha256:
        return 1.0
    if first.embedding is None or other.embedding is None:
        return None
    scores = COMPARISONS["dense-cosine"].scores(first.embedding, other.embedding[np.newaxis])
    return float(np.float32(scores[0]))


class _Spool:
    """Vectors in a temporary file, so that memory does not grow with their number."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._numbers: list[int] = []
        self._dimensions = 0

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[_Spool]:
        with tempfile.TemporaryFile(prefix="imgsearch-") as file:
            yield cls(file)

    def add(self, number: int, vector: Vectors) -> None:
        self._dimensions = len(vector)
        self._numbers.append(number)
        self._file.write(np.ascontiguousarray(vector, dtype=np.float32).tobytes())

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The picture of each vector, shape (vectors,)."""
        return np.array(self._numbers, dtype=np.int64)

    def read(self, start: int, count: int) -> Vectors:
        """Vectors ``start`` to ``start + count``, shape (at most count, dimensions)."""
        row = 4 * self._dimensions
        self._file.seek(start * row)
        data = self._file.read(count * row)
        return np.frombuffer(data, dtype=np.float32).reshape(-1, self._dimensions)


def _join_near(labels: NDArray[np.int64], spool: _Spool, threshold: float, block: int) -> None:
    """Give pictures that are near the same label, and with them all of their groups."""
    numbers = spool.numbers
    for start in range(0, len(numbers), block):
        rows = spool.read(start, block)
        for other in range(start, len(numbers), block):
            columns = rows if other == start else spool.read(other, block)
            near = _are_near(rows, columns, threshold)
            for i in np.flatnonzero(near.any(axis=1)):
                met = numbers[other : other + len(columns)][near[i]]
                _join(labels, int(numbers[start + i]), met)


def _join(labels: NDArray[np.int64], number: int, others: NDArray[np.int64]) -> None:
    joined = np.unique(labels[others])
    joined = joined[joined != labels[number]]
    if len(joined):
        labels[np.isin(labels, joined)] = labels[number]


def _are_near(rows: Vectors, columns: Vectors, threshold: float) -> NDArray[np.bool_]:
    """Which pairs have a cosine, rounded to float32, at or above the threshold.

    Args:
        rows: shape (n, dimensions), none zero.
        columns: shape (m, dimensions), none zero.
        threshold: the least cosine.

    Returns:
        Shape (n, m).
    """
    least = np.float32(threshold)
    products = _unit(rows) @ _unit(columns).T
    tolerance = np.float32(_ROUNDING * rows.shape[1])
    near = products > least + tolerance
    unsure = ~near & (products >= least - tolerance)
    for i in np.flatnonzero(unsure.any(axis=1)):
        at = np.flatnonzero(unsure[i])
        scores = COMPARISONS["dense-cosine"].scores(rows[i], columns[at])
        near[i, at] = scores.astype(np.float32) >= least
    return np.asarray(near)


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def _groups(ids: Sequence[str], labels: NDArray[np.int64]) -> list[list[str]]:
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    parts = np.split(order, starts)
    return sorted(sorted(ids[i] for i in part) for part in parts if len(part) > 1)
