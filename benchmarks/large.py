"""An index file from 100,000 to ten million documents: queries, memory, bytes and loading.

    python benchmarks/large.py --documents 100000 1000000 10000000 --json large.json

Every size answers the same queries, in turn with NumPy's posting lists in memory, which also say
whether a ranking is exact. The file is written and searched in processes of their own, so that
their memory is measured: what they allocate, and what they have mapped of files. As many documents
as ``--written`` says go the store's usual way; more come from NumPy's columns in SQL, and then some
the usual way, for the speed of writing at that size.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from filling import NO_ANALYZER  # noqa: E402
from posteriors import COLUMNS, KEYS, Synthetic, identity, places  # noqa: E402

from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.stores.base import IndexSettings  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

K, WARM, BATCH, BLOCK = 10, 10, 5000, 1_000_000
MORE = 50_000
"""Documents that are written to a full file, to see how fast that goes."""
_COLUMNS = """
INSERT INTO documents BY NAME
SELECT document, id, '/pictures/' || lpad(document::VARCHAR, 8, '0') || '.jpg' AS uri,
    uri[11:] AS filename, sha256(document::VARCHAR) AS sha256, 640 AS width, 480 AS height,
    99999 AS bytes, 'JPEG' AS format, TIMESTAMP '2026-01-01' AS indexed_at, [] AS label,
    '{}' AS metadata, terms, scores, list_sum(scores::DOUBLE[]) AS length,
    sqrt(list_sum(list_transform(scores::DOUBLE[], lambda x: x * x))) AS norm,
    md5('checksum' || document) AS checksum
FROM (SELECT document, list(term ORDER BY place) AS terms, list(score ORDER BY place) AS scores,
    printf('%08x', document::BIGINT * 2654435761 % 4294967296)
    || md5(document::VARCHAR)[:24] AS id FROM given GROUP BY document)
ORDER BY document
"""


class Memory(threading.Thread):
    """The most that this process has had since ``mark``, in MB: allocated, and mapped of files."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.mark()
        self.start()

    def mark(self) -> None:
        """Begin anew."""
        self.allocated = self.mapped = 0.0

    def look(self) -> None:
        """What there is now."""
        text = Path("/proc/self/smaps_rollup").read_text()
        found = {name: int(kb) / 1024 for name, kb in re.findall(r"(\w+): +(\d+) kB", text)}
        self.allocated = max(self.allocated, found["Anonymous"])
        self.mapped = max(self.mapped, found["Rss"] - found["Anonymous"])

    def run(self) -> None:
        """Look again and again; seldom, for it takes the memory's lock."""
        while True:
            self.look()
            time.sleep(0.2)


def numbers(store: EmbeddedStore) -> np.ndarray:
    """By class, the number of its term in the file."""
    settings = store.stored_settings()
    assert settings is not None  # noqa: S101
    return np.array([settings.numbers[key] for key in KEYS], np.int32)


def write(store: EmbeddedStore, collection: Synthetic, first: int) -> tuple[float, float]:
    """The documents, the usual way, numbers of pictures from ``first`` on.

    Gives the seconds, and those of the processor.
    """
    rest, seconds, busy = collection.documents(first), 0.0, 0.0
    while some := list(islice(rest, BATCH)):  # to make them is no part of it
        started, spent = time.perf_counter(), time.process_time()
        store.write(some)
        seconds += time.perf_counter() - started
        busy += time.process_time() - spent
    return seconds, busy


def write_columns(store: EmbeddedStore, classes: np.ndarray, scores: np.ndarray) -> None:
    """The same documents by SQL, but for checksums."""
    known, step = numbers(store), 100_000
    for first in range(0, len(classes), step):
        some, values = classes[first : first + step], scores[first : first + step]
        documents = np.arange(first, first + len(some), dtype=np.int32)
        rows = {
            "document": np.repeat(documents, some.shape[1]),
            "place": np.tile(np.arange(some.shape[1], dtype=np.int32), len(some)),
            "term": known[some.ravel()],
            "score": np.ascontiguousarray(values).ravel(),
        }
        with store._writing() as connection:
            connection.execute("SET memory_limit = '512MB'")
            connection.register("given", rows)
            connection.execute(_COLUMNS)
            connection.execute(
                "INSERT INTO postings SELECT term, document, score FROM given ORDER BY ALL"
            )
            connection.unregister("given")


