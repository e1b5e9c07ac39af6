"""The snapshot beside an index file: its documents, and what searches ask of them without DuckDB.

Documents have places, 0, 1 and so on, and similar ones are neighbors: they are sorted by their best
synset, how much it scores, and the second best; ties are broken by rank.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import LazyHits, Scored
from imgsearch_es.stores.embedded.pruning import (
    STRATEGY,
    Asked,
    Lists,
    Neighbors,
    Numbers,
    Posting,
    Scores,
    Summand,
    among_neighbors,
    best_of,
    candidates,
    nearest,
)
from imgsearch_es.stores.embedded.schema import Reader, to_document
from imgsearch_es.stores.embedded.sections import Array, Sections
from imgsearch_es.stores.embedded.selecting import selection
from imgsearch_es.stores.embedded.sources import EMPTY, VECTORS, Best, Places, Source, Vectors

_INDEXED_AT = 7
"""Where a record says when its document was indexed."""
_FEW = 1 << 15
"""So many postings are added up in less time than blocks are chosen; twice as many where the lists
were read for other queries."""
_SCORED = 1 << 26
"""Documents times queries of one scan, which takes less than a second."""
_DECODED = 1 << 22
"""Postings that stay in memory for later queries, 16 bytes each."""


class Snapshot(Sections):
    """The documents of one state of an index file."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._local = threading.local()

    def places(self, numbers: Array) -> Array:
        """By the documents' numbers in the file."""
        return self.column("places")[np.searchsorted(self.column("numbers"), numbers)]

    def place(self, key: str) -> int | None:
        """Where the document of an id is; None where there is none."""
        ids, ranked = self._columns["ids"], self._columns["ranked"]
        wanted = key.encode("utf-8", "replace")
        rank = bisect_left(range(len(ids)), wanted, key=lambda rank: ids.at(ranked.at(rank)))
        place = int(ranked.at(rank)) if rank < len(ids) else -1
        return place if place >= 0 and ids.at(place) == wanted else None

    def best_first(self, places: Array, scores: Array) -> Array:
        """The order of documents by score, ties by id."""
        return np.lexsort((self.picked("ranks", places, places + 1, places), -scores))

    def ids(self, places: Array) -> list[str]:
        return [str(key, "ascii") for key in self._columns["ids"].of(places).tolist()]

    def row(self, place: int) -> list[Any]:
        """What the file has of a document that was looked at, as ``schema.COLUMNS`` says."""
        values: list[Any] = json.loads(self._span("record", "records", place).tobytes())
        values[_INDEXED_AT] = datetime.fromisoformat(values[_INDEXED_AT] or "")
        terms, scores = (self._span("term", name, place).tolist() for name in ("terms", "scores"))
        key = str(self._columns["ids"].of(place), "ascii")
        return [key, *values[:-3], terms, scores, *values[-3:]]

    def check_rows(self, places: Array) -> None:
        """Look at all that ``ids`` and ``row`` read of documents; they raise no SnapshotError."""
        columns = self._columns
        columns["ids"].check(places, places + 1)
        for name, values in (("record", ("records",)), ("term", ("terms", "scores"))):
            starts, sizes = columns[f"{name}.starts"], columns[f"{name}.sizes"]
            for column in (starts, sizes):
                column.check(places, places + 1)
            first, end = starts.of(places), starts.of(places) + sizes.of(places)
            for value in values:
                columns[value].check(first, end)

    def zeros(self) -> Array:
        """A zero for each place, float64, which ``keep`` takes back as zeros for the next one.

        Should somebody be interrupted who adds to them, they are not used again.
        """
        found, self._local.zeros = getattr(self._local, "zeros", None), None
        return np.zeros(len(self)) if found is None else found

    def keep(self, zeros: Array) -> None:
        self._local.zeros = zeros

    def _span(self, name: str, column: str, place: int) -> Array:
        first, size = (self._columns[f"{name}.{what}"].of(place) for what in ("starts", "sizes"))
        found: Array = self._columns[column].of(slice(first, first + size))
        return found


