"""JSON Lines and Parquet: rows into a file and out of it, some at a time; files that are whole."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from imgsearch_es.errors import ExchangeError, needed
from imgsearch_es.indexing.exchange.rows import HEADER, Row, RowError, refusing
from imgsearch_es.pictures.files import reason

if TYPE_CHECKING:
    from imgsearch_es.indexing.exchange.ciff import Ciff

ARRAYS = ("filenames.npy", "vectors.npy", "labels.npy")
"""The files of a folder of features."""
_LONGEST_LINE = 512 * 1024**2
"""Characters: more is no document, and would fill the memory."""
_GROUP_ROWS, _GROUP_BYTES = 10_000, 64 * 1024**2
"""Of a row group of Parquet; the pictures count."""
_BATCH_ROWS = 512
PARQUET = {"compression": "zstd", "write_page_checksum": True}
"""How it is written."""


def format_of(path: Path) -> JsonLines | Parquet | Ciff:
    """The kind of a file, by its name."""
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return JsonLines()
    if name.endswith(".parquet"):
        return Parquet()
    if name.endswith((".ciff", ".ciff.gz")):
        from imgsearch_es.indexing.exchange.ciff import Ciff  # protobuf takes a moment to import

        return Ciff()
    raise ExchangeError(
        f"{path} is neither JSON Lines nor Parquet nor CIFF by its name: use .jsonl, .jsonl.gz, "
        ".parquet or .ciff"
    )


def opened(path: Path, mode: Literal["rb", "wb"]) -> Any:
    """A file, packed where its name ends in .gz."""
    return (gzip.open if path.name.lower().endswith(".gz") else open)(path, mode)


class JsonLines:
    """One JSON object a line, in UTF-8; the first line is the header."""

    def write(self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Write the header and a line for each row."""
        with opened(path, "wb") as file:
            file.write(_line({HEADER: header}))
            for row in rows:
                file.write(_line({k: v for k, v in row.items() if v is not None}))

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header in the first line, None without one; every other line is a row."""
        lines = self._lines(path)
        first = next(lines, None)
        if first is None:
            raise ExchangeError(f"{path} is empty")
        return None if isinstance(first.values, RowError) else first.values.get(HEADER), lines

    def _lines(self, path: Path) -> Iterator[Row]:
        number = 0
        try:
            with opened(path, "rb") as file:
                while line := file.readline(_LONGEST_LINE):
                    number += 1
                    if len(line) == _LONGEST_LINE:
                        raise ExchangeError(f"{path}: line {number} does not end")
                    if line.strip():
                        yield Row.of(number, _read_line, line)
        except (OSError, EOFError, zlib.error) as error:
            raise ExchangeError(f"cannot read {path}, line {number + 1}: {error}") from error


class Parquet:
    """Columns of the document; the header is JSON in the file's key-value metadata."""

    def write(self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> None:
        """Write row groups of bounded size."""
        arrow = import_parquet(".jsonl")
        texts, numbers = arrow.list_(arrow.string()), arrow.list_(arrow.float32())
        columns = {
            **dict.fromkeys(("id", "uri", "filename", "sha256"), arrow.string()),
            **{"width": arrow.int32(), "height": arrow.int32(), "bytes": arrow.int64()},
            **{"format": arrow.string(), "indexed_at": arrow.timestamp("us", tz="UTC")},
            "label": texts,
            **dict.fromkeys(("metadata", "photo", "text", "thumbnail"), arrow.string()),
            **{"scores": numbers, "embedding": numbers},
            **{"views": arrow.list_(arrow.int8()), "synsets": texts, "picture": arrow.binary()},
        }
        schema = arrow.schema(columns.items(), metadata={HEADER: json.dumps(header)})
        with arrow.parquet.ParquetWriter(path, schema, **PARQUET) as writer:
            for group in _groups(rows):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header, None without one, and the rows of one record batch after the other."""
        file = open_parquet(path, ".jsonl")
        both = {**(file.metadata.metadata or {}), **(file.schema_arrow.metadata or {})}
        kept = both.get(HEADER.encode())
        try:
            header = None if kept is None else _parse(kept, "it is no JSON")
        except RowError as error:
            raise ExchangeError(f"{path}: its {HEADER!r} is wrong: {error}") from error
        rows = enumerate(parquet_rows(path, file), 1)
        return header, (Row.of(number, _read_metadata, row) for number, row in rows)


def import_parquet(instead: str) -> Any:
    """PyArrow with its Parquet; MissingDependencyError names what to use ``instead``."""
    needed("pyarrow.parquet", f"Parquet needs pyarrow (or use {instead})", "parquet")
    return import_module("pyarrow")


def open_parquet(path: Path, instead: str) -> Any:
    """A Parquet file whose pages are checked as they are read; ExchangeError if it cannot be."""
    arrow = import_parquet(instead)
    try:
        return arrow.parquet.ParquetFile(path, page_checksum_verification=True)
    except (OSError, arrow.ArrowException) as error:
        raise ExchangeError(f"cannot read {path}: {error}") from error


def parquet_rows(
    path: Path, file: Any, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The rows of one record batch after the other; the file is closed in the end."""
    import pyarrow

    number = 0
    with closing(file):
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=columns)
        while True:
            try:
                batch = next(batches, None)
                rows = [] if batch is None else batch.to_pylist()
            except (OSError, pyarrow.ArrowException) as error:
                problem = f"cannot read {path} after row {number}: {error}"
                raise ExchangeError(problem) from error
            if batch is None:
                return
            number += len(rows)
            yield from rows


