"""Scores of all documents: DuckDB finds postings and deep features, NumPy adds and compares them.

For the lists of ten synsets, of 10,000 postings each, that takes half the time of a GROUP BY. Many
queries share one scan of what any of them needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Context, Statistics
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.stores.embedded.rows import Reader
from imgsearch_es.stores.embedded.selecting import selection
from imgsearch_es.stores.embedded.snapshot import Snapshot

_POSTINGS = """
SELECT term, document, score {lengths}
FROM {table} JOIN (SELECT unnest($terms)::INTEGER AS term) USING (term) {joined} {selection}
"""
_LENGTHS = ", length, norm", "JOIN (SELECT document, length, norm FROM documents) USING (document)"
_SOME = "JOIN (SELECT unnest($near::INTEGER[]) AS document) USING (document)"
_EXCLUDED = "SELECT id, document FROM documents JOIN (SELECT unnest($1) AS id) USING (id)"
_BLOCK = 512
"""Documents whose best score is looked at first when the best of all are looked for."""
_SPARSE = 16
"""A score for each document, matching or not, while these are at most so many for a posting."""
_VECTORS = 8192
"""Deep features in memory at a time."""
_IN_CACHE = 256 * 1024
"""Numbers compared at a time: their float64 copies stay in the processor's cache, which halves the
time."""
_ABOVE_0: np.float32 = np.nextafter(np.float32(0), np.float32(1))

Scores = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers of documents, and the score of each; some may be no hits, see ``least_score``."""
Weighted = tuple[Query, Statistics]
"""A query whose synsets are weighted by its formula, and what that was based on."""
_Lists = dict[int, dict[str, NDArray[Any]]]
"""By a term's number who has it, and how much: "document", "score", and, where needed, the
document's "length" and "norm"."""


def least_score(query: Query) -> np.float32:
    """Hits score no less: by postings above 0; by deep features the threshold, if there is one."""
    least: np.float32 = np.float32(-np.inf if query.threshold is None else query.threshold)
    return least if query.compares_all else max(least, _ABOVE_0)


def many_scores(reader: Reader, queries: Sequence[Weighted]) -> list[Scores]:
    """The scores by each of some queries, none of them fused.

    One scan serves all that have the same conditions, but for the documents that they leave out.
    """
    together: dict[tuple[Any, ...], list[int]] = {}
    for i, (query, _) in enumerate(queries):
        way = _way(query)
        left_out = query.exclude if way is _by_candidates else ()
        alike = way, query.filters, left_out
        together.setdefault(alike, []).append(i)
    ids = list(dict.fromkeys(key for query, _ in queries for key in query.exclude))
    excluded = places_of(reader, ids)
    found: dict[int, Scores] = {}
    for (way, filters, unwanted), places in together.items():
        conditions = Selection(filters=filters, exclude=unwanted)
        some = [queries[i] for i in places]
        every = way(reader, some, conditions)
        for i, (query, _), (documents, scores) in zip(places, some, every, strict=True):
            check_numbers(scores)
            out = [excluded[key] for key in query.exclude if key in excluded]
            if out:
                kept = ~np.isin(documents, out)
                documents, scores = documents[kept], scores[kept]
            found[i] = documents, scores
    return [found[i] for i in range(len(queries))]


def check_numbers(scores: NDArray[np.float32]) -> None:
    """DamagedIndexError if one is none: it has no place in a ranking, which would not show it."""
    if np.isnan(scores).any():
        raise DamagedIndexError("it has scores that are no numbers")


def places_of(reader: Reader, ids: Sequence[str]) -> dict[str, int]:
    """The documents of some ids."""
    if reader.snapshot is None:
        return dict(reader.rows(_EXCLUDED, [list(ids)])) if ids else {}
    places = ((key, reader.snapshot.place(key)) for key in ids)
    return {key: place for key, place in places if place is not None}


def best_places(
    scores: NDArray[np.float32], count: int, least: np.float32 = _ABOVE_0
) -> NDArray[np.intp]:
    """Where the ``count`` highest scores of ``least`` or more are, and all that tie with the last.

    A block's best score is at most the block's; so at least ``count`` scores are no lower than the
    ``count``-th best of the blocks, and only those need be compared.
    """
    if len(scores) > _BLOCK * count:
        blocks = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK))
        least = max(least, np.partition(blocks, -count)[-count])
    places = np.flatnonzero(scores >= least)
    if len(places) > count:
        last = np.partition(scores[places], -count)[-count]
        places = places[scores[places] >= last]
    return places


