"""Time per query and recall of comparing deep features by cosine, all ways in one run.

    python benchmarks/dense.py --pictures 20000 --dimensions 512 --queries 100 --json dense.json

Features are synthetic, seeded, and made as a network's last layer would: each picture has a latent
vector of 64 numbers, the center of one of 1,000 Zipf classes plus normal noise nearly as large; a
random linear map and a rectifier make the feature of it, and lengths vary. One in twenty is a copy
of another with some noise. Queries are new pictures of the same kind. All contenders answer the
same queries, each time in another order; recall is the share of the true ten nearest (float64,
NumPy) among the ten found.

With --near 0.95 the pairs of that cosine are found as `imgsearch duplicates` does, and by all
products in NumPy, of a tenth of the pictures with all others: all pairs take five times as long.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402
from filling import fill  # noqa: E402
from needs import needs  # noqa: E402

from imgsearch_es.retrieval.dense import COMPARISONS, near_pairs  # noqa: E402
from imgsearch_es.retrieval.documents import Document  # noqa: E402
from imgsearch_es.retrieval.duplicates import find_groups  # noqa: E402
from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.stores.base import Store  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.stores.embedded.open_file import snapshot_path  # noqa: E402
from imgsearch_es.stores.embedded.sections import Sections  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import from_labels  # noqa: E402

with needs("benchmark"):
    import faiss
    from sklearn.neighbors import NearestNeighbors

K = 10
STRATEGY = "dense-cosine"
LATENT, CLASSES, NOISE = 64, 1000, 0.8
COPIES = 0.05
EXACT, EMBEDDED = "Elasticsearch exact", "file, exact"
Answer = list[int]
Way = Callable[[np.ndarray], Answer]


class Collection:
    """Seeded deep features, shape (pictures, dimensions), float32."""

    def __init__(self, pictures: int, dimensions: int, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self._centers = self._random.normal(size=(CLASSES, LATENT))
        self._map = self._random.normal(size=(LATENT, dimensions)) / np.sqrt(LATENT)
        popularity = 1 / np.arange(1, CLASSES + 1) ** 0.8
        self._popularity = popularity / popularity.sum()
        self.vectors = np.concatenate(
            [self.features(min(10_000, pictures - n)) for n in range(0, pictures, 10_000)]
        )
        of, to = self._random.integers(pictures, size=(2, int(pictures * COPIES)))
        noise = self._random.normal(size=(len(of), dimensions)) / np.sqrt(dimensions)
        sizes = self._random.uniform(0, 0.5, len(of)) * np.linalg.norm(self.vectors[of], axis=1)
        self.vectors[to] = self.vectors[of] + sizes[:, None] * noise

    def features(self, count: int) -> np.ndarray:
        """New pictures of the same kind."""
        classes = self._random.choice(CLASSES, size=count, p=self._popularity)
        latent = self._centers[classes] + NOISE * self._random.normal(size=(count, LATENT))
        lengths = self._random.lognormal(0, 0.2, size=(count, 1))
        return (lengths * np.maximum(latent @ self._map, 0)).astype(np.float32)

    def documents(self) -> Iterator[Document]:
        """The collection, one document a picture; the id is its number."""
        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        for i, vector in enumerate(self.vectors):
            name = f"{i:032x}"
            uri = f"/p/{i}.jpg"
            yield Document(
                name, uri, f"{i}.jpg", name * 2, 640, 480, 1, "JPEG", now, (), embedding=vector
            )

    def nearest(self, query: np.ndarray) -> Answer:
        """The truth, in float64."""
        scores = [
            COMPARISONS[STRATEGY].scores(query, self.vectors[first : first + 512])
            for first in range(0, len(self.vectors), 512)
        ]
        return best(np.concatenate(scores))


def best(scores: np.ndarray) -> Answer:
    """The K highest, in order."""
    found = np.argpartition(scores, -K)[-K:]
    return [int(i) for i in found[np.argsort(-scores[found], kind="stable")]]


def filled(store: Store, collection: Collection) -> float:
    """Index all documents; gives seconds."""
    sizes = {"dimensions": collection.vectors.shape[1], "batch": 2000}
    return fill(store, collection.documents(), from_labels(["none"]), **sizes)


def of_store(store: Store, candidates: int = 0) -> Way:
    def answer(vector: np.ndarray) -> Answer:
        query = Query((), strategy=STRATEGY, embedding=vector, k=K, candidates=candidates)
        return [int(hit.document.id, 16) for hit in store.search(query).hits]

    return answer


def in_memory(collection: Collection) -> dict[str, Way]:
    """What a user would otherwise do, on vectors of length one in memory."""
    directions = collection.vectors / np.linalg.norm(collection.vectors, axis=1, keepdims=True)
    neighbors = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute")
    neighbors.fit(collection.vectors)
    index = faiss.IndexFlatIP(directions.shape[1])
    index.add(directions)

    def of_sklearn(vector: np.ndarray) -> Answer:
        return [int(i) for i in neighbors.kneighbors(vector[None], return_distance=False)[0]]

    def of_faiss(vector: np.ndarray) -> Answer:
        return [int(i) for i in index.search((vector / np.linalg.norm(vector))[None], K)[1][0]]

    return {
        "NumPy": lambda vector: best(directions @ (vector / np.linalg.norm(vector))),
        "scikit-learn NearestNeighbors": of_sklearn,
        "faiss IndexFlatIP": of_faiss,
    }


def contenders(
    collection: Collection, options: argparse.Namespace, stack: ExitStack
) -> tuple[dict[str, Way], dict[str, float]]:
    """All ways to answer, and how many seconds their indexes took."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    url = ""
    if options.kinds:
        url = stack.enter_context(elasticsearch_node.node("9", heap=options.heap))
    ways: dict[str, Way] = {}
    seconds: dict[str, float] = {}
    for kind in options.kinds:
        name = f"benchmark-{uuid.uuid4().hex[:8]}"
        store = ElasticStore(f"{url}/{name}", vectors=kind, timeout=600)
        client = store.client
        stack.callback(client.indices.delete, index=f"{name}-000001", ignore_unavailable=True)
        started = time.perf_counter()
        filled(store, collection)
        client.options(request_timeout=3600).indices.forcemerge(index=name, max_num_segments=1)
        seconds[kind] = round(time.perf_counter() - started, 1)
        print(f"{kind}: indexed in {seconds[kind]} s", file=sys.stderr)
        ways.setdefault(EXACT, of_store(store))
        for candidates in options.candidates:
            ways[f"{kind}, {candidates} candidates"] = of_store(store, candidates)
    file = Path(folder, "photos.duckdb")
    embedded = EmbeddedStore(file, vectors="int8_hnsw")
    stack.callback(embedded.close)
    seconds["file, and its graph"] = round(filled(embedded, collection), 1)
    for path in sorted(Path(folder).iterdir()):
        seconds[f"MB of {path.name}"] = round(path.stat().st_size / 1e6)
    seconds["its graph"] = round(Sections(snapshot_path(file, "neighbors")).seconds, 1)
    ways[EMBEDDED] = of_store(embedded)
    for candidates in options.candidates:
        ways[f"file, {candidates} candidates"] = of_store(embedded, candidates)
    if options.near:
        near_duplicates(embedded, collection, options.near)
    return {**ways, **in_memory(collection)}, seconds


