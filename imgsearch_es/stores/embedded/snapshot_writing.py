"""Making the copies of an index file that searches read: a snapshot, and a graph of neighbors."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgsearch_es.analysis.filters import PARTS
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.dense import direction
from imgsearch_es.stores.embedded.pruning import KIND, usearch
from imgsearch_es.stores.embedded.schema import NONE, Reader, posting_tables, views
from imgsearch_es.stores.embedded.sections import (
    BLOCK,
    Array,
    Draft,
    Sections,
    SnapshotError,
    footer,
)

_DOCUMENTS = 1 << 15
"""Read at a time; of postings and deep features _POSTINGS and _FEATURES."""
_POSTINGS = 1 << 21
_FEATURES = 1 << 13
_RECORD = (
    "json_array(uri, filename, sha256, width, height, bytes, format, indexed_at, label, "
    "metadata::VARCHAR, {views}, photo, text)"
)
"""As ``Snapshot.row`` reads it: ``schema.COLUMNS`` without the id, terms and scores."""
_SOUND = (
    "uri || filename || sha256 || format || width || height || bytes IS NOT NULL "
    "AND isfinite(indexed_at) AND json_type(metadata) = 'OBJECT' "
    "AND list_count(label) = len(label) "
    "AND list_count(terms) = len(scores) AND list_count(scores) = len(terms) "
    "AND coalesce(len({views}::UTINYINT[]) = len(terms), true) "
    f"AND coalesce(list_max({{views}}::UTINYINT[]) < {len(PARTS)}, true)"
)
"""Whether ``schema.to_document`` makes a document of it."""

_ROWS = 512
"""Documents of a block, where lists are cut."""
_STEPS = 8
"""Of the best synset's score, by which documents are sorted."""
_FIRST = (
    "id, length, norm, coalesce(terms[1], 0) AS best, coalesce(terms[2], 0) AS second, "
    "coalesce(scores[1], 0) AS score"
)

_MEMORY = 256_000_000
"""Bytes that DuckDB may keep in memory of what is read once."""
_GRAPH: dict[str, Any] = {
    "metric": "ip", "dtype": "i8", "connectivity": 16, "expansion_add": 128,
}  # fmt: skip
_TOGETHER = 4096
"""Nodes added before it is asked whether the graph is still wanted."""
_ALONE = 1
"""Threads that add the first ones: of a few nodes some could be cut off by who adds others."""


def write_snapshot(reader: Reader, path: Path, mark: str, is_wanted: Callable[[], bool]) -> None:
    """Write the copy of what a reader reads, which is the state of a mark.

    SnapshotError where none can be made, or it is no longer wanted.
    """
    started, connection = time.monotonic(), reader.connection
    connection.execute(f"SET memory_limit = '{_MEMORY}B'")
    try:
        with path.open("w+b") as file:
            draft = Draft(file)
            copy = _Copy(reader, draft, is_wanted)
            for table in posting_tables(reader.settings):
                copy.write_lists(table)
            if reader.settings.embedding_dimensions:
                copy.write_features()
            copy.write_records()
            draft.finish(
                mark=mark,
                average_length=copy.average_length,
                dimensions=reader.settings.embedding_dimensions,
                rows=_ROWS,
                seconds=time.monotonic() - started,
            )
    finally:  # searches after it have what they had
        connection.execute("RESET memory_limit")


