"""A copy of what searches read, laid out for them and mapped into memory: beside the index file.

DuckDB's file is what counts. The copy knows of which state of the file it is (``mark_of``); of any
other it is not used, and it may be deleted. In it similar documents are neighbors: they are sorted
by their best synset, how much it scores, and the second best; ties are broken by rank. It never
changes: who has it open keeps it, whatever happens to the file.

    sections, each from a multiple of 64 on: numbers of one type, little-endian
    footer: JSON, {"mark": ..., "average_length": ..., "dimensions": ..., "rows": ...,
        "seconds": ..., "sections": {name: [offset, type, size, [crc32 of each block]]}}
    crc32 of the footer, its size (both uint32), MAGIC
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"imgsnap4"
"""Another one whenever the form changes; ``imgsnap3`` had documents in the order of their ids."""
BLOCK = 1 << 14
"""Bytes that have a checksum of their own, looked at when something of them is first read."""
TAIL = struct.Struct("<II8s")
_INDEXED_AT = 7
"""Where a record says when its document was indexed."""

Array = NDArray[Any]


class SnapshotError(Exception):
    """The copy is damaged; the index file is not."""


def snapshot_path(path: Path, ending: str = "snapshot") -> Path:
    """Where the copy for an index file is."""
    return path.with_name(f"{path.name}.{ending}")


def mark_of(path: Path) -> str:
    """The state of an index file that nobody writes just now; "" where there is none.

    The file must not be opened for this: to close it would take DuckDB's lock of it away.
    """
    marks = []
    for name in (path.name, f"{path.name}.wal"):
        with suppress(FileNotFoundError):
            info = path.with_name(name).stat()
            marks.append(f"{info.st_size}-{info.st_mtime_ns}")
    return " ".join(marks)


def settled_mark_of(path: Path) -> str:
    """The same as soon as a later change would make another one: clocks of files tick."""
    while True:
        changed = path.stat().st_mtime_ns
        tick = 20_000_000 if changed % 1_000_000_000 else 2_100_000_000  # of whole seconds
        if (left := changed + tick - time.time_ns()) <= 0:
            return mark_of(path)
        time.sleep(min(left, tick) / 1e9)


class Column:
    """Numbers in the copy, each block of which is compared with its checksum when first read."""

    def __init__(self, whole: memoryview, place: Sequence[Any]) -> None:
        offset, kind, size, self._sums = place
        self._bytes = whole[offset : offset + size]
        self._array: Array = np.frombuffer(self._bytes, dtype=kind)
        self._checked = np.array([False] * len(self._sums) + [True])
        self._unchecked = len(self._sums)

    def __len__(self) -> int:
        return len(self._array)

    def part(self, first: int, end: int) -> Array:
        """The numbers from one place to another."""
        if self._unchecked:
            width = self._array.itemsize
            for block in range(first * width // BLOCK, -(-end * width // BLOCK)):
                if not self._checked[block]:
                    self._check(block)
        return self._array[first:end]

    def all(self) -> Array:
        """Every number."""
        return self.part(0, len(self._array))

    def at(self, place: int) -> Any:
        """The number at one place."""
        return self.part(place, place + 1)[0]

    def check(self, first: Array, end: Array) -> None:
        """Look at the numbers from some places to others, as ``part`` does."""
        if not self._unchecked:
            return
        width = self._array.itemsize
        begins, ends = first * width // BLOCK, -(-end * width // BLOCK)
        unknown = ~(self._checked[begins] & self._checked[ends - 1]) | (ends - begins > 2)
        for begin, stop in set(zip(begins[unknown].tolist(), ends[unknown].tolist(), strict=True)):
            for block in range(begin, stop):
                if not self._checked[block]:
                    self._check(block)

    def of(self, places: Array | slice | int) -> Any:
        """The numbers at places that were looked at."""
        return self._array[places]

    def _check(self, block: int) -> None:
        found = self._bytes[block * BLOCK : (block + 1) * BLOCK]
        if zlib.crc32(found) != self._sums[block]:
            raise SnapshotError("a checksum is wrong")
        self._checked[block] = True
        self._unchecked = len(self._checked) - np.count_nonzero(self._checked)


class Snapshot:
    """The copy of one state of an index file.

    Attributes:
        mark: of the state that this is a copy of.
        average_length: the mean of the documents' lengths.
        dimensions: of the deep features; 0 without any.
        block_rows: documents of a block, where lists are cut.
        seconds: what it took to make it; ``written_at`` when that was.
    """

    def __init__(self, path: Path) -> None:
        self._local = threading.local()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # nobody waits for a FIFO
        weakref.finalize(self, os.close, self._descriptor)
        self._info = os.fstat(self._descriptor)
        self.written_at = self._info.st_mtime
        if self._info.st_size < TAIL.size:
            raise SnapshotError("it is cut off")
        whole = memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))
        checksum, size, magic = TAIL.unpack(whole[-TAIL.size :])
        footer = whole[-TAIL.size - size : -TAIL.size]
        if magic != MAGIC and magic.startswith(b"imgsnap"):
            raise SnapshotError("another version made it, and the next run makes it anew")
        if magic != MAGIC or zlib.crc32(footer) != checksum:
            raise SnapshotError("the end is damaged")
        known = json.loads(bytes(footer))
        self.mark: str = known["mark"]
        self.average_length: float = known["average_length"]
        self.dimensions: int = known["dimensions"]
        self.block_rows: int = known.get("rows", 0)
        self.seconds: float = known["seconds"]
        self._columns = {n: Column(whole, place) for n, place in dict(known["sections"]).items()}

    def __len__(self) -> int:
        return len(self._columns["ids"])

    def is_untouched(self) -> bool:
        """Whether nobody cut the file off or wrote into it: to read on could end this process."""
        now, then = os.fstat(self._descriptor), self._info
        return (now.st_size, now.st_mtime_ns) == (then.st_size, then.st_mtime_ns)

    def span(self, table: str, term: int) -> tuple[int, int]:
        """From where to where the list of a term goes in "table.places" and "table.scores".

        Places ascend, int32; scores are float32. A term's list in "table.blocks" has the blocks of
        documents that have it, and its greatest score in each; the block's part of the term's own
        list begins where "table.blocks.firsts" says.
        """
        starts = self._columns[f"{table}.starts"]
        if not 0 <= term < len(starts) - 1:
            return 0, 0
        first, end = starts.part(term, term + 2).tolist()
        return first, end

    def part(self, name: str, first: int, end: int) -> Array:
        """The numbers of a column from one place to another."""
        return self._columns[name].part(first, end)

    def picked(self, name: str, first: Array, end: Array, at: Array) -> Array:
        """The numbers of a column at places that lie between some and others."""
        self._columns[name].check(first, end)
        found: Array = self._columns[name].of(at)
        return found

    def count(self, name: str) -> int:
        """How many numbers a column has."""
        return len(self._columns.get(name, ()))

    def column(self, name: str) -> Array:
        """A number of each document: "length" or "norm", float64; what is of deep features.

        "block.length" and "block.norm" are the least of each block's documents, "greatest" is the
        greatest length and norm of all; "table.least" the least score of each term.
        """
        return self._columns[name].all()

    def features(self) -> NDArray[np.float32]:
        """The deep features of the documents at "feature.places", shape (documents, dimensions)."""
        return self._columns["features"].all().reshape(-1, self.dimensions)

    def features_of(self, rows: Array) -> NDArray[np.float32]:
        """Some rows of them."""
        size, column = self.dimensions, self._columns["features"]
        column.check(rows * size, (rows + 1) * size)
        found: NDArray[np.float32] = column.of(slice(None)).reshape(-1, size)[rows]
        return found

    def places(self, numbers: Array) -> Array:
        """Where documents are, by their numbers in the file."""
        found = np.searchsorted(self._columns["numbers"].all(), numbers)
        return self._columns["places"].all()[found]

    def place(self, key: str) -> int | None:
        """Where the document of an id is; None where there is none."""
        ids, ranked = self._columns["ids"], self._columns["ranked"]
        wanted = key.encode("utf-8", "replace")
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high) // 2
            if ids.at(ranked.at(middle)) < wanted:
                low = middle + 1
            else:
                high = middle
        place = int(ranked.at(low)) if low < len(ids) else -1
        return place if place >= 0 and ids.at(place) == wanted else None

    def best_first(self, places: Array, scores: Array) -> Array:
        """The order of documents by score, ties by id."""
        return np.lexsort((self.picked("ranks", places, places + 1, places), -scores))

    def ids(self, places: Array) -> list[str]:
        """The ids of documents."""
        return [str(key, "ascii") for key in self._columns["ids"].of(places).tolist()]

    def row(self, place: int) -> list[Any]:
        """What the file has of a document that was looked at, as ``rows.COLUMNS`` says."""
        values: list[Any] = json.loads(self._span("record", "records", place).tobytes())
        values[_INDEXED_AT] = datetime.fromisoformat(values[_INDEXED_AT] or "")
        terms, scores = (self._span("term", name, place).tolist() for name in ("terms", "scores"))
        key = str(self._columns["ids"].of(place), "ascii")
        return [key, *values[:-3], terms, scores, *values[-3:]]

    def check_rows(self, places: Array) -> None:
        """Look at all that ``ids`` and ``row`` read of documents; they raise no SnapshotError."""
        columns = self._columns
        columns["ids"].check(places, places + 1)
        for name, values in (("record", ("records",)), ("term", ("terms", "scores"))):
            starts, sizes = columns[f"{name}.starts"], columns[f"{name}.sizes"]
            for column in (starts, sizes):
                column.check(places, places + 1)
            first, end = starts.of(places), starts.of(places) + sizes.of(places)
            for value in values:
                columns[value].check(first, end)

    def zeros(self) -> Array:
        """A zero for each place, float64, which ``keep`` takes back as zeros for the next one.

        Should somebody be interrupted who adds to them, they are not used again.
        """
        found, self._local.zeros = getattr(self._local, "zeros", None), None
        return np.zeros(len(self)) if found is None else found

    def keep(self, zeros: Array) -> None:
        """See ``zeros``."""
        self._local.zeros = zeros

    def _span(self, name: str, column: str, place: int) -> Array:
        first, size = (self._columns[f"{name}.{what}"].of(place) for what in ("starts", "sizes"))
        found: Array = self._columns[column].of(slice(first, first + size))
        return found
