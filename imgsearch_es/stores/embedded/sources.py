"""What searches read: an index file by DuckDB, or the snapshot beside it, for the same answers.

Documents go by numbers, their places: in the snapshot 0, 1 and so on, similar ones side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import PartScore
from imgsearch_es.stores.base import LazyHits, Scored, best_first
from imgsearch_es.stores.embedded.nearest import (
    Scores,
    among_neighbors,
    candidates,
    compared,
    nearest,
)
from imgsearch_es.stores.embedded.neighbors import STRATEGY, Neighbors
from imgsearch_es.stores.embedded.pruning import Asked, Lists, Numbers, Posting, Summand, best_of
from imgsearch_es.stores.embedded.rows import Reader, to_document
from imgsearch_es.stores.embedded.selecting import selection
from imgsearch_es.stores.embedded.snapshot import Snapshot

_POSTINGS = """
SELECT term, document, score {lengths}
FROM {table} JOIN (SELECT unnest($terms)::INTEGER AS term) USING (term) {joined} {selection}
"""
_LENGTHS = ", length, norm", "JOIN (SELECT document, length, norm FROM documents) USING (document)"
_EXCLUDED = "SELECT id, document FROM documents JOIN (SELECT unnest($1) AS id) USING (id)"
_BY_NUMBER = (
    "SELECT document, {} "
    "FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
)
_FEW = 100
"""Documents of a query that may be read from the file though they are no hits in the end."""
_VECTORS = 8192
"""Deep features in memory at a time."""
_SCORED = 1 << 26
"""Documents times queries of one scan of a snapshot, which takes less than a second."""
_DECODED = 1 << 22
"""Postings that stay in memory for later queries, 16 bytes each."""

Places = NDArray[np.integer[Any]]
Vectors = Iterator[tuple[Places, NDArray[np.float32]]]
"""Deep features, shape (documents, dimensions), with the places of their documents."""


_EMPTY = Posting(np.empty(0, np.intp), np.empty(0), np.empty(0), np.empty(0))


class Best(NamedTuple):
    """The best documents of a query, in any order, with all that tie with the last of them.

    ``total`` is how many match; ``parts`` of a fused query what each part adds to these scores.
    """

    places: Places
    scores: NDArray[np.float32]
    total: int
    parts: Mapping[int, tuple[PartScore, ...]] = {}


class Source:
    """The file as searches read it. Who wants to write waits until a scan ends.

    Attributes:
        together: queries answered by one scan. Their lists are in memory.
    """

    together = 20

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """Counts of documents and postings."""
        reader = self.reader
        keyed = {reader.numbers[key]: key for key in keys if key in reader.numbers}
        ((count, length),) = reader.rows("SELECT count(*), coalesce(avg(length), 0) FROM documents")
        frequencies = reader.rows(
            "SELECT term, count(*) FROM postings "
            "JOIN (SELECT unnest($1)::INTEGER AS term) USING (term) GROUP BY term",
            [list(keyed)],
        )
        return Statistics(count, to_score(length), {keyed[term]: n for term, n in frequencies})

    def places(self, ids: Sequence[str]) -> dict[str, int]:
        """The documents of some ids."""
        return dict(self.reader.rows(_EXCLUDED, [list(ids)])) if ids else {}

    def lists(
        self, table: str, terms: Sequence[int], conditions: Selection, *, needs_lengths: bool
    ) -> Mapping[int, Posting]:
        """The lists of terms, of documents that meet conditions; of others an empty one."""
        lengths, joined = _LENGTHS if needs_lengths else ("", "")
        where, parameters = selection(conditions, self.reader.numbers)
        block = self.reader.connection.execute(
            _POSTINGS.format(table=table, lengths=lengths, joined=joined, selection=where),
            {**parameters, "terms": list(terms)},
        ).fetchnumpy()
        term = np.asarray(block["term"])
        columns = [
            np.asarray(block.get(name, ()), kind)
            for name, kind in (
                ("document", np.intp), ("score", "f8"), ("length", "f8"), ("norm", "f8"),
            )
        ]  # fmt: skip
        if (term[1:] < term[:-1]).any():  # written after the table was last clustered
            order = np.argsort(term, kind="stable")
            term = term[order]
            columns = [column[order] if len(column) else column for column in columns]
        ends = [*(np.flatnonzero(term[1:] != term[:-1]) + 1).tolist(), len(term)]
        found: dict[int, Posting] = defaultdict(lambda: _EMPTY)
        for a, b in zip([0, *ends[:-1]], ends, strict=True):
            if a < b:
                found[int(term[a])] = Posting(*(column[a:b] for column in columns))
        return found

    def best(
        self,
        table: str,
        asked: Sequence[Asked],
        queries: Sequence[tuple[Query, Summand]],
        conditions: Selection,
    ) -> list[Scores | None]:
        """The best alone by the lists of terms that queries ask with; None where all are added."""
        return [None] * len(queries)

    def zeros(self, lists: Sequence[NDArray[np.intp]]) -> Numbers:
        """A zero for each place, to the last one in these lists, to add to."""
        return np.zeros(max((int(places.max()) + 1 for places in lists), default=0))

    def keep(self, zeros: Numbers) -> None:
        """Take them back, zeros again."""

    def vectors(self, conditions: Selection) -> Vectors:
        """The deep features of documents that meet conditions, some at a time."""
        where, parameters = selection(conditions, self.reader.numbers)
        end = self.reader.one("SELECT max(document) + 1 FROM embeddings")
        for first in range(0, end, _VECTORS):
            span = {"first": first, "end": first + _VECTORS}
            block = f"{where} AND document >= $first AND document < $end"
            yield from self._vectors(block, {**parameters, **span})

    def _vectors(self, where: str, parameters: dict[str, Any]) -> Vectors:
        block = self.reader.connection.execute(
            f"SELECT document, embedding FROM embeddings {where}", parameters
        ).fetchnumpy()
        documents, vectors = np.asarray(block["document"], dtype=np.int64), block["embedding"]
        if np.ma.is_masked(vectors) or len({len(vector) for vector in vectors}) > 1:
            raise DamagedIndexError("deep features differ in length")
        if len(documents):
            yield documents, np.concatenate(vectors).reshape(len(documents), -1)

    def compared(self, queries: Sequence[Query], conditions: Selection) -> list[Scores]:
        """All deep features of documents that meet conditions, compared with those of queries."""
        nobody = np.empty(0, np.intp), np.empty(0, np.float32)
        found: list[list[tuple[Places, NDArray[np.float32]]]] = [[nobody] for _ in queries]
        for places, matrix in self.vectors(conditions):
            for blocks, query in zip(found, queries, strict=True):
                blocks.append((places, compared(query, matrix)))
        columns = [zip(*blocks, strict=True) for blocks in found]
        return [Scores(np.concatenate(places), np.concatenate(some)) for places, some in columns]

    def is_near(self, query: Query) -> bool:
        """Whether a graph answers: not where conditions may leave few, or all are compared."""
        return False

    def nearest(self, queries: Sequence[Query], conditions: Selection) -> list[Scores]:
        """The same, for strategies in BOUNDED, of the best alone where that is quicker."""
        return self.compared(queries, conditions)

    def ranking(
        self, places: Places, scores: NDArray[np.float32]
    ) -> tuple[Sequence[str], Sequence[float]]:
        """Ids and scores, best first, ties by id."""
        connection = self.reader.connection
        connection.register("found", {"document": places, "score": scores})
        ordered = connection.execute(
            "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
        ).fetchnumpy()
        connection.unregister("found")
        return ordered["id"].tolist(), ordered["score"].tolist()

    def pages(self, found: Sequence[tuple[Query, Best]]) -> Sequence[Sequence[Scored]]:
        """Of each query's best those that it asks for, in order."""
        scored = [self._scores(query, best) for query, best in found]
        numbers = list(dict.fromkeys(number for scores in scored for number in scores))
        rows = self.reader.rows(_BY_NUMBER.format(self.reader.columns), [numbers])
        documents = {row[0]: to_document(row[1:], self.reader.keys) for row in rows}
        if len(documents) < len(numbers):
            missing = len(numbers) - len(documents)
            raise DamagedIndexError(f"it has postings of {missing} documents that are not there")
        pages = []
        for (query, best), scores in zip(found, scored, strict=True):
            hits = best_first(
                Scored(documents[number], score, best.parts.get(number, ()))
                for number, score in scores.items()
            )
            pages.append(tuple(hits[query.offset : query.offset + query.k]))
        return pages

    def _scores(self, query: Query, best: Best) -> dict[int, float]:
        """By number; of many that tie those that come first by their ids: no others are read."""
        scores = dict(zip(best.places.tolist(), best.scores.tolist(), strict=True))
        if len(scores) <= query.k + _FEW:
            return scores
        ids = self.reader.rows(_BY_NUMBER.format("id"), [list(scores)])
        ids.sort(key=lambda item: (-scores[item[0]], item[1]))
        return {number: scores[number] for number, _ in ids[: query.offset + query.k]}


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
            more = [snapshot.column(name)[at] for name in measures] or [_EMPTY.lengths] * 2
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
        snapshot, terms = self._snapshot, {term for own in asked for term, _ in own}
        spans = {term: snapshot.span(table, term) for term in terms}
        lists = [
            Lists(snapshot, table, own, spans, summand, needs_lengths=not query.formula.is_linear)
            for own, (query, summand) in zip(asked, queries, strict=True)
        ]
        chosen = [own.can_be_pruned(alone=len(lists) == 1) for own in lists]
        meets = self._meeting(conditions) if any(chosen) else None
        return [
            best_of(own, query, meets, list(self.places(query.exclude).values()))
            if is_chosen
            else None
            for own, (query, _), is_chosen in zip(lists, queries, chosen, strict=True)
        ]

    def zeros(self, lists: Sequence[NDArray[np.intp]]) -> Numbers:
        return self._snapshot.zeros()

    def keep(self, zeros: Numbers) -> None:
        self._snapshot.keep(zeros)

    def vectors(self, conditions: Selection) -> Vectors:
        meets = self._meeting(conditions)
        places, features = self._snapshot.column("feature.places"), self._snapshot.features()
        for first in range(0, len(places), _VECTORS):
            some, matrix = places[first : first + _VECTORS], features[first : first + _VECTORS]
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
