"""Removing the documents of files that are gone, but never for a drive that is not mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from imgsearch_es.errors import SourceError
from imgsearch_es.pictures.files import beginnings, in_memory, to_path, to_uri
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.stores.base import Store

_TOGETHER = 2048


def is_gone(uri: str) -> bool:
    """Whether a local file is certainly no longer there; what cannot be reached is not gone."""
    path = to_path(uri)
    if in_memory(uri) or path is None:
        return False
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False


def is_no_file(uri: str) -> bool:
    """Whether a folder, a FIFO or the like is where a picture's URI says that its file is."""
    path = to_path(uri)
    try:
        return path is not None and not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def prune(store: Store, sources: Iterable[ImageSource | PictureList]) -> int:
    """Remove documents below the folders named whose files are gone; gives how many.

    Raises:
        SourceError: a folder looks as one does whose drive is not mounted; nothing was removed.
    """
    if not store.settings():
        return 0
    folders = [s for s in sources if isinstance(s, str | os.PathLike) and Path(s).is_dir()]
    gone: list[str] = []
    for folder in folders:
        inside = [each for prefix in beginnings(folder) for each in store.below(prefix)]
        missing = [(key, uri) for key, uri in inside if is_gone(uri) or is_no_file(uri)]
        if missing and len(missing) == len(inside):
            raise _refusal(to_uri(folder), f"none of its {len(inside)} pictures is there any more")
        _check_mounted([uri for _, uri in missing])
        gone += [key for key, _ in missing]
    removed = sum(store.remove(gone[i : i + _TOGETHER]) for i in range(0, len(gone), _TOGETHER))
    _strike_out(store, [prefix for folder in folders for prefix in beginnings(folder)])
    return removed


def _check_mounted(uris: Sequence[str]) -> None:
    """A drive that is not mounted leaves an empty folder where its files were."""

    @cache
    def nearest(folder: Path) -> Path:
        return folder if folder.is_dir() else nearest(folder.parent)

    for folder in sorted({nearest(path.parent) for path in map(to_path, uris) if path is not None}):
        with os.scandir(folder) as entries:
            if next(entries, None) is None:
                raise _refusal(str(folder), "it is empty now")


def _refusal(folder: str, why: str) -> SourceError:
    return SourceError(
        f"nothing was removed for {folder}: {why}. Is the drive mounted? If the pictures are meant "
        "to go, remove the empty folder as well, or take them out by `imgsearch remove`"
    )


def _strike_out(store: Store, prefixes: Sequence[str]) -> None:
    """Forget rejected files that are gone, and folders, which are in the ledger if unreadable."""

    def can_be_listed(uri: str) -> bool:
        path = to_path(uri)
        return path is not None and path.is_dir() and os.access(path, os.R_OK | os.X_OK)

    inside = (each for each in store.ledger.read() if each.uri.startswith(tuple(prefixes)))
    outdated = [each.id for each in inside if is_gone(each.uri) or can_be_listed(each.uri)]
    if outdated:
        store.ledger.remove(outdated)
