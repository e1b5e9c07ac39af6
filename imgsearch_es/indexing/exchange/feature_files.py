"""Deep features in files: CSV, Parquet, HDF5, a pair of NumPy files. None is ever unpickled."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ExchangeError, needed
from imgsearch_es.indexing.exchange.formats import ARRAYS
from imgsearch_es.indexing.exchange.rows import (
    PARQUET,
    Row,
    RowError,
    chunks,
    import_parquet,
    open_parquet,
    parquet_rows,
)
from imgsearch_es.pictures.files import reason

NAMES, VECTORS, LABELS = ARRAYS
_BLOCK = 512
"""Rows that are read or written at a time."""
_LONGEST_LINE = 64 * 1024**2
"""Characters: more is no row of numbers, and would fill the memory."""
_NO_FEATURES = {"label", "labels", "class", "target"}
"""Columns whose numbers would be taken for features."""
_SEPARATOR = ";"
"""Between several labels of one picture, where a file has one text for each picture."""


class Feature(NamedTuple):
    """A picture, by its path in the file, and its vector: float32 of (dimensions,), finite."""

    path: str
    vector: NDArray[np.float32]
    labels: tuple[str, ...] = ()


def feature_file(path: Path) -> tuple[Csv | Hdf5 | NumPyPair | ParquetFeatures, Path]:
    """The kind of a file by its name, and where it is: of a pair of NumPy files their folder."""
    match path.suffix.lower():
        case ".csv":
            return Csv(), path
        case ".h5" | ".hdf5":
            return Hdf5(), path
        case ".parquet":
            return ParquetFeatures(), path
    if path.name in (NAMES, VECTORS):
        return NumPyPair(), path.parent
    if path.is_dir() or not path.suffix:
        return NumPyPair(), path
    raise ExchangeError(
        f"{path} is no file of features by its name: use .csv, .h5 or .hdf5, .parquet, or a folder "
        "for filenames.npy and vectors.npy"
    )


class Csv:
    """``path,f1,f2,...``: a picture a line, with a line of names above, or without."""

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write the names and a line for each feature; nine digits tell float32 numbers apart."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", *(f"f{i}" for i in range(1, dimensions + 1))])
            for feature in features:
                writer.writerow([feature.path, *(f"{x:.9g}" for x in feature.vector.tolist())])

    def read(self, path: Path) -> Iterator[Row]:
        """The lines; see ``_are_names`` for the first one."""
        try:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                reader = csv.reader(_lines(path, file), strict=True)
                for i, fields in enumerate(reader):
                    if i == 0 and (others := _NO_FEATURES.intersection(fields)):
                        problem = f"{path}: the column {min(others)!r} is no feature: remove it"
                        raise ExchangeError(f"{problem}, or write labels to Parquet")
                    if fields and not (i == 0 and _are_names(*fields)):
                        yield _row(reader.line_num, fields[0], fields[1:])
        except csv.Error as error:
            problem = f"cannot read {path}, line {reader.line_num}: {error}"
            raise ExchangeError(problem) from error
        except OSError as error:
            raise ExchangeError(f"cannot read {path}: {reason(error)}") from error


def _are_names(first: str, *others: str) -> bool:
    """Whether a line is of names: without a number, or as pandas counts columns, from 0 on."""
    counted = "." not in first and list(others) == list(map(str, range(len(others))))
    return bool(others) and (counted or not any(map(_is_number, others)))


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise ExchangeError(f"{path} is no CSV: a line has {_LONGEST_LINE:,} characters")
        yield line


class ParquetFeatures:
    """The columns ``path``, ``features`` (a list of float) and ``labels`` (a list of string).

    Also read: a column ``uri``, ``filename`` or ``image_id`` in place of the first, ``embedding``
    or ``vector`` in place of the second, and ``label``; so a file of documents is one of features.
    """

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write a row group for each block."""
        arrow = import_parquet(".csv")
        columns = {
            "path": arrow.string(),
            "features": arrow.list_(arrow.float32()),
            "labels": arrow.list_(arrow.string()),
        }
        schema = arrow.schema(columns.items())
        with arrow.parquet.ParquetWriter(path, schema, **PARQUET) as writer:
            for block in chunks(features, _BLOCK):
                values = [list(column) for column in zip(*block, strict=True)]
                writer.write_table(arrow.table(values, schema=schema))

    def read(self, path: Path) -> Iterator[Row]:
        """The rows of one record batch after the other."""
        file = open_parquet(path, ".csv")
        names = file.schema_arrow.names

        def column(*known: str) -> str:
            if found := next((name for name in known if name in names), ""):
                return found
            raise ExchangeError(
                f"{path} has none of the columns {', '.join(known)}; it has {', '.join(names[:20])}"
            )

        place = column("path", "uri", "filename", "image_id")
        vector = column("features", "embedding", "vector")
        labels = [name for name in ("labels", "label") if name in names][:1]
        rows = parquet_rows(path, file, [place, vector, *labels])
        for number, values in enumerate(rows, 1):
            named = values[labels[0]] if labels else []
            if not isinstance(named, list):
                named = [] if named is None else [named]
            yield _row(number, values[place], values[vector], named)


