"""Looking for harm on Elasticsearch: sources, doc values and posting lists that do not agree.

``posterior`` keeps nine significant bits of each weight, so it is compared as exactly as that. A
lean index does not give it back: there each posting list is compared with the scores beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from numpy.typing import NDArray

from imgsearch_es.retrieval.conditions import DATE_FIELDS, keyword
from imgsearch_es.retrieval.dense import direction
from imgsearch_es.retrieval.documents import Document, facts_of
from imgsearch_es.retrieval.spans import text_of
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.clauses import VISUAL_WORDS, sharing
from imgsearch_es.stores.elastic.connection import Version
from imgsearch_es.stores.elastic.fetching import (
    AS_BYTES,
    HIT,
    IMPACTS,
    KINDS,
    NOT_FETCHED,
    SOURCE,
    WHOLE_INDEX,
    by_doc_values,
    embedding_of,
    impacts_of,
    sent_words,
    shown_by,
)
from imgsearch_es.stores.inspecting import DIFFERS, Harm, Inspected, inspected

_TRUNCATION = 1 + 2.0**-8
"""A weight is less than what is kept of it times this."""
_DOC_VALUES = (
    "id", "filename", "uri", "sha256", "width", "height", "bytes", "format", "label", "synsets",
    "colors", "top_synset", "top_score", "length", "norm", "camera", "lens", "caption", "keywords",
    KINDS, *DATE_FIELDS, "place", "metadata", "ordered",
)  # fmt: skip
"""Fields that searches read by their doc values; those of the last two have no names."""
_COUNTED = 100
"""Synsets counted in one request."""


def body(whole: Mapping[str, Any], version: Version, *, lean: bool) -> dict[str, Any]:
    """What to ask for of each document: all that is kept of it, beside what ``whole`` asks for."""
    wanted = by_doc_values(whole, version, lean=lean)
    wanted.pop("stored_fields", None)
    wanted["seq_no_primary_term"] = True
    wanted["docvalue_fields"] += _DOC_VALUES
    if version >= AS_BYTES:
        wanted["docvalue_fields"].append({"field": "direction", "format": "binary"})
    if lean:
        return wanted
    asked = ["posterior", f"{IMPACTS}.*", VISUAL_WORDS]
    asked += () if version >= AS_BYTES else ("direction",)
    return {**wanted, **SOURCE, "fields": [*wanted.get("fields", ()), *asked]}


def inspect_hit(
    hit: Mapping[str, Any],
    settings: IndexSettings,
    impacts: Sequence[str],
    *,
    lean: bool,
    lacks: Set[str],
) -> Inspected:
    """Compare all that came of a document, which is in its source, or in ``hit`` if it is lean.

    ``lacks`` names the fields that the index, an old one, does not have.
    """
    written, fields = hit.get("_source", {}), hit.get("fields", {})
    vector, made = None, []
    primary: Document | None = None
    try:
        vector = embedding_of(hit)
        if lean:
            written, found = facts_of(fields[HIT][0]), Document.from_hit(fields[HIT][0])
        else:
            found = Document.from_source(written)
        found = replace(found, embedding=vector)
        right = found.to_source(
            settings.vocabulary,
            lambda vector: None,
            synset_fields=settings.synset_fields,
            lean=lean,
        )
        right |= shown_by(settings.vocabulary).fields(found, lean=lean)
        right = {name: right[name] for name in right.keys() - lacks}
        wanted = facts_of(right[HIT]) if lean else right
    except (AttributeError, LookupError, TypeError, ValueError):
        own = [("document", "it cannot be read")]
    else:
        primary, made = found, [*_doc_value_harms(right, fields)]
        if not lean:
            kept = impacts_of(found, impacts)
            sparse = {f"{IMPACTS}.{name}": weights for name, weights in kept.items()}
            sparse["posterior"] = right["posterior"]
            if settings.visual_words:
                words = {} if vector is None else sent_words(vector, settings.visual_words)
                sparse[VISUAL_WORDS] = words
            made += _made_harms(right, fields, sparse)
        to = embedding_of(hit, "direction")
        if to is not None and vector is not None and not _is_direction(to, vector):
            made.append(("direction", DIFFERS))
        ignored = {HIT, *NOT_FETCHED, *lacks} | ({"checksum"} - written.keys())
        names = (wanted.keys() | written.keys()) - ignored
        own = [(n, DIFFERS) for n in sorted(names) if written.get(n) != wanted.get(n)]
    own += [("id", "the document has another one")] if hit["_id"] != written.get("id") else []
    return inspected(
        hit["_id"],
        written.get("uri") or fields.get("uri", [""])[0],
        written.get("checksum"),
        primary,
        own=own,
        made=made,
        others=[lambda: _of_hit(fields[HIT][0], vector, written.get("thumbnail", ""))],
        has_features=settings.embedding_dimensions > 0,
    )


def _made_harms(
    right: Mapping[str, Any],
    fields: Mapping[str, Any],
    sparse: Mapping[str, Mapping[str, float]],
) -> Iterator[tuple[str, str]]:
    """What searches read of a document and is not as the document says."""
    if HIT not in fields:
        yield HIT, "it is missing"
    elif not _is_hit(fields[HIT][0], right[HIT]):
        yield HIT, DIFFERS
    for name, weights in sparse.items():
        kept = fields.get(name, [{}])[0]
        if kept.keys() != weights.keys() or not all(
            np.float32(kept[key]) <= score < kept[key] * _TRUNCATION * (1 + 1e-6)
            for key, score in weights.items()
        ):
            yield name, DIFFERS


def _of_hit(hit: str, vector: NDArray[np.float32] | None, thumbnail: str) -> Document:
    return replace(Document.from_hit(hit), embedding=vector, thumbnail=thumbnail)


def _is_hit(kept: str, right: str) -> bool:
    """Whether it says the same; an older one is not packed, and has no checksum."""
    try:
        facts = facts_of(kept)
    except (AttributeError, LookupError, TypeError, ValueError):
        return False
    wanted = facts_of(right)
    return {"checksum": wanted["checksum"], **facts} == wanted


def _is_direction(kept: NDArray[np.float32], vector: NDArray[np.float32]) -> bool:
    return np.allclose(kept, direction(vector), atol=1e-5)


def _doc_value_harms(
    right: Mapping[str, Any], fields: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    for name in _DOC_VALUES:
        found, value = fields.get(name, []), right.get(name, [])
        if not (_is_place(found, value) if name == "place" else set(found) == _sent(name, value)):
            yield name, "its doc values are not what the document says"


def _sent(name: str, value: Any) -> set[Any]:
    """The doc values that the server has of the value of a field."""
    if name in DATE_FIELDS and value:
        moment = datetime.fromisoformat(text_of(datetime.fromisoformat(value)))
        return {f"{moment.isoformat(timespec='milliseconds')}Z"}
    if isinstance(value, dict):
        return set().union(*(_sent("", item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_sent("", item) for item in value))
    return set() if value is None else {keyword(value) if name == "" else value}


def _is_place(found: Sequence[str], value: Any) -> bool:
    if not (found and value):
        return not found and not value
    one = [float(part) for part in found[0].split(",")]
    return len(found) == 1 and np.allclose(one, [value["lat"], value["lon"]], rtol=0, atol=1e-6)


def glance(
    client: Elasticsearch,
    index: str,
    settings: IndexSettings,
    impacts: Sequence[str],
    *,
    lean: bool,
) -> list[Harm]:
    """What is wrong with the posting lists as a whole: the counts of each must agree."""
    harms, keys = [], settings.vocabulary.keys
    fields = ["posterior", *(f"{IMPACTS}.{name}" for name in impacts)]
    for start in range(0, len(keys), _COUNTED):
        part = list(keys[start : start + _COUNTED])
        aggs: dict[str, Any] = {}
        for i, key in enumerate(part):
            for field in fields:
                aggs[f"{i}{field}"] = {"filter": _weight(key, field)}
            aggs[f"{i}names"] = {"filter": sharing([key])}
            if settings.synset_fields:
                aggs[f"{i}scores"] = {"value_count": {"field": f"synset.{key}.score"}}
                if lean:
                    aggs[f"{i}wrong"] = {"filter": _wrong_weight(key)}
        answer = client.search(index=index, size=0, aggs=aggs, **WHOLE_INDEX)["aggregations"]
        for i, key in enumerate(part):
            names = answer[f"{i}names"]["doc_count"]
            scores = answer.get(f"{i}scores", {"value": names})["value"]
            for field in fields:
                weights = answer[f"{i}{field}"]["doc_count"]
                if not weights == names == scores:
                    what = f"{key}: {weights:,} weights, {names:,} names, {scores:,} scores"
                    harms.append(Harm(field, what))
            if wrong := answer.get(f"{i}wrong", {"doc_count": 0})["doc_count"]:
                harms.append(Harm("posterior", f"{key}: {wrong:,} weights are not the score"))
    lacking = {"bool": {"must_not": {"exists": {"field": HIT}}}}
    asked: dict[str, Any] = {"query": lacking, "size": 0, "track_total_hits": True}
    if count := client.search(index=index, **asked, **WHOLE_INDEX)["hits"]["total"]["value"]:
        harms.append(Harm(HIT, f"{count:,} documents have none"))
    return harms


def wrong_weights(settings: IndexSettings, impacts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Queries for the documents of a lean index with a weight that is not the score.

    Of impacts: for those that have a weight and no such synset, or the other way round.
    """
    keys = settings.vocabulary.keys if settings.synset_fields else ()
    for start in range(0, len(keys), _COUNTED):
        part = keys[start : start + _COUNTED]
        yield {"bool": {"should": [_wrong_weight(key) for key in part]}}
        for field in ("posterior", *(f"{IMPACTS}.{name}" for name in impacts)):
            yield {"bool": {"should": [_one_of_two(key, field) for key in part]}}


def _one_of_two(key: str, field: str) -> dict[str, Any]:
    one, other = sharing([key]), _weight(key, field)
    ways = [{"bool": {"filter": [a], "must_not": [b]}} for a, b in ((one, other), (other, one))]
    return {"bool": {"should": ways}}


def _weight(key: str, field: str = "posterior") -> dict[str, Any]:
    return {"sparse_vector": {"field": field, "query_vector": {key: 1.0}}}


def _wrong_weight(key: str) -> dict[str, Any]:
    """What has a weight, and not within the bits that are kept of the score beside it."""
    right = {"bool": {"filter": [_by_score(key, 1 / _TRUNCATION)]}}
    right["bool"]["must_not"] = [_by_score(key, 1 + 2e-6)]
    return {"bool": {"filter": [_weight(key)], "must_not": [right]}}


def _by_score(key: str, least: float) -> dict[str, Any]:
    """Documents whose weight, divided by their score, is at least so much."""
    by_score = {"field": f"synset.{key}.score", "modifier": "reciprocal", "missing": 1e-30}
    return {
        "function_score": {
            "query": _weight(key),
            "functions": [{"field_value_factor": by_score}],
            "boost_mode": "multiply",
            "min_score": least * (1 - 1e-6),
        }
    }
