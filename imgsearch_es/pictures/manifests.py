"""Lists of pictures: text files, CSV and Parquet tables; and what tar files hold.

All give entries: a picture's URI with what its source says of it.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from imgsearch_es.errors import ConfigurationError, ImageError, SourceError
from imgsearch_es.pictures.archives import (
    SIDECARS,
    ArchiveError,
    Member,
    is_archive,
    key_of,
    member_uri,
    read_sidecars,
)
from imgsearch_es.pictures.files import Limits, open_archive, opened, to_path, to_uri
from imgsearch_es.pictures.sources import (
    EXTENSIONS,
    INTEGERS,
    LABELS,
    Wanted,
    find_images,
    json_value,
)

_LONGEST = Limits(max_bytes=1 << 40)
_METADATA = "metadata."
_COLUMNS = r"^(uri|path|labels?|metadata|metadata\..*)$"
_PARQUET = f"SELECT COLUMNS('{_COLUMNS}') FROM read_parquet(?)"  # noqa: S608
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture to index, or why there is nothing to read.

    Labels are None, and metadata empty, where its source says nothing of them.
    """

    uri: str
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PictureList:
    """A file that names pictures, to be given to ``ImageIndex.add`` as a source.

    A text file has one path or URL per line. A CSV (``.csv``) or Parquet file (``.parquet``) has a
    column ``uri`` or ``path``, and may have ``label`` or ``labels`` (one, or a list; in CSV a list
    is JSON), ``metadata`` (an object, or JSON) and columns ``metadata.NAME``, of which numbers and
    JSON are read as such in CSV (007 is a text). Other columns are not read. A relative path begins
    at the folder of the list. A tar file that is named stands for its pictures.

    >>> pd.DataFrame({"path": ["photos/coffee.jpg"], "label": ["cup"]}).to_csv("list.csv")
    >>> index.add(PictureList("list.csv")).updated
    1

    Args:
        place: the file, a path or URL.

    Raises:
        ConfigurationError: the file is a picture or a tar file by its name.
    """

    place: str | os.PathLike[str]

    def __post_init__(self) -> None:
        extension = PurePosixPath(os.fspath(self.place)).suffix.lower()
        if extension[1:] in EXTENSIONS or is_archive(os.fspath(self.place)):
            raise ConfigurationError(
                f"{os.fspath(self.place)} is no list of pictures: name it as a source itself"
            )

    @property
    def uri(self) -> str:
        """Where the list is."""
        return to_uri(self.place)

    def entries(self) -> Iterator[Entry]:
        """The pictures, as they are read; SourceError says which line is wrong, or why none is."""
        readers = {".csv": _csv_rows, ".parquet": _parquet_rows, ".pq": _parquet_rows}
        rows = readers.get(PurePosixPath(self.uri).suffix.lower(), _text_rows)(self.uri)
        base = _folder(self.uri)
        for where, row in rows:
            try:
                entry = _entry(row, base)
            except (ValueError, ConfigurationError) as error:
                raise SourceError(f"{self.uri}, {where}: {error}") from error
            yield from _in_archive(entry, Wanted()) if is_archive(entry.uri) else (entry,)


def find_entries(
    places: Sequence[str | os.PathLike[str]],
    lists: Sequence[PictureList] = (),
    *,
    on_error: Callable[[ImageError], None],
    on_other: Callable[[str], None] = lambda kind: None,
    videos: bool = False,
) -> Iterator[Entry]:
    """Find the pictures in lists, files, folders, URLs and tar files.

    Only lists name a picture again; they come first, for what they say of it. It takes what
    ``find_images`` takes, and tar files; SourceError where a place or list does not exist (before
    anything is yielded) or, later, cannot be read.
    """
    archives, others = [], []
    for uri in dict.fromkeys(map(to_uri, places)):
        path = to_path(uri)
        if not is_archive(uri) or (path is not None and path.is_dir()):
            others.append(uri)
            continue
        if path is not None and not path.exists():
            raise SourceError(f"cannot find {uri}: no such file or directory")
        archives.append(uri)
    images = find_images(others, on_error=on_error, on_other=on_other, videos=videos)
    wanted = Wanted(videos, on_other)
    for one in lists:
        with _source_errors(one.uri), opened(one.uri, _LONGEST):
            pass  # it is there

    inside = chain.from_iterable(_in_archive(Entry(archive), wanted) for archive in archives)
    return chain(*(one.entries() for one in lists), map(Entry, images), inside)