class NumPyPair:
    """A folder with ``filenames.npy``, texts, and ``vectors.npy``, float32 (pictures, dimensions).

    ``labels.npy``, texts, is written where a picture has a label, and read where it is there.
    """

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write the files into a new folder; names and labels wait for the longest of them."""
        path.mkdir()
        names, labels = list[str](), list[str]()
        with (path / VECTORS).open("wb") as file:
            _write_header(file, (0, dimensions), "<f4")
            for feature in features:
                file.write(np.ascontiguousarray(feature.vector, "<f4").tobytes())
                names.append(feature.path)
                labels.append(_joined(feature))
            file.seek(0)
            _write_header(file, (len(names), dimensions), "<f4")
        _write_texts(path / NAMES, names)
        if any(labels):
            _write_texts(path / LABELS, labels)

    def read(self, path: Path) -> Iterator[Row]:
        """Rows of both arrays, which are mapped into memory and not read whole."""
        names, vectors = _mapped(path / NAMES), _mapped(path / VECTORS)
        if names.dtype.kind not in "US":
            raise ExchangeError(
                f"{path / NAMES} holds {names.dtype}, not the names of pictures as texts"
            )
        labels = _mapped(path / LABELS) if (path / LABELS).exists() else None
        yield from _rows(str(path), names, vectors, labels)


def _write_header(file: IO[bytes], shape: tuple[int, ...], kind: str) -> None:
    """NumPy leaves room for the first dimension to grow, so that a header can be written again."""
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_texts(path: Path, texts: list[str]) -> None:
    kind = f"<U{max(map(len, texts), default=1)}"
    with path.open("wb") as file:
        _write_header(file, (len(texts),), kind)
        for text in texts:
            file.write(np.array(text, kind).tobytes())


def _mapped(path: Path) -> Any:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ExchangeError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # a header that is damaged raises anything
        raise ExchangeError(
            f"{path} is no array of numbers or texts that NumPy saved ({reason(error)}); what was "
            "pickled is not read: save it again with numpy.save(..., allow_pickle=False)"
        ) from error
    if not isinstance(found, np.ndarray):
        raise ExchangeError(f"{path} holds several arrays: save one with numpy.save")
    return found


class Hdf5:
    """The datasets ``image_ids``, ``features`` and ``labels`` (or ``label``) of an HDF5 file.

    Features of shape (pictures, height, width, channels) are read as their mean over the positions.
    """

    def __init__(self) -> None:
        self._h5py = needed("h5py", "HDF5 needs h5py (or use .csv)", "features")

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write blocks to the end of datasets that grow."""
        options: dict[str, Any] = {"chunks": (_BLOCK,), "maxshape": (None,)}
        options["dtype"] = self._h5py.string_dtype("utf-8")
        with _Noting(path, "w+") as target, self._h5py.File(target, "w") as file:
            ids = file.create_dataset("image_ids", (0,), **options)
            vectors = file.create_dataset(
                "features",
                (0, dimensions),
                chunks=(max(1, min(_BLOCK, 2**20 // (4 * dimensions))), dimensions),
                maxshape=(None, dimensions),
                dtype="<f4",
            )
            labels = file.create_dataset("labels", (0,), **options)
            for block in chunks(features, _BLOCK):
                start, end = len(ids), len(ids) + len(block)
                for dataset in (ids, vectors, labels):
                    dataset.resize(end, axis=0)
                ids[start:end] = [feature.path for feature in block]
                vectors[start:end] = np.stack([feature.vector for feature in block])
                labels[start:end] = [_joined(feature) for feature in block]

    def read(self, path: Path) -> Iterator[Row]:
        """Rows of the datasets, block by block."""
        try:
            with self._h5py.File(path, "r") as file:
                labels = [name for name in ("labels", "label") if name in file][:1]
                for name in ("image_ids", "features", *labels):
                    if not isinstance(file.get(name), self._h5py.Dataset):
                        there = ", ".join(file) or "none"
                        raise ExchangeError(f"{path} has no dataset {name!r}; it has {there}")
                marks = file[labels[0]] if labels else None
                yield from _rows(str(path), file["image_ids"], file["features"], marks)
        except (OSError, RuntimeError) as error:
            raise ExchangeError(f"cannot read {path}: {reason(error)}") from error


class _Noting(io.FileIO):
    """Goes on when a write fails, as HDF5 ends the process otherwise, and says why in the end."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or nothing after the first problem."""
        rest = memoryview(data)
        try:
            while rest and self.problem is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.problem = error
        return len(data)

    def __exit__(self, *error: object) -> None:
        self.close()
        if self.problem is not None:
            raise self.problem


def _joined(feature: Feature) -> str:
    """A picture's labels as one text; ExchangeError where one has what such a text cannot hold."""
    for label in feature.labels:
        if _SEPARATOR in label or "\0" in label:
            raise ExchangeError(
                f"the label {label!r:.200} of {feature.path} has a {_SEPARATOR!r}, which separates "
                "labels in this kind of file, or a null character: write Parquet instead"
            )
    return _SEPARATOR.join(feature.labels)


def _rows(place: str, names: Any, vectors: Any, labels: Any) -> Iterator[Row]:
    if vectors.dtype.kind not in "fiu" or vectors.ndim not in (2, 4):
        raise ExchangeError(
            f"{place}: features are {vectors.dtype} of shape {tuple(vectors.shape)}, and should be "
            "numbers of shape (pictures, dimensions)"
        )
    lengths = {len(array) for array in (names, vectors, labels) if array is not None}
    if len(lengths) > 1:
        said = " and ".join(map(str, sorted(lengths)))
        raise ExchangeError(f"{place}: its arrays have different lengths, {said}")
    if any(array is not None and array.ndim != 1 for array in (names, labels)):
        raise ExchangeError(f"{place}: names and labels are not one for each picture")
    for start in range(0, len(vectors), _BLOCK):
        block = np.asarray(vectors[start : start + _BLOCK])
        if block.ndim == 4:
            block = block.mean(axis=(1, 2))
        paths = _texts(place, names[start : start + _BLOCK])
        marks = [None] * len(block)
        if labels is not None:
            marks = _texts(place, labels[start : start + _BLOCK])
        for i, (path, values, mark) in enumerate(zip(paths, block, marks, strict=True), 1):
            yield _row(start + i, _text(path), values, _text(mark).split(_SEPARATOR))


def _texts(place: str, values: Any) -> Any:
    """Names or labels; ExchangeError where a damaged file has what no character is."""
    if values.dtype.kind == "U" and values.nbytes:
        numbers = np.ascontiguousarray(values).view(f"{values.dtype.byteorder}u4")
        if numbers.max() > sys.maxunicode:
            raise ExchangeError(f"{place}: a name or a label is no text; the file is damaged")
    return values


def _text(value: object) -> str:
    """A name or a label as a text: bytes are decoded, 3.0 is "3"."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _row(number: int, path: object, values: Any, labels: Iterable[object] = ()) -> Row:
    try:
        if not isinstance(path, str) or not path.strip():
            raise RowError("the path is missing")
        texts = tuple(filter(None, map(_text, labels)))
        return Row(number, path, Feature(path, _vector(values), texts))
    except RowError as error:
        return Row(number, "", error)


def _vector(values: Any) -> NDArray[np.float32]:
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        many = values if isinstance(values, list) else [values]
        wrongs = (pair for pair in enumerate(many, 1) if not _is_number(pair[1]))
        place, wrong = next(wrongs, (1, values))
        is_empty = isinstance(wrong, str) and not wrong.strip()
        problem = f"feature {place} is empty" if is_empty else f"{wrong!r:.60} is no number"
        raise RowError(problem) from None
    if vector.ndim != 1 or not vector.size:
        raise RowError("there are no features")
    if not np.isfinite(vector).all():
        place = int(np.flatnonzero(~np.isfinite(vector))[0]) + 1
        raise RowError(f"feature {place} is not finite, or too large for float32")
    return vector


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
