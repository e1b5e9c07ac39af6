"""How the server sends the documents of an answer: by one doc value each, or by ``_source``.

The field ``hit`` is all of a document but its embedding in one value. Reading it takes a fraction
of the time of finding, unpacking and filtering ``_source``. It is kept out of ``_source``, so a
document that others change in part or copy (Elasticsearch's ``_update``, ``_reindex``) loses it; an
answer with such a document is asked for again with sources. So no hit shows what its document was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from imgsearch_es.documents import Document

HIT = "hit"
WHOLE_INDEX: dict[str, Any] = {"allow_partial_search_results": False}
"""Of every search: an answer without what a shard holds would not be exact."""
NOT_FETCHED = ("posterior", "embedding", "direction", "words")
"""Parts of ``_source`` that no document needs: they follow from the others, or come as fields."""
WHOLE: dict[str, Any] = {"_source": {"excludes": list(NOT_FETCHED)}, "fields": ["embedding"]}
"""What to ask for to have the deep feature, too: as a field, because in ``_source`` servers differ,
and newer ones leave vectors out."""


def by_doc_values(body: Mapping[str, Any]) -> dict[str, Any]:
    """A request like ``body``, whose hits come by doc values and not by ``_source``.

    Deep features come as fields if they did before; then the server insists on stored fields.
    """
    sent = {**body, "_source": False, "docvalue_fields": [HIT]}
    return sent if "fields" in body else {**sent, "stored_fields": "_none_"}


def is_complete(answer: Mapping[str, Any]) -> bool:
    """Whether every hit of an answer has its document, one way or the other."""
    hits = answer["hits"]["hits"]
    return all("_source" in hit or HIT in hit.get("fields", ()) for hit in hits)


def document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit, without its embedding."""
    if "_source" in hit:
        return Document.from_source(hit["_source"])
    return Document.from_hit(hit["fields"][HIT][0])


def whole_document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit with its embedding, which comes as a field."""
    vector = hit.get("fields", {}).get("embedding")
    embedding = None if vector is None else np.asarray(vector, dtype=np.float32)
    return replace(document_of(hit), embedding=embedding)