def near_duplicates(store: Store, collection: Collection, threshold: float) -> None:
    """Print what it takes to find them, and whether all are found."""
    vectors = collection.vectors
    started, busy = time.perf_counter(), time.process_time()
    groups = find_groups(store.fingerprints(embeddings=True), threshold)
    took = time.perf_counter() - started, time.process_time() - busy
    found = {
        (min(a, b), max(a, b))
        for one, two in near_pairs(vectors, threshold)
        for a, b in zip(one.tolist(), two.tolist(), strict=True)
    }
    started, busy = time.perf_counter(), time.process_time()
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected, tenth = set(), len(vectors) // 10
    for first in range(0, tenth, 1024):
        rows = directions[first : min(first + 1024, tenth)]
        for other in range(0, len(vectors), 8192):
            i, j = np.nonzero(rows @ directions[other : other + 8192].T >= threshold)
            expected |= set(zip((first + i).tolist(), (other + j).tolist(), strict=True))
    # A tenth with all, each pair once: half of it is what a tenth of all pairs takes.
    plain = [5 * s for s in (time.perf_counter() - started, time.process_time() - busy)]
    expected = {pair for pair in expected if pair[0] < pair[1]}
    share = len(expected & found) / max(1, len(expected))
    print(f"\n| near duplicates, cosine {threshold} | pictures | s | processor s | pairs found |")
    print("|---|---:|---:|---:|---:|")
    print(f"| `duplicates` | {len(vectors):,} | {took[0]:.1f} | {took[1]:.1f} | {share:.4f} |")
    print(f"| NumPy, all products | {len(vectors):,} | {plain[0]:.0f} | {plain[1]:.0f} | 1 |")
    print(f"\n{len(groups)} groups, {len(found)} pairs\n", flush=True)


def measure(collection: Collection, queries: int, ways: dict[str, Way]) -> list[dict[str, Any]]:
    order = random.Random(0)  # noqa: S311  (no secret)
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = dict.fromkeys(ways, 0)
    for vector in collection.features(5):
        for way in ways.values():
            way(vector)  # warm caches
    for vector in collection.features(queries):
        nearest = set(collection.nearest(vector))
        for name, way in order.sample(list(ways.items()), len(ways)):
            started = time.perf_counter()
            answer = way(vector)
            times[name].append((time.perf_counter() - started) * 1000)
            found[name] += len(nearest & set(answer))
    exact = statistics.median(times[EXACT if EXACT in times else EMBEDDED])
    return [
        {
            "contender": name,
            "pictures": len(collection.vectors),
            "p50_ms": round(statistics.median(times[name]), 2),
            "p95_ms": round(float(np.percentile(times[name], 95)), 2),
            "recall": round(found[name] / (queries * K), 4),
            "times_exact_speed": round(exact / statistics.median(times[name]), 1),
        }
        for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument(
        "--kinds", nargs="*", default=["int8_hnsw", "bbq_hnsw", "flat"], help="none needs no server"
    )
    parser.add_argument("--near", type=float, default=0, help="cosine of near duplicates")
    parser.add_argument("--heap", default="4g", help="of a node that is started for this")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    collection = Collection(options.pictures, options.dimensions)
    with ExitStack() as stack:
        ways, seconds = contenders(collection, options, stack)
        rows = measure(collection, options.queries, ways)
    print(f"| contender | pictures | p50 ms | p95 ms | recall@{K} | times exact's speed |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['contender']} | {row['pictures']:,} | {row['p50_ms']} | {row['p95_ms']} "
            f"| {row['recall']:.3f} | {row['times_exact_speed']} |"
        )
    print(f"\n{json.dumps({'indexing_s': seconds})}")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, "indexing_s": seconds}, indent=2))


if __name__ == "__main__":
    main()
