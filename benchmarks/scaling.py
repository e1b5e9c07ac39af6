"""What a picture costs on Elasticsearch, in bytes and in time, on a cluster of several nodes.

    python benchmarks/scaling.py --documents 200000 --shards 3 --nodes 2 --json scaling.json

The same synthetic documents (see benchmarks/query.py) are indexed on one shard and on several;
every ranking is compared with NumPy. A second, smaller index has deep features, for their bytes.
The cluster is started on this machine for the run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "benchmarks")]

import elasticsearch_node  # noqa: E402
from filling import fill  # noqa: E402
from posteriors import Synthetic  # noqa: E402
from query import Reference, top  # noqa: E402

from imgsearch_es.retrieval.documents import Document  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

FIELDS = {
    "posterior (sparse_vector)": ["posterior"],
    "synset.* (the paper's fields)": ["synset"],
    "uri, id, filename, sha256": ["uri", "id", "filename", "sha256", "_id"],
    "words (text)": ["words"],
    "embedding (dense_vector)": ["embedding"],
    "_source": ["_source"],
}


def filled(
    url: str, name: str, documents: Iterator[Document], dimensions: int, shards: int
) -> tuple[ElasticStore, float]:
    """An index with these documents, merged to one segment a shard; and the seconds to write."""
    store = ElasticStore(f"{url}/{name}", shards=shards, refresh_interval="-1", timeout=600)
    seconds = fill(store, documents, imagenet(), dimensions=dimensions)
    store.client.indices.forcemerge(index=name, max_num_segments=1)
    store.client.indices.flush(index=name)
    store.client.indices.refresh(index=name)
    return store, seconds


def size(store: ElasticStore) -> dict[str, float]:
    """Bytes per picture, in all and by fields (the analysis of disk usage reads every file)."""
    name = store.location.rpartition("/")[2]
    count, total = store.count(), store.stats()["bytes"]
    usage = store.client.indices.disk_usage(index=name, run_expensive_tasks=True)
    ((_, found),) = [item for item in usage.items() if item[0] != "_shards"]
    bytes_of = {field: facts["total_in_bytes"] for field, facts in found["fields"].items()}
    rows = {"all": total / count}
    for title, fields in FIELDS.items():
        mine = [f for f in bytes_of if f in fields or f.split(".")[0] in fields]
        rows[title] = sum(bytes_of[f] for f in mine) / count
    rows["other fields"] = sum(bytes_of.values()) / count - sum(list(rows.values())[1:])
    return {title: round(value, 1) for title, value in rows.items()}


def ask(store: ElasticStore, collection: Synthetic, queries: list[Any]) -> dict[str, Any]:
    """Median and 95th percentile one after the other, queries per second from four threads."""
    for query in queries[:20]:
        store.search(query)
    times, exact, reference = [], 0, Reference(collection)
    for query in queries:
        started = time.perf_counter()
        hits = store.search(query).hits
        times.append((time.perf_counter() - started) * 1000)
        found = [(hit.document.id, hit.score) for hit in hits]
        exact += found == top(reference.scores(query))
    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.search, queries))
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(float(np.percentile(times, 95)), 2),
        "queries_per_s": round(len(queries) / (time.perf_counter() - started), 1),
        "exact_fraction": exact / len(queries),
    }


def nodes_of(store: ElasticStore) -> dict[str, Any]:
    """How the shards lie, and the heap that is in use."""
    name = store.location.rpartition("/")[2]
    shards = store.client.cat.shards(index=name, format="json")
    stats = store.client.nodes.stats(metric=["jvm"])["nodes"].values()
    return {
        "shards_by_node": sorted(
            sum(s["node"] == n for s in shards) for n in {s["node"] for s in shards}
        ),
        "heap_used_mb": [round(n["jvm"]["mem"]["heap_used_in_bytes"] / 1e6) for n in stats],
        "heap_max_mb": [round(n["jvm"]["mem"]["heap_max_in_bytes"] / 1e6) for n in stats],
    }


def with_features(collection: Synthetic, count: int, dimensions: int) -> Iterator[Document]:
    random = np.random.default_rng(1)
    for number, document in enumerate(collection.documents()):
        if number == count:
            return
        vector = np.maximum(random.standard_normal(dimensions), 0).astype(np.float32)
        yield replace(document, embedding=vector)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--terms", type=int, default=50, help="of a document, and of a query")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--features", type=int, default=10_000, help="documents with a vector")
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    collection = Synthetic(options.documents, terms=options.terms)
    queries = collection.queries(options.queries)
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"documents": options.documents, "nodes": options.nodes}
    with elasticsearch_node.cluster(options.nodes, heap="1g") as urls:
        for shards in (1, options.shards):
            name = f"scaling-{shards}"
            store, seconds = filled(urls[0], name, collection.documents(), 0, shards)
            row = {"shards": shards, "documents_per_s": round(options.documents / seconds)}
            rows.append(row | ask(store, collection, queries) | nodes_of(store))
            facts.setdefault("bytes_per_picture", size(store))
            print(rows[-1], flush=True)
            store.client.indices.delete(index=f"{name}-000001")
        count = min(options.features, options.documents)
        documents = with_features(collection, count, options.dimensions)
        store, _ = filled(urls[0], "scaling-features", documents, options.dimensions, 1)
        facts["bytes_per_picture_with_feature"] = size(store)
        facts["dimensions"] = options.dimensions
    print("| shards | documents | written/s | p50 ms | p95 ms | queries/s | exact |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['shards']} | {options.documents:,} | {row['documents_per_s']:,} "
            f"| {row['p50_ms']} | {row['p95_ms']} | {row['queries_per_s']} "
            f"| {row['exact_fraction']:.0%} |"
        )
    print(f"\n{json.dumps(facts, indent=2)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, **facts}, indent=2))


if __name__ == "__main__":
    main()
