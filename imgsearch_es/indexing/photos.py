"""What documents keep of their pictures beside the analysis, read again: photos, thumbnails."""

from __future__ import annotations

from dataclasses import replace

from imgsearch_es.indexing.reindexing import Convert
from imgsearch_es.indexing.thumbnails import with_thumbnails
from imgsearch_es.pictures.images import photo_of
from imgsearch_es.pictures.photo import kept
from imgsearch_es.retrieval.documents import Document


def read_again(what: str | None, side: int | None, convert: Convert | None) -> Convert:
    """Documents with what is to be kept of their photos, and thumbnails; None for what they have.

    Photos are read again where the file is as it was.
    """

    def again(documents: list[Document]) -> list[Document]:
        found = documents
        if what is not None:
            found = [
                replace(d, photo=kept(photo_of(d.uri, d.sha256) or d.photo, what)) for d in found
            ]
        if side is not None:
            found = with_thumbnails(found, side)
        return convert(found) if convert else found

    return again