def _in_archive(archive: Entry, wanted: Wanted) -> Iterator[Entry]:
    """The pictures in a tar file, in its order, with what the files beside them say.

    Its own labels and metadata are for the pictures, unless they have some. An archive that cannot
    be read is one entry, with the reason.
    """
    try:
        with open_archive(archive.uri) as (file, table):
            keys = {key_of(name) for name in table if wanted.is_named(name)}
            for name in table:
                last, (key, _, kind) = PurePosixPath(name).name, name.rpartition(".")
                is_read = kind in SIDECARS and key in keys
                if not last.startswith(".") and not is_read and wanted.has(last):
                    yield _member(name, archive, file, table)
    except ImageError as error:
        yield Entry(archive.uri, error=error.reason)


def _member(name: str, archive: Entry, file: BinaryIO, table: Mapping[str, Member]) -> Entry:
    try:
        uri = member_uri(name, archive.uri)
    except ArchiveError as error:
        return Entry(archive.uri, error=f"{name!r} in it cannot be indexed: {error}")
    try:
        labels, metadata = read_sidecars(file, table, name)
    except (ArchiveError, OSError) as error:
        return Entry(uri, error=str(error))
    own = archive.labels if labels is None else labels
    return Entry(uri, own, {**archive.metadata, **metadata})


# -- rows: (where in the file, for a message; fields) -------------------------------------------

Rows = Iterator[tuple[str, Mapping[str, Any]]]


