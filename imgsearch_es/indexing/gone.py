"""Documents of files that are gone leave the index when a person says so.

Never for a drive that is not mounted; and what people said of a picture goes on to its copy.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from imgsearch_es.errors import SourceError
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.find import is_gone, unmounted
from imgsearch_es.indexing.write import examples_of, is_no_file, move_examples
from imgsearch_es.pictures.files import beginnings, to_path, to_uri
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Known, Store

_REMOVED_TOGETHER = 2048


def missing(store: Store, sources: Iterable[ImageSource | PictureList]) -> set[str]:
    """The ids of documents below the folders named whose files are gone, for ``prune``."""
    inside = (each for folder in _folders(store, sources) for each in _inside(store, folder))
    return {key for key, uri in inside if _is_missing(uri)}


def prune(
    store: Store,
    sources: Iterable[ImageSource | PictureList],
    before: Collection[str],
    rejected: Iterable[str],
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Remove documents below the folders named whose files are gone; gives how many.

    Only those that were ``missing`` before the folders were walked: what is moved meanwhile may not
    have been seen at its new place, to which what people said of it goes in the next run. Those of
    a folder that looks as one does whose drive is not mounted stay, and where one of the
    ``rejected`` is gone, which may have moved on, those of which people said something. ``tell``
    takes a sentence about it; SourceError where a folder is named of which nothing is left.
    """
    folders = _folders(store, sources)
    gone, kept = list[str](), set[str]()

    @cache
    def absent(folder: Path) -> Path | None:
        return unmounted(folder / "picture")

    def is_kept(uri: str) -> bool:
        path = to_path(uri)
        place = None if path is None else absent(path.parent)
        kept.update([] if place is None else [str(place)])
        return place is not None

    for folder in folders:
        inside = _inside(store, folder)
        absentees = [(key, uri) for key, uri in inside if _is_missing(uri)]
        if absentees and len(absentees) == len(inside):
            why = f"none of its {len(inside)} pictures is there any more"
            raise SourceError(_kept(to_uri(folder), why))
        gone += [key for key, uri in absentees if key in before and not is_kept(uri)]
    if vanished := next(filter(is_gone, rejected), None):
        found = (store.known(part) for part in chunks(gone, _REMOVED_TOGETHER))
        named = {key for part in found for key, known in part.items() if known.is_named}
        gone = [key for key in gone if key not in named]
        if named:
            why = f"{vanished} vanished before it was read, and may have moved on: run this again"
            tell(f"nothing with labels or metadata was removed: {why}")
    removed = remove_gone(store, gone, tell)
    strike_out(store, [prefix for folder in folders for prefix in beginnings(folder)], is_kept)
    for place in sorted(kept):
        tell(_kept(place, "it is empty now" if Path(place).is_dir() else "it is missing"))
    return removed


def _folders(store: Store, sources: Iterable[ImageSource | PictureList]) -> list[Path]:
    return folders_among(sources) if store.settings() else []


def folders_among(sources: Iterable[ImageSource | PictureList]) -> list[Path]:
    """The local folders among what is named."""
    named = (each for each in sources if isinstance(each, str | bytes | os.PathLike))
    paths = (to_path(to_uri(each)) for each in named)
    return [path for path in paths if path and path.is_dir()]


def _inside(store: Store, folder: Path) -> list[tuple[str, str]]:
    return [each for prefix in beginnings(folder) for each in store.below(prefix)]


def _is_missing(uri: str) -> bool:
    return is_gone(uri) or is_no_file(uri)


def remove_gone(
    store: Store, ids: Sequence[str], tell: Callable[[str], None] = lambda text: None
) -> int:
    """Remove documents of files that are gone, some at a time; gives how many.

    What people said of one goes to a copy of which they said nothing: to copy a picture and to
    delete it afterwards is to move it. ``tell`` takes a sentence about what cannot go along.
    """
    parts = list(chunks(sorted(ids), _REMOVED_TOGETHER))  # in one order, whatever the store's is
    going, left, staying = set(ids), dict[str, Known](), set[str]()
    examples, places = going & examples_of(store).keys(), dict[str, str]()
    for part in parts:
        found = store.known(part)
        said = {key: each for key, each in found.items() if each.is_named or key in examples}
        copies = store.by_content([each.sha256 for each in said.values()]) if said else {}
        for key in (key for key in part if key in said):
            each = said[key]
            there = copies.get(each.sha256, {})
            if others := there.keys() - going:
                places[key] = there[min(others)]
                if each.is_named:
                    left[each.sha256] = left.get(each.sha256, each).joined(each)
                    staying |= others
    move_examples(store, places, tell)
    heirs: dict[str, str] = {}
    for key, known in sorted(store.known([*staying]).items()):
        if not known.is_named:
            heirs.setdefault(known.sha256, key)
    if heirs:
        store.change([*heirs.values()], partial(_with_what_is_left, left))
    return sum(map(store.remove, parts))


def _with_what_is_left(left: Mapping[str, Known], document: Document) -> Document:
    said = left.get(document.sha256)
    if said is None or document.labels or document.metadata:  # by now
        return document
    return replace(document, labels=said.labels, metadata=said.metadata)


def _kept(folder: str, why: str) -> str:
    return (
        f"nothing was removed for {folder}: {why}. Is the drive mounted? If the pictures are meant "
        "to go, remove the empty folder as well, or take them out by `imgsearch remove`"
    )


def strike_out(store: Store, prefixes: Sequence[str], is_kept: Callable[[str], bool]) -> None:
    """Forget rejected files that are gone, and folders, which are in the ledger if unreadable."""

    def can_be_listed(uri: str) -> bool:
        path = to_path(uri)
        return path is not None and os.access(path, os.R_OK | os.X_OK) and path.is_dir()

    inside = (each for each in store.ledger.read() if each.uri.startswith(tuple(prefixes)))
    outdated = [
        each.id
        for each in inside
        if (is_gone(each.uri) and not is_kept(each.uri)) or can_be_listed(each.uri)
    ]
    if outdated:
        store.ledger.remove(outdated)
