"""Features in files of arrays: a pair of NumPy files, and HDF5. Neither is ever unpickled."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from imgsearch_es.errors import ExchangeError, MissingDependencyError, pip_install
from imgsearch_es.indexing.exchange.rows import RowError
from imgsearch_es.indexing.exchange.vectors import BLOCK, Feature, FeatureRow, blocks, to_feature
from imgsearch_es.indexing.exchange.writing import ARRAYS
from imgsearch_es.pictures.files import reason

NAMES, VECTORS, LABELS = ARRAYS
SEPARATOR = ";"
"""Between several labels of one picture, where a file has one text for each picture."""


class NumPyPair:
    """A folder with ``filenames.npy``, texts, and ``vectors.npy``, float32 (pictures, dimensions).

    ``labels.npy``, texts, is written where a picture has a label, and read where it is there.
    """

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write the files into a new folder; names wait in plain files for their longest one."""
        path.mkdir()
        count, rest = 0, [path / f".{name}" for name in (NAMES, LABELS)]
        widths = [1, 0]
        with ExitStack() as stack:
            vectors = stack.enter_context((path / VECTORS).open("wb"))
            _write_header(vectors, (0, dimensions), "<f4")
            spools = [stack.enter_context(place.open("wb")) for place in rest]
            for feature in features:
                vectors.write(np.ascontiguousarray(feature.vector, "<f4").tobytes())
                for i, text in enumerate((feature.path, joined(feature))):
                    widths[i] = max(widths[i], len(text))
                    spools[i].write(f"{json.dumps(text)}\n".encode("ascii"))
                count += 1
            vectors.seek(0)
            _write_header(vectors, (count, dimensions), "<f4")
        for place, name, width in zip(rest, (NAMES, LABELS), widths, strict=True):
            if width:
                _write_texts(place, path / name, count, width)
            place.unlink()

    def read(self, path: Path) -> Iterator[FeatureRow]:
        """Rows of both arrays, which are mapped into memory and not read whole."""
        names, vectors = _texts(path / NAMES), _mapped(path / VECTORS)
        labels = _texts(path / LABELS) if (path / LABELS).exists() else None
        yield from _rows(str(path), names, vectors, labels)


class Hdf5:
    """The datasets ``image_ids``, ``features`` and ``labels`` of an HDF5 file.

    Features of shape (pictures, height, width, channels) are read as their mean over the positions.
    """

    def __init__(self) -> None:
        try:
            import h5py
        except ImportError as error:
            raise MissingDependencyError(
                f"HDF5 needs h5py: {pip_install('features')}, or use .csv"
            ) from error
        self._h5py = h5py

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write blocks to the end of datasets that grow."""
        with _Noting(path, "w+") as target:
            try:
                self._write(target, features, dimensions)
            finally:
                if target.problem is not None:
                    raise target.problem

    def _write(self, target: IO[bytes], features: Iterable[Feature], dimensions: int) -> None:
        text = self._h5py.string_dtype("utf-8")
        with self._h5py.File(target, "w") as file:
            chunk = max(1, min(BLOCK, 2**20 // (4 * dimensions)))
            options: dict[str, Any] = {"chunks": (BLOCK,), "maxshape": (None,), "dtype": text}
            ids = file.create_dataset("image_ids", (0,), **options)
            vectors = file.create_dataset(
                "features",
                (0, dimensions),
                chunks=(chunk, dimensions),
                maxshape=(None, dimensions),
                dtype="<f4",
            )
            labels = file.create_dataset("labels", (0,), **options)
            for block in blocks(features):
                start, end = len(ids), len(ids) + len(block)
                for dataset in (ids, vectors, labels):
                    dataset.resize(end, axis=0)
                ids[start:end] = [feature.path for feature in block]
                vectors[start:end] = np.stack([feature.vector for feature in block])
                labels[start:end] = [joined(feature) for feature in block]

    def read(self, path: Path) -> Iterator[FeatureRow]:
        """Rows of the datasets, block by block."""
        try:
            with self._h5py.File(path, "r") as file:
                names, vectors = (self._dataset(file, name, path) for name in _DATASETS)
                labels = self._dataset(file, "labels", path) if "labels" in file else None
                yield from _rows(str(path), names, vectors, labels)
        except (OSError, RuntimeError) as error:
            raise ExchangeError(f"cannot read {path}: {reason(error)}") from error

    def _dataset(self, file: Any, name: str, path: Path) -> Any:
        found = file.get(name)
        if not isinstance(found, self._h5py.Dataset):
            raise ExchangeError(
                f"{path} has no dataset {name!r}; it has {', '.join(file) or 'none'}"
            )
        return found


class _Noting(io.FileIO):
    """Keeps why a write failed and goes on as if it had not: HDF5 ends the process otherwise."""

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


_DATASETS = ("image_ids", "features")


def joined(feature: Feature) -> str:
    """A picture's labels as one text.

    Raises:
        ExchangeError: a label has the separator in it.
    """
    for label in feature.labels:
        if SEPARATOR in label:
            raise ExchangeError(
                f"the label {label!r} of {feature.path} has a {SEPARATOR!r}, which separates "
                "labels in this kind of file: write Parquet instead"
            )
    return SEPARATOR.join(feature.labels)


def _rows(place: str, names: Any, vectors: Any, labels: Any) -> Iterator[FeatureRow]:
    """Rows of arrays, or of datasets, of the same length."""
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
    for start in range(0, len(vectors), BLOCK):
        block = np.asarray(vectors[start : start + BLOCK])
        if block.ndim == 4:
            block = block.mean(axis=(1, 2))
        paths = names[start : start + BLOCK]
        marks = [None] * len(block) if labels is None else labels[start : start + BLOCK]
        for i, (path, values, mark) in enumerate(zip(paths, block, marks, strict=True)):
            yield FeatureRow(start + i + 1, _feature(path, values, mark))


def _feature(path: object, values: Any, label: object) -> Feature | RowError:
    return to_feature(_text(path), values, filter(None, _text(label).split(SEPARATOR)))


def _text(value: object) -> str:
    """A name or a label as a text: bytes are decoded, 3.0 is "3"."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _mapped(path: Path) -> Any:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise ExchangeError(f"cannot read {path}: {reason(error)}") from error
    except (ValueError, EOFError) as error:
        raise ExchangeError(
            f"{path} is no array of numbers or texts that NumPy saved ({reason(error)}); what was "
            "pickled is not read: save it again with numpy.save(..., allow_pickle=False)"
        ) from error
    if not isinstance(found, np.ndarray):
        raise ExchangeError(f"{path} holds several arrays: save one with numpy.save")
    return found


def _texts(path: Path) -> Any:
    found = _mapped(path)
    if path.name == NAMES and found.dtype.kind not in "US":
        raise ExchangeError(f"{path} holds {found.dtype}, not the names of pictures as texts")
    return found


def _write_header(file: IO[bytes], shape: tuple[int, ...], kind: str) -> None:
    """NumPy leaves room for the first dimension to grow, so that a header can be written again."""
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _write_texts(source: Path, target: Path, count: int, width: int) -> None:
    with source.open("rb") as lines, target.open("wb") as file:
        _write_header(file, (count,), f"<U{width}")
        for line in lines:
            file.write(np.array(json.loads(line), f"<U{width}").tobytes())
