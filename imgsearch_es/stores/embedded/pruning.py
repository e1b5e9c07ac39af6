"""The best, exactly, without a look at all: of posting lists by blocks, of deep features by bounds.

A block of documents is bounded by one that has the greatest score of each synset in it, and the
least length and norm: as every formula's summand grows with the score and falls with length and
norm, none of the block's documents scores more. The best bounded blocks are added up first; then
only those others whose bounds reach the last of the best found (A. Mallia, T. Suel, N. Tonellotto:
Faster Learned Sparse Retrieval with Block-Max Pruning. SIGIR 2024).

A float32 product of vectors q and d of n numbers is wrong by at most gamma |q| |d|, in whatever
order it is added up, with gamma = n u / (1 - n u) and u = 2^-24 (Higham, Accuracy and Stability of
Numerical Algorithms, 2002, section 3.1), and by what is too small for float32. That bounds every
score from below and above; only those that may be among the best are computed again in float64.

Or approximately, by a graph (HNSW) in ``photos.duckdb.neighbors``, made from the snapshot of the
same state of the file: a node is a row of its deep features. It finds candidates by the cosine of
numbers rounded to 8 bits; they are compared exactly. The graph is usearch's, followed by a footer.
(Y. Malkov, D. Yashunin: Efficient and robust approximate nearest neighbor search using hierarchical
navigable small world graphs. IEEE TPAMI 42(4), 2020.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import MissingDependencyError, needed
from imgsearch_es.retrieval.dense import Vectors, direction
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.embedded.sections import Sections, SnapshotError

ABOVE_0: np.float32 = np.uint32(1).view(np.float32)
"""The least number; NumPy may be set to raise where it is computed."""
_FIRST = 32
"""Blocks that are added up first; more where many hits are wanted."""
_SLACK = 1 + 2.0**-40
"""More than all errors of float64 here, in proportion."""

_UNIT = 2.0**-24
_SMALLEST = 2.0**-126
_SAME = 2.0**-22
"""Scores that differ by less, in proportion, may be the same float32 number."""
_DOUBLE = 2.0**-44
"""More than all errors of float64 in bounds of scores, in proportion."""
_BLOCK = 1 << 14
"""Deep features compared in float64 at a time."""
_PRODUCTS = 1 << 24
"""Float32 products in memory."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""
BOUNDED = ("dense-cosine", "dense-dot", "dense-euclidean")
"""Strategies that follow from products and lengths."""
KIND, STRATEGY = "int8_hnsw", "dense-cosine"
"""The way a file can index deep features, and what this graph answers."""

Numbers = NDArray[np.float64]
Asked = Sequence[tuple[int, float]]
"""Numbers and weights of terms, in the order in which they are added."""


class Scores(NamedTuple):
    """What documents score by a query; some may be no hits, see ``least_score``.

    ``places`` is None where each place, from 0 on, has a score; ``total``, which is how many match,
    where all that do are here.
    """

    places: NDArray[np.integer[Any]] | None
    scores: NDArray[np.float32]
    total: int | None = None


class Posting(NamedTuple):
    """Who has a term, each once, and how much; where asked for, each one's length and norm."""

    places: NDArray[np.intp]
    scores: Numbers
    lengths: Numbers
    norms: Numbers


Summand = Callable[[Any, Posting], Any]
"""What terms of some weights add to documents."""


def least_score(query: Query) -> np.float32:
    """Hits score no less: by postings above 0 and, as by deep features, ``min_score``."""
    least: np.float32 = np.float32(-np.inf if query.min_score is None else query.min_score)
    return least if query.compares_all else max(least, ABOVE_0)