def sums(documents: NDArray[np.integer[Any]], summands: NDArray[np.float64]) -> Scores:
    """Document numbers and the sum of each one's summands; some may have the sum 0."""
    if not len(documents):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    numbers = np.arange(int(documents.max()) + 1)
    if len(numbers) > _SPARSE * len(documents):
        numbers, documents = np.unique(documents, return_inverse=True)
    return numbers, np.bincount(documents, weights=summands).astype(np.float32)


def _way(query: Query) -> Callable[[Reader, Sequence[Weighted], Selection], list[Scores]]:
    if STRATEGIES[query.strategy].by_words:
        return _by_words
    if query.candidates and query.visual_words:
        return _by_candidates
    return _by_features if query.is_dense else _by_postings


def _by_postings(
    reader: Reader, queries: Sequence[Weighted], conditions: Selection
) -> list[Scores]:
    terms = [
        [(reader.numbers.get(t.key, -1), t.score) for t in query.terms] for query, _ in queries
    ]
    needs_lengths = not all(query.formula.is_linear for query, _ in queries)
    lists = _read_lists(reader, "postings", terms, conditions, needs_lengths=needs_lengths)
    return [_add_up(reader, lists, own, *item) for own, item in zip(terms, queries, strict=True)]


def _by_words(reader: Reader, queries: Sequence[Weighted], conditions: Selection) -> list[Scores]:
    words = [query.words for query, _ in queries]
    lists = _read_lists(reader, "visual_postings", words, conditions)
    return [_add_up(reader, lists, own, *item) for own, item in zip(words, queries, strict=True)]


def _by_candidates(
    reader: Reader, queries: Sequence[Weighted], conditions: Selection
) -> list[Scores]:
    """Those that share most by visual words, compared by their deep features."""
    found = []
    every = _by_words(reader, queries, conditions)
    for (query, _), (documents, scores) in zip(queries, every, strict=True):
        count = max(query.candidates, query.offset + query.k)
        near = np.sort(documents[best_places(scores, count)])
        blocks = [sums(np.empty(0, np.int64), np.empty(0))]
        if len(near):
            if reader.snapshot is None:
                matrix = _vectors_of(reader, _SOME, {"near": near.tolist()})
            else:
                is_near = np.zeros(len(reader.snapshot), dtype=bool)
                is_near[near] = True
                matrix = _mapped_vectors(reader.snapshot, is_near)
            blocks += [(numbers, _compared(query, vectors)) for numbers, vectors in matrix]
        numbers, values = (np.concatenate(column) for column in zip(*blocks, strict=True))
        found.append((numbers, values))
    return found


def _read_lists(
    reader: Reader,
    table: str,
    wanted: Sequence[Sequence[tuple[int, float]]],
    conditions: Selection,
    *,
    needs_lengths: bool = False,
) -> _Lists:
    """The lists of all terms of some queries, of documents that meet the conditions."""
    terms = dict.fromkeys(number for own in wanted for number, _ in own if number >= 0)
    if reader.snapshot is not None:
        return _mapped_lists(reader, reader.snapshot, table, list(terms), conditions, needs_lengths)
    lengths, joined = _LENGTHS if needs_lengths else ("", "")
    where, parameters = selection(conditions, reader.numbers)
    found = reader.connection.execute(
        _POSTINGS.format(table=table, lengths=lengths, joined=joined, selection=where),
        {**parameters, "terms": list(terms)},
    ).fetchnumpy()
    columns = {name: np.asarray(column) for name, column in found.items()}
    term = columns.pop("term")
    if (term[1:] < term[:-1]).any():  # written after the table was last clustered
        order = np.argsort(term, kind="stable")
        term = term[order]
        columns = {name: column[order] for name, column in columns.items()}
    ends = [*(np.flatnonzero(term[1:] != term[:-1]) + 1).tolist(), len(term)]
    begins = [0, *ends[:-1]]
    return {
        int(term[a]): {name: column[a:b] for name, column in columns.items()}
        for a, b in zip(begins, ends, strict=True)
        if a < b
    }


