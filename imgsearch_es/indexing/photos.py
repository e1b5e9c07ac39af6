"""What documents keep of their pictures beside terms, read again: EXIF and XMP, and colors."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.colors import colors_of
from imgsearch_es.analysis.views import whole_of
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.indexing.reindexing import Convert
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.pictures.images import photo_of
from imgsearch_es.pictures.photo import kept
from imgsearch_es.retrieval.documents import Document

_THREADS = 4
"""Pictures that are decoded at once, as Pillow does beside other threads."""


def with_photos(what: str, convert: Convert | None) -> Convert:
    """Documents with what is to be kept of their photos, read again where the file is as it was."""

    def again(documents: list[Document]) -> list[Document]:
        found = [
            replace(d, photo=kept(photo_of(d.uri, d.sha256) or d.photo, what)) for d in documents
        ]
        return convert(found) if convert else found

    return again


def with_colors(analyzer: Callable[[], Analyzer], convert: Convert | None) -> Convert:
    """Documents with colors, where they have none and the file is as it was; no model runs."""
    built = cache(analyzer)

    def colored(document: Document) -> Document:
        if document.colors or not document.is_read or in_memory(document.uri):
            return document
        try:
            picture = built().open(document.uri)
        except ImgsearchError:  # nor may an analyzer be here, whose index can still be copied
            return document
        if picture.sha256 != document.sha256:
            return document
        return replace(document, colors=colors_of(whole_of(built().prepare(picture.image))))

    def again(documents: list[Document]) -> list[Document]:
        with ThreadPoolExecutor(_THREADS, "imgsearch-colors") as threads:
            found = list(threads.map(colored, documents))
        return convert(found) if convert else found

    return again
