"""What queries find in the file: hits, all that match, and counts of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.documents import Document, to_score
from imgsearch_es.retrieval.facets import (
    BOUNDS,
    FacetCount,
    Facets,
    most_frequent,
    not_empty,
    ranges,
)
from imgsearch_es.retrieval.fusion import PartScore, summed
from imgsearch_es.retrieval.queries import Query, Selection, part_queries
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import Scored, SearchResult, best_first
from imgsearch_es.stores.embedded.nearest import BOUNDED, nearest
from imgsearch_es.stores.embedded.ranking import (
    Scores,
    Weighted,
    best_places,
    check_numbers,
    least_score,
    many_scores,
    meeting,
)
from imgsearch_es.stores.embedded.rows import Reader, to_document
from imgsearch_es.stores.embedded.selecting import having, having_words, leaves, selection

_FEW = 100
"""Documents of a query that may be read though they are no hits in the end."""
_BY_NUMBER = (
    "SELECT document, {} "
    "FROM documents JOIN (SELECT unnest($1)::INTEGER AS document) USING (document)"
)
_VALUES = {
    "label": "unnest(list_distinct(label))",
    "format": "format",
    "synsets": "unnest(terms)",
    "top_synset": "terms[1]",
}
_METADATA = f"unnest(list_distinct(ARRAY({leaves('counted')})))"


@dataclass(slots=True)
class _Best:
    """The best offset + k documents of a query by number, and all that tie with the last of them.

    ``total`` is how many match; ``parts`` of a fused query what each part adds to these scores.
    """

    scores: dict[int, float]
    total: int
    parts: dict[int, tuple[PartScore, ...]]


def search(reader: Reader, queries: Sequence[Weighted]) -> list[SearchResult]:
    """Answer queries together: one scan of what several of them need."""
    started = time.perf_counter()
    near = _nearest(reader, [query for query, _ in queries])
    single = [item for i, item in enumerate(queries) if i not in near and item[0].fusion is None]
    scores, found = iter(many_scores(reader, single)), []
    for i, (query, statistics) in enumerate(queries):
        if i in near:
            best = near[i]
        elif query.fusion is None:
            best = _best(query, next(scores), least_score(query))
        else:
            best = _fused(reader, query, statistics)
        if len(best.scores) > query.k + _FEW:
            _keep_page(reader, query, best)
        found.append(best)
    numbers = list(dict.fromkeys(number for best in found for number in best.scores))
    documents = _documents(reader, numbers)
    if len(documents) < len(numbers):
        missing = len(numbers) - len(documents)
        raise DamagedIndexError(f"it has postings of {missing} documents that are not there")
    took = (time.perf_counter() - started) * 1000 / len(queries)
    return [
        result(query, statistics, _page(query, best, documents), best.total, took)
        for (query, statistics), best in zip(queries, found, strict=True)
    ]


def _documents(reader: Reader, numbers: Sequence[int]) -> dict[int, Document]:
    """Documents by number, without deep features."""
    if reader.snapshot is None:
        rows = reader.rows(_BY_NUMBER.format(reader.columns), [numbers])
        return {row[0]: to_document(row[1:], reader.keys) for row in rows}
    return {place: to_document(reader.snapshot.row(place), reader.keys) for place in numbers}


def ranked(
    reader: Reader, query: Query, statistics: Statistics
) -> tuple[Sequence[str], Sequence[float]]:
    """Ids and scores of all hits of a query (weighted already): best first, ties by id."""
    ((documents, scores),) = many_scores(reader, [(query, statistics)])
    is_hit = scores >= least_score(query)
    if reader.snapshot is not None:
        order = np.lexsort((documents[is_hit], -scores[is_hit]))
        best = documents[is_hit][order].tolist()
        return [reader.snapshot.id(place) for place in best], scores[is_hit][order].tolist()
    reader.connection.register("found", {"document": documents[is_hit], "score": scores[is_hit]})
    ordered = reader.connection.execute(
        "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
    ).fetchnumpy()
    reader.connection.unregister("found")
    return ordered["id"].tolist(), ordered["score"].tolist()


def result(
    query: Query, statistics: Statistics, hits: tuple[Scored, ...], total: int, took_ms: float
) -> SearchResult:
    """The exact answer to a query."""
    strategy, means = query.strategy, "every vector was compared"
    is_near = bool(query.candidates and query.visual_words)
    if query.fusion is not None:
        strategy, means = query.fusion.method, "every posting and vector of the parts was scored"
    elif not query.is_dense:
        strategy, means = "postings", "every posting of the query's synsets was added up"
    elif query.by_words:
        means = "every posting of the query's visual words was added up"
    elif is_near:
        means = (
            f"of {total} pictures that share most by visual words the best were found exactly; "
            "nearer ones may be missing"
        )
    elif query.candidates:
        means += ": a file without visual words has no approximate answers"
    return SearchResult(
        hits=hits,
        total=total,
        total_is_exact=not is_near,
        terms=query.terms,
        average_length=statistics.average_length,
        strategy=strategy,
        exact=not is_near,
        means=means,
        took_ms=took_ms,
        part_terms=tuple(part.terms for part in query.parts),
    )


def statistics(reader: Reader, keys: Sequence[str]) -> Statistics:
    """Counts of documents and postings."""
    if (snapshot := reader.snapshot) is not None:
        lists = {key: snapshot.list_of("postings", reader.numbers.get(key, -1)) for key in keys}
        counts = {key: len(found) for key, (found, _) in lists.items() if len(found)}
        return Statistics(len(snapshot), to_score(snapshot.average_length), counts)
    keyed = {reader.numbers[key]: key for key in keys if key in reader.numbers}
    ((count, length),) = reader.rows("SELECT count(*), coalesce(avg(length), 0) FROM documents")
    frequencies = reader.rows(
        "SELECT term, count(*) FROM postings "
        "JOIN (SELECT unnest($1)::INTEGER AS term) USING (term) GROUP BY term",
        [list(keyed)],
    )
    return Statistics(count, to_score(length), {keyed[term]: n for term, n in frequencies})


def figures(reader: Reader, size: int) -> dict[str, Any]:
    """How many documents and postings there are in so many bytes, and the most frequent synsets."""
    top = reader.rows(
        "SELECT synset, count(*) AS documents, avg(score) FROM postings "
        "JOIN terms USING (term) GROUP BY synset ORDER BY documents DESC, synset LIMIT 10"
    )
    labels = facets(reader, Selection(), ["label"], 10)["label"]
    return {
        "documents": reader.one("SELECT count(*) FROM documents"),
        "postings": reader.one("SELECT count(*) FROM postings"),
        "bytes": size,
        "synsets": [{"synset": key, "documents": n, "mean_score": mean} for key, n, mean in top],
        "labels": [{"label": item["value"], "documents": item["count"]} for item in labels],
    }


def facets(reader: Reader, query: Selection, fields: Sequence[str], size: int) -> Facets:
    """Count values and ranges of the documents that a query matches, or of all."""
    where, parameters = _matching(query, reader.numbers)
    counted: Facets = {}
    for field in fields:
        if field in BOUNDS:
            counted[field] = _ranges(reader, field, where, parameters)
            continue
        name = {} if field in _VALUES else {"counted": field.removeprefix(METADATA)}
        rows = reader.rows(
            f"SELECT value, count(*) FROM (SELECT {_VALUES.get(field, _METADATA)} AS value "
            f"FROM documents {where}) WHERE value IS NOT NULL GROUP BY value",
            {**parameters, **name},
        )
        if field in ("synsets", "top_synset"):
            rows = [(reader.keys[number], count) for number, count in rows]
        counted[field] = most_frequent(rows, size)
    return counted


def matching(reader: Reader, query: Query) -> list[str]:
    """The ids of all documents that a query matches."""
    where, parameters = _matching(query, reader.numbers)
    rows = reader.rows(f"SELECT id FROM documents {where} ORDER BY id", parameters)
    return [key for (key,) in rows]


def _best(query: Query, found: Scores, least: np.float32) -> _Best:
    documents, scores = found
    best = best_places(scores, query.offset + query.k, least)
    chosen = zip(documents[best].tolist(), scores[best].tolist(), strict=True)
    return _Best(dict(chosen), int(np.count_nonzero(scores >= least)), {})


def _nearest(reader: Reader, queries: Sequence[Query]) -> dict[int, _Best]:
    """The best by deep features, of those queries for which not all scores need be known."""
    found: dict[int, _Best] = {}
    if reader.snapshot is None:
        return found
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, query in enumerate(queries):
        in_words = query.candidates and query.visual_words
        if query.fusion is None and query.strategy in BOUNDED and not in_words:
            alike = query.filters, query.exclude
            groups.setdefault(alike, []).append(i)
    for places in groups.values():
        asked = [queries[i] for i in places]
        answers = nearest(reader.snapshot, asked, meeting(reader, reader.snapshot, asked[0]))
        for i, query, (documents, scores, total) in zip(places, asked, answers, strict=True):
            check_numbers(scores)
            best = _best(query, (documents, scores), least_score(query))
            found[i] = _Best(best.scores, total, {})
    return found


def _fused(reader: Reader, query: Query, statistics: Statistics) -> _Best:
    """Score by every part, and add what each gives a document, by its number."""
    queries = part_queries(query)
    found = many_scores(reader, [(part, statistics) for part in queries])
    count = max((int(documents.max()) + 1 for documents, _ in found if len(documents)), default=0)
    scores = np.full((len(found), count), np.nan, np.float32)  # NaN: the document lacks the part
    for row, single, (documents, values) in zip(scores, queries, found, strict=True):
        has = values >= least_score(single)
        row[documents[has]] = values[has]
    sums = np.zeros(count)
    for part, row in zip(query.parts, scores, strict=True):
        sums += part.weight * np.nan_to_num(row.astype(np.float64))
    needs_features = query.fusion is not None and query.fusion.needs_features
    needed = scores[[part.is_dense for part in query.parts]] if needs_features else scores
    hits = np.flatnonzero(~np.isnan(needed).all(axis=0))
    best = _best(query, (hits, sums.astype(np.float32)[hits]), np.float32(-np.inf))
    for number in best.scores:
        column = [None if np.isnan(score) else float(score) for score in scores[:, number]]
        best.parts[number] = summed(query.parts, column)
    return best


def _keep_page(reader: Reader, query: Query, best: _Best) -> None:
    """Of many that tie keep those that come first by their ids; no others need be read."""
    if reader.snapshot is None:
        ids = reader.rows(_BY_NUMBER.format("id"), [list(best.scores)])
    else:
        ids = [(place, place) for place in best.scores]  # which are in the order of the ids
    ids.sort(key=lambda item: (-best.scores[item[0]], item[1]))
    best.scores = {number: best.scores[number] for number, _ in ids[: query.offset + query.k]}


def _page(query: Query, best: _Best, documents: Mapping[int, Document]) -> tuple[Scored, ...]:
    hits = best_first(
        Scored(documents[number], score, best.parts.get(number, ()))
        for number, score in best.scores.items()
    )
    return tuple(hits[query.offset : query.offset + query.k])


def _ranges(reader: Reader, field: str, where: str, parameters: dict[str, Any]) -> list[FacetCount]:
    wanted = ranges(field)
    conditions = [
        f"count(*) FILTER (WHERE {field} >= {item.low or 0}"
        + (f" AND {field} < {item.high})" if item.high is not None else ")")
        for item in wanted
    ]
    (row,) = reader.rows(f"SELECT {', '.join(conditions)} FROM documents {where}", parameters)
    return not_empty((item.value, count) for item, count in zip(wanted, row, strict=True))


def _matching(query: Selection, numbers: dict[str, int]) -> tuple[str, dict[str, Any]]:
    """The documents that a query matches, as a WHERE clause and its parameters."""
    where, parameters = selection(query, numbers)
    if not isinstance(query, Query):
        return where, parameters
    has_feature = "document IN (SELECT document FROM embeddings)"
    if query.fusion is not None and query.fusion.needs_features:
        return f"{where} AND {has_feature}", parameters
    ways = [has_feature] if query.compares_all else []
    if query.by_words:
        ways.append(having_words(query, parameters))
    if not query.is_dense:
        ways.append(having([term.key for term in query.terms], numbers, parameters))
    return f"{where} AND ({' OR '.join(ways)})", parameters
