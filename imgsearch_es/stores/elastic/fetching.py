"""How the server sends the documents of an answer: by one doc value each, or by ``_source``.

Deep features travel as bytes, in base64, where the server can do that: as decimal numbers they take
most of the time of an answer, and of a bulk request. The field ``hit`` is all of a document but its
embedding in one value, which is quicker to read than ``_source``. It is kept out of ``_source``, so
a document that others change in part or copy (``_update``, ``_reindex``) loses it; an answer with
such a document is asked for again with sources. So no hit shows what its document was.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import elasticsearch
import numpy as np
from elastic_transport import ObjectApiResponse
from elasticsearch import Elasticsearch
from numpy.typing import NDArray

from imgsearch_es.analysis.visual_words import word_key, words_of
from imgsearch_es.errors import DamagedIndexError, IndexRebuiltError, StoreError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import Scored, SearchResult
from imgsearch_es.stores.elastic.connection import Version

HIT = "hit"
_VECTORS_AS_BYTES: Version = (9, 4)
"""Since when a dense_vector may be sent as base64, both ways."""
WHOLE_INDEX: dict[str, Any] = {"allow_partial_search_results": False}
"""Of every search: an answer without what a shard holds would not be exact."""
NOT_FETCHED = ("posterior", "embedding", "direction", "words", "visual_words")
"""Parts of ``_source`` that no document needs: they follow from the others, or come as fields."""
SOURCE: dict[str, Any] = {"_source": {"excludes": list(NOT_FETCHED)}}
WHOLE: dict[str, Any] = {**SOURCE, "fields": ["embedding"]}
"""What to ask for to have the deep feature, too: as a field, because in ``_source`` servers differ,
and newer ones leave vectors out."""


def all_answers(
    client: Elasticsearch, index: str, body: dict[str, Any], keep_alive: str
) -> Generator[ObjectApiResponse[Any], None, None]:
    """Answers with all hits, ``body["size"]`` at a time, as the index is at the first.

    Raises:
        IndexRebuiltError: the index is no longer there.
        StoreError: an answer was asked for so late that the server no longer has that view.
    """
    try:
        view = client.open_point_in_time(index=index, keep_alive=keep_alive)["id"]
    except elasticsearch.NotFoundError as error:
        raise IndexRebuiltError(f"{index} was rebuilt or removed just now: search again") from error
    try:
        while True:
            body["pit"] = {"id": view, "keep_alive": keep_alive}
            answer = client.search(body=body, **WHOLE_INDEX)
            view, hits = answer["pit_id"], answer["hits"]["hits"]
            yield answer
            if len(hits) < body["size"]:
                return
            body |= {"search_after": hits[-1]["sort"], "track_total_hits": False}
    except elasticsearch.NotFoundError as error:
        raise StoreError(
            f"{index}: the server keeps what pages are read from for {keep_alive} after each "
            "page, and this one came later (or the index was removed): search again"
        ) from error
    finally:
        with suppress(elasticsearch.TransportError):  # the index was closed; it ends by itself
            client.options(ignore_status=404).close_point_in_time(id=view)


def by_doc_values(body: Mapping[str, Any], version: Version) -> dict[str, Any]:
    """A request like ``body``, whose hits come by doc values and not by ``_source``.

    So do deep features, if ``body`` asks for them, from servers that send them as bytes.
    """
    sent = {**body, "_source": False, "stored_fields": "_none_", "docvalue_fields": [HIT]}
    if "fields" in sent:
        if version >= _VECTORS_AS_BYTES:
            del sent["fields"]
            sent["docvalue_fields"] = [HIT, {"field": "embedding", "format": "binary"}]
        else:
            del sent["stored_fields"]  # whoever asks for fields may not do without
    return sent


def is_complete(answer: Mapping[str, Any]) -> bool:
    """Whether every hit of an answer has its document, one way or the other."""
    hits = answer["hits"]["hits"]
    return all("_source" in hit or HIT in hit.get("fields", ()) for hit in hits)


def result(
    query: Query,
    statistics: Statistics,
    answer: Mapping[str, Any],
    hits: Sequence[Scored],
    **facts: Any,
) -> SearchResult:
    """The result that an answer holds, by ``facts`` about it and what is true of all results."""
    strategy = "impact" if query.strategy == "auto" else query.strategy
    return SearchResult(
        hits=tuple(hits),
        terms=query.terms,
        average_length=statistics.average_length,
        strategy=strategy if query.fusion is None else query.fusion.method,
        took_ms=answer["took"],
        **facts,
    )


def document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit, without its embedding.

    Raises:
        DamagedIndexError: what the server holds of it is none.
    """
    with _reading(hit):
        if "_source" in hit:
            return Document.from_source(hit["_source"])
        return Document.from_hit(hit["fields"][HIT][0])


def terms_of(hit: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """The id of a hit's document, and the scores of its terms by key; raises the same."""
    with _reading(hit):
        if "_source" in hit:
            document = Document.from_source(hit["_source"])
            return document.id, {term.key: term.score for term in document.terms}
        return Document.terms_of_hit(hit["fields"][HIT][0])


@contextmanager
def _reading(hit: Mapping[str, Any]) -> Iterator[None]:
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise _harmed(hit, "cannot be read") from error


def whole_document_of(hit: Mapping[str, Any]) -> Document:
    """The document of a hit with its embedding.

    Raises:
        DamagedIndexError: it is none, or not the one that was written.
    """
    document = replace(document_of(hit), embedding=embedding_of(hit))
    if hit.get("_source", {}).get("checksum") not in (None, document.checksum):
        raise _harmed(hit, "is not as it was written")
    return document


def _harmed(hit: Mapping[str, Any], what: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"{hit['_index']} is harmed inside: the document {hit['_id']} {what}; "
        "`imgsearch verify` says what is wrong and what to do"
    )


def sent_vector(vector: NDArray[np.float32], version: Version) -> object:
    """A deep feature as it is sent to a server to be indexed: text, or a list of numbers."""
    if version < _VECTORS_AS_BYTES:
        return vector.tolist()
    return base64.b64encode(vector.astype(">f4").tobytes()).decode("ascii")


def sent_words(vector: NDArray[np.float32], count: int) -> dict[str, float]:
    """The visual words of a deep feature as they are sent: weights by the names of the words."""
    return {word_key(word): weight for word, weight in words_of(vector, count)}


def embedding_of(hit: Mapping[str, Any]) -> NDArray[np.float32] | None:
    """The deep feature of a hit: bytes, the highest of each number first, or a list of numbers."""
    value = hit.get("fields", {}).get("embedding")
    if value is None:
        return None
    if isinstance(value[0], str):
        return np.frombuffer(base64.b64decode(value[0]), dtype=">f4").astype(np.float32)
    return np.asarray(value, dtype=np.float32)
