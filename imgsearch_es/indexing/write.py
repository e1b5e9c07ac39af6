"""The last stage: documents go to the store in bulk, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from imgsearch_es.errors import ReconciliationError
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.prune import is_no_file
from imgsearch_es.indexing.report import IndexReport
from imgsearch_es.retrieval.ledger import Rejected, naming
from imgsearch_es.stores.base import Store

WRITE_SIZE = 512
"""Documents per write."""
_ID_BYTES = 16


class Writer:
    """Writes documents and keeps the ledger.

    Args:
        store: the index; when it does not exist, nothing but rejected pictures may come.
        report: where to count.

    Attributes:
        written: the ids of all documents written, one after the other.
    """

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
        refused = dict(self._store.write(documents).rejected) if documents else {}
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
            if found.known:
                self._report.updated += 1
            else:
                self._report.added += 1

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
    """The index must have as many documents as expected, or, where others write, those written.

    Raises:
        ReconciliationError: it has not; the message says what to do ``again``.
    """
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
