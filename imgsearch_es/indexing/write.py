"""The last stage: documents go to the store in bulk, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from imgsearch_es.errors import ReconciliationError
from imgsearch_es.indexing.analyze import Made
from imgsearch_es.indexing.read import Failed, Unchanged
from imgsearch_es.indexing.report import IndexReport
from imgsearch_es.indexing.resolve import is_no_file
from imgsearch_es.retrieval.ledger import Rejected, naming
from imgsearch_es.stores.base import Store

WRITE_SIZE = 512
"""Documents per write ..."""
WRITE_SECONDS = 5.0
"""... or those of so many seconds: what being killed can cost."""
_ID_BYTES = 16

Finished = Made | Unchanged | Failed
"""What the earlier stages made of a picture; an unchanged one is struck out of the ledger."""


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

    def write(self, batches: Iterable[Sequence[Finished]]) -> None:
        """Write batch after batch, until their end."""
        for batch in batches:
            with self._report.stages.measure("write"):
                self._write([each for each in batch if isinstance(each, Made)])
                failed = [each for each in batch if isinstance(each, Failed)]
                stale = [each for each in failed if _is_stale(each)]
                self._unrecorded += [_noted(each) for each in failed if not each.again]
                self._unrecorded += [_noted(each) for each in stale if each.again]
                if self._store.settings():
                    self._record(batch)
                if stale:  # when the ledger has what a person gave them
                    self._report.removed += self._store.remove([each.entry.id for each in stale])

    def has_unrecorded(self) -> bool:
        """Whether pictures were rejected that only an index that does not exist could note."""
        return any(entry.can_be_named for entry in self._unrecorded)

    def _write(self, made: Sequence[Made]) -> None:
        if not made:
            return
        refused = dict(self._store.write([each.document for each in made]).rejected)
        for found, document, reused in made:
            if document.uri in refused:
                given = found.before.given if found.before else ""
                entry = Rejected(document.uri, refused[document.uri], given=given)
                self._report.rejected.append(entry)
                self._unrecorded.append(entry)
                continue
            self.written += bytes.fromhex(document.id)
            self._report.reused += reused
            if found.known:
                self._report.updated += 1
            else:
                self._report.added += 1

    def _record(self, batch: Sequence[Finished]) -> None:
        entries = [entry for entry in self._unrecorded if entry.can_be_named]
        self._unrecorded = []
        if entries:
            self._store.ledger.write(entries)
        failing = {entry.id for entry in entries}
        stricken = [
            each.found.id for each in batch if each.found.before and not isinstance(each, Failed)
        ]
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


def _is_stale(failed: Failed) -> bool:
    """Whether there is a document of a file that holds no picture any more.

    One that could not be read just now may be what it was.
    """
    entry = failed.entry
    return failed.found.known is not None and bool(entry.sha256 or is_no_file(entry.uri))


def _noted(failed: Failed) -> Rejected:
    """The entry, with what a person gave the document that it takes the place of."""
    known, before = failed.found.known, failed.found.before
    given = before.given if before else ""
    if known is not None:
        given = naming(known.labels, known.metadata)
    return replace(failed.entry, given=given)