def best_of(
    lists: Lists, query: Query, meets: NDArray[np.bool_] | None, out: Sequence[int]
) -> Scores:
    """The best offset + k and what ties with the last, of what meets conditions (by place)."""
    bounds, rows, least = lists.bounds(), lists.snapshot.block_rows, least_score(query)
    if meets is not None:
        bounds[~np.logical_or.reduceat(meets, np.arange(0, len(meets), rows))] = 0

    def added(blocks: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        places, scores = lists.added(blocks)
        is_hit = scores >= least
        if meets is not None:
            is_hit &= meets[places]
        if out:
            is_hit &= ~np.isin(places, out)
        return places[is_hit], scores[is_hit]

    if least > ABOVE_0:
        return Scores(*added(np.flatnonzero(~(bounds < least))))
    count = query.offset + query.k
    most = min(len(bounds), _FIRST + 4 * count // rows)
    first = bounds >= max(least, np.partition(bounds, -most)[-most])
    places, scores = added(np.flatnonzero(first))
    if len(scores) >= count:
        least = np.partition(scores, -count)[-count]
    more, others = added(np.flatnonzero(~(first | (bounds < least))))
    total = lists.count(meets, out)
    return Scores(np.concatenate([places, more]), np.concatenate([scores, others]), total)


class Lists:
    """The lists of a query's terms in a table of a snapshot, cut into blocks."""

    def __init__(
        self,
        snapshot: Sections,
        table: str,
        asked: Asked,
        spans: Mapping[int, tuple[int, int]],
        summand: Summand,
        *,
        needs_lengths: bool,
    ) -> None:
        self.snapshot, self._table, self._summand = snapshot, table, summand
        self._needs_lengths = needs_lengths
        self._spans = [spans[term] for term, _ in asked]
        self._asked = [pair for pair, (a, b) in zip(asked, self._spans, strict=True) if a < b]

    def can_be_pruned(self) -> bool:
        """Whether each document that has a term scores above 0."""
        terms, weights = map(np.array, zip(*self._asked, strict=True))
        least = self.snapshot.column(f"{self._table}.least")[terms].astype(np.float64)
        length, norm = (np.full(len(terms), most) for most in self.snapshot.column("greatest"))
        smallest = self._summand(weights, Posting(terms, least, length, norm))
        return bool((smallest.astype(np.float32) > ABOVE_0).all())

    def bounds(self) -> NDArray[np.float32]:
        """Of each block what none of its documents exceeds."""
        snapshot = self.snapshot
        spans = [snapshot.span(f"{self._table}.blocks", term) for term, _ in self._asked]

        def joined(name: str, more: int = 0) -> NDArray[Any]:
            column = f"{self._table}.blocks.{name}"
            return np.concatenate([snapshot.part(column, a + more, b + more) for a, b in spans])

        self._weights = np.repeat([weight for _, weight in self._asked], [b - a for a, b in spans])
        self._blocks, self._firsts = joined("places").astype(np.intp), joined("firsts")
        self._sizes = joined("firsts", 1) - self._firsts
        posting = self._posting(self._blocks, joined("scores"), "block.")
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            summands = self._summand(self._weights, posting)
            count = -(-len(snapshot) // snapshot.block_rows)
            bounds = np.bincount(self._blocks, summands, minlength=count)
            found: NDArray[np.float32] = (bounds * _SLACK).astype(np.float32)
        return found

    def added(self, blocks: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """The documents of some blocks that have a term, and their sums; after ``bounds``."""
        snapshot, rows = self.snapshot, self.snapshot.block_rows
        slots = np.full(-(-len(snapshot) // rows), -1)
        slots[blocks] = np.arange(len(blocks))
        chosen = np.flatnonzero(slots[self._blocks] >= 0)
        firsts, sizes, block = (of[chosen] for of in (self._firsts, self._sizes, self._blocks))
        ends = np.cumsum(sizes)
        at = np.repeat(firsts - ends + sizes, sizes)
        at += np.arange(len(at))
        places, scores = (
            snapshot.picked(f"{self._table}.{name}", firsts, firsts + sizes, at)
            for name in ("places", "scores")
        )
        weights = np.repeat(self._weights[chosen], sizes)
        summands = self._summand(weights, self._posting(places, scores, ""))
        inside = places + np.repeat((slots[block] - block) * rows, sizes)
        sums = np.bincount(inside, summands).astype(np.float32)  # one after the other
        found = np.flatnonzero(sums)
        return blocks[found // rows] * rows + found % rows, sums[found]

    def count(self, meets: NDArray[np.bool_] | None, out: Sequence[int]) -> int:
        """How many documents have any of the terms."""
        marks = np.zeros(len(self.snapshot), dtype=bool)
        for first, end in self._spans:
            places = self.snapshot.part(f"{self._table}.places", first, end)
            marks[places.astype(np.intp)] = True  # by which NumPy marks twice as fast
        if meets is not None:
            marks &= meets
        marks[list(out)] = False
        return int(np.count_nonzero(marks))

    def _posting(self, places: NDArray[Any], scores: NDArray[Any], of: str) -> Posting:
        measures = ("length", "norm") if self._needs_lengths else ()
        more = [self.snapshot.column(of + name)[places] for name in measures] or [scores] * 2
        return Posting(places, scores.astype(np.float64), *more)


def nearest(
    snapshot: Sections,
    queries: Sequence[Query],
    meets: NDArray[np.bool_] | None,
    left_out: Sequence[Sequence[int]],
) -> list[Scores]:
    """The best offset + k of each query in BOUNDED, what ties with the last, and others.

    Places that are left out are found and counted, too.
    """
    if not queries:
        return []
    places, lengths = snapshot.column("feature.places"), snapshot.column("feature.lengths")
    features = snapshot.features()
    rows = np.arange(len(places)) if meets is None else np.flatnonzero(meets[places])
    size, products = max(1, _PRODUCTS // (len(snapshot) + 1)), np.empty((0, 0), np.float32)
    found = []
    for i, (query, out) in enumerate(zip(queries, left_out, strict=True)):
        if i % size == 0:
            vectors = [_vector(each) for each in queries[i : i + size]]
            with np.errstate(over="ignore", invalid="ignore"):
                products = np.stack(vectors) @ features.T
        low, high = _bounds(query, products[i % size][rows].astype(np.float64), lengths[rows])
        count, last = query.offset + query.k + len(out), -np.inf
        if len(low) > count:  # so many documents score this much at least
            last = float(np.partition(low, -count)[-count])
        chosen = high >= _below(last)
        if out:
            chosen |= np.isin(places[rows], out)
        sure, unsure = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
        if query.min_score is not None:
            sure = low >= query.min_score
            unsure = ~sure & (high >= _below(query.min_score))
            chosen |= unsure
        best = rows[chosen]
        blocks = [best[first : first + _BLOCK] for first in range(0, len(best), _BLOCK)]
        exact = [query.compare(features[block]).astype(np.float32) for block in blocks]
        scores = np.concatenate([np.empty(0, np.float32), *exact])
        is_hit = unsure[chosen] & (scores >= np.float32(query.min_score or 0))
        found.append(Scores(places[best], scores, int(sure.sum() + is_hit.sum())))
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


def _below(score: float) -> float:
    """What scores no less may be the same when it is rounded."""
    return score - abs(score) * _SAME - _SMALLEST if np.isfinite(score) else score


class Neighbors(Sections):
    """The graph of one state of an index file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._one_at_a_time = threading.Lock()
        try:
            graph = self.column("graph").data
            self._index = usearch().Index.restore(graph, view=True)
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


def usearch() -> Any:
    """The package, or MissingDependencyError."""
    return needed("usearch.index", f"vectors={KIND!r} of a file needs usearch", "approximate")
