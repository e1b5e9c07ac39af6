"""What documents keep of their pictures beside the analysis, read again: no model runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import whole_of
from imgsearch_es.analysis.terms import colors_of
from imgsearch_es.errors import ImageError, ImgsearchError, MissingDependencyError
from imgsearch_es.indexing.reindexing import Convert
from imgsearch_es.indexing.thumbnails import with_thumbnails
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.pictures.images import photo_of
from imgsearch_es.pictures.photo import NO_PHOTO, Photo, kept
from imgsearch_es.retrieval.documents import Document

_THREADS = 4
"""Pictures that are decoded at once, as Pillow does beside other threads."""


def read_again(
    photo: str | None,
    side: int | None,
    analyzer: Callable[[], Analyzer] | None,
    convert: Convert | None,
    unread: dict[str, str],
) -> Convert:
    """Documents with what is to be kept of their pictures; None leaves what they have.

    Args:
        photo: what of how they were taken.
        side: the longer side of thumbnails.
        analyzer: by which colors are seen, where a document has none.
        convert: what follows.
        unread: gets by URI why a photo cannot be read again.
    """
    steps: list[Convert] = []
    if photo is not None:
        steps.append(partial(_with_photos, what=photo, unread=unread))
    if side is not None:
        steps.append(partial(with_thumbnails, side=side))
    if analyzer is not None:
        steps.append(partial(_with_colors, analyzer=cache(analyzer)))
    steps += [convert] if convert else []

    def again(documents: list[Document]) -> list[Document]:
        for step in steps:
            documents = step(documents)
        return documents

    return again


def _with_photos(documents: list[Document], what: str, unread: dict[str, str]) -> list[Document]:
    """Read again where the file is as it was; the others keep what they have."""

    def again(document: Document) -> Photo:
        try:
            return photo_of(document.uri, document.sha256)
        except ImageError as error:
            unread[document.uri] = error.reason
        except MissingDependencyError as error:  # of a URL
            unread[document.uri] = str(error)
        return document.photo

    if what == "nothing":
        return [replace(document, photo=NO_PHOTO) for document in documents]
    return [replace(document, photo=kept(again(document), what)) for document in documents]


def _with_colors(documents: list[Document], analyzer: Callable[[], Analyzer]) -> list[Document]:
    """Where they have none and the file is as it was."""

    def colored(document: Document) -> Document:
        if document.colors or not document.is_read or in_memory(document.uri):
            return document
        try:
            picture = analyzer().open(document.uri)
        except ImgsearchError:  # nor may an analyzer be here, whose index can still be copied
            return document
        if picture.sha256 != document.sha256:
            return document
        return replace(document, colors=colors_of(whole_of(analyzer().prepare(picture.image))))

    with ThreadPoolExecutor(_THREADS, "imgsearch-colors") as threads:
        return list(threads.map(colored, documents))
