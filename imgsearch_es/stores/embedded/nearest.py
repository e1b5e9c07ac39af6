"""The nearest deep features, exactly: one product in float32, and a proof of what it leaves out.

A float32 product of vectors q and d of n numbers is wrong by at most gamma |q| |d|, in whatever
order it is added up, with gamma = n u / (1 - n u) and u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1), and by what is too small for float32. That bounds every
score from below and above; only those that may be among the best are computed again in float64.

Or approximately, by a graph (HNSW) in ``photos.duckdb.neighbors``, made from the snapshot of the
same state of the file: a node is a row of its deep features. It finds candidates by the cosine of
numbers rounded to 8 bits; they are compared exactly. The graph is usearch's, followed by a footer.

Y. Malkov, D. Yashunin: Efficient and robust approximate nearest neighbor search using hierarchical
navigable small world graphs. IEEE TPAMI 42(4), 2020.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError, MissingDependencyError, needed
from imgsearch_es.retrieval.dense import Vectors, direction
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.embedded.schema import NONE
from imgsearch_es.stores.embedded.sections import BLOCK, Sections, SnapshotError, footer

BOUNDED = ("dense-cosine", "dense-dot", "dense-euclidean")
"""Strategies that follow from products and lengths."""
_UNIT = 2.0**-24
_SMALLEST = 2.0**-126
_SAME = 2.0**-22
"""Scores that differ by less, in proportion, may be the same float32 number."""
_BLOCK = 1 << 14
"""Deep features compared in float64 at a time."""

_DOUBLE = 2.0**-44
"""More than all errors of float64 here, in proportion."""
_PRODUCTS = 1 << 24
"""Float32 products in memory."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""

Numbers = NDArray[np.float64]
Rows = NDArray[np.intp]
KIND = "int8_hnsw"
"""The way a file can index deep features; the other is NONE."""
STRATEGY = "dense-cosine"
"""What the graph answers."""
_GRAPH: dict[str, Any] = {
    "metric": "ip", "dtype": "i8", "connectivity": 16, "expansion_add": 128,
}  # fmt: skip
_TOGETHER = 4096
"""Nodes added before it is asked whether the graph is still wanted."""
_ALONE = 1
"""Threads that add the first ones: of a few nodes some could be cut off by who adds others."""


class Scores(NamedTuple):
    """What documents score by a query; some may be no hits, see ``ranking.least_score``.

    Attributes:
        places: of documents; None where each place, from 0 on, has a score.
        scores: of these.
        total: how many match; None where all that do are here.
    """

    places: NDArray[np.integer[Any]] | None
    scores: NDArray[np.float32]
    total: int | None = None


