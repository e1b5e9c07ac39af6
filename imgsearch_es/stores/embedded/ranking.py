"""Formulas over the postings table: DuckDB finds the postings, NumPy adds them up.

For the lists of ten synsets, of 10,000 postings each, that takes half the time of a GROUP BY. Many
queries share one scan of the lists that any of them needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Context, Statistics
from imgsearch_es.stores.embedded.selecting import selection

_POSTINGS = """
SELECT term, document, score {lengths}
FROM postings JOIN (SELECT unnest($terms)::SMALLINT AS term) USING (term) {joined} {selection}
"""
_LENGTHS = ", length, norm", "JOIN (SELECT document, length, norm FROM documents) USING (document)"
_EXCLUDED = "SELECT id, document FROM documents JOIN (SELECT unnest($1) AS id) USING (id)"
_BLOCK = 512
"""Documents whose best score is looked at first when the best of all are looked for."""
_SPARSE = 16
"""A score for each document, matching or not, while these are at most so many for a posting."""

Scores = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Numbers of documents, and the score of each; 0 for those that do not match."""
Weighted = tuple[Query, Statistics]
"""A query whose synsets are weighted by its formula, and what that was based on."""


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of some terms: who has the term, and how much.

    Attributes:
        places: where each term's list begins and ends in the columns.
        columns: "document" and "score", and "length" and "norm" of the document where needed.
    """

    places: dict[int, slice]
    columns: dict[str, NDArray[Any]]

    def of(self, term: int, name: str) -> NDArray[Any]:
        """One column of a term's list."""
        return self.columns[name][self.places.get(term, slice(0))]


def all_scores(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> Scores:
    """Number and score of every document that has a synset of the query; of others maybe 0."""
    return many_scores(connection, [(query, statistics)], term_numbers)[0]


def many_scores(
    connection: duckdb.DuckDBPyConnection, queries: Sequence[Weighted], term_numbers: dict[str, int]
) -> list[Scores]:
    """``all_scores`` of each query, by one scan for all that have the same conditions."""
    found: dict[int, Scores] = {}
    for conditions, numbers in alike([query for query, _ in queries]):
        some = [queries[i] for i in numbers]
        lists = _read(connection, some, conditions, term_numbers)
        for i, (query, statistics) in zip(numbers, some, strict=True):
            found[i] = _add_up(lists, query, statistics, term_numbers)
    excluded = excluded_numbers(connection, [query for query, _ in queries])
    return [without(found[i], query, excluded) for i, (query, _) in enumerate(queries)]


def alike(queries: Sequence[Query]) -> list[tuple[Selection, list[int]]]:
    """The conditions that queries have, but for excluded ids, and which queries have them."""
    together: dict[tuple[Any, ...], list[int]] = {}
    for i, query in enumerate(queries):
        together.setdefault((query.filters, query.must, query.must_not), []).append(i)
    return [
        (Selection(filters=filters, must=must, must_not=must_not), numbers)
        for (filters, must, must_not), numbers in together.items()
    ]


def excluded_numbers(
    connection: duckdb.DuckDBPyConnection, queries: Sequence[Query]
) -> dict[str, int]:
    """The number of each document that any of the queries leaves out, by id."""
    ids = list(dict.fromkeys(key for query in queries for key in query.exclude))
    return dict(connection.execute(_EXCLUDED, [ids]).fetchall()) if ids else {}


def without(found: Scores, query: Query, excluded: Mapping[str, int]) -> Scores:
    """All but the documents that the query leaves out."""
    numbers = [excluded[key] for key in query.exclude if key in excluded]
    if not numbers:
        return found
    documents, scores = found
    kept = ~np.isin(documents, numbers)
    return documents[kept], scores[kept]


def best_places(scores: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Where the ``count`` highest scores above 0 are, and all that tie with the last of them.

    A block's best score is at most the block's; so at least ``count`` scores are no lower than the
    ``count``-th best of the blocks, and only those need be compared.
    """
    above = np.float32(0)
    if len(scores) > _BLOCK * count:
        blocks = np.maximum.reduceat(scores, np.arange(0, len(scores), _BLOCK))
        above = np.nextafter(np.partition(blocks, -count)[-count], np.float32(-1))
    places = np.flatnonzero(scores > max(above, np.float32(0)))
    if len(places) > count:
        least = np.partition(scores[places], -count)[-count]
        places = places[scores[places] >= least]
    return places


def best_of(found: Scores, count: int) -> dict[int, float]:
    """The ``count`` highest scores, 0 and less too, and all that tie with the last, by number."""
    documents, scores = found
    if len(scores) > count:
        kept = scores >= np.partition(scores, -count)[-count]
        documents, scores = documents[kept], scores[kept]
    return dict(zip(documents.tolist(), scores.tolist(), strict=True))


def sums(documents: NDArray[np.integer[Any]], summands: NDArray[np.float64]) -> Scores:
    """Document numbers and the sum of each one's summands; some may have the sum 0."""
    if not len(documents):
        return np.empty(0, np.int64), np.empty(0, np.float32)
    numbers = np.arange(int(documents.max()) + 1)
    if len(numbers) > _SPARSE * len(documents):
        numbers, documents = np.unique(documents, return_inverse=True)
    return numbers, np.bincount(documents, weights=summands).astype(np.float32)


def _read(
    connection: duckdb.DuckDBPyConnection,
    queries: Sequence[Weighted],
    conditions: Selection,
    term_numbers: dict[str, int],
) -> _Lists:
    """The lists of all terms of some queries, of documents that meet the conditions."""
    keys = dict.fromkeys(term.key for query, _ in queries for term in query.terms)
    parameters: dict[str, Any] = {
        "terms": [term_numbers[key] for key in keys if key in term_numbers]
    }
    needs_lengths = not all(query.formula.is_linear for query, _ in queries)
    lengths, joined = _LENGTHS if needs_lengths else ("", "")
    sql = _POSTINGS.format(
        lengths=lengths, joined=joined, selection=selection(conditions, term_numbers, parameters)
    )
    columns = {
        name: np.asarray(column)
        for name, column in connection.execute(sql, parameters).fetchnumpy().items()
    }
    terms = columns.pop("term")
    if (terms[1:] < terms[:-1]).any():  # written after the table was last clustered
        order = np.argsort(terms, kind="stable")
        terms = terms[order]
        columns = {name: column[order] for name, column in columns.items()}
    ends = [*(np.flatnonzero(terms[1:] != terms[:-1]) + 1).tolist(), len(terms)]
    begins = [0, *ends[:-1]]
    places = {int(terms[a]): slice(a, b) for a, b in zip(begins, ends, strict=True) if a < b}
    return _Lists(places, columns)


def _add_up(
    lists: _Lists, query: Query, statistics: Statistics, term_numbers: dict[str, int]
) -> Scores:
    """Products in double precision, added in the order of the query's terms."""
    formula = query.formula
    parameters = formula.with_defaults(query.parameters)
    documents, summands = [np.empty(0, np.int32)], [np.empty(0)]
    for term in query.terms:
        number = term_numbers.get(term.key, -1)
        scores = lists.of(number, "score").astype(np.float64)
        lengths = norms = scores  # not looked at
        if not formula.is_linear:
            lengths, norms = lists.of(number, "length"), lists.of(number, "norm")
        context = Context(lengths, norms, statistics.average_length, parameters)
        documents.append(lists.of(number, "document"))
        summands.append(np.asarray(formula.summand(term.score, scores, context)))
    return sums(np.concatenate(documents), np.concatenate(summands))
