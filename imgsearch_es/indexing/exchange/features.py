"""Deep features of an index into a file, and from a file into an index, with or without a model.

The files are those that scripts for image search write: see docs/features.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import ConfigurationError, ExchangeError
from imgsearch_es.indexing.exchange.arrays import NAMES, VECTORS, Hdf5, NumPyPair
from imgsearch_es.indexing.exchange.reading import (
    ImportReport,
    RejectedRow,
    readable,
    store_documents,
)
from imgsearch_es.indexing.exchange.rows import RowError
from imgsearch_es.indexing.exchange.vectors import (
    Csv,
    Feature,
    FeatureFile,
    FeatureRow,
    ParquetFeatures,
)
from imgsearch_es.indexing.exchange.writing import whole
from imgsearch_es.indexing.write import check_store
from imgsearch_es.pictures.files import filename, in_memory, picture_id, to_uri
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings, Store, known_settings

KINDS = ".csv, .h5 or .hdf5, .parquet, or a folder for filenames.npy and vectors.npy"
_WRITE_BYTES = 32 * 1024**2
_WRITE_ROWS = 1000


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

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        return f"{self.features} features of {self.dimensions} dimensions"


def feature_file(path: Path) -> tuple[FeatureFile, Path]:
    """The kind of a file by its name, and where it is: of a pair of NumPy files their folder.

    Raises:
        ExchangeError: the name has another extension.
        MissingDependencyError: HDF5 needs h5py, Parquet needs pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return Csv(), path
    if suffix in (".h5", ".hdf5"):
        return Hdf5(), path
    if suffix == ".parquet":
        return ParquetFeatures(), path
    if path.name in (NAMES, VECTORS):
        return NumPyPair(), path.parent
    if path.is_dir() or not suffix:
        return NumPyPair(), path
    raise ExchangeError(f"{path} is no file of features by its name: use {KINDS}")


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
    folder: Path | None = None,
    progress: Callable[[ImportReport], None] | None = None,
) -> ImportReport:
    """Write the features of a file into a store; see ``ImageIndex.import_features``.

    ``settings`` gives those of a new index; without it, a new index is one of features alone.
    """
    form, place = feature_file(path)
    if not place.is_dir():
        readable(place)
    reader = _Reader(str(place), folder, store.settings())
    report, before, written = ImportReport(), None, bytearray()
    try:
        for documents in _chunks(form.read(place), reader, report):
            if before is None:
                _prepare(store, reader, settings, place)
                before = store.count()
            for key in _write(store, documents, report):
                written += bytes.fromhex(key)
            if progress is not None:
                progress(report)
    finally:
        if before is not None:
            store.finish()
    if before is None:
        raise ExchangeError(_nothing(place, report))
    check_store(store, before + report.added, written, "import the file")
    return report


class _Reader:
    """Turns rows into documents; remembers what the first one says, and which paths there were."""

    def __init__(self, place: str, folder: Path | None, settings: IndexSettings | None) -> None:
        self._place, self._folder = place, folder
        self.dimensions = 0 if settings is None else settings.embedding_dimensions
        self._limit = f"the index's have {self.dimensions}" if settings is not None else ""
        self._seen: set[bytes] = set()
        if settings is not None and not self.dimensions:
            raise ExchangeError(
                f"cannot import {place}: the index's analyzer gives no deep features "
                "(embedding = false)"
            )

    def document(self, row: FeatureRow) -> Document:
        """The document of a row.

        Raises:
            RowError: there is none.
        """
        if isinstance(row.feature, RowError):
            raise row.feature
        path, vector, labels = row.feature
        if not self.dimensions:
            self.dimensions = len(vector)
            self._limit = f"row {row.number} and the others have {self.dimensions}"
        if len(vector) != self.dimensions:
            raise RowError(f"it has {len(vector)} features, {self._limit}")
        uri = self._uri(path)
        key = picture_id(uri)
        if (identity := bytes.fromhex(key)) in self._seen:
            raise RowError("this path stands twice in the file")
        self._seen.add(identity)
        return Document.from_feature(key, uri, filename(uri), vector, labels)

    def _uri(self, path: str) -> str:
        try:
            whole = Path(path).is_absolute() or in_memory(path) or "://" in path or path[0] == "~"
            return to_uri(path if whole or self._folder is None else self._folder / path)
        except (ConfigurationError, ValueError) as error:
            raise RowError(f"path: {error}") from error


def _chunks(
    rows: Iterable[FeatureRow], reader: _Reader, report: ImportReport
) -> Iterator[dict[str, tuple[int, Document]]]:
    documents: dict[str, tuple[int, Document]] = {}
    for row in rows:
        report.rows += 1
        try:
            document = reader.document(row)
        except RowError as error:
            path = "" if isinstance(row.feature, RowError) else row.feature.path
            report.reject(RejectedRow(row.number, path, str(error)))
            continue
        documents[document.id] = row.number, document
        if len(documents) >= min(_WRITE_ROWS, _WRITE_BYTES // (4 * reader.dimensions) + 1):
            yield documents
            documents = {}
    if documents:
        yield documents


def _prepare(
    store: Store,
    reader: _Reader,
    settings: Callable[[], IndexSettings] | None,
    place: Path,
) -> None:
    """Create the index, unless it exists."""
    if store.settings() is not None:
        return
    wanted = IndexSettings.of_features(reader.dimensions) if settings is None else settings()
    if wanted.embedding_dimensions != reader.dimensions:
        raise ExchangeError(
            f"{place} has {reader.dimensions} features a row, the deep feature of this analyzer "
            f"{wanted.embedding_dimensions}: name the one that made them, or none"
        )
    store.create(wanted)


def _write(
    store: Store, documents: dict[str, tuple[int, Document]], report: ImportReport
) -> list[str]:
    """Write documents; those that the index has keep all but their deep feature and labels."""
    for key, known in store.get(list(documents)).items():
        number, new = documents[key]
        kept = replace(known, embedding=new.embedding, labels=new.labels or known.labels)
        documents[key] = number, kept
    return store_documents(store, documents, report)


def _nothing(place: Path, report: ImportReport) -> str:
    if not report.rows:
        return f"{place} has no rows of features"
    first = report.rejected_rows[0]
    return f"no row of {place} can be imported; the first, {first.row}: {first.reason}"