class _Copy:
    """The documents of a file, by number and by place, on their way into a draft.

    It begins with their ids and lengths. Similar documents are neighbors, so that a block's bounds
    are near to what its documents score (A. Mallia, T. Suel, N. Tonellotto: Faster Learned Sparse
    Retrieval with Block-Max Pruning. SIGIR 2024).
    """

    def __init__(self, reader: Reader, draft: Draft, is_wanted: Callable[[], bool]) -> None:
        self._reader, self._draft, self._is_wanted = reader, draft, is_wanted
        ordered = self._fetch("SELECT document FROM documents ORDER BY document")
        numbers = self._numbers = np.asarray(ordered["document"], np.int32)
        longest = max(1, reader.one("SELECT max(strlen(id)) FROM documents"))
        kinds = {"id": f"S{longest}", "length": "f8", "norm": "f8", "key": "i8"}
        found = {name: np.empty(len(numbers), kind) for name, kind in kinds.items()}
        first = 0
        try:
            for block in self._blocks(_FIRST, numbers):
                end = first + len(block["id"])
                steps = (np.clip(np.nan_to_num(block["score"]), 0, 1) * _STEPS).astype(np.int64)
                block["key"] = (
                    (block["best"].astype(np.int64) << 32) - (steps << 24) + block["second"]
                )
                for name, values in found.items():
                    values[first:end] = block[name]
                first = end
        except UnicodeEncodeError as error:
            raise SnapshotError("an id is not as ids are") from error
        order = self._order = np.argsort(found.pop("key"), kind="stable")
        ids, length, norm = (found.pop(name)[order] for name in ("id", "length", "norm"))
        self._places = _inverse(order)
        ranked = np.argsort(ids, kind="stable").astype(np.int32)
        self.average_length = float(length.mean()) if len(length) else 0.0
        draft.add("ids", ids.dtype.str, ids)
        draft.add("ranked", "<i4", ranked)
        draft.add("ranks", "<i4", _inverse(ranked))
        for name, values in (("length", length), ("norm", norm)):
            draft.add(name, "<f8", values)
            starts = np.arange(0, len(values), _ROWS)
            draft.add(
                f"block.{name}",
                "<f8",
                np.minimum.reduceat(values, starts) if len(values) else values,
            )
        draft.add("greatest", "<f8", np.array([length.max(initial=0), norm.max(initial=0)]))
        draft.add("numbers", "<i4", numbers)
        draft.add("places", "<i4", self._places)

    def write_lists(self, table: str) -> None:
        """The list of each term, by place."""
        draft = self._draft
        found = self._fetch(
            f"SELECT term, count(*) AS count FROM {table} GROUP BY term ORDER BY term"
        )
        counts = np.zeros(int(found["term"][-1]) + 1 if len(found["term"]) else 0, np.int64)
        counts[found["term"]] = found["count"]
        starts = np.concatenate([[0], np.cumsum(counts)])
        draft.add(f"{table}.starts", "<i8", starts)
        to_places = draft.section(f"{table}.places", "<i4", int(starts[-1]))
        to_scores = draft.section(f"{table}.scores", "<f4", int(starts[-1]))
        cut, first = _Cut(starts), 0
        while first < len(counts):
            self._go_on()
            last = int(np.searchsorted(starts, starts[first] + _POSTINGS, "right")) - 1
            end = max(first + 1, last)
            block = self._fetch(
                f"SELECT term, document, score FROM {table} WHERE term >= $1 AND term < $2",
                [first, end],
            )
            where = self._places_of(block["document"])
            ordered = np.lexsort((where, block["term"]))
            term, where, score = block["term"][ordered], where[ordered], block["score"][ordered]
            if ((term[1:] == term[:-1]) & (where[1:] == where[:-1])).any():
                raise SnapshotError("there are postings that stand twice")
            to_places.write(where)
            to_scores.write(score)
            cut.add(int(starts[first]), term, where, score)
            first = end
        cut.write(table, draft)

    def write_records(self) -> None:
        """What hits show: the terms of each document, and the rest as JSON, as the file has them.

        Each can be read as a document, for it is read when nobody expects an error any more.
        """
        reader, draft = self._reader, self._draft
        record = f"{_RECORD.format(views=views(reader.settings))}::VARCHAR"
        total, count = reader.one("SELECT sum(len(terms)) FROM documents"), len(self._numbers)
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
        sound = _SOUND.format(views=views(reader.settings))
        columns = f"{record} AS record, terms, scores, {sound} AS sound"
        for block in self._blocks(columns, self._numbers):
            texts = [text.encode() for text in block["record"]]
            numbers, values = _flat(block["terms"]), _flat(block["scores"])
            is_known = np.isin(numbers, list(reader.keys))
            if not (block["sound"].all() and is_known.all() and np.isfinite(values).all()):
                raise SnapshotError("there are documents that are not as they were written")
            records.write(np.frombuffer(b"".join(texts), np.uint8))
            terms.write(numbers)
            scores.write(values)
            lengths = [len(found) for found in block["terms"]]
            sizes.append(np.array([[len(text) for text in texts], lengths], np.int64))
        for all_sizes in np.concatenate([np.empty((2, 0), np.int64), *sizes], axis=1):
            index.pop(0).write((np.cumsum(all_sizes) - all_sizes)[self._order])
            index.pop(0).write(all_sizes[self._order])

    def write_features(self) -> None:
        """The deep features, by place, and their lengths."""
        found = self._fetch("SELECT document FROM embeddings ORDER BY document")
        having = np.asarray(found["document"], np.int32)
        where = self._places_of(having)
        if (having[1:] == having[:-1]).any():
            raise SnapshotError("there are deep features that stand twice")
        dimensions = self._reader.settings.embedding_dimensions
        rows = np.argsort(np.argsort(where))
        self._draft.add("feature.places", "<i4", np.sort(where))
        section = self._draft.section("features", "<f4", len(having) * dimensions)
        lengths = np.empty(len(having))
        first = 0
        for block in self._blocks("embedding", having, "embeddings"):
            vectors = np.concatenate([np.empty(0, np.float32), *block["embedding"]])
            if {len(vector) for vector in block["embedding"]} - {dimensions}:
                raise SnapshotError("deep features differ in length")
            matrix = vectors.reshape(-1, dimensions)
            some = rows[first : first + len(matrix)]
            lengths[some] = np.linalg.norm(matrix.astype(np.float64), axis=1)
            section.put(some, matrix)
            first += len(matrix)
        section.seal()
        self._draft.add("feature.lengths", "<f8", lengths)

    def _places_of(self, documents: Array) -> Array:
        """The places of documents, by number; SnapshotError where there is no such document."""
        if not len(documents):
            return np.empty(0, np.int32)
        at = np.searchsorted(self._numbers, documents)
        if at.max() >= len(self._numbers) or (self._numbers[at] != documents).any():
            raise SnapshotError("there are postings or deep features without documents")
        found: Array = self._places[at]
        return found

    def _blocks(
        self, columns: str, numbers: Array, table: str = "documents"
    ) -> Iterator[dict[str, Array]]:
        """Columns of a table, by the numbers of its documents."""
        size = _DOCUMENTS if table == "documents" else _FEATURES
        for first in range(0, len(numbers), size):
            self._go_on()
            some = numbers[first : first + size]
            block = self._fetch(
                f"SELECT {columns} FROM {table} WHERE document BETWEEN $1 AND $2 ORDER BY document",
                [int(some[0]), int(some[-1])],
            )
            if any(len(one) != len(some) for one in block.values()):
                raise SnapshotError("a number stands twice")
            yield block

    def _fetch(self, sql: str, parameters: Sequence[int] = ()) -> dict[str, Array]:
        """The columns that a statement gives; SnapshotError where a value is missing."""
        found: dict[str, Array] = self._reader.connection.execute(sql, parameters).fetchnumpy()
        if any(map(np.ma.is_masked, found.values())):
            raise SnapshotError("a value is missing")
        return found

    def _go_on(self) -> None:
        if not self._is_wanted():
            raise SnapshotError("the file is wanted by a writer")


