"""Features in files: a path and a vector a row, as CSV or Parquet; ``arrays.py`` has the others."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ExchangeError
from imgsearch_es.indexing.exchange.formats import (
    PARQUET,
    import_parquet,
    open_parquet,
    parquet_rows,
)
from imgsearch_es.indexing.exchange.rows import RowError
from imgsearch_es.pictures.files import reason

BLOCK = 512
"""Rows that are read or written at a time."""
_LONGEST_LINE = 64 * 1024**2
"""Characters: more is no row of numbers, and would fill the memory."""
_PATHS = ("path", "uri", "filename", "image_id")
_VECTORS = ("features", "embedding", "vector")
_LABELS = ("labels", "label")

Vector = NDArray[np.float32]


class Feature(NamedTuple):
    """A picture and its vector.

    Attributes:
        path: of the picture, as the file has it; may be relative.
        vector: float32 of shape (dimensions,), finite.
        labels: of the picture, where the file keeps labels.
    """

    path: str
    vector: Vector
    labels: tuple[str, ...] = ()


class FeatureRow(NamedTuple):
    """One row of a file: its number (the line of a CSV, else counted from 1), or what is wrong."""

    number: int
    feature: Feature | RowError


class FeatureFile(Protocol):
    """A kind of file."""

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write features, each of so many dimensions."""
        ...

    def read(self, path: Path) -> Iterator[FeatureRow]:
        """The rows, as they are asked for.

        Raises:
            ExchangeError: the file cannot be read, or is of another form.
        """
        ...


class Csv:
    """``path,f1,f2,...``: a picture a line, with a line of names above, or without."""

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write the names and a line for each feature; nine digits tell float32 numbers apart."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["path", *(f"f{i}" for i in range(1, dimensions + 1))])
            for feature in features:
                writer.writerow([feature.path, *(f"{x:.9g}" for x in feature.vector.tolist())])

    def read(self, path: Path) -> Iterator[FeatureRow]:
        """The lines; the first one is of names when its second field is no number."""
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(_lines(path, file), strict=True)
            first = True
            while True:
                try:
                    fields = next(reader, None)
                except csv.Error as error:
                    problem = f"cannot read {path}, line {reader.line_num}: {error}"
                    raise ExchangeError(problem) from error
                if fields is None:
                    return
                if fields and not (first and _are_names(fields)):
                    yield FeatureRow(reader.line_num, _from_fields(fields))
                first = False


class ParquetFeatures:
    """The columns ``path``, ``features`` (a list of float) and ``labels`` (a list of string).

    Also read: a column ``uri``, ``filename`` or ``image_id`` in place of the first, ``embedding``
    or ``vector`` in place of the second, and ``label``; so a file of documents is one of features.
    """

    def __init__(self) -> None:
        self._arrow = import_parquet(".csv")

    def write(self, path: Path, features: Iterable[Feature], dimensions: int) -> None:
        """Write row groups of `BLOCK` rows and more, as the writer puts them together."""
        arrow = self._arrow
        schema = arrow.schema(
            [
                ("path", arrow.string()),
                ("features", arrow.list_(arrow.float32())),
                ("labels", arrow.list_(arrow.string())),
            ]
        )
        with self._arrow.parquet.ParquetWriter(path, schema, **PARQUET) as writer:
            for block in blocks(features):
                columns = {
                    "path": [feature.path for feature in block],
                    "features": [feature.vector for feature in block],
                    "labels": [list(feature.labels) for feature in block],
                }
                writer.write_table(arrow.table(columns, schema=schema))

    def read(self, path: Path) -> Iterator[FeatureRow]:
        """The rows of one record batch after the other."""
        file = open_parquet(path)
        names = file.schema_arrow.names
        columns = [_one_of(names, known, path) for known in (_PATHS, _VECTORS)]
        columns += [name for name in _LABELS if name in names][:1]
        rows = parquet_rows(
            path, file, lambda batch: zip(*map(batch.column, columns), strict=True), columns
        )
        for number, row in enumerate(rows, 1):
            yield FeatureRow(number, _from_arrow(*row))


def to_feature(path: object, values: Any, labels: Iterable[object] = ()) -> Feature | RowError:
    """A row's values, checked."""
    if not isinstance(path, str) or not path.strip():
        return RowError("the path is missing")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        return RowError("a feature is no number")
    if vector.ndim != 1 or not vector.size:
        return RowError("there are no features")
    if not np.isfinite(vector).all():
        place = int(np.flatnonzero(~np.isfinite(vector))[0]) + 1
        return RowError(f"feature {place} is not finite, or too large for float32")
    return Feature(path, vector, tuple(str(label) for label in labels))


def blocks(features: Iterable[Feature]) -> Iterator[list[Feature]]:
    """Some features at a time."""
    block: list[Feature] = []
    for feature in features:
        block.append(feature)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    try:
        while line := file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                raise ExchangeError(f"{path} is no CSV: a line has {_LONGEST_LINE:,} characters")
            yield line
    except OSError as error:
        raise ExchangeError(f"cannot read {path}: {reason(error)}") from error


def _are_names(fields: Sequence[str]) -> bool:
    return len(fields) > 1 and not _is_number(fields[1])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _from_fields(fields: Sequence[str]) -> Feature | RowError:
    for place, text in enumerate(fields[1:], start=1):
        if not text.strip():
            return RowError(f"feature {place} is empty")
    found = to_feature(fields[0], fields[1:])
    if isinstance(found, RowError) and "no number" in str(found):
        wrong = next(text for text in fields[1:] if not _is_number(text))
        return RowError(f"{wrong!r:.60} is no number")
    return found


def _from_arrow(place: Any, values: Any, labels: Any = None) -> Feature | RowError:
    path = place.as_py()
    if getattr(values, "values", None) is None:
        return RowError("there are no features")
    if values.values.null_count:
        return RowError("a feature is missing")
    named = None if labels is None else labels.as_py()
    if named is None:
        named = []
    if not isinstance(named, list):
        named = [named]
    return to_feature(path, values.values.to_numpy(zero_copy_only=False), named)


def _one_of(names: Sequence[str], known: Sequence[str], path: Path) -> str:
    for name in known:
        if name in names:
            return name
    raise ExchangeError(
        f"{path} has none of the columns {', '.join(known)}; it has {', '.join(names[:20])}"
    )
