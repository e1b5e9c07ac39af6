"""What documents keep of how their pictures were taken, read again."""

from __future__ import annotations

from dataclasses import replace

from imgsearch_es.errors import ImageError, MissingDependencyError
from imgsearch_es.indexing.reindexing import Convert
from imgsearch_es.pictures.images import photo_of
from imgsearch_es.pictures.photo import NO_PHOTO, Photo, kept
from imgsearch_es.retrieval.documents import Document


def with_photos(what: str, convert: Convert | None, unread: dict[str, str]) -> Convert:
    """Documents with what is to be kept of their photos, read again where the file is as it was.

    The others keep what they have; ``unread`` gets the reasons, by URI.
    """

    def again(document: Document) -> Photo:
        try:
            return photo_of(document.uri, document.sha256)
        except ImageError as error:
            unread[document.uri] = error.reason
        except MissingDependencyError as error:  # of a URL
            unread[document.uri] = str(error)
        return document.photo

    def converted(documents: list[Document]) -> list[Document]:
        found = [
            replace(d, photo=NO_PHOTO if what == "nothing" else kept(again(d), what))
            for d in documents
        ]
        return convert(found) if convert else found

    return converted
