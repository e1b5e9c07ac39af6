"""An index of nearest neighbors beside an index file: a graph (HNSW) of its deep features.

``photos.duckdb.neighbors`` is of one state of the file, as the snapshot is, from whose deep
features it is made: a node is a row of them. It finds candidates by the cosine of numbers rounded
to 8 bits; they are compared exactly. The graph is usearch's, followed by a snapshot's footer.

Y. Malkov, D. Yashunin: Efficient and robust approximate nearest neighbor search using hierarchical
navigable small world graphs. IEEE TPAMI 42(4), 2020.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError, MissingDependencyError, needed
from imgsearch_es.retrieval.dense import Vectors, direction
from imgsearch_es.stores.embedded.snapshot import BLOCK, MAGIC, TAIL, Snapshot, SnapshotError

NONE, KIND = "none", "int8_hnsw"
"""The ways a file can index deep features."""
STRATEGY = "dense-cosine"
"""What the graph answers."""
_GRAPH: dict[str, Any] = {
    "metric": "ip", "dtype": "i8", "connectivity": 16, "expansion_add": 128,
}  # fmt: skip
_TOGETHER = 4096
"""Nodes added before it is asked whether the graph is still wanted."""
_ALONE = 1
"""Threads that add the first ones: of a few nodes some could be cut off by who adds others."""


class Neighbors(Snapshot):
    """The graph of one state of an index file, mapped into memory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._one_at_a_time = threading.Lock()
        try:
            graph = self.column("graph").data
            self._index = _usearch().Index.restore(graph, view=True)
        except (MissingDependencyError, RuntimeError) as error:
            raise SnapshotError(str(error)) from error

    def __len__(self) -> int:
        return len(self._index)

    def fits(self, snapshot: Snapshot) -> bool:
        """Whether its nodes are the rows of this snapshot's deep features."""
        own = self.mark, self._index.ndim, len(self)
        return own == (snapshot.mark, snapshot.dimensions, snapshot.count("feature.places"))

    def rows(self, vector: Vectors, count: int) -> NDArray[np.int64]:
        """The rows of the deep features nearest to a vector, so many, ascending."""
        with self._one_at_a_time:
            self._index.expansion_search = count
            found = self._index.search(direction(vector), count, threads=1).keys
        return np.sort(found.astype(np.int64))


def check_kind(kind: str | None, location: str) -> None:
    """ConfigurationError where a file has no such index of neighbors, or usearch is missing."""
    if kind not in (None, NONE, KIND):
        raise ConfigurationError(
            f"vectors={kind!r} is none of a file's ways to index deep features: {location} takes "
            f"{KIND} or {NONE}"
        )
    if kind == KIND:
        _usearch()


def write_neighbors(
    snapshot: Snapshot, path: Path, mark: str, is_wanted: Callable[[], bool]
) -> None:
    """Write the graph of a snapshot's deep features; SnapshotError where it is not wanted."""
    started = time.monotonic()
    if snapshot.mark != mark:
        raise SnapshotError("the file was written to meanwhile")
    features = snapshot.features()
    if not len(features):
        raise SnapshotError("there are no deep features")
    try:
        index = _usearch().Index(ndim=snapshot.dimensions, **_GRAPH)
        for first in range(0, len(features), _TOGETHER):
            if not is_wanted():
                raise SnapshotError("the file is wanted by a writer")
            some = features[first : first + _TOGETHER]
            rows, nodes = np.arange(first, first + len(some)), np.stack(list(map(direction, some)))
            index.add(rows, nodes, threads=0 if first else _ALONE)
        index.save(str(path))
    except RuntimeError as error:  # no room
        raise SnapshotError(str(error)) from error
    with path.open("r+b") as file:
        sums = [zlib.crc32(block) for block in iter(lambda: file.read(BLOCK), b"")]
        known = {"mark": mark, "average_length": 0, "dimensions": snapshot.dimensions}
        place = [0, "|u1", file.tell(), sums]
        seconds = time.monotonic() - started
        footer = json.dumps({**known, "seconds": seconds, "sections": {"graph": place}}).encode()
        file.write(footer + TAIL.pack(zlib.crc32(footer), len(footer), MAGIC))


def _usearch() -> Any:
    return needed("usearch.index", f"vectors={KIND!r} of a file needs usearch", "approximate")
