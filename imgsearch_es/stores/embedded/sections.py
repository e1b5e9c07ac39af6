"""A file of sections: what searches read of an index file, mapped into memory, with checksums.

It lies beside the index file, is of one of its states (``mark_of``) and is used for no other; it
may be deleted. It never changes: who has it open keeps it, whatever happens to the file.

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
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

MAGIC = b"imgsnap4"
"""Another one whenever the form changes; ``imgsnap3`` had documents in the order of their ids."""
BLOCK = 1 << 14
"""Bytes that have a checksum of their own, looked at when something of them is first read."""
TAIL = struct.Struct("<II8s")
_ALIGNED = 64
_TOGETHER = 1 << 21
"""Numbers that are converted at a time."""

Array = NDArray[Any]


class SnapshotError(Exception):
    """The copy is damaged, or none can be made: the index file is what counts."""


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
        if self._unchecked:
            width = self._array.itemsize
            self._check(first * width // BLOCK, -(-end * width // BLOCK))
        return self._array[first:end]

    def at(self, place: int) -> Any:
        return self.part(place, place + 1)[0]

    def check(self, first: Array, end: Array) -> None:
        """Look at the numbers from some places to others, as ``part`` does."""
        if not self._unchecked:
            return
        width = self._array.itemsize
        begins, ends = first * width // BLOCK, -(-end * width // BLOCK)
        unknown = ~(self._checked[begins] & self._checked[ends - 1]) | (ends - begins > 2)
        for begin, stop in set(zip(begins[unknown].tolist(), ends[unknown].tolist(), strict=True)):
            self._check(begin, stop)

    def of(self, places: Array | slice | int) -> Any:
        """The numbers at places that were looked at."""
        return self._array[places]

    def _check(self, begin: int, stop: int) -> None:
        for block in range(begin, stop):
            if not self._checked[block]:
                found = self._bytes[block * BLOCK : (block + 1) * BLOCK]
                if zlib.crc32(found) != self._sums[block]:
                    raise SnapshotError("a checksum is wrong")
                self._checked[block] = True
                self._unchecked = len(self._checked) - np.count_nonzero(self._checked)


class Sections:
    """A copy of one state of an index file, which ``mark`` names.

    Lists are cut after ``block_rows`` documents; it took ``seconds`` to make it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # nobody waits for a FIFO
        weakref.finalize(self, os.close, self._descriptor)
        self._info = os.fstat(self._descriptor)
        self.written_at = self._info.st_mtime
        if self._info.st_size < TAIL.size:
            raise SnapshotError("it is cut off")
        whole = memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))
        checksum, size, magic = TAIL.unpack(whole[-TAIL.size :])
        end = whole[-TAIL.size - size : -TAIL.size]
        if magic != MAGIC and magic.startswith(b"imgsnap"):
            raise SnapshotError("another version made it, and the next run makes it anew")
        if magic != MAGIC or zlib.crc32(end) != checksum:
            raise SnapshotError("the end is damaged")
        known = json.loads(bytes(end))
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
        return self._columns[name].part(first, end)

    def picked(self, name: str, first: Array, end: Array, at: Array) -> Array:
        """The numbers of a column at places that lie between some and others."""
        self._columns[name].check(first, end)
        found: Array = self._columns[name].of(at)
        return found

    def count(self, name: str) -> int:
        return len(self._columns.get(name, ()))

    def column(self, name: str) -> Array:
        """A number of each document: "length" or "norm", float64; what is of deep features.

        "block.length" and "block.norm" are the least of each block's documents, "greatest" is the
        greatest length and norm of all; "table.least" the least score of each term.
        """
        column = self._columns[name]
        return column.part(0, len(column))

    def features(self) -> NDArray[np.float32]:
        """The deep features of the documents at "feature.places", shape (documents, dimensions)."""
        return self.column("features").reshape(-1, self.dimensions)

    def features_of(self, rows: Array) -> NDArray[np.float32]:
        size, column = self.dimensions, self._columns["features"]
        column.check(rows * size, (rows + 1) * size)
        found: NDArray[np.float32] = column.of(slice(None)).reshape(-1, size)[rows]
        return found


class Section:
    """Numbers of one type, written one after the other, from an offset on."""

    def __init__(self, file: BinaryIO, offset: int, kind: str) -> None:
        self._file, self._offset, self._kind = file, offset, np.dtype(kind)
        self._sums: list[int] = []
        self._rest = b""
        self._size = 0

    def write(self, values: Array) -> None:
        for first in range(0, len(values), _TOGETHER):
            some = values[first : first + _TOGETHER]
            given = np.ascontiguousarray(some, dtype=self._kind).tobytes()
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


class Draft:
    """A file of sections; all but the last say beforehand how long they are."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._end = 0
        self._sections: dict[str, Section] = {}

    def section(self, name: str, kind: str, count: int = 0) -> Section:
        """A new section of so many numbers."""
        section = self._sections[name] = Section(self._file, self._end, kind)
        self._end += -(-count * np.dtype(kind).itemsize // _ALIGNED) * _ALIGNED
        return section

    def add(self, name: str, kind: str, values: Array) -> None:
        self.section(name, kind, len(values)).write(values)

    def finish(self, **facts: object) -> None:
        places = {name: section.place() for name, section in self._sections.items()}
        self._file.seek(0, 2)
        self._file.write(footer({**facts, "sections": places}))


def footer(facts: dict[str, Any]) -> bytes:
    """What a file of sections ends with."""
    text = json.dumps(facts).encode()
    return text + TAIL.pack(zlib.crc32(text), len(text), MAGIC)