def build(path: str, data: str, written: int, parent: Connection) -> None:
    """Fill the file; says how long it took and what memory."""
    memory, store = Memory(), EmbeddedStore(path)
    classes, scores = (np.load(f"{data}/{name}.npy", mmap_mode="r") for name in ("c", "s"))
    store.create(IndexSettings(NO_ANALYZER, "sha256:none", imagenet(), 0))
    facts: dict[str, Any] = {}
    collection, count = Synthetic(0), len(classes)
    first = 0
    if count > written:
        started = time.perf_counter()
        write_columns(store, classes, scores)
        facts["columns_s"] = time.perf_counter() - started
        first, count = count, min(MORE, count)  # others are written then, and taken away again
    collection.classes, collection.scores = classes[:count], scores[:count]
    memory.mark()
    seconds, busy = write(store, collection, first)
    facts |= {"documents_per_s": count / seconds, "documents_per_cpu_s": count / busy}
    facts |= {"write_allocated_mb": memory.allocated}
    if first:
        store.remove([identity(i) for i in range(first, first + count)])
    memory.mark()
    started = time.perf_counter()
    store.finish()
    facts |= {"finish_s": time.perf_counter() - started, "finish_allocated_mb": memory.allocated}
    facts |= {"finish_mapped_mb": memory.mapped}
    parent.send(facts)


def serve(path: str, parent: Connection) -> None:
    """Answer queries from the file until there is no more; then say what memory that took."""
    memory, store = Memory(), EmbeddedStore(path)
    while (query := parent.recv()) is not None:
        started = time.perf_counter()
        hits = store.search(query).hits
        took = (time.perf_counter() - started) * 1000
        parent.send((took, [(hit.document.id, hit.score) for hit in hits]))
        memory.look()
    parent.send({"allocated_mb": memory.allocated, "mapped_mb": memory.mapped})


class Lists:
    """Posting lists in memory, float32, added as the file's are."""

    def __init__(self, classes: np.ndarray, scores: np.ndarray) -> None:
        order = np.argsort(classes.ravel().astype(np.int16), kind="stable")
        counts = np.bincount(classes.ravel(), minlength=len(KEYS))
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._rows = (order // classes.shape[1]).astype(np.int32)
        self._scores = scores.ravel()[order]
        self._total = np.zeros(len(classes))

    def answer(self, query: Query) -> list[tuple[str, float]]:
        """The best ten, ties by id."""
        total, touched = self._total, []
        for term in query.terms:
            first, end = self._starts[COLUMNS[term.key] :][:2]
            rows = self._rows[first:end]
            total[rows] += term.score * self._scores[first:end].astype(np.float64)
            touched.append(rows)
        rows = np.concatenate(touched)
        scores = total[rows].astype(np.float32)
        last = np.partition(scores, -20 * K)[-20 * K]
        rows = np.unique(rows[scores >= last]).astype(np.int64)
        scores = total[rows].astype(np.float32)
        best = np.lexsort((places(rows), -scores))[:K].tolist()
        for some in touched:
            total[some] = 0
        return [(identity(int(rows[i])), float(scores[i])) for i in best]


@contextmanager
def process(target: Callable[..., None], *given: Any) -> Iterator[Connection]:
    """A process, and what to talk to it by; EOFError from that once it failed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=target, args=(*given, there))
    child.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        child.join()


def ask(path: str, lists: Lists, queries: list[Query]) -> dict[str, Any]:
    """Each query to the file and to the lists, in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    exact = 0
    with process(serve, path) as server:
        for number, query in enumerate(queries):
            server.send(query)
            took, found = server.recv()
            started = time.perf_counter()
            expected = lists.answer(query)
            own = (time.perf_counter() - started) * 1000
            if number >= WARM:
                times[0].append(took)
                times[1].append(own)
                exact += found == expected
        server.send(None)
        facts = server.recv()
    for name, mine in zip(("file", "numpy"), times, strict=True):
        facts[f"{name}_p50_ms"] = statistics.median(mine)
        facts[f"{name}_p95_ms"] = float(np.percentile(mine, 95))
    return facts | {"exact": exact / len(times[0])}


def measure(count: int, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one size."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Synthetic(0)
        queries = source.queries(options.queries + WARM)
        classes = np.lib.format.open_memmap(f"{folder}/c.npy", "w+", np.int16, (count, 10))
        scores = np.lib.format.open_memmap(f"{folder}/s.npy", "w+", np.float32, (count, 10))
        for first in range(0, count, BLOCK):
            some = source.posteriors(min(BLOCK, count - first))
            classes[first : first + BLOCK], scores[first : first + BLOCK] = some
        classes.flush()
        scores.flush()
        path = f"{folder}/b.duckdb"
        with process(build, path, folder, options.written) as builder:
            facts = builder.recv()
        facts["file_bytes"] = Path(path).stat().st_size
        facts["snapshot_bytes"] = Path(f"{path}.snapshot").stat().st_size
        facts |= ask(path, Lists(classes, scores), queries)
    return {"documents": count} | {key: round(value, 2) for key, value in facts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--written", type=int, default=1_000_000, help="most that go the usual way")
    parser.add_argument("--folder", type=Path, help="where the files are for the while")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = []
    for count in options.documents:
        rows.append(measure(count, options))
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
