"""JSON Lines, Parquet and CIFF: rows into a file and out of it, some at a time; whole files."""

from __future__ import annotations

import base64
import glob
import gzip
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import ExchangeError
from imgsearch_es.indexing.exchange.rows import (
    HEADER,
    PARQUET,
    Row,
    RowError,
    import_parquet,
    open_parquet,
    parquet_rows,
    refusing,
)
from imgsearch_es.pictures.files import reason
from imgsearch_es.stores.interrupts import is_alive
from imgsearch_es.vocabulary.colors import is_color

ARRAYS = ("filenames.npy", "vectors.npy", "labels.npy")
"""The files of a folder of features."""
_LONGEST_LINE = 512 * 1024**2
"""Characters: more is no document, and would fill the memory."""
_GROUP_ROWS, _GROUP_BYTES = 10_000, 64 * 1024**2
"""Of a row group of Parquet; the pictures count."""
LEVELS = 255
"""The largest weight of a posting of CIFF."""
_MESSAGES = {
    "Header": (
        *("version:int32", "num_postings_lists:int32", "num_docs:int32"),
        *("total_postings_lists:int32", "total_docs:int32", "total_terms_in_collection:int64"),
        *("average_doclength:double", "description:string"),
    ),
    "Posting": ("docid:int32", "tf:int32"),
    "PostingsList": ("term:string", "df:int64", "cf:int64", "postings:Posting"),
    "DocRecord": ("docid:int32", "collection_docid:string", "doclength:int32"),
}
"""The fields of each message of CIFF, numbered from 1; postings are many."""


def format_of(path: Path) -> JsonLines | Parquet | Ciff:
    """The kind of a file, by its name."""
    name = path.name.lower()
    if name.removesuffix(".gz").endswith((".jsonl", ".ndjson")):
        return JsonLines()
    if name.endswith(".parquet"):
        return Parquet()
    if name.endswith((".ciff", ".ciff.gz")):
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
        schema = arrow.schema(self._columns(arrow).items(), metadata={HEADER: json.dumps(header)})
        with arrow.parquet.ParquetWriter(path, schema, **PARQUET) as writer:
            for group in _groups(rows):
                writer.write_table(arrow.Table.from_pylist(group, schema=schema))

    @staticmethod
    def _columns(arrow: Any) -> dict[str, Any]:
        texts, numbers = arrow.list_(arrow.string()), arrow.list_(arrow.float32())
        return {
            **dict.fromkeys(("id", "uri", "filename", "sha256"), arrow.string()),
            **{"width": arrow.int32(), "height": arrow.int32(), "bytes": arrow.int64()},
            **{"format": arrow.string(), "indexed_at": arrow.timestamp("us", tz="UTC")},
            "label": texts,
            **dict.fromkeys(("metadata", "photo", "text", "thumbnail"), arrow.string()),
            **{"scores": numbers, "embedding": numbers},
            **{"views": arrow.list_(arrow.int8()), "synsets": texts, "picture": arrow.binary()},
        }

    def read(self, path: Path) -> tuple[object, Iterator[Row]]:
        """The header, None without one, and the rows of one record batch after the other."""
        file = open_parquet(path, ".jsonl")
        both = {**(file.metadata.metadata or {}), **(file.schema_arrow.metadata or {})}
        kept = both.get(HEADER.encode())
        try:
            header = None if kept is None else _parse(kept, "it is no JSON")
        except RowError as error:
            raise ExchangeError(f"{path}: its {HEADER!r} is wrong: {error}") from error
        known = self._columns(import_parquet(".jsonl")).keys() & {*file.schema_arrow.names}
        rows = enumerate(parquet_rows(path, file, sorted(known)), 1)
        return header, (Row.of(number, _read_metadata, row) for number, row in rows)


@dataclass(frozen=True, slots=True)
class Rounding:
    """What whole numbers cost.

    Attributes:
        step: the weight that 1 stands for; others are off by no more than half of it.
        postings: how many there are.
        raised: how many weights were below half a step, and are 1.
        added: what that adds to the sum of all weights, as a share of it.
    """

    step: float
    postings: int
    raised: int
    added: float

    def __str__(self) -> str:
        return (
            f"weights are whole multiples of {self.step:.3g}; {self.raised:,} of {self.postings:,} "
            f"were less than half of it and are raised to it, which adds {self.added:.1%} to the "
            "sum of all weights"
        )


