"""Pictures that are elsewhere now: what an index knows of them goes along, nothing is analyzed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from imgsearch_es.errors import SourceError, StoreError
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.write import examples_of, move_examples
from imgsearch_es.pictures.archives import SCHEME, member_uri, split_uri
from imgsearch_es.pictures.files import (
    PathSource,
    beginnings,
    filename,
    picture_id,
    to_path,
    to_uri,
)
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Store

_TOGETHER = 500
"""Documents that are moved in one write."""


def relocate(store: Store, old: PathSource, new: PathSource) -> int:
    """See ``ImageIndex.relocate``."""
    here, there = to_uri(old), to_uri(new)
    uris = {**below(store, old), **_in_archives(store, old)}
    is_file = any(here in (uri, *(split_uri(uri) or ())[1:]) for uri in uris.values())
    moves = {key: _moved(uri, here, there) for key, uri in uris.items()}
    moves = {key: uri for key, uri in moves.items() if picture_id(uri) != key}
    _check_place(there, is_folder=not is_file)
    _check_free(store, moves)
    order = list(moves)  # as they lie in the store, which reads neighbors at once
    if not moves.keys().isdisjoint(map(picture_id, moves.values())):
        # Into a folder within itself, or out of it: what is to be moved makes room before its place
        # is taken, so the longest names come first where names get longer, and last elsewhere.
        order.sort(key=lambda key: len(uris[key]), reverse=len(there) > len(here))

    def moved(document: Document) -> Document:
        uri = moves.get(document.id)
        if uri is None:
            return document
        return replace(document, id=picture_id(uri), uri=uri, filename=filename(uri))

    for part in _parts(order, moves):
        for uri, why in store.change(part, moved).rejected:
            raise StoreError(f"{uri} cannot be written: {why}; what came before it is moved")
    _move_rejected(store, here, there)
    store.finish()
    examples = {key: uri for key, uri in examples_of(store).items() if _is_at(uri, here)}
    move_examples(store, {key: _moved(uri, here, there) for key, uri in examples.items()}, _refuse)
    return len(moves)


def _refuse(text: str) -> NoReturn:
    raise StoreError(f"the documents are moved, but {text}")


def _move_rejected(store: Store, here: str, there: str) -> None:
    """The ledger too knows pictures by where they are, and keeps what people said of them."""
    ledger = {entry.id: entry for entry in store.ledger.read()}
    old = {key: entry for key, entry in ledger.items() if _is_at(entry.uri, here)}
    moved = [replace(entry, uri=_moved(entry.uri, here, there)) for entry in old.values()]
    taken = {*(ledger.keys() - old), *store.known([entry.id for entry in moved])}
    store.ledger.write([entry for entry in moved if entry.id not in taken])
    store.ledger.remove([*(old.keys() - {entry.id for entry in moved})])


def _parts(order: Sequence[str], moves: Mapping[str, str]) -> Iterator[list[str]]:
    """Some ids for each write, in order; none moves to the place of another of its part."""
    part = dict[str, None]()
    for key in order:
        if len(part) == _TOGETHER or picture_id(moves[key]) in part:
            yield [*part]
            part = {}
        part[key] = None
    if part:
        yield [*part]


def _check_place(there: str, *, is_folder: bool) -> None:
    path = to_path(there)
    if path is None:
        return
    if not path.exists():
        raise SourceError(f"cannot find {there}, where the pictures are to be")
    if path.is_dir() != is_folder:
        kind = "a folder" if path.is_dir() else "no folder"
        raise SourceError(f"{there} is {kind}: give two folders, or two files")


def _check_free(store: Store, moves: Mapping[str, str]) -> None:
    """SourceError where a document would be lost: of another picture, or named in other ways."""
    for part in chunks(moves.items(), _TOGETHER):
        places = {picture_id(uri): (key, uri) for key, uri in part}
        taken = store.known([place for place in places if place not in moves])
        own = store.known([places[place][0] for place in taken])
        for place, known in taken.items():
            key, uri = places[place]
            mine, names = own[key], (known.labels, known.metadata)
            unlike = names not in (((), {}), (mine.labels, mine.metadata))
            if known.sha256 != mine.sha256 or unlike:
                raise SourceError(
                    f"nothing was moved: the index has another document of {uri}; remove the one "
                    "that is wrong first, by `imgsearch remove`"
                )


def _moved(uri: str, here: str, there: str) -> str:
    if inside := split_uri(uri):
        return member_uri(inside[0], _moved(inside[1], here, there))
    path, old, new = map(to_path, (uri, here, there))
    if path is None or old is None or new is None:
        return to_uri(there.rstrip("/") + uri[len(here.rstrip("/")) :])
    return to_uri(new / path.relative_to(old))


def _in_archives(store: Store, folder: PathSource) -> dict[str, str]:
    """The ids and URIs of what is in tar files at or below a path."""
    return {key: uri for key, uri in store.below(SCHEME) if _is_at(uri, to_uri(folder))}


def _is_at(uri: str, place: str) -> bool:
    """Whether a picture is at or below a place, or in a tar file that is."""
    inside = split_uri(uri)
    own = inside[1] if inside else uri
    return own == place or own.startswith(beginnings(place))


def below(store: Store, folder: PathSource) -> dict[str, str]:
    """The ids and URIs of the documents below a folder, and of the one at the path itself."""
    uri = to_uri(folder)
    found = {key: each for begin in beginnings(uri) for key, each in store.below(begin)}
    own = picture_id(uri)
    return {**found, own: uri} if own in store.known([own]) else found
