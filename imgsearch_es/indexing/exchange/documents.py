"""Documents of an index into a file, and from a file into an index; bad rows are reported.

So are deep features alone, with or without a model: see docs/features.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from imgsearch_es.analysis.configuration import describe
from imgsearch_es.errors import AnalyzerMismatchError, ExchangeError, ImageError
from imgsearch_es.indexing.exchange.feature_files import Feature, feature_file
from imgsearch_es.indexing.exchange.formats import Ciff, Rounding, format_of, whole
from imgsearch_es.indexing.exchange.rows import (
    FORMAT_VERSION,
    FeatureReader,
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
from imgsearch_es.retrieval.documents import SCHEMA_VERSION, Document, storable
from imgsearch_es.retrieval.ledger import reasons
from imgsearch_es.stores.base import IndexSettings, Store, known_settings

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
        return {**asdict(self), "without_picture": reasons(self.without_picture)}


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

    if pictures and isinstance(form, Ciff):
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
        if not isinstance(data, bytes) or hashlib.sha256(data).hexdigest() != document.sha256:
            raise RowError("picture has other bytes than sha256 says")
        place = pictures / document.id[:2] / f"{document.id}.{document.format.lower()}"
        with saving(place, ExchangeError) as draft:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
        uri = to_uri(place)  # the same picture in a file of this machine
        return replace(document, uri=uri, id=picture_id(uri))

    return _import_rows(store, rows, made, progress)


def _shown(settings: IndexSettings) -> str:
    return (
        f"{describe(settings.analyzer)}, the weights {settings.weights[:19]} and deep features of "
        f"{settings.embedding_dimensions} dimensions"
    )


def _import_rows(
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
            for key in _write(store, chunk, report, merged):
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
            for _, problem in storable([document])[1]:  # it must not take a good one's place
                raise RowError(problem)
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
    store: Store,
    documents: dict[str, tuple[int, Document]],
    report: ImportReport,
    merged: Callable[[Document, Document], Document] | None,
) -> list[str]:
    """Write a chunk; gives the ids of the documents that are stored."""
    known, there, refused = store.known(list(documents)), set[str](), dict[str, str]()

    def changed(now: Document) -> Document:
        there.add(now.id)
        return now if merged is None else merged(documents[now.id][1], now)

    if merged is not None and known:
        refused |= store.change(list(known), changed).rejected
    new = [document for key, (_, document) in documents.items() if key not in there]
    refused |= store.write(new).rejected
    stored = []
    for key, (number, document) in documents.items():
        if document.uri in refused:
            report.reject(RejectedRow(number, document.uri, refused[document.uri]))
            continue
        report.updated += key in known
        report.added += key not in known
        stored.append(key)
    store.ledger.remove(stored)
    return stored


@dataclass(slots=True)
class FeatureExport:
    """What was exported.

    Attributes:
        path: of the file or folder.
        features: rows of it.
        dimensions: of each.
        without_feature: documents that have no deep feature.
    """

    path: str
    features: int = 0
    dimensions: int = 0
    without_feature: int = 0

    def __str__(self) -> str:
        return f"{self.features} features of {self.dimensions} dimensions"


def export_features(
    store: Store,
    path: Path,
    *,
    filters: Sequence[Filter] = (),
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> FeatureExport:
    """Write the deep features of a store into a file; see ``ImageIndex.export_features``."""
    dimensions = known_settings(store).embedding_dimensions
    if not dimensions:
        raise ExchangeError(f"{store.location} has no deep features: its analyzer gives none")
    form, place = feature_file(path)
    report = FeatureExport(str(place), dimensions=dimensions)

    def features() -> Iterator[Feature]:
        for document in store.documents(filters):
            if document.embedding is None:
                report.without_feature += 1
                continue
            yield Feature(document.uri, document.embedding, document.labels)
            report.features += 1
            if progress is not None:
                progress(report.features)

    with whole(place, force=force) as part:
        form.write(part, features(), dimensions)
    return report


def import_features(
    store: Store,
    path: Path,
    *,
    settings: Callable[[], IndexSettings] | None = None,
    words: int = 0,
    folder: Path | None = None,
    progress: ImportProgress | None = None,
) -> ImportReport:
    """Write the features of a file into a store; see ``ImageIndex.import_features``.

    Without ``settings`` a new index is one of features alone, with so many visual words of each.
    """
    form, place = feature_file(path)
    present = store.settings()
    if present is not None and not present.embedding_dimensions:
        raise ExchangeError(
            f"cannot import {place}: the index's analyzer gives no deep features "
            "(embedding = false)"
        )
    reader = FeatureReader(folder, 0 if present is None else present.embedding_dimensions)

    def begin() -> None:
        if store.settings() is not None:
            return
        features = IndexSettings.of_features(reader.dimensions).with_visual_words(words)
        wanted = features if settings is None else settings()
        if wanted.embedding_dimensions != reader.dimensions:
            raise ExchangeError(
                f"{place} has {reader.dimensions} features a row, the deep feature of this "
                f"analyzer {wanted.embedding_dimensions}: name the one that made them, or none"
            )
        store.create(wanted)

    def merged(new: Document, known: Document) -> Document:
        return replace(known, embedding=new.embedding, labels=new.labels or known.labels)

    report = _import_rows(
        store, form.read(place), reader.document, progress, begin=begin, merged=merged
    )
    if not report.rows:
        raise ExchangeError(f"{place} has no rows of features")
    if not reader.seen:
        first = report.rejected_rows[0]
        raise ExchangeError(
            f"no row of {place} can be imported; the first, {first.row}: {first.reason}"
        )
    return report
