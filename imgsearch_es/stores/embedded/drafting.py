"""A file of sections with checksums, from which ``snapshot`` reads, while it is written."""

from __future__ import annotations

import json
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.stores.embedded.snapshot import BLOCK, MAGIC, TAIL

_ALIGNED = 64
_TOGETHER = 1 << 21
"""Numbers that are converted at a time."""

Array = NDArray[Any]


class Section:
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
        for first in range(0, len(values), _TOGETHER):
            some = values[first : first + _TOGETHER]
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
        """A whole section."""
        self.section(name, kind, len(values)).write(values)

    def finish(self, **facts: object) -> None:
        """Write the footer."""
        places = {name: section.place() for name, section in self._sections.items()}
        footer = json.dumps({**facts, "sections": places}).encode()
        self._file.seek(0, 2)
        self._file.write(footer + TAIL.pack(zlib.crc32(footer), len(footer), MAGIC))
