"""Going over many documents of the file: statistics, facets, and what a query matches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imgsearch_es.retrieval.conditions import METADATA
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.facets import (
    BOUNDS,
    FacetCount,
    Facets,
    most_frequent,
    not_empty,
    ranges,
)
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.embedded.rows import Reader
from imgsearch_es.stores.embedded.selecting import having, leaves, selection

_VALUES = {
    "label": "unnest(list_distinct(label))",
    "format": "format",
    "synsets": "unnest(terms)",
    "top_synset": "terms[1]",
}
_METADATA = f"unnest(list_distinct(ARRAY({leaves('counted')})))"


def statistics(reader: Reader, keys: Sequence[str]) -> Statistics:
    """Counts of documents and postings."""
    known = {reader.numbers[key]: key for key in keys if key in reader.numbers}
    ((count, length),) = reader.rows("SELECT count(*), coalesce(avg(length), 0) FROM documents")
    frequencies = reader.rows(
        "SELECT term, count(*) FROM postings "
        "JOIN (SELECT unnest($1)::SMALLINT AS term) USING (term) GROUP BY term",
        [list(known)],
    )
    return Statistics(count, to_score(length), {known[term]: n for term, n in frequencies})


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
    if query.is_dense or (query.fusion is not None and query.fusion.needs_features):
        return f"{where} AND {has_feature}", parameters
    shares = having([term.key for term in query.terms], numbers, parameters)
    if query.has_features:
        shares = f"({has_feature} OR {shares})"
    return f"{where} AND {shares}", parameters