class Ciff:
    """The Common Index File Format: an inverted index that PISA, Lucene, Terrier and others read.

    A header, a list of postings for each term in the order of their names, and a record for each
    document, each a message of Protocol Buffers behind its length (Lin et al., "Supporting
    interoperability between open-source search engines with the Common Index File Format", SIGIR
    2020; https://github.com/osirrc/ciff). Its weights are whole numbers, so ours are rounded to
    multiples of a 255th of the largest: 8 bits are what engines for impacts take. What would be 0
    becomes 1, so that each picture is still found by all its terms. Terms are in lower case, as
    PISA has those of queries; keys differ by more than that.
    """

    def write(
        self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]
    ) -> Rounding:
        """Write the terms of all rows; their postings, of 8 bytes each, are held in memory."""
        places: dict[str, array[int]] = {}
        weights: dict[str, array[float]] = {}
        ids: list[str] = []
        for place, row in enumerate(rows):
            ids.append(row["id"])
            named = zip(row["synsets"], row["scores"], strict=True)
            for key, score in ((key.lower(), s) for key, s in named if not is_color(key)):
                places.setdefault(key, array("I")).append(place)
                weights.setdefault(key, array("f")).append(score)
        largest = max((max(found) for found in weights.values()), default=1.0)
        lists = {
            key: (np.asarray(places[key]), _rounded(weights[key], largest))
            for key in sorted(places, key=str.encode)
        }
        lengths = np.zeros(len(ids), dtype=np.int64)
        for at, tf in lists.values():
            lengths[at] += tf
        step = largest / LEVELS
        with opened(path, "wb") as file:
            _put(file, "Header", _header(header, step, len(lists), lengths))
            for key, (at, tf) in lists.items():
                gaps = np.diff(at.astype(np.int64), prepend=0)  # these tell a list's documents
                pairs = zip(gaps.tolist(), tf.tolist(), strict=True)
                postings = ({"docid": gap, "tf": weight} for gap, weight in pairs)
                about = {"term": key, "df": len(tf), "cf": int(tf.sum())}
                _put(file, "PostingsList", {**about, "postings": postings})
            for place, (document, length) in enumerate(zip(ids, lengths.tolist(), strict=True)):
                record = {"docid": place, "collection_docid": document, "doclength": length}
                _put(file, "DocRecord", record)
        return _rounding(step, weights)

    def read(self, path: Path) -> NoReturn:
        """Nothing: it has no pictures."""
        raise ExchangeError(
            f"{path} is an inverted index for search engines, without pictures: import the .jsonl "
            "or .parquet of the same index"
        )


def _rounded(weights: array[float], largest: float) -> NDArray[np.int64]:
    scaled = np.asarray(weights, dtype=np.float64) * (LEVELS / largest)
    return np.maximum(1, np.rint(scaled)).astype(np.int64)


def _rounding(step: float, weights: Mapping[str, array[float]]) -> Rounding:
    whole = added = 0.0
    postings = raised = 0
    for found in weights.values():
        exact = np.asarray(found, dtype=np.float64)
        small = exact[np.rint(exact / step) == 0]
        postings, raised = postings + len(exact), raised + len(small)
        whole += float(exact.sum())
        added += float((step - small).sum())
    return Rounding(step, postings, raised, added / whole if whole else 0.0)


def _header(
    header: Mapping[str, Any], step: float, terms: int, lengths: NDArray[np.int64]
) -> dict[str, Any]:
    documents, model = len(lengths), header["analyzer"].get("model", {}).get("name", "")
    version = f"imgsearch_es {installed_version('imgsearch-es') or ''}".strip()
    return {
        "version": 1,
        "num_postings_lists": terms,
        "num_docs": documents,
        "total_postings_lists": terms,
        "total_docs": documents,
        "total_terms_in_collection": int(lengths.sum()),
        "average_doclength": float(lengths.mean()) if documents else 0.0,
        "description": f"{version}, {model}: weights in steps of {step!r}",
    }


def _put(file: BinaryIO, name: str, fields: Mapping[str, Any]) -> None:
    """Write a message behind its length."""
    data = _messages()[name](**fields).SerializeToString()
    number, length = len(data), bytearray()
    while number > 127:
        length.append(number & 127 | 128)
        number >>= 7
    length.append(number)
    file.write(bytes(length) + data)


@cache
def _messages() -> dict[str, Any]:
    """The messages of ciff.proto, in a pool of their own: others may have the same names there."""
    # It takes a moment to import.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    package = "io.osirrc.ciff"
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, _, kind) in enumerate((f.partition(":") for f in fields), start=1):
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind in _MESSAGES:
                added.label, added.type_name = kinds.LABEL_REPEATED, f".{package}.{kind}"
            name_of = "MESSAGE" if kind in _MESSAGES else kind.upper()
            added.type = getattr(kinds, f"TYPE_{name_of}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in _MESSAGES
    }


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
    for draft in path.parent.glob(f".*.{glob.escape(path.name)}"):
        process = draft.name[1 : -len(path.name) - 1]
        if process.isdecimal() and not is_alive(int(process)):  # it was killed
            with suppress(OSError):
                _remove_files(draft)
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
    except (OSError, UnicodeEncodeError) as error:  # PyArrow takes no names that are no UTF-8
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
