"""Documents whose pictures are elsewhere now: their URIs change, and nothing is analyzed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from imgsearch_es.errors import SourceError, StoreError
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.files import (
    PathSource,
    beginnings,
    filename,
    picture_id,
    to_path,
    to_uri,
)
from imgsearch_es.stores.base import Store

_TOGETHER = 500
"""Documents that are moved in one write."""


def relocate(store: Store, old: PathSource, new: PathSource) -> int:
    """See ``ImageIndex.relocate``."""
    here, there = to_uri(old).rstrip("/"), to_uri(new).rstrip("/")
    path = to_path(there)
    if path is not None and not path.exists():
        raise SourceError(f"cannot find {there}, where the pictures are to be")
    moved = 0
    for part in chunks(below(store, old), _TOGETHER):
        stored = store.get(part)
        documents = []
        for key, document in stored.items():
            uri = _moved(document.uri, here, there)
            changed = replace(document, id=picture_id(uri), uri=uri, filename=filename(uri))
            if changed.id != key:
                documents.append(changed)
        for uri, why in store.write(documents).rejected if documents else ():
            raise StoreError(f"{uri} cannot be written: {why}; what came before it is moved")
        kept = {document.id for document in documents}
        moved += len(documents)
        store.remove([key for key in stored if key not in kept])
    store.finish()
    return moved


def _moved(uri: str, here: str, there: str) -> str:
    path, old, new = map(to_path, (uri, here, there))
    if path is None or old is None or new is None:
        return to_uri(there + uri[len(here) :])
    return to_uri(new / path.relative_to(old))


def below(store: Store, folder: PathSource) -> Iterator[str]:
    """The ids of the documents below a folder, and of the one at the path itself."""
    uri = to_uri(folder)
    yield from dict.fromkeys(key for begin in beginnings(uri) for key, _ in store.below(begin))
    if (own := picture_id(uri)) in store.known([own]):
        yield own
