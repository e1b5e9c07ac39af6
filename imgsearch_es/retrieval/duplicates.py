"""Duplicates: pictures with the same bytes, and pictures that look the same to the model.

Exact duplicates have the same SHA-256. Near duplicates have deep features whose cosine is at or
above a threshold; they are grouped by connected components, so two pictures of one group may be
less alike than the threshold when a third is between them.

The vectors wait in a temporary file; `near_pairs` compares all of them, exactly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.dense import COMPARISONS, Vectors, near_pairs
from imgsearch_es.retrieval.documents import Document, to_score

NEAR = 0.95
"""The least cosine of near duplicates, unless told otherwise."""
_TOGETHER = 1 << 20
"""Near pairs in memory at a time."""
_SHOWN = ("id", "uri", "sha256", "width", "height", "bytes", "format")


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """What tells whether two pictures are the same; of a `Document`."""

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
                {name: getattr(document, name) for name in _SHOWN} | {"similarity": similarity}
                for document, similarity in zip(self.pictures, self.similarities, strict=True)
            ],
        }


def to_threshold(near: float | bool | None) -> float | None:
    """The threshold that ``near`` asks for: True takes NEAR; None and False ask for none."""
    if near is None or near is False:
        return None
    threshold = NEAR if near is True else near
    if not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise QueryError(f"near is a cosine above 0 and at most 1, such as {NEAR}, not {near!r}")
    return float(threshold)


def duplicate_groups(
    fingerprints: Iterable[Fingerprint],
    threshold: float | None,
    get: Callable[[Sequence[str]], Mapping[str, Document]],
) -> list[DuplicateGroup]:
    """The groups of `find_groups` with their documents, given by id; largest first."""
    found = []
    for groups in in_batches(find_groups(fingerprints, threshold)):
        known = get([key for ids in groups for key in ids])
        there = ([known[key] for key in ids if key in known] for ids in groups)
        found += [describe_group(group) for group in there if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group.pictures), group.pictures[0].uri))


def find_groups(
    fingerprints: Iterable[Fingerprint], threshold: float | None = None
) -> list[list[str]]:
    """Group the ids of pictures that are the same, or nearly: at least two, sorted.

    Fingerprints are read once; without a threshold for the cosine there are exact groups only.
    """
    ids: dict[str, int] = {}
    first_of: dict[str, int] = {}
    groups: list[int] = []
    numbers: list[int] = []  # of the pictures whose vectors are in the file
    with tempfile.TemporaryFile(prefix="imgsearch-") as file:
        for item in fingerprints:
            if item.id in ids:  # written again while we read
                continue
            number = ids[item.id] = len(ids)
            groups.append(first_of.setdefault(item.sha256, number))
            if threshold is not None and item.embedding is not None and item.embedding.any():
                numbers.append(number)
                file.write(np.ascontiguousarray(item.embedding, dtype=np.float32).tobytes())
        labels = np.array(groups, dtype=np.int64)
        if threshold is not None and numbers:
            file.flush()
            vectors = np.memmap(file, np.float32, "r").reshape(len(numbers), -1)
            own = np.array(numbers)
            pairs = near_pairs(vectors, threshold)
            labels = _join_near(labels, ((own[one], own[two]) for one, two in pairs))
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    names = list(ids)
    return sorted(sorted(names[i] for i in part) for part in parts if len(part) > 1)


def in_batches(groups: Iterable[list[str]]) -> Iterator[list[list[str]]]:
    """Groups together until they have a thousand ids, so that documents are fetched in bulk."""
    batch: list[list[str]] = []
    for group in groups:
        batch.append(group)
        if sum(map(len, batch)) >= 1000:
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
    return to_score(scores[0])


def _join_near(
    labels: NDArray[np.int64], pairs: Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]]
) -> NDArray[np.int64]:
    """Labels that are the same for pictures that are near, and with them for all their groups."""
    from scipy.sparse import coo_array  # takes a moment to import
    from scipy.sparse.csgraph import connected_components

    count, waiting, edges = len(labels), 0, [(labels[:0], labels[:0])]

    def joined() -> NDArray[np.int64]:
        one, two = (np.concatenate(ends) for ends in zip(*edges, strict=True))
        graph = coo_array((np.ones(len(one), dtype=bool), (one, two)), shape=(count, count))
        return np.asarray(connected_components(graph, directed=False)[1][labels], np.int64)

    for one, two in pairs:
        is_new = labels[one] != labels[two]
        edges.append((labels[one[is_new]], labels[two[is_new]]))
        waiting += len(edges[-1][0])
        if waiting > _TOGETHER:
            labels, waiting, edges = joined(), 0, edges[:1]
    return joined()
