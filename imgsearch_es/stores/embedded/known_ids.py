"""Which documents may be in an index file already: new ones need not be looked for in all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.stores.embedded.snapshot import mark_of


class KnownIds:
    """Hashes of all ids in the file, 8 bytes each, from the first write of this process on.

    They count only while the file is as this process left it. An id that is not among them is not
    in the file; one that is may have been deleted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._left = ""
        self._sorted: list[NDArray[np.uint64]] | None = None

    def begin(self) -> None:
        """Forget all of a file that somebody else changed, as long as nobody can change it."""
        if not self._left or mark_of(self._path) != self._left:
            self._sorted = None

    def leave(self) -> None:
        """Remember the state of the file, before anybody else may change it.

        Not where clocks of files tick in whole seconds: two changes may look like one.
        """
        mark = mark_of(self._path)
        self._left = mark if mark and not mark.endswith("000000000") else ""

    def among(self, connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> list[str]:
        """Those of some ids that may be in the file; before anything in it is changed."""
        self.begin()
        all_known = self._sorted
        if all_known is None or not ids:
            return list(ids)
        hashes = _hashes(connection, ids)
        found = np.zeros(len(ids), dtype=bool)
        for known in filter(len, all_known):
            places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            found |= known[places] == hashes
        return [ids[place] for place in np.flatnonzero(found).tolist()]

    def add(self, connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> None:
        """These are about to be written."""
        if self._sorted is None:
            all_ids = connection.execute("SELECT hash(id) AS key FROM documents").fetchnumpy()
            self._sorted = [np.sort(np.asarray(all_ids["key"], np.uint64))]
        self._sorted.append(np.sort(_hashes(connection, ids)))
        while len(self._sorted) > 1 and len(self._sorted[-2]) <= 2 * len(self._sorted[-1]):
            both = np.concatenate([self._sorted.pop(), self._sorted.pop()])
            self._sorted.append(np.sort(both, kind="stable"))  # merges what is sorted


def _hashes(connection: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> NDArray[np.uint64]:
    found = connection.execute("SELECT hash(unnest($1::VARCHAR[])) AS key", [list(ids)])
    return np.asarray(found.fetchnumpy()["key"], np.uint64)