class _Cut:
    """Lists of postings, cut where a block of documents ends."""

    def __init__(self, starts: Array) -> None:
        self._least = np.zeros(len(starts) - 1, np.float32)
        self._counts = np.zeros(len(starts) - 1, np.int64)
        self._parts: list[tuple[Array, Array, Array]] = []
        self._end = int(starts[-1])

    def add(self, start: int, term: Array, where: Array, score: Array) -> None:
        """The whole lists of some terms, the first from a place on."""
        if not len(term):
            return
        blocks = where // _ROWS
        is_first = np.concatenate([[True], term[1:] != term[:-1]])
        begins = np.flatnonzero(is_first)
        self._least[term[begins]] = np.minimum.reduceat(score, begins)
        is_first[1:] |= blocks[1:] != blocks[:-1]
        begins = np.flatnonzero(is_first)
        self._counts += np.bincount(term[begins], minlength=len(self._counts))
        self._parts.append((blocks[begins], np.maximum.reduceat(score, begins), start + begins))

    def write(self, table: str, draft: Draft) -> None:
        """All of them, as ``Sections.span`` says."""
        nothing = np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.int64)
        blocks, greatest, firsts = map(np.concatenate, zip(nothing, *self._parts, strict=True))
        draft.add(f"{table}.least", "<f4", self._least)
        draft.add(f"{table}.blocks.starts", "<i8", np.concatenate([[0], np.cumsum(self._counts)]))
        draft.add(f"{table}.blocks.places", "<i4", blocks)
        draft.add(f"{table}.blocks.scores", "<f4", greatest)
        draft.add(f"{table}.blocks.firsts", "<i8", np.append(firsts, self._end))


def _inverse(order: Array) -> Array:
    """Where each number stands in an order of all."""
    found = np.empty(len(order), np.int32)
    found[order] = np.arange(len(order), dtype=np.int32)
    return found


def _flat(lists: Array) -> Array:
    """The numbers of many lists."""
    found: Array = np.concatenate([np.empty(0), *lists])
    return found


def check_kind(kind: str | None, location: str) -> None:
    """ConfigurationError where a file has no such index of neighbors, or usearch is missing."""
    if kind not in (None, NONE, KIND):
        raise ConfigurationError(
            f"vectors={kind!r} is none of a file's ways to index deep features: {location} takes "
            f"{KIND} or {NONE}"
        )
    if kind == KIND:
        usearch()


def write_neighbors(
    snapshot: Sections, path: Path, mark: str, is_wanted: Callable[[], bool]
) -> None:
    """Write the graph of a snapshot's deep features; SnapshotError where it is not wanted."""
    started = time.monotonic()
    if snapshot.mark != mark:
        raise SnapshotError("the file was written to meanwhile")
    features = snapshot.features()
    if not len(features):
        raise SnapshotError("there are no deep features")
    try:
        index = usearch().Index(ndim=snapshot.dimensions, **_GRAPH)
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
        file.write(footer({**known, "seconds": seconds, "sections": {"graph": place}}))
