"""The last stage: documents go to the store in bulk, in a thread of its own.

And those of files that are gone leave it when a person says so, but never for a drive that is not
mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from imgsearch_es.errors import DamagedIndexError, ReconciliationError, SourceError
from imgsearch_es.indexing.find import Found, is_gone
from imgsearch_es.indexing.report import IndexReport
from imgsearch_es.indexing.thumbnails import with_thumbnails
from imgsearch_es.pictures.files import beginnings, to_path, to_uri
from imgsearch_es.pictures.images import ImageSource
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected, naming
from imgsearch_es.stores.base import Store

WRITE_SIZE = 512
"""Documents per write."""
_ID_BYTES = 16
_REMOVED_TOGETHER = 2048


class Writer:
    """Writes documents and keeps the ledger; ``written`` are all ids, one after the other."""

    def __init__(self, store: Store, report: IndexReport) -> None:
        self._store = store
        self._report = report
        self._unrecorded: list[Rejected] = []
        self.written = bytearray()

    def write(self, batches: Iterable[Sequence[Found]]) -> None:
        """Write batch after batch, until their end; an unchanged picture leaves the ledger."""
        for batch in batches:
            with self._report.stages.measure("write"):
                self._write(batch)
                stale = []
                for found in batch:
                    if (entry := found.rejected) is None:
                        continue
                    # A document of a file that holds no picture any more; one that could not be
                    # read just now may be what it was.
                    if found.known and (entry.sha256 or is_no_file(entry.uri)):
                        stale.append(found.id)
                    elif found.as_before:
                        continue
                    given = found.before.given if found.before else ""
                    if found.known:
                        given = naming(found.known.labels, found.known.metadata)
                    self._unrecorded.append(replace(entry, given=given))
                if self._store.settings():
                    self._record(batch)
                if stale:  # when the ledger has what a person gave them
                    self._report.removed += self._store.remove(stale)

    def has_unrecorded(self) -> bool:
        """Whether pictures were rejected that only an index that does not exist could note."""
        return any(entry.can_be_named for entry in self._unrecorded)

    def _write(self, batch: Sequence[Found]) -> None:
        documents = [found.document for found in batch if found.document]
        settings = self._store.settings() if documents else None
        if settings is not None and settings.thumbnails:
            documents = with_thumbnails(documents, settings.thumbnails)
        refused = dict(self._put(documents, {found.id: found for found in batch if found.known}))
        moved: list[str] = []
        for found in batch:
            document = found.document
            if document is None:
                continue
            if document.uri in refused:
                given = found.before.given if found.before else ""
                entry = Rejected(document.uri, refused[document.uri], given=given)
                self._report.rejected.append(entry)
                self._unrecorded.append(entry)
                continue
            self.written += bytes.fromhex(document.id)
            self._report.reused += found.reused
            moved += [found.moved] if found.moved else []
            if found.known:
                self._report.updated += 1
            else:
                self._report.added += 1
        if moved:
            self._report.moved += self._store.remove(list(dict.fromkeys(moved)))

    def _put(
        self, documents: Sequence[Document], known: Mapping[str, Found]
    ) -> Iterator[tuple[str, str]]:
        """Write documents, those that were known over what is there now; gives those refused."""
        made, there = {document.id: document for document in documents}, set[str]()

        def changed(now: Document) -> Document:
            there.add(now.id)
            return known[now.id].instead(now, made[now.id])

        if old := [key for key in made if key in known]:
            try:
                yield from self._store.change(old, changed).rejected
            except DamagedIndexError:
                there.clear()  # and written over
        if new := [document for document in documents if document.id not in there]:
            yield from self._store.write(new).rejected

    def _record(self, batch: Sequence[Found]) -> None:
        entries = [entry for entry in self._unrecorded if entry.can_be_named]
        self._unrecorded = []
        if entries:
            self._store.ledger.write(entries)
        failing = {entry.id for entry in entries}
        stricken = [found.id for found in batch if found.before and not found.rejected]
        if stricken := [key for key in stricken if key not in failing]:
            self._store.ledger.remove(stricken)


def check_store(store: Store, expected: int, written: bytearray, again: str) -> None:
    """The index must have as many documents as expected, or, where others write, those written."""
    if store.count() == expected:
        return
    size, lost = _ID_BYTES * WRITE_SIZE, 0
    for start in range(0, len(written), size):
        part = written[start : start + size]
        ids = {part[i : i + _ID_BYTES].hex() for i in range(0, len(part), _ID_BYTES)}
        lost += len(ids) - len(store.known(list(ids)))
    if lost:
        raise ReconciliationError(
            f"{lost} of the {len(written) // _ID_BYTES} documents written to {store.location} are "
            f"not there: another program removed them, or the index lost them; {again} again"
        )


def is_no_file(uri: str) -> bool:
    """Whether a folder, a FIFO or the like is where a picture's URI says that its file is."""
    path = to_path(uri)
    try:
        return path is not None and not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def prune(store: Store, sources: Iterable[ImageSource | PictureList]) -> int:
    """Remove documents below the folders named whose files are gone; gives how many.

    A folder that looks as one does whose drive is not mounted is a SourceError.
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
    size = _REMOVED_TOGETHER
    removed = sum(store.remove(gone[i : i + size]) for i in range(0, len(gone), size))
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
