"""Making the copy of an index file that ``snapshot`` reads, and keeping it open."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.stores.embedded.beside import Gate
from imgsearch_es.stores.embedded.rows import Reader
from imgsearch_es.stores.embedded.schema import posting_tables, views
from imgsearch_es.stores.embedded.snapshot import (
    BLOCK,
    MAGIC,
    TAIL,
    Snapshot,
    SnapshotError,
    mark_of,
    settled_mark_of,
    snapshot_path,
)

_ALIGNED = 64
_DOCUMENTS = 1 << 15
"""Read at a time; of postings and deep features _POSTINGS and _FEATURES."""
_POSTINGS = 1 << 21
_FEATURES = 1 << 13
_RECORD = (
    "json_array(uri, filename, sha256, width, height, bytes, format, indexed_at, label, "
    "metadata::VARCHAR, {views})"
)
"""As ``Snapshot.row`` reads it: ``rows.COLUMNS`` without the id, terms and scores."""

_MEMORY = 256_000_000
"""Bytes that DuckDB may keep in memory of what is read once."""

_LONG, _PAUSE = 0.5, 20
"""What takes more seconds to make is made again after so many times of them."""

Array = NDArray[Any]
_log = logging.getLogger(__name__)


class KeptSnapshot:
    """The copy of an index file, open as long as it is of the file's state."""

    def __init__(self, path: Path) -> None:
        self._file, self._path = path, snapshot_path(path)
        self._open: Snapshot | None = None
        self._opened = ""

    def of_now(self) -> Snapshot | None:
        """The copy of the file as it is now, if there is one; a stale one is opened once."""
        mark = mark_of(self._file)
        if self._open is not None and self._open.mark == mark:
            return self._open
        there = mark_of(self._path)
        if there != self._opened:
            self._open, self._opened = None, there
            try:
                self._open = Snapshot(self._path)
            except FileNotFoundError:
                pass
            except (OSError, SnapshotError, ValueError, LookupError) as error:
                self.give_up(error)
        found = self._open
        return found if found is not None and found.mark == mark else None

    def give_up(self, error: Exception) -> None:
        """Use it no more, as it is damaged; searches read the index file, which is slower."""
        _log.warning("%s is not used: %s", self._path, error)
        self._open = None

    def make(self, reader: Reader) -> None:
        """Make it anew, unless it is of this state, or somebody else makes it or waits to write.

        A large one is not made again soon: whoever adds a picture a minute would write all day.
        """
        if self.of_now() is not None or self._is_too_soon():
            return
        draft = self._path.with_name(f".{self._path.name}")
        gate, wanted = Gate(self._path), Gate(self._file)
        try:
            mark = settled_mark_of(self._file)
            if gate.shut():
                write_snapshot(reader, draft, mark, lambda: not wanted.is_shut())
                draft.replace(self._path)
        except (OSError, NotPossibleError) as error:
            _log.info("no snapshot of %s was made: %s", self._file, error)
        finally:
            draft.unlink(missing_ok=True)
            gate.open()

    def _is_too_soon(self) -> bool:
        last = self._open
        if last is None or last.seconds <= _LONG:
            return False
        return time.time() - last.written_at < _PAUSE * last.seconds

    def delete(self) -> None:
        """Remove it."""
        self._open = None
        self._path.unlink(missing_ok=True)


class NotPossibleError(Exception):
    """No copy is made: the tables contradict each other, or somebody wants to write."""


class _Section:
    """Numbers of one type, written one after the other, from an offset on."""

    def __init__(self, file: BinaryIO, offset: int, kind: str) -> None:
        self._file, self._offset, self._kind = file, offset, np.dtype(kind)
        self._sums: list[int] = []
        self._rest = b""
        self._size = 0

    def write(self, values: Array | bytes) -> None:
        """Go on."""
        if isinstance(values, bytes):
            self._write(values)
            return
        for first in range(0, len(values), _POSTINGS):
            some = values[first : first + _POSTINGS]
            self._write(np.ascontiguousarray(some, dtype=self._kind).tobytes())

    def _write(self, given: bytes) -> None:
        self._file.seek(self._offset + self._size)
        self._file.write(given)
        self._size += len(given)
        given = self._rest + given
        end = len(given) // BLOCK * BLOCK
        self._sums += [zlib.crc32(given[i : i + BLOCK]) for i in range(0, end, BLOCK)]
        self._rest = given[end:]

    def put(self, rows: Array, values: Array) -> None:
        """Rows of a table where they belong; ``seal`` comes after all of them."""
        width = values.shape[1] * self._kind.itemsize
        for row, value in zip(rows.tolist(), np.ascontiguousarray(values, self._kind), strict=True):
            self._file.seek(self._offset + row * width)
            self._file.write(value.tobytes())
            self._size = max(self._size, (row + 1) * width)

    def seal(self) -> None:
        """Read all again, for its checksums."""
        for at in range(0, self._size, BLOCK):
            self._file.seek(self._offset + at)
            self._sums.append(zlib.crc32(self._file.read(min(BLOCK, self._size - at))))

    def place(self) -> list[Any]:
        """What the footer says of it."""
        last = [zlib.crc32(self._rest)] if self._rest else []
        return [self._offset, self._kind.str, self._size, self._sums + last]


