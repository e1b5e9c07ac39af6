"""What documents keep of how their pictures were taken, read again."""

from __future__ import annotations

from dataclasses import replace

from imgsearch_es.indexing.reindexing import Convert
from imgsearch_es.pictures.images import photo_of
from imgsearch_es.pictures.photo import kept
from imgsearch_es.retrieval.documents import Document


def with_photos(what: str, convert: Convert | None) -> Convert:
    """Documents with what is to be kept of their photos, read again where the file is as it was."""

    def again(documents: list[Document]) -> list[Document]:
        found = [
            replace(d, photo=kept(photo_of(d.uri, d.sha256) or d.photo, what)) for d in documents
        ]
        return convert(found) if convert else found

    return again
