"""Documents per second into Elasticsearch, and their bytes: ElasticStore.write, parallel_bulk.

    python benchmarks/bulk.py --documents 100000 --json bulk.json
    python benchmarks/bulk.py --documents 20000 --dimensions 1280

The documents are the same for all: ten synsets and a deep feature each. Each contender fills a new
index of each layout, in turn, several times; making the JSON belongs to the time. Then each layout
is filled once more and weighed, as it lies and merged to one segment.

What the server holds to recover from is dropped by the first merge after it has been told that
nobody needs it, which it is every thirty seconds: so there is a wait before merging.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import helpers
from elasticsearch.serializer import JsonSerializer

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "benchmarks")]

import elasticsearch_node  # noqa: E402
from filling import NO_ANALYZER  # noqa: E402
from posteriors import Synthetic  # noqa: E402

from imgsearch_es.pictures.files import picture_id  # noqa: E402
from imgsearch_es.retrieval.documents import Document  # noqa: E402
from imgsearch_es.stores.base import IndexSettings  # noqa: E402
from imgsearch_es.stores.elastic.fetching import shown_by  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import Vocabulary, imagenet  # noqa: E402

LAYOUTS = ("full", "lean")
RETENTION_S = 70
Writer = Callable[[ElasticStore, Sequence[Document]], None]


def documents(number: int, dimensions: int) -> list[Document]:
    """Documents as a classifier makes them of somebody's photos."""
    random = np.random.default_rng(0)
    made = []
    for i, document in enumerate(Synthetic(number).documents()):
        name = f"IMG_{i:06}.jpg"
        uri = f"/srv/photos/{2000 + i % 20}/{i % 12 + 1:02}/{name}"
        feature = np.maximum(random.standard_normal(dimensions, np.float32), 0)
        made.append(
            replace(
                document,
                id=picture_id(uri),
                uri=uri,
                filename=name,
                sha256=random.bytes(32).hex(),
                width=int(random.choice([640, 1024, 3000, 4000])),
                bytes=int(random.integers(10**5, 5 * 10**6)),
                indexed_at=document.indexed_at + timedelta(microseconds=i * 30_000 + 1),
                embedding=feature if dimensions else None,
            )
        )
    return made


def of_store(store: ElasticStore, given: Sequence[Document]) -> None:
    store.write(given)


def parallel_bulk(store: ElasticStore, given: Sequence[Document]) -> None:
    index = store.location.rpartition("/")[2]
    sent = actions(store, given)
    deque(helpers.parallel_bulk(store.client, sent, thread_count=4, index=index), maxlen=0)


def actions(store: ElasticStore, given: Sequence[Document]) -> Iterator[dict[str, Any]]:
    vocabulary, lean = imagenet(), store.layout == "lean"
    for document in given:
        yield {"_id": document.id, "_source": source(document, vocabulary, lean=lean)}


def source(document: Document, vocabulary: Vocabulary, *, lean: bool) -> dict[str, Any]:
    """What the store sends of a document."""
    shown = shown_by(vocabulary).fields(document, lean=lean)
    return document.to_source(vocabulary, lean=lean) | shown


CONTENDERS: dict[str, Writer] = {
    "ElasticStore.write": of_store,
    "parallel_bulk, 4 threads": parallel_bulk,
}


@contextmanager
def new_index(url: str, layout: str, dimensions: int) -> Iterator[ElasticStore]:
    """A store of an index of its own, which is deleted in the end."""
    name = f"benchmark-bulk-{uuid.uuid4().hex[:8]}"
    store = ElasticStore(f"{url}/{name}", layout=layout, timeout=600)
    try:
        store.create(IndexSettings(NO_ANALYZER, "sha256:none", imagenet(), dimensions))
        store.settings()
        yield store
    finally:
        store.client.indices.delete(index=f"{name}-000001", ignore_unavailable=True)
        store.close()


def fill(store: ElasticStore, write: Writer, given: Sequence[Document]) -> dict[str, float]:
    """Seconds to write, of them the client's own processor time, and of the server's threads."""
    clock, processor = time.perf_counter(), time.process_time()
    write(store, given)
    seconds = {
        "seconds": time.perf_counter() - clock,
        "client_cpu": time.process_time() - processor,
    }
    store.finish()
    if store.count() != len(given):
        raise SystemExit(f"{store.count()} of {len(given)} documents are there")
    stats = store.client.indices.stats(index=store._index, metric=["indexing"])
    indexing = stats["_all"]["primaries"]["indexing"]["index_time_in_millis"]
    return {**seconds, "server_indexing": indexing / 1000}


def weigh(stores: Mapping[str, ElasticStore], count: int) -> dict[str, dict[str, float]]:
    """Bytes of a document as they lie after loading, and merged to one segment."""
    found: dict[str, dict[str, float]] = {}
    for layout, store in stores.items():
        store.client.indices.flush(index=store._index, force=True)
        found[layout] = {"loaded": round(store.stats()["bytes"] / count)}
    time.sleep(RETENTION_S)
    for layout, store in stores.items():
        indices, index = store.client.indices, store._index
        indices.forcemerge(index=index, max_num_segments=1)
        indices.flush(index=index, force=True)
        indices.refresh(index=index)
        found[layout]["merged"] = round(store.stats()["bytes"] / count)
    return found


def making(given: Sequence[Document], layout: str) -> float:
    """Processor seconds to make the JSON of all documents."""
    serializer, vocabulary = JsonSerializer(), imagenet()
    started = time.process_time()
    for document in given:
        serializer.dumps(source(document, vocabulary, lean=layout == "lean"))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--dimensions", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3, help="0: bytes alone")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    given = documents(options.documents, options.dimensions)
    contenders = [(name, layout) for layout in LAYOUTS for name in CONTENDERS]
    found: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in contenders}
    rows: list[dict[str, Any]] = []
    with elasticsearch_node.node("9") as url:
        for turn in range(options.repeats):
            for name, layout in contenders[turn:] + contenders[:turn]:
                with new_index(url, layout, options.dimensions) as store:
                    found[name, layout].append(fill(store, CONTENDERS[name], given))
                print(name, layout, found[name, layout][-1], file=sys.stderr, flush=True)
        with ExitStack() as stack:
            stores = {
                layout: stack.enter_context(new_index(url, layout, options.dimensions))
                for layout in LAYOUTS
            }
            for store in stores.values():
                of_store(store, given)
            weights = weigh(stores, len(given))
    print("| layout | bytes loaded | merged |\n|---|---:|---:|")
    for layout, weight in weights.items():
        print(f"| {layout} | {weight['loaded']:,} | {weight['merged']:,} |")
    print("\n| layout | contender | documents/s | client s | server's indexing s |")
    print("|---|---|---:|---:|---:|")
    for (name, layout), runs in found.items():
        if not runs:
            continue
        median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        rate = len(given) / median["seconds"]
        print(
            f"| {layout} | {name} | {rate:,.0f} | {median['client_cpu']:.1f} "
            f"| {median['server_indexing']:.1f} |"
        )
        rows.append({"layout": layout, "contender": name, "documents_per_second": rate, **median})
    made = {layout: round(making(given, layout), 1) for layout in LAYOUTS}
    print(f"\nThe JSON alone takes {made} s of processor time.")
    if options.json:
        facts = {"documents": len(given), "dimensions": options.dimensions, "making": made}
        text = json.dumps({**facts, "bytes": weights, "rows": rows, "runs": list(found.values())})
        Path(options.json).write_text(text)


if __name__ == "__main__":
    main()