def meeting(reader: Reader, snapshot: Snapshot, conditions: Selection) -> NDArray[np.bool_] | None:
    """By place, whether a document meets conditions; None where there are none."""
    if not conditions.filters and not conditions.exclude:
        return None
    meets = np.ones(len(snapshot), dtype=bool)
    if conditions.filters:
        where, parameters = selection(replace(conditions, exclude=()), reader.numbers)
        found = reader.connection.execute(f"SELECT document FROM documents {where}", parameters)
        meets[:] = False
        meets[snapshot.places(found.fetchnumpy()["document"])] = True
    meets[list(places_of(reader, conditions.exclude).values())] = False
    return meets


def _mapped_lists(
    reader: Reader,
    snapshot: Snapshot,
    table: str,
    terms: Sequence[int],
    conditions: Selection,
    needs_lengths: bool,
) -> _Lists:
    """The same from the snapshot; DuckDB is asked only what meets conditions."""
    meets, lists = meeting(reader, snapshot, conditions), {}
    for term in terms:
        places, scores = snapshot.list_of(table, term)
        if meets is not None:
            kept = meets[places]
            places, scores = places[kept], scores[kept]
        if len(places):
            lists[term] = {"document": places, "score": scores}
            if needs_lengths:
                lists[term]["length"] = snapshot.column("length")[places]
                lists[term]["norm"] = snapshot.column("norm")[places]
    return lists


def _add_up(
    reader: Reader,
    lists: _Lists,
    terms: Sequence[tuple[int, float]],
    query: Query,
    statistics: Statistics,
) -> Scores:
    """Products in double precision, added in the order of the query's terms."""
    formula = query.formula
    parameters = formula.with_defaults(query.parameters)
    summed = []
    for number, weight in terms:
        found = lists.get(number)
        if found is None:
            continue
        scores = found["score"].astype(np.float64)
        lengths, norms = found.get("length", scores), found.get("norm", scores)  # if looked at
        context = Context(lengths, norms, statistics.average_length, parameters)
        summed.append((found["document"], np.asarray(formula.summand(weight, scores, context))))
    if reader.snapshot is not None:
        return reader.snapshot.add(summed)
    documents, summands = zip((np.empty(0, np.int32), np.empty(0)), *summed, strict=True)
    return sums(np.concatenate(documents), np.concatenate(summands))


def _by_features(
    reader: Reader, queries: Sequence[Weighted], conditions: Selection
) -> list[Scores]:
    found: list[list[Scores]] = [[sums(np.empty(0, np.int64), np.empty(0))] for _ in queries]
    for documents, matrix in _vectors(reader, conditions):
        for blocks, (query, _) in zip(found, queries, strict=True):
            blocks.append((documents, _compared(query, matrix)))
    columns = [zip(*blocks, strict=True) for blocks in found]
    return [(np.concatenate(documents), np.concatenate(scores)) for documents, scores in columns]


def _vectors(
    reader: Reader, conditions: Selection
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    if reader.snapshot is not None:
        yield from _mapped_vectors(reader.snapshot, meeting(reader, reader.snapshot, conditions))
        return
    where, parameters = selection(conditions, reader.numbers)
    end = reader.one("SELECT max(document) + 1 FROM embeddings")
    for first in range(0, end, _VECTORS):
        span = {"first": first, "end": first + _VECTORS}
        block = f"{where} AND document >= $first AND document < $end"
        yield from _vectors_of(reader, block, {**parameters, **span})


def _mapped_vectors(
    snapshot: Snapshot, meets: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    places, features = snapshot.column("feature.places"), snapshot.features()
    for first in range(0, len(places), _VECTORS):
        some, matrix = places[first : first + _VECTORS], features[first : first + _VECTORS]
        if meets is not None:
            some, matrix = some[meets[some]], matrix[meets[some]]
        if len(some):
            yield some, matrix


def _vectors_of(
    reader: Reader, where: str, parameters: dict[str, Any]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    block = reader.connection.execute(
        f"SELECT document, embedding FROM embeddings {where}", parameters
    ).fetchnumpy()
    documents, vectors = np.asarray(block["document"], dtype=np.int64), block["embedding"]
    if np.ma.is_masked(vectors) or len({len(vector) for vector in vectors}) > 1:
        raise DamagedIndexError("deep features differ in length")
    if len(documents):
        yield documents, np.concatenate(vectors).reshape(len(documents), -1)


def _compared(query: Query, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    rows = max(1, _IN_CACHE // matrix.shape[1])
    parts = [query.compare(matrix[first : first + rows]) for first in range(0, len(matrix), rows)]
    return np.concatenate(parts).astype(np.float32)
