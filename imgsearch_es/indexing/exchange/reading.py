"""Import: the documents of a file into an index; bad rows are reported and the others go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_es.analysis.analyzer import describe, is_same_analyzer
from imgsearch_es.errors import AnalyzerMismatchError, ExchangeError
from imgsearch_es.indexing.exchange.formats import Row, format_of
from imgsearch_es.indexing.exchange.rows import RowError, from_header, to_document
from imgsearch_es.indexing.write import check_store
from imgsearch_es.pictures.files import picture_id, reason, replacing, to_uri
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document
from imgsearch_es.stores.base import IndexSettings, Store

_WRITE_SIZE = 1000
"""Documents per write."""
_WRITE_BYTES = 64 * 1024**2
"""Of pictures, in memory at a time."""
_LISTED = 10_000


class RejectedRow(NamedTuple):
    """A row that could not be indexed, and why.

    Attributes:
        row: its line in JSON Lines, where the header is line 1; its number in Parquet, from 1.
        uri: what the row says it is of, if anything.
        reason: why, in a few words.
    """

    row: int
    uri: str
    reason: str


@dataclass(slots=True)
class ImportReport:
    """What became of the rows of a file: rows = added + updated + rejected.

    Attributes:
        rows: how many the file has.
        added: documents new in the index.
        updated: documents that replaced one of the index, or one further up in the file.
        rejected: how many rows could not be read or stored.
        rejected_rows: the first 10,000 of them, with reasons.
    """

    rows: int = 0
    added: int = 0
    updated: int = 0
    rejected: int = 0
    rejected_rows: list[RejectedRow] = field(default_factory=list)

    def reject(self, row: RejectedRow) -> None:
        """Count a row that is no document."""
        self.rejected += 1
        if len(self.rejected_rows) < _LISTED:
            self.rejected_rows.append(row)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rows": self.rows,
            "added": self.added,
            "updated": self.updated,
            "rejected": self.rejected,
            "rejected_rows": [row._asdict() for row in self.rejected_rows],
        }

    def __str__(self) -> str:
        return f"{self.added} added, {self.updated} updated, {self.rejected} rejected"


def import_documents(
    store: Store,
    path: Path,
    *,
    pictures: Path | None = None,
    progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Write the documents of a file into a store; see ``ImageIndex.import_``."""
    header, rows = format_of(path).read(readable(path))
    settings = from_header(header, str(path))
    present = store.settings()
    if present is None:
        store.create(replace(settings, schema_version=SCHEMA_VERSION))
    else:
        _check_same(settings, present, path, store.location)
    report, before, written = ImportReport(), store.count(), bytearray()
    try:
        for chunk in _chunks(rows):
            for key in _write(store, chunk, settings, pictures, report):
                written += bytes.fromhex(key)
            if progress is not None:
                progress(report)
    finally:
        store.finish()
    check_store(store, before + report.added, written, "import the file")
    return report


def readable(path: Path) -> Path:
    """The path of a file that can be read; ExchangeError otherwise."""
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise ExchangeError(f"cannot read {path}: {reason(error)}") from error


def _check_same(new: IndexSettings, present: IndexSettings, path: Path, location: str) -> None:
    """As when pictures are added: an index holds documents of one analyzer only."""
    same = is_same_analyzer(new.analyzer, new.weights, present.analyzer, present.weights)
    if not same or new.vocabulary != present.vocabulary:
        raise AnalyzerMismatchError(
            f"{path} was made with {_shown(new)}, {location} with {_shown(present)}: import it "
            "into a new index"
        )
    if new.embedding_dimensions != present.embedding_dimensions:
        raise AnalyzerMismatchError(
            f"{path} has deep features of {new.embedding_dimensions} dimensions, {location} of "
            f"{present.embedding_dimensions}: import it into a new index"
        )


def _shown(settings: IndexSettings) -> str:
    return f"{describe(settings.analyzer)} and the weights {settings.weights[:19]}"


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, 1)):
        size = 0
        for row in islice(rows, _WRITE_SIZE - 1):
            chunk.append(row)
            if isinstance(row.values, dict):
                size += len(row.values.get("picture") or b"")
            if size > _WRITE_BYTES:
                break
        yield chunk


def _write(
    store: Store,
    chunk: list[Row],
    settings: IndexSettings,
    pictures: Path | None,
    report: ImportReport,
) -> list[str]:
    """Write a chunk's documents; gives the ids of those that are stored."""
    documents: dict[str, tuple[int, Document]] = {}
    for row in chunk:
        report.rows += 1
        values: Mapping[str, Any] = {}
        try:
            if isinstance(row.values, RowError):
                raise row.values
            values = row.values
            document = to_document(values, settings)
            data = values.get("picture")
            if pictures is not None and data is not None:
                document = _with_file(document, data, pictures)
        except RowError as error:
            report.reject(RejectedRow(row.number, str(values.get("uri", "")), str(error)))
            continue
        report.updated += document.id in documents
        documents[document.id] = row.number, document
    return store_documents(store, documents, report)


def store_documents(
    store: Store, documents: dict[str, tuple[int, Document]], report: ImportReport
) -> list[str]:
    """Write documents, by id with the number of their row; gives the ids of those stored."""
    if not documents:
        return []
    known = store.known(list(documents))
    written = store.write([document for _, document in documents.values()])
    refused = dict(written.rejected)
    for number, document in documents.values():
        if document.uri in refused:
            report.reject(RejectedRow(number, document.uri, refused[document.uri]))
        elif document.id in known:
            report.updated += 1
        else:
            report.added += 1
    stored = [key for key, (_, document) in documents.items() if document.uri not in refused]
    store.ledger.remove(stored)
    return stored


def _with_file(document: Document, data: object, folder: Path) -> Document:
    """The document of the same picture in a file of this machine."""
    if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != document.sha256:
        raise RowError("picture has other bytes than sha256 says")
    place = folder / document.id[:2] / f"{document.id}.{document.format.lower()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as draft:
            draft.write_bytes(data)
    except OSError as error:
        raise ExchangeError(f"cannot write {place}: {reason(error)}") from error
    uri = to_uri(place)
    return replace(document, uri=uri, id=picture_id(uri))