class _Draft:
    """A file of sections; all but the last say beforehand how long they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._sections: dict[str, _Section] = {}

    def section(self, name: str, kind: str, count: int = 0) -> _Section:
        """A new section of so many numbers."""
        section = self._sections[name] = _Section(self._file, self._end, kind)
        self._end += -(-count * np.dtype(kind).itemsize // _ALIGNED) * _ALIGNED
        return section

    def add(self, name: str, kind: str, values: Array) -> None:
        """A whole section."""
        self.section(name, kind, len(values)).write(values)

    def finish(self, **facts: object) -> None:
        """Write the footer."""
        places = {name: section.place() for name, section in self._sections.items()}
        footer = json.dumps({**facts, "sections": places}).encode()
        self._file.seek(0, 2)
        self._file.write(footer + TAIL.pack(zlib.crc32(footer), len(footer), MAGIC))


def write_snapshot(reader: Reader, path: Path, mark: str, is_wanted: Callable[[], bool]) -> None:
    """Write the copy of what a reader reads, which is the state of a mark.

    NotPossibleError where none can be made, or it is no longer wanted.
    """
    started = time.monotonic()
    reader.connection.execute(f"SET memory_limit = '{_MEMORY}B'")
    with path.open("w+b") as file:
        draft = _Draft(file)
        numbers, order, average = _write_documents(reader, draft, is_wanted)
        places = np.empty(len(numbers), np.int32)
        places[order] = np.arange(len(numbers), dtype=np.int32)
        draft.add("numbers", "<i4", numbers)
        draft.add("places", "<i4", places)
        for table in posting_tables(reader.settings):
            _write_lists(reader, draft, table, numbers, places, is_wanted)
        if reader.settings.embedding_dimensions:
            _write_features(reader, draft, numbers, places, is_wanted)
        _write_records(reader, draft, numbers, order, is_wanted)
        draft.finish(
            mark=mark,
            average_length=average,
            dimensions=reader.settings.embedding_dimensions,
            seconds=time.monotonic() - started,
        )


def _write_documents(
    reader: Reader, draft: _Draft, is_wanted: Callable[[], bool]
) -> tuple[Array, Array, float]:
    """Ids and lengths.

    Gives the numbers of all documents, ascending, their order by id, and the mean length.
    """
    ordered = reader.connection.execute("SELECT document FROM documents ORDER BY document")
    numbers = np.asarray(ordered.fetchnumpy()["document"], np.int32)
    longest = max(1, reader.one("SELECT max(strlen(id)) FROM documents"))
    kinds = {"id": f"S{longest}", "length": "f8", "norm": "f8"}
    found = {name: np.empty(len(numbers), kind) for name, kind in kinds.items()}
    first = 0
    try:
        for block in _blocks(reader, "id, length, norm", numbers, is_wanted):
            end = first + len(block["id"])
            for name, values in found.items():
                values[first:end] = block[name]
            first = end
    except UnicodeEncodeError as error:
        raise NotPossibleError("an id is not as ids are") from error
    ids, length, norm = found.values()
    order = np.argsort(ids, kind="stable")
    draft.add("ids", ids.dtype.str, ids[order])
    draft.add("length", "<f8", length[order])
    draft.add("norm", "<f8", norm[order])
    return numbers, order, float(length.mean()) if len(length) else 0.0


def _write_lists(
    reader: Reader,
    draft: _Draft,
    table: str,
    numbers: Array,
    places: Array,
    is_wanted: Callable[[], bool],
) -> None:
    """The list of each term, by place."""
    found = reader.connection.execute(
        f"SELECT term, count(*) AS count FROM {table} GROUP BY term ORDER BY term"
    ).fetchnumpy()
    counts = np.zeros(int(found["term"][-1]) + 1 if len(found["term"]) else 0, np.int64)
    counts[found["term"]] = found["count"]
    starts = np.concatenate([[0], np.cumsum(counts)])
    draft.add(f"{table}.starts", "<i8", starts)
    to_places = draft.section(f"{table}.places", "<i4", int(starts[-1]))
    to_scores = draft.section(f"{table}.scores", "<f4", int(starts[-1]))
    first = 0
    while first < len(counts):
        _go_on(is_wanted)
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + _POSTINGS, "right")) - 1)
        block = reader.connection.execute(
            f"SELECT term, document, score FROM {table} WHERE term >= $1 AND term < $2",
            [first, end],
        ).fetchnumpy()
        where = _places_of(block["document"], numbers, places)
        ordered = np.lexsort((where, block["term"]))
        term, where = block["term"][ordered], where[ordered]
        if ((term[1:] == term[:-1]) & (where[1:] == where[:-1])).any():
            raise NotPossibleError("there are postings that stand twice")
        to_places.write(where)
        to_scores.write(block["score"][ordered])
        first = end


def _write_records(
    reader: Reader, draft: _Draft, numbers: Array, order: Array, is_wanted: Callable[[], bool]
) -> None:
    """What hits show: the terms of each document, and the rest as JSON, as the file has them."""
    record = f"{_RECORD.format(views=views(reader.settings))}::VARCHAR"
    total, count = reader.one("SELECT sum(len(terms)) FROM documents"), len(numbers)
    index = [
        draft.section(name, kind, count)
        for name, kind in (
            ("record.starts", "<i8"), ("record.sizes", "<i4"),
            ("term.starts", "<i8"), ("term.sizes", "<i4"),
        )
    ]  # fmt: skip
    kind = "<u2" if max(reader.keys, default=0) < 1 << 16 else "<i4"
    terms, scores = draft.section("terms", kind, total), draft.section("scores", "<f4", total)
    records = draft.section("records", "<u1")
    sizes = []
    for block in _blocks(reader, f"{record} AS record, terms, scores", numbers, is_wanted):
        texts = [text.encode() for text in block["record"]]
        records.write(b"".join(texts))
        found = _flat(block["terms"])
        if (found != found.astype(kind)).any():
            raise NotPossibleError("a term has a number that none has")
        terms.write(found)
        scores.write(_flat(block["scores"]))
        lengths = [len(found) for found in block["terms"]]
        if lengths != [len(found) for found in block["scores"]]:
            raise NotPossibleError("terms and scores differ in number")
        sizes.append(np.array([[len(text) for text in texts], lengths], np.int64))
    for all_sizes in np.concatenate([np.empty((2, 0), np.int64), *sizes], axis=1):
        index.pop(0).write((np.cumsum(all_sizes) - all_sizes)[order])
        index.pop(0).write(all_sizes[order])


def _write_features(
    reader: Reader, draft: _Draft, numbers: Array, places: Array, is_wanted: Callable[[], bool]
) -> None:
    """The deep features, by place, and their lengths."""
    found = reader.connection.execute("SELECT document FROM embeddings ORDER BY document")
    having = np.asarray(found.fetchnumpy()["document"], np.int32)
    where = _places_of(having, numbers, places)
    if (having[1:] == having[:-1]).any():
        raise NotPossibleError("there are deep features that stand twice")
    dimensions, rows = reader.settings.embedding_dimensions, np.argsort(np.argsort(where))
    draft.add("feature.places", "<i4", np.sort(where))
    section = draft.section("features", "<f4", len(having) * dimensions)
    lengths = np.empty(len(having))
    first = 0
    for block in _blocks(reader, "embedding", having, is_wanted, "embeddings"):
        vectors = np.concatenate([np.empty(0, np.float32), *block["embedding"]])
        if {len(vector) for vector in block["embedding"]} - {dimensions}:
            raise NotPossibleError("deep features differ in length")
        matrix = vectors.reshape(-1, dimensions)
        some = rows[first : first + len(matrix)]
        lengths[some] = np.linalg.norm(matrix.astype(np.float64), axis=1)
        section.put(some, matrix)
        first += len(matrix)
    section.seal()
    draft.add("feature.lengths", "<f8", lengths)


def _places_of(documents: Array, numbers: Array, places: Array) -> Array:
    """The places of documents, by number; NotPossibleError where there is no such document."""
    if not len(documents):
        return np.empty(0, np.int32)
    at = np.searchsorted(numbers, documents)
    if at.max() >= len(numbers) or (numbers[at] != documents).any():
        raise NotPossibleError("there are postings or deep features without documents")
    found: Array = places[at]
    return found


def _blocks(
    reader: Reader,
    columns: str,
    numbers: Array,
    is_wanted: Callable[[], bool],
    table: str = "documents",
) -> Iterator[dict[str, Array]]:
    """Columns of the documents, by number."""
    size = _DOCUMENTS if table == "documents" else _FEATURES
    for first in range(0, len(numbers), size):
        _go_on(is_wanted)
        some = numbers[first : first + size]
        block = reader.connection.execute(
            f"SELECT {columns} FROM {table} WHERE document BETWEEN $1 AND $2 ORDER BY document",
            [int(some[0]), int(some[-1])],
        ).fetchnumpy()
        if any(np.ma.is_masked(column) or len(column) != len(some) for column in block.values()):
            raise NotPossibleError("a value is missing, or a number stands twice")
        yield block


def _flat(lists: Array) -> Array:
    """The numbers of many lists."""
    found: Array = np.concatenate([np.empty(0), *lists])
    return found


def _go_on(is_wanted: Callable[[], bool]) -> None:
    if not is_wanted():
        raise NotPossibleError("the file is wanted by a writer")
