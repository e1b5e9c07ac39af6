"""Looking for harm on Elasticsearch: sources, doc values and posting lists that do not agree.

``posterior`` keeps nine significant bits of each weight, so it is compared as exactly as that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch

from imgsearch_es.retrieval.dense import direction
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.clauses import VISUAL_WORDS
from imgsearch_es.stores.elastic.connection import Version
from imgsearch_es.stores.elastic.fetching import (
    HIT,
    NOT_FETCHED,
    WHOLE_INDEX,
    by_doc_values,
    embedding_of,
    sent_words,
)
from imgsearch_es.stores.inspecting import DIFFERS, Harm, Inspected, inspected

_TRUNCATION = 1 + 2.0**-8
"""A weight is less than what is kept of it times this."""
_DOC_VALUES = (
    "id", "filename", "uri", "sha256", "width", "height", "bytes", "format", "label", "synsets",
    "top_synset", "top_score", "length", "norm", "camera", "lens", "caption", "keywords",
)  # fmt: skip
"""Fields that searches read by their doc values."""
_COUNTED = 100
"""Synsets counted in one request."""


def body(version: Version) -> dict[str, Any]:
    """What to ask for of each document: all that is kept of it."""
    wanted = by_doc_values({"fields": ["embedding"]}, version)
    wanted.pop("stored_fields", None)
    wanted["docvalue_fields"] = [*wanted["docvalue_fields"], *_DOC_VALUES]
    wanted["fields"] = [*wanted.get("fields", ()), "posterior", "direction", VISUAL_WORDS]
    unsent = [name for name in NOT_FETCHED if name != "words"]
    return {**wanted, "_source": {"excludes": unsent}}


def inspect_hit(hit: Mapping[str, Any], settings: IndexSettings) -> Inspected:
    """Compare all that came of a document."""
    source, fields = hit["_source"], hit.get("fields", {})
    vector, made = embedding_of(hit), []
    primary: Document | None = None
    try:
        found = replace(Document.from_source(source), embedding=vector)
        right = found.to_source(
            settings.vocabulary, lambda vector: None, synset_fields=settings.synset_fields
        )
    except (AttributeError, LookupError, TypeError, ValueError):
        own = [("document", "it cannot be read")]
    else:
        primary, made = found, [*_made_harms(found, right, fields, settings.visual_words)]
        ignored = {HIT, *NOT_FETCHED} - {"words"} | ({"checksum"} - source.keys())
        names = (right.keys() | source.keys()) - ignored
        own = [(n, DIFFERS) for n in sorted(names) if source.get(n) != right.get(n)]
    if hit["_id"] != source.get("id"):
        own.append(("id", "the document has another one"))
    return inspected(
        hit["_id"],
        source.get("uri"),
        source.get("checksum"),
        primary,
        own=own,
        made=made,
        others=[lambda: replace(Document.from_hit(fields[HIT][0]), embedding=vector)],
        has_features=settings.embedding_dimensions > 0,
    )


def _made_harms(
    document: Document, right: Mapping[str, Any], fields: Mapping[str, Any], words: int
) -> Iterator[tuple[str, str]]:
    """What searches read of a document and is not as the document says."""
    if fields.get(HIT) != [right[HIT]]:
        yield HIT, DIFFERS if HIT in fields else "it is missing"
    sparse = {"posterior": right["posterior"]}
    if words:
        vector = document.embedding
        sparse[VISUAL_WORDS] = {} if vector is None else sent_words(vector, words)
    for name, weights in sparse.items():
        kept = fields.get(name, [{}])[0]
        if kept.keys() != weights.keys() or not all(
            np.float32(kept[key]) <= score < kept[key] * _TRUNCATION * (1 + 1e-6)
            for key, score in weights.items()
        ):
            yield name, DIFFERS
    for name in _DOC_VALUES:
        value = right.get(name, [])
        if set(fields.get(name, ())) != set(value if isinstance(value, list) else [value]):
            yield name, "its doc values are not what the document says"
    if "direction" in fields and document.embedding is not None:
        wanted = direction(document.embedding)
        if not np.allclose(np.asarray(fields["direction"], np.float32), wanted, atol=1e-5):
            yield "direction", DIFFERS


def glance(client: Elasticsearch, index: str, settings: IndexSettings) -> list[Harm]:
    """What is wrong with the posting lists as a whole: two or three counts of each must agree."""
    harms, keys = [], settings.vocabulary.keys
    for start in range(0, len(keys), _COUNTED):
        part = list(keys[start : start + _COUNTED])
        aggs: dict[str, Any] = {}
        for i, key in enumerate(part):
            one = {"field": "posterior", "query_vector": {key: 1.0}}
            aggs[f"{i}weights"] = {"filter": {"sparse_vector": one}}
            aggs[f"{i}names"] = {"filter": {"term": {"synsets": key}}}
            if settings.synset_fields:
                aggs[f"{i}scores"] = {"value_count": {"field": f"synset.{key}.score"}}
        answer = client.search(index=index, size=0, aggs=aggs, **WHOLE_INDEX)["aggregations"]
        for i, key in enumerate(part):
            weights, names = (answer[f"{i}{name}"]["doc_count"] for name in ("weights", "names"))
            scores = answer.get(f"{i}scores", {"value": names})["value"]
            if not weights == names == scores:
                what = f"{key}: {weights:,} weights, {names:,} names, {scores:,} scores"
                harms.append(Harm("posterior", what))
    lacking = client.count(index=index, query={"bool": {"must_not": {"exists": {"field": HIT}}}})
    if lacking["count"]:
        harms.append(Harm(HIT, f"{lacking['count']:,} documents have none"))
    return harms