class SnapshotSource(Source):
    """The snapshot; DuckDB is asked only what meets conditions."""

    def __init__(
        self, reader: Reader, snapshot: Snapshot, neighbors: Neighbors | None = None
    ) -> None:
        super().__init__(reader)
        self._snapshot, self._neighbors = snapshot, neighbors
        self.together = min(max(20, _SCORED // (len(snapshot) + 1)), 1000)

    def statistics(self, keys: Sequence[str]) -> Statistics:
        snapshot, numbers = self._snapshot, self.reader.numbers
        spans = {key: snapshot.span("postings", numbers.get(key, -1)) for key in keys}
        counts = {key: end - first for key, (first, end) in spans.items() if first < end}
        return Statistics(len(snapshot), to_score(snapshot.average_length), counts)

    def places(self, ids: Sequence[str]) -> dict[str, int]:
        places = ((key, self._snapshot.place(key)) for key in ids)
        return {key: place for key, place in places if place is not None}

    def lists(
        self, table: str, terms: Sequence[int], conditions: Selection, *, needs_lengths: bool
    ) -> Mapping[int, Posting]:
        snapshot, meets = self._snapshot, self._meeting(conditions)

        def read(term: int) -> Posting:
            span = snapshot.span(table, term)
            places, scores = (snapshot.part(f"{table}.{of}", *span) for of in ("places", "scores"))
            if meets is not None:
                kept = meets[places]
                places, scores = places[kept], scores[kept]
            at = places.astype(np.intp)  # by which NumPy adds twice as fast
            measures = ("length", "norm") if needs_lengths else ()
            more = [snapshot.column(name)[at] for name in measures] or [EMPTY.lengths] * 2
            return Posting(at, scores.astype(np.float64), *more)

        return _Remembered(read)

    def _meeting(self, conditions: Selection) -> NDArray[np.bool_] | None:
        """By place, whether a document meets conditions; None where there are none."""
        if not conditions.filters:
            return None
        where, parameters = selection(conditions, self.reader.numbers)
        sql = f"SELECT document FROM documents {where}"
        found = self.reader.connection.execute(sql, parameters).fetchnumpy()
        meets = np.zeros(len(self._snapshot), dtype=bool)
        meets[self._snapshot.places(found["document"])] = True
        return meets

    def best(
        self,
        table: str,
        asked: Sequence[Asked],
        queries: Sequence[tuple[Query, Summand]],
        conditions: Selection,
    ) -> list[Scores | None]:
        snapshot, few = self._snapshot, _FEW if len(queries) == 1 else 2 * _FEW
        spans = {term: snapshot.span(table, term) for own in asked for term, _ in own}
        chosen = dict[int, Lists]()
        for i, (own, (query, summand)) in enumerate(zip(asked, queries, strict=True)):
            count = sum(end - first for first, end in (spans[term] for term, _ in own))
            if count and count >= few:
                is_linear = query.formula.is_linear
                lists = Lists(snapshot, table, own, spans, summand, needs_lengths=not is_linear)
                if lists.can_be_pruned():
                    chosen[i] = lists
        found: list[Scores | None] = [None] * len(queries)
        meets = self._meeting(conditions) if chosen else None
        for i, lists in chosen.items():
            query = queries[i][0]
            found[i] = best_of(lists, query, meets, list(self.places(query.exclude).values()))
        return found

    def zeros(self, lists: Sequence[NDArray[np.intp]]) -> Numbers:
        return self._snapshot.zeros()

    def keep(self, zeros: Numbers) -> None:
        self._snapshot.keep(zeros)

    def vectors(self, conditions: Selection) -> Vectors:
        meets = self._meeting(conditions)
        places, features = self._snapshot.column("feature.places"), self._snapshot.features()
        for first in range(0, len(places), VECTORS):
            some, matrix = places[first : first + VECTORS], features[first : first + VECTORS]
            if meets is not None:
                some, matrix = some[meets[some]], matrix[meets[some]]
            if len(some):
                yield some, matrix

    def nearest(self, queries: Sequence[Query], conditions: Selection) -> list[Scores]:
        exact = [query for query in queries if not self.is_near(query)]
        left_out = [list(self.places(query.exclude).values()) for query in exact]
        meets = self._meeting(conditions) if exact else None
        found = iter(nearest(self._snapshot, exact, meets, left_out))
        near, snapshot = self._neighbors, self._snapshot
        return [
            among_neighbors(snapshot, near, query) if near and self.is_near(query) else next(found)
            for query in queries
        ]

    def is_near(self, query: Query) -> bool:
        if not query.candidates or self._neighbors is None or query.strategy != STRATEGY:
            return False
        return not query.filters and candidates(query) < len(self._neighbors)

    def ranking(
        self, places: Places, scores: NDArray[np.float32]
    ) -> tuple[Sequence[str], Sequence[float]]:
        order = self._snapshot.best_first(places, scores)
        self._snapshot.check_rows(places)
        return self._snapshot.ids(places[order]), scores[order].tolist()

    def pages(self, found: Sequence[tuple[Query, Best]]) -> Sequence[Sequence[Scored]]:
        """Documents are read when they are looked at; what may be damaged is looked at now."""
        shelf, pages = _Shelf(self._snapshot, self.reader.keys), []
        wanted: list[Places] = [np.empty(0, np.intp)]
        for query, best in found:
            order = self._snapshot.best_first(best.places, best.scores)
            order = order[query.offset : query.offset + query.k]
            pages.append(LazyHits(shelf, best.places[order], best.scores[order], best.parts))
            wanted.append(best.places[order])
        self._snapshot.check_rows(np.concatenate(wanted))
        return pages


class _Shelf(NamedTuple):
    """Documents of a snapshot that was looked at; who has it open keeps it as it is."""

    snapshot: Snapshot
    keys: Mapping[int, str]

    def document(self, place: int) -> Document:
        with self._telling():
            return to_document(self.snapshot.row(place), self.keys)

    def ids(self, places: Places) -> list[str]:
        with self._telling():
            return self.snapshot.ids(places)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Somebody wrote into it after it was looked at: no search uses it again."""
        try:
            if not self.snapshot.is_untouched():
                raise ValueError(self.snapshot.mark)
            yield
        except (ValueError, LookupError, TypeError) as error:
            self.snapshot.mark = "damaged"
            raise DamagedIndexError(
                "the snapshot beside the index was written over before these hits were read: "
                "search again"
            ) from error


class _Remembered(dict[int, Posting]):
    """Lists that are read when they are first asked for."""

    def __init__(self, read: Callable[[int], Posting]) -> None:
        super().__init__()
        self._read, self._size = read, 0

    def __missing__(self, term: int) -> Posting:
        found = self._read(term)
        self._size += len(found.places)
        if self._size > _DECODED:
            self.clear()
            self._size = len(found.places)
        self[term] = found
        return found
