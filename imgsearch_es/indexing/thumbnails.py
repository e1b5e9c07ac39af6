"""Thumbnails that an index keeps for Kibana: made when a picture is written, and carried along."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.thumbnails import kept_thumbnail
from imgsearch_es.retrieval.documents import Document, without_thumbnails
from imgsearch_es.stores.base import Store

_TOGETHER = 4
"""Pictures that are made smaller at once."""


def with_thumbnails(documents: Sequence[Document], side: int) -> list[Document]:
    """Documents with thumbnails of this longer side, made anew of pictures that can be read.

    0 takes them away.
    """
    if not side:
        return without_thumbnails(documents)
    with ThreadPoolExecutor(_TOGETHER, "imgsearch-thumbnail") as pool:
        made = pool.map(lambda document: kept_thumbnail(document.uri, side), documents)
        return [
            replace(each, thumbnail=one or each.thumbnail)
            for each, one in zip(documents, made, strict=True)
        ]


def side_of(store: Store, asked: int | None, stored: int, location: str) -> int:
    """The longer side for an index that is made of another one's documents, and 0 for none."""
    if asked is None:
        return stored if stored and store.keeps_thumbnails else 0
    check_thumbnails(store, asked, location)
    return asked


def check_thumbnails(store: Store, side: int, location: str) -> None:
    """Refuse thumbnails that a person asks for and nobody would see, by the name of the index."""
    if side and not store.keeps_thumbnails:
        raise ConfigurationError(
            f"{location} cannot keep thumbnails: they are for Kibana, in an index on "
            "Elasticsearch that is not lean; leave thumbnails out"
        )
