"""The best by posting lists, exactly: blocks without any of them are passed over.

A block is bounded by a document that has the greatest score of each synset in it, and the least
length and norm: as every formula's summand grows with the score and falls with length and norm,
none of the block's documents scores more. The best bounded blocks are added up first; then only
those others whose bounds reach the last of the best found (A. Mallia, T. Suel, N. Tonellotto:
Faster Learned Sparse Retrieval with Block-Max Pruning. SIGIR 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.embedded.nearest import Scores
from imgsearch_es.stores.embedded.sections import Sections

ABOVE_0: np.float32 = np.nextafter(np.float32(0), np.float32(1))
_FIRST = 32
"""Blocks that are added up first; more where many hits are wanted."""
_SLACK = 1 + 2.0**-40
"""More than all errors of float64 here, in proportion."""

Numbers = NDArray[np.float64]
Asked = Sequence[tuple[int, float]]
"""Numbers and weights of terms, in the order in which they are added."""


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
    """A query's best offset + k and what ties with the last.

    Args:
        lists: of the query's terms, which can be pruned.
        query: how many are wanted, or from which score on.
        meets: by place, the documents that may be hits; None for all.
        out: places of documents that may not.
    """
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
    """The lists of a query's terms in a snapshot, cut into blocks.

    Args:
        snapshot: which has them.
        table: in which of its tables.
        asked: the terms.
        spans: where the list of each is.
        summand: of the query's formula, which ``needs_lengths`` of documents or not.
    """

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
