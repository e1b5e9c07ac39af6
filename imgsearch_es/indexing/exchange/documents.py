"""Documents of an index into a file, and from a file into an index; bad rows are reported."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsearch_es.analysis.configuration import describe
from imgsearch_es.errors import AnalyzerMismatchError, ExchangeError, ImageError
from imgsearch_es.indexing.exchange.formats import JsonLines, Parquet, format_of, whole
from imgsearch_es.indexing.exchange.rows import (
    FORMAT_VERSION,
    Row,
    RowError,
    from_header,
    to_document,
    to_row,
)
from imgsearch_es.indexing.wanted_analyzer import are_alike
from imgsearch_es.indexing.write import check_store
from imgsearch_es.pictures.files import Limits, picture_id, read_bytes, saving, to_uri
from imgsearch_es.pictures.photo import kept
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document
from imgsearch_es.stores.base import IndexSettings, Store, known_settings

if TYPE_CHECKING:
    from imgsearch_es.indexing.exchange.ciff import Rounding

_WRITE_SIZE = 1000
"""Documents per write."""
_WRITE_BYTES = 32 * 1024**2
"""Of their deep features."""
_LISTED = 10_000
_BAD_ENOUGH = 100_000
"""Bad rows one after the other that end an import: a small packed file may hold billions."""


@dataclass(slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: of the file.
        documents: rows of the file.
        without_picture: (uri, reason) of documents whose pictures were asked for and could not be
            read, or have changed since they were analyzed; the documents are exported.
        rounding: of an inverted index for other engines (.ciff), what whole numbers cost.
    """

    path: str
    documents: int = 0
    without_picture: list[tuple[str, str]] = field(default_factory=list)
    rounding: Rounding | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        without = [{"uri": uri, "reason": why} for uri, why in self.without_picture]
        return {**asdict(self), "without_picture": without}


class RejectedRow(NamedTuple):
    """A row that could not be indexed, what it says it is of, if anything, and why.

    ``row`` is its line in JSON Lines, where the header is line 1; its number in Parquet, from 1.
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
        return {**asdict(self), "rejected_rows": [row._asdict() for row in self.rejected_rows]}

    def __str__(self) -> str:
        return f"{self.added} added, {self.updated} updated, {self.rejected} rejected"


ImportProgress = Callable[[ImportReport], None]


def export_documents(
    store: Store,
    path: Path,
    *,
    pictures: bool = False,
    filters: Sequence[Filter] = (),
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write the documents of a store into a file; see ``ImageIndex.export``."""
    header = {"format_version": FORMAT_VERSION, **known_settings(store).to_dict()}
    form, report = format_of(path), ExportReport(str(path))

    def rows() -> Iterator[dict[str, Any]]:
        for document in store.documents(filters):
            yield to_row(document, _picture(document, report) if pictures else None)
            report.documents += 1
            if progress is not None:
                progress(report.documents)

    if pictures and not isinstance(form, JsonLines | Parquet):
        raise ExchangeError(f"{path} holds no pictures: leave out pictures=True (--pictures)")
    with whole(path, force=force) as part:
        report.rounding = form.write(part, header, rows())
    return report


def _picture(document: Document, report: ExportReport) -> bytes | None:
    try:
        data = read_bytes(document.uri, Limits())
        if hashlib.sha256(data).hexdigest() == document.sha256:
            return data
        why = "has changed since it was analyzed"
    except ImageError as error:
        why = error.reason
    report.without_picture.append((document.uri, why))
    return None


def import_documents(
    store: Store,
    path: Path,
    *,
    pictures: Path | None = None,
    progress: ImportProgress | None = None,
) -> ImportReport:
    """Write the documents of a file into a store; see ``ImageIndex.import_``."""
    header, rows = format_of(path).read(path)
    settings = from_header(header, str(path))
    present = store.settings()
    what = (present or settings).photo
    if present is None:
        settings = settings.with_thumbnails(settings.thumbnails if store.keeps_thumbnails else 0)
        store.create(replace(settings, schema_version=SCHEMA_VERSION))
    elif not are_alike(settings, present):
        raise AnalyzerMismatchError(
            f"{path} was made with {_shown(settings)}, {store.location} with {_shown(present)}: "
            "import it into a new index"
        )

    def made(row: Row) -> Document:
        document, data = to_document(row.values, settings), row.values.get("picture")
        document = replace(document, photo=kept(document.photo, what))
        if pictures is None or data is None:
            return document
        return _with_file(document, data, pictures)

    return import_rows(store, rows, made, progress)


def _shown(settings: IndexSettings) -> str:
    return (
        f"{describe(settings.analyzer)}, the weights {settings.weights[:19]} and deep features of "
        f"{settings.embedding_dimensions} dimensions"
    )


def _with_file(document: Document, data: object, folder: Path) -> Document:
    """The document of the same picture in a file of this machine."""
    if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != document.sha256:
        raise RowError("picture has other bytes than sha256 says")
    place = folder / document.id[:2] / f"{document.id}.{document.format.lower()}"
    with saving(place, ExchangeError) as draft:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
    uri = to_uri(place)
    return replace(document, uri=uri, id=picture_id(uri))


def import_rows(
    store: Store,
    rows: Iterable[Row],
    made: Callable[[Row], Document],
    progress: ImportProgress | None,
    *,
    begin: Callable[[], None] = lambda: None,
    merged: Callable[[Document, Document], Document] | None = None,
) -> ImportReport:
    """Write the documents of rows into a store, some at a time.

    ``made`` gives the document of a row, or raises a RowError; ``begin`` is called once there is
    one; of a new document and that of the index ``merged`` makes the one to be written.
    """
    report, written, before = ImportReport(), bytearray(), -1
    try:
        for chunk in _chunks(rows, made, report):
            if before < 0:
                begin()
                before = store.count()
            if merged is not None:
                for key, known in store.get(list(chunk)).items():
                    number, new = chunk[key]
                    chunk[key] = number, merged(new, known)
            for key in _write(store, chunk, report):
                written += bytes.fromhex(key)
            if progress is not None:
                progress(report)
    finally:
        if store.settings() is not None:
            store.finish()
    if before >= 0:
        check_store(store, before + report.added, written, "import the file")
    return report


def _chunks(
    rows: Iterable[Row], made: Callable[[Row], Document], report: ImportReport
) -> Iterator[dict[str, tuple[int, Document]]]:
    """Documents by id, with the number of their row."""
    chunk: dict[str, tuple[int, Document]] = {}
    size = bad = 0
    for row in rows:
        report.rows += 1
        try:
            if isinstance(row.values, RowError):
                raise row.values
            document = made(row)
        except RowError as error:
            report.reject(RejectedRow(row.number, row.uri, str(error)))
            bad += 1
            if bad == _BAD_ENOUGH:
                if chunk:
                    yield chunk
                raise ExchangeError(
                    f"{bad:,} rows one after the other cannot be imported, row {row.number} is the "
                    f"last of them: {error}; what comes before them is imported"
                ) from None
            continue
        bad = 0
        report.updated += document.id in chunk
        chunk[document.id] = row.number, document
        size += 0 if document.embedding is None else document.embedding.nbytes
        if len(chunk) == _WRITE_SIZE or size > _WRITE_BYTES:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _write(
    store: Store, documents: dict[str, tuple[int, Document]], report: ImportReport
) -> list[str]:
    """Write a chunk; gives the ids of the documents that are stored."""
    known = store.known(list(documents))
    refused = dict(store.write([document for _, document in documents.values()]).rejected)
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