def nearest(
    snapshot: Sections,
    queries: Sequence[Query],
    meets: NDArray[np.bool_] | None,
    left_out: Sequence[Sequence[int]],
) -> list[Scores]:
    """The best offset + k of each query and what ties with the last, among other documents.

    Args:
        snapshot: with deep features.
        queries: of strategies in BOUNDED.
        meets: by place, the documents to compare; None for all.
        left_out: of each query the places that are no hits: they are found and counted, too.
    """
    size = max(1, _PRODUCTS // (len(snapshot) + 1))
    found = []
    for first in range(0, len(queries), size):
        some = slice(first, first + size)
        found += _nearest(snapshot, queries[some], meets, left_out[some])
    return found


def _nearest(
    snapshot: Sections,
    queries: Sequence[Query],
    meets: NDArray[np.bool_] | None,
    left_out: Sequence[Sequence[int]],
) -> list[Scores]:
    places, lengths = snapshot.column("feature.places"), snapshot.column("feature.lengths")
    features = snapshot.features()
    with np.errstate(over="ignore", invalid="ignore"):
        products = np.stack([_vector(query) for query in queries]) @ features.T
    rows = np.arange(len(places)) if meets is None else np.flatnonzero(meets[places])
    found = []
    for query, row, out in zip(queries, products, left_out, strict=True):
        low, high = _bounds(query, row[rows].astype(np.float64), lengths[rows])
        chosen = high >= _below(_last_of_the_best(low, query.offset + query.k + len(out)))
        if out:
            chosen |= np.isin(places[rows], out)
        sure, unsure = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if query.min_score is not None:
            sure = low >= query.min_score
            unsure = ~sure & (high >= _below(query.min_score))
            chosen |= unsure
        scores = _scores(query, features, rows[chosen])
        is_hit = unsure[chosen] & (scores >= np.float32(query.min_score or 0))
        found.append(Scores(places[rows[chosen]], scores, int(sure.sum() + is_hit.sum())))
    return found


def compared(query: Query, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """A query's scores of deep features, shape (documents, dimensions)."""
    rows = max(1, _IN_CACHE // matrix.shape[1])
    parts = [query.compare(matrix[first : first + rows]) for first in range(0, len(matrix), rows)]
    return np.concatenate(parts).astype(np.float32)


def among_neighbors(snapshot: Sections, neighbors: Neighbors, query: Query) -> Scores:
    """The nearest by the graph, so many as the query has candidates, compared exactly."""
    rows = neighbors.rows(_vector(query), candidates(query))
    scores = query.compare(snapshot.features_of(rows)).astype(np.float32)
    least = -np.inf if query.min_score is None else np.float32(query.min_score)
    places = snapshot.column("feature.places")[rows]
    return Scores(places, scores, int(np.count_nonzero(scores >= least)))


def candidates(query: Query) -> int:
    """How many of the nearest are compared for the best of an approximate answer."""
    return max(query.candidates, query.offset + query.k) + len(query.exclude)


def _vector(query: Query) -> NDArray[np.float32]:
    assert query.embedding is not None  # noqa: S101  (checked when the query was built)
    return query.embedding


def _bounds(query: Query, products: Numbers, lengths: Numbers) -> tuple[Numbers, Numbers]:
    """The least and the greatest score that each document may have."""
    own, dimensions = float(np.linalg.norm(_vector(query).astype(np.float64))), len(_vector(query))
    gamma = dimensions * _UNIT / (1 - dimensions * _UNIT)
    sizes = own * lengths
    errors = gamma * sizes + dimensions * _SMALLEST
    if query.strategy == "dense-euclidean":
        squares = own**2 + lengths**2
        errors = 2 * errors + squares * _DOUBLE
        middle = squares - 2 * products
        low, high = (-np.sqrt(np.maximum(middle + sign * errors, 0)) for sign in (1, -1))
    else:
        if query.strategy == "dense-cosine":
            divisors = np.where(sizes > 0, sizes, 1)  # a vector of zeros scores 0, as its product
            products, errors = products / divisors, errors / divisors + _DOUBLE
        low, high = products - errors, products + errors
    unknown = ~np.isfinite(products)  # too large for float32
    low[unknown], high[unknown] = -np.inf, np.inf
    return low, high


def _last_of_the_best(low: Numbers, count: int) -> float:
    """So many documents score this much at least."""
    return float(np.partition(low, -count)[-count]) if len(low) > count else -np.inf


def _below(score: float) -> float:
    """What scores no less may be the same when it is rounded."""
    return score - abs(score) * _SAME - _SMALLEST if np.isfinite(score) else score


def _scores(query: Query, features: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    blocks = [rows[first : first + _BLOCK] for first in range(0, len(rows), _BLOCK)]
    exact = [query.compare(features[block]).astype(np.float32) for block in blocks]
    return np.concatenate([np.empty(0, np.float32), *exact])


class Neighbors(Sections):
    """The graph of one state of an index file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._one_at_a_time = threading.Lock()
        try:
            graph = self.column("graph").data
            self._index = _usearch().Index.restore(graph, view=True)
        except (MissingDependencyError, RuntimeError) as error:
            raise SnapshotError(str(error)) from error

    def __len__(self) -> int:
        return len(self._index)

    def fits(self, snapshot: Sections) -> bool:
        """Whether its nodes are the rows of this snapshot's deep features."""
        own = self.mark, self._index.ndim, len(self)
        return own == (snapshot.mark, snapshot.dimensions, snapshot.count("feature.places"))

    def rows(self, vector: Vectors, count: int) -> NDArray[np.int64]:
        """The rows of the deep features nearest to a vector, so many, ascending."""
        with self._one_at_a_time:
            self._index.expansion_search = count
            found = self._index.search(direction(vector), count, threads=1).keys
        return np.sort(found.astype(np.int64))


def check_kind(kind: str | None, location: str) -> None:
    """ConfigurationError where a file has no such index of neighbors, or usearch is missing."""
    if kind not in (None, NONE, KIND):
        raise ConfigurationError(
            f"vectors={kind!r} is none of a file's ways to index deep features: {location} takes "
            f"{KIND} or {NONE}"
        )
    if kind == KIND:
        _usearch()


def write_neighbors(
    snapshot: Sections, path: Path, mark: str, is_wanted: Callable[[], bool]
) -> None:
    """Write the graph of a snapshot's deep features; SnapshotError where it is not wanted."""
    started = time.monotonic()
    if snapshot.mark != mark:
        raise SnapshotError("the file was written to meanwhile")
    features = snapshot.features()
    if not len(features):
        raise SnapshotError("there are no deep features")
    try:
        index = _usearch().Index(ndim=snapshot.dimensions, **_GRAPH)
        for first in range(0, len(features), _TOGETHER):
            if not is_wanted():
                raise SnapshotError("the file is wanted by a writer")
            some = features[first : first + _TOGETHER]
            rows, nodes = np.arange(first, first + len(some)), np.stack(list(map(direction, some)))
            index.add(rows, nodes, threads=0 if first else _ALONE)
        index.save(str(path))
    except RuntimeError as error:  # no room
        raise SnapshotError(str(error)) from error
    with path.open("r+b") as file:
        sums = [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]
        known = {"mark": mark, "average_length": 0, "dimensions": snapshot.dimensions}
        place = [0, "|u1", file.tell(), sums]
        seconds = time.monotonic() - started
        file.write(footer({**known, "seconds": seconds, "sections": {"graph": place}}))


def _usearch() -> Any:
    return needed("usearch.index", f"vectors={KIND!r} of a file needs usearch", "approximate")