@contextmanager
def whole(path: Path, *, force: bool) -> Iterator[Path]:
    """Where to write what shall be at ``path``, and is there in the end whole or not at all.

    With ``force`` it replaces a file, or a folder with nothing but arrays of ours in it.
    """
    if path.exists() and not force:
        raise ExchangeError(f"{path} exists; give another name, or force=True (--force)")
    if path.is_dir() and (others := {file.name for file in path.iterdir()} - set(ARRAYS)):
        raise ExchangeError(
            f"{path} is a folder with other files in it, such as {min(others)}: give a new one"
        )
    path = path if path.name else path.absolute()  # of the current folder
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the extension says the format
    try:
        yield part
        if path.exists() and not force:
            raise ExchangeError(f"{path} was made by another program meanwhile")
        if part.is_dir():
            _remove_files(path)
        else:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {reason(error)}") from error
    finally:
        _remove_files(part)


def _remove_files(place: Path) -> None:
    """Remove a file, or a folder of arrays; a folder with anything else in it stays."""
    if not place.is_dir():
        place.unlink(missing_ok=True)
        return
    for name in ARRAYS:
        (place / name).unlink(missing_ok=True)
    place.rmdir()


def _line(values: Mapping[str, Any]) -> bytes:
    def to_json(value: Any) -> object:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value.isoformat() if isinstance(value, datetime) else value.tolist()

    try:
        return (json.dumps(values, default=to_json, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise ExchangeError(
            f"{values['uri']} has a number that is not finite: `imgsearch verify` says where"
        ) from error


def _read_line(line: bytes) -> dict[str, Any]:
    values = _parse(line, "the line is no JSON in UTF-8")
    if not isinstance(values, dict):
        raise RowError("the line is no JSON object")
    if isinstance(picture := values.get("picture"), str):
        with refusing("picture is not base64"):
            values["picture"] = base64.b64decode(picture, validate=True)
    return values


def _read_metadata(row: dict[str, Any]) -> dict[str, Any]:
    """Parquet has no column of any JSON: metadata is a text, and so is photo, or a struct."""
    text, photo = row.get("metadata"), row.get("photo")
    if isinstance(photo, str):
        photo = _parse(photo, "photo is no JSON")
    metadata = _parse(text, "metadata is no JSON") if text else None
    return {**row, "metadata": metadata, "photo": photo}


def _parse(text: str | bytes, problem: str) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise RowError(f"{constant} is no number of JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, TypeError, RecursionError) as error:
        raise RowError(f"{problem}: {error}") from error


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        photo = row["photo"] and json.dumps(row["photo"])
        metadata = json.dumps(row["metadata"], allow_nan=False)
        group.append({**row, "metadata": metadata, "photo": photo})
        size += len(row["picture"] or b"")
        size += 0 if row["embedding"] is None else 8 * len(row["embedding"])
        if len(group) == _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group
