"""JSON Lines and Parquet: rows into a file and out of it, some at a time."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, Protocol, TypeVar

import numpy as np

from imgsearch_es.errors import ExchangeError, MissingDependencyError, pip_install
from imgsearch_es.indexing.exchange.rows import HEADER, RowError

_LONGEST_LINE = 512 * 1024**2
"""Characters: more is no document, and would fill the memory."""
_GROUP_ROWS, _GROUP_BYTES = 10_000, 64 * 1024**2
"""Of a row group of Parquet; the pictures count."""
_BATCH_ROWS = 512
Mode = Literal["rb", "wb"]
PARQUET = {"compression": "zstd", "write_page_checksum": True}
"""How it is written."""
T = TypeVar("T")
EXTENSIONS = ".jsonl, .jsonl.gz or .parquet"


class Row(NamedTuple):
    """One row of a file: its number, counted from 1, and its values or what is wrong with it."""

    number: int
    values: dict[str, Any] | RowError


class Format(Protocol):
    """A kind of file."""

    def write(self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Write rows as ``rows.to_row`` makes them."""
        ...

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header (None without one), and the rows as they are asked for."""
        ...


def format_of(path: Path) -> Format:
    """The kind of a file, by its name.

    Raises:
        ExchangeError: the name has another extension.
        MissingDependencyError: Parquet needs pyarrow.
    """
    name = path.name.lower()
    if name.endswith((".jsonl", ".ndjson")):
        return JsonLines(open)
    if name.endswith((".jsonl.gz", ".ndjson.gz")):
        return JsonLines(gzip.open)
    if name.endswith(".parquet"):
        return Parquet()
    raise ExchangeError(f"{path} is neither JSON Lines nor Parquet by its name: use {EXTENSIONS}")


class JsonLines:
    """One JSON object a line, in UTF-8; the first line is the header."""

    def __init__(self, opened: Callable[[Path, Mode], Any]) -> None:
        self._open = opened

    def write(self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Write the header and a line for each row."""
        with self._open(path, "wb") as file:
            file.write(_line({HEADER: header}))
            for row in rows:
                file.write(_line({k: v for k, v in row.items() if v is not None}))

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header in the first line; every other line is a row."""
        lines = self._lines(path)
        first = next(lines, None)
        if first is None:
            raise ExchangeError(f"{path} is empty")
        header = None if isinstance(first.values, RowError) else first.values.get(HEADER)
        return header, lines

    def _lines(self, path: Path) -> Iterator[Row]:
        number = 0
        try:
            with self._open(path, "rb") as file:
                while line := file.readline(_LONGEST_LINE):
                    number += 1
                    if len(line) == _LONGEST_LINE:
                        raise ExchangeError(f"{path}: line {number} does not end")
                    if line.strip():
                        yield Row(number, _read_line(line))
        except (OSError, EOFError) as error:
            raise ExchangeError(f"cannot read {path}, line {number + 1}: {error}") from error


class Parquet:
    """Columns of the document; the header is JSON in the file's key-value metadata."""

    def __init__(self) -> None:
        self._arrow = import_parquet(".jsonl")

    def write(self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Write row groups of bounded size."""
        arrow = self._arrow
        texts = ("id", "uri", "filename", "sha256")
        schema = arrow.schema(
            [
                *((name, arrow.string()) for name in texts),
                *(("width", arrow.int32()), ("height", arrow.int32()), ("bytes", arrow.int64())),
                *(("format", arrow.string()), ("indexed_at", arrow.timestamp("us", tz="UTC"))),
                *(("label", arrow.list_(arrow.string())), ("metadata", arrow.string())),
                *((name, arrow.list_(arrow.float32())) for name in ("scores", "embedding")),
                *(("synsets", arrow.list_(arrow.string())), ("picture", arrow.binary())),
            ],
            metadata={HEADER: json.dumps(header)},
        )
        with self._arrow.parquet.ParquetWriter(path, schema, **PARQUET) as writer:
            for group in _groups(rows):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header, and the rows of one record batch after the other."""
        file = open_parquet(path)
        kept = (file.schema_arrow.metadata or {}).get(HEADER.encode())
        if kept is None:
            kept = (file.metadata.metadata or {}).get(HEADER.encode())
        try:
            header = None if kept is None else _parse(kept)
        except (ValueError, RowError) as error:
            raise ExchangeError(f"{path}: its {HEADER!r} is no JSON: {error}") from error
        rows = parquet_rows(path, file, lambda batch: batch.to_pylist())
        return header, (Row(number, _read_metadata(row)) for number, row in enumerate(rows, 1))


def import_parquet(instead: str) -> Any:
    """PyArrow with its Parquet; MissingDependencyError names what to use ``instead``."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependencyError(
            f"Parquet needs pyarrow: {pip_install('parquet')}, or use {instead}"
        ) from error
    return pyarrow


def open_parquet(path: Path) -> Any:
    """A Parquet file whose pages are checked as they are read; ExchangeError if it cannot be."""
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pyarrow.ArrowException) as error:
        raise ExchangeError(f"cannot read {path}: {error}") from error


def parquet_rows(
    path: Path, file: Any, rows_of: Callable[[Any], Iterable[T]], columns: list[str] | None = None
) -> Iterator[T]:
    """The rows of one record batch after the other; the file is closed in the end."""
    import pyarrow

    number = 0
    with closing(file):
        batches = map(rows_of, file.iter_batches(batch_size=_BATCH_ROWS, columns=columns))
        while True:
            try:
                batch = next(batches, None)
            except (OSError, pyarrow.ArrowException) as error:
                problem = f"cannot read {path} after row {number}: {error}"
                raise ExchangeError(problem) from error
            if batch is None:
                return
            for row in batch:
                number += 1
                yield row


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, default=_to_json, allow_nan=False) + "\n").encode()


def _to_json(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _read_line(line: bytes) -> dict[str, Any] | RowError:
    try:
        values = _parse(line)
        if not isinstance(values, dict):
            return RowError("the line is no JSON object")
        if isinstance(picture := values.get("picture"), str):
            values["picture"] = base64.b64decode(picture, validate=True)
        return values
    except RowError as error:
        return error
    except binascii.Error as error:
        return RowError(f"picture is not base64: {error}")
    except (ValueError, RecursionError) as error:
        return RowError(f"the line is no JSON in UTF-8: {error}")


def _read_metadata(row: dict[str, Any]) -> dict[str, Any] | RowError:
    """Parquet has no column of any JSON: metadata is a text."""
    try:
        text = row.get("metadata")
        return {**row, "metadata": _parse(text) if text else None}
    except RowError as error:
        return error
    except (ValueError, TypeError, RecursionError) as error:
        return RowError(f"metadata is no JSON: {error}")


def _parse(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise RowError(f"{constant} is no number of JSON")


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        group.append({**row, "metadata": json.dumps(row["metadata"], allow_nan=False)})
        size += len(row["picture"] or b"")
        size += 0 if row["embedding"] is None else 8 * len(row["embedding"])
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def sync(path: Path) -> None:
    """Make sure that a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
