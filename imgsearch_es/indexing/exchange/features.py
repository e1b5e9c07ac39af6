"""Deep features of an index into a file, and from a file into an index, with or without a model.

The files are those that scripts for image search write: see docs/features.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgsearch_es.errors import ConfigurationError, ExchangeError
from imgsearch_es.indexing.exchange.documents import ImportProgress, ImportReport, import_rows
from imgsearch_es.indexing.exchange.feature_files import (
    NAMES,
    VECTORS,
    Csv,
    Feature,
    Hdf5,
    NumPyPair,
    ParquetFeatures,
)
from imgsearch_es.indexing.exchange.formats import whole
from imgsearch_es.indexing.exchange.rows import Row, RowError
from imgsearch_es.pictures.files import filename, in_memory, picture_id, to_uri
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings, Store, known_settings


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


def _feature_file(path: Path) -> tuple[Csv | Hdf5 | NumPyPair | ParquetFeatures, Path]:
    """The kind of a file by its name, and where it is: of a pair of NumPy files their folder."""
    kinds: dict[str, type[Csv | Hdf5 | ParquetFeatures]] = {
        ".csv": Csv,
        ".h5": Hdf5,
        ".hdf5": Hdf5,
        ".parquet": ParquetFeatures,
    }
    if (kind := kinds.get(path.suffix.lower())) is not None:
        return kind(), path
    if path.name in (NAMES, VECTORS):
        return NumPyPair(), path.parent
    if path.is_dir() or not path.suffix:
        return NumPyPair(), path
    raise ExchangeError(
        f"{path} is no file of features by its name: use .csv, .h5 or .hdf5, .parquet, or a folder "
        "for filenames.npy and vectors.npy"
    )


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
    form, place = _feature_file(path)
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
    form, place = _feature_file(path)
    present = store.settings()
    if present is not None and not present.embedding_dimensions:
        raise ExchangeError(
            f"cannot import {place}: the index's analyzer gives no deep features "
            "(embedding = false)"
        )
    reader = _Reader(folder, 0 if present is None else present.embedding_dimensions)

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

    report = import_rows(
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


class _Reader:
    """Turns rows into documents; the first one says the dimensions, and each is of another path."""

    def __init__(self, folder: Path | None, dimensions: int) -> None:
        self._folder, self.dimensions = folder, dimensions
        self._limit = f"the index's have {dimensions}"
        self.seen: set[bytes] = set()

    def document(self, row: Row) -> Document:
        """The document of a row; RowError where there is none."""
        path, vector, labels = row.values
        if not self.dimensions:
            self.dimensions = len(vector)
            self._limit = f"row {row.number} and the others have {self.dimensions}"
        if len(vector) != self.dimensions:
            raise RowError(f"it has {len(vector)} features, {self._limit}")
        is_whole = Path(path).is_absolute() or in_memory(path) or "://" in path or path[0] == "~"
        try:
            uri = to_uri(path if is_whole or self._folder is None else self._folder / path)
        except (ConfigurationError, ValueError) as error:
            raise RowError(f"path: {error}") from error
        key = picture_id(uri)
        if (identity := bytes.fromhex(key)) in self.seen:
            raise RowError("this path stands twice in the file")
        self.seen.add(identity)
        return Document.from_feature(key, uri, filename(uri), vector, labels)