def _text_rows(uri: str) -> Rows:
    with _buffered(uri) as file:
        lines = iter(partial(file.readline, _LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if b"\0" in line or len(line) == _LONGEST_LINE:
                raise SourceError(f"{uri}, line {number}: this is no list of paths")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.strip():
                yield f"line {number}", {"uri": os.fsdecode(line.rstrip(b"\r\n"))}


_LONGEST_FIELD = 1 << 23
"""Characters: a document's metadata may have a million bytes, which quoting doubles."""


def _csv_rows(uri: str) -> Rows:
    with _buffered(uri) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, strict=True)
        try:
            _check_columns(uri, reader.fieldnames or ())
            for row in _with_long_fields(reader):
                where = f"line {reader.line_num}"
                if None in row or None in row.values():
                    raise SourceError(f"{uri}, {where}: it has not as many fields as the heading")
                yield where, {k: typed(v) if k.startswith(_METADATA) else v for k, v in row.items()}
        except UnicodeDecodeError as error:
            raise SourceError(f"{uri} is not in UTF-8: save it as UTF-8") from error
        except csv.Error as error:
            raise SourceError(f"{uri}, after line {reader.line_num}: {error}") from error


def _with_long_fields(reader: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    """The rows; the limit of a field is that of the whole process, so it is left as it was."""
    while True:
        before = csv.field_size_limit(_LONGEST_FIELD)
        try:
            row = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield row


def typed(cell: str) -> Any:
    """What is in a cell of CSV: a number, a list or the like as JSON, or the text itself."""
    try:
        value = json.loads(cell, parse_constant=str)
    except (ValueError, RecursionError):
        return cell
    is_long = isinstance(value, int) and value not in INTEGERS
    is_json = value is not None and json.dumps(value, ensure_ascii=False) == cell
    return value if is_json and not is_long else cell  # 007 and 1.50 stay as they are


def to_cell(value: Any) -> str:
    """What ``typed`` reads as this JSON value; empty for None."""
    if value is None or (isinstance(value, str) and typed(value) is value):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _parquet_rows(uri: str) -> Rows:
    import duckdb

    with _source_errors(uri), _local(uri) as path:
        try:
            with duckdb.connect() as database:
                place = glob.escape(os.fspath(path))  # DuckDB expands patterns
                _check_columns(uri, database.read_parquet(place).columns)
                cursor = database.execute(_PARQUET, [place])
                names = [column[0] for column in cursor.description]
                rows = chain.from_iterable(iter(partial(cursor.fetchmany, 1024), []))
                for number, row in enumerate(rows, start=1):
                    yield f"row {number}", dict(zip(names, row, strict=True))
        except duckdb.Error as error:
            text = str(error).splitlines()[0]
            raise SourceError(f"{uri} cannot be read as Parquet: {text}") from error


def misnamed(names: Sequence[str], is_known: Callable[[str], object]) -> str | None:
    """What is wrong with a table's columns: two of a name, or one called almost as is known."""
    for name in names:
        known = name.strip().lower()
        if names.count(name) > 1:
            return f"several columns {name!r}"
        if is_known(known) and not is_known(name) and known not in names:
            return f"a column {name!r}: call it {known!r}"
    return None


def _check_columns(uri: str, names: Sequence[str]) -> None:
    if problem := misnamed(names, partial(re.match, _COLUMNS)):
        raise SourceError(f"{uri} has {problem}")
    if set(LABELS) <= set(names):
        raise SourceError(f"{uri} has a column 'label' and one 'labels': leave one out")
    given = [name for name in ("uri", "path") if name in names]
    if len(given) != 1:
        has = "both" if given else f"neither, but {', '.join(names) or 'nothing'}"
        raise SourceError(f"{uri} must have a column 'uri' or 'path'; it has {has}")


def _entry(row: Mapping[str, Any], base: str | None) -> Entry:
    place = row.get("uri") if "uri" in row else row.get("path")
    if not isinstance(place, str) or not place.strip():
        raise ValueError("the picture's path or URI is empty")
    given = {name: value for name, value in row.items() if value is not None and value != ""}
    metadata = _object(given.get("metadata", {})) | {
        name[len(_METADATA) :]: json_value(value, name)
        for name, value in given.items()
        if name.startswith(_METADATA)
    }
    label = next((given[name] for name in LABELS if name in given), None)
    labels = None if label is None else _labels(label)
    return Entry(_absolute(place, base), labels, metadata)


def _object(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(value, parse_constant=str) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"the metadata {value!r:.60} is no JSON object")
    named: dict[str, Any] = json_value(found, "metadata")
    # a struct has the names of all rows
    return {k: v for k, v in named.items() if v is not None or isinstance(value, str)}


def _labels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"the label {value!r:.60} begins as a JSON list, but is none"
            ) from error
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int) for each in values):
        raise ValueError(f"the label {value!r:.60} is neither a text nor a list of texts")
    return tuple(map(str, values))


def _absolute(place: str, base: str | None) -> str:
    uri = to_uri(place)
    is_relative = to_path(uri) is not None and not place.startswith(("/", "~", "file:", "FILE:"))
    return to_uri(f"{base}/{place}") if is_relative and base is not None else uri


def _folder(uri: str) -> str | None:
    """The folder of a list; of a remote one, its URL."""
    path = to_path(uri)
    if path is not None:
        return os.fspath(path.parent)
    return None if "::" in uri or "?" in uri else uri.rpartition("/")[0]


@contextmanager
def _local(uri: str) -> Iterator[Path]:
    """The file itself, or a copy of a remote one for as long as it is needed."""
    path = to_path(uri)
    if path is not None:
        path.stat()
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as copy, opened(uri, _LONGEST) as file:
        shutil.copyfileobj(file, copy)
        copy.flush()
        yield Path(copy.name)


@contextmanager
def _buffered(uri: str) -> Iterator[BinaryIO]:
    with _source_errors(uri), opened(uri, _LONGEST) as file:
        yield io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file


@contextmanager
def _source_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (ImageError, OSError) as error:
        why = error.reason if isinstance(error, ImageError) else error.strerror
        raise SourceError(f"the list {uri} {why}") from error
