"""Documents per second into Elasticsearch: ElasticStore.write against the client's own helpers.

    python benchmarks/bulk.py --documents 5000 --json bulk.json

The documents are the same for all: ten synsets and a deep feature of 1,280 numbers each, at random.
Each contender fills a new index, in turn, several times; making the JSON belongs to the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import helpers

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402

from imgsearch_es.analysis.analyzer import Term  # noqa: E402
from imgsearch_es.retrieval.documents import Document  # noqa: E402
from imgsearch_es.stores.base import IndexSettings  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

DIMENSIONS = 1280
TOGETHER = 2048
"""Documents that ElasticStore.write gets at once; the helpers get all in one stream."""
KEYS = imagenet().keys
Writer = Callable[[ElasticStore, Sequence[Document]], None]


def documents(number: int) -> list[Document]:
    """Documents as a classifier makes them."""
    random = np.random.default_rng(0)
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    made = []
    for i in range(number):
        scores = np.sort(random.dirichlet(np.full(10, 0.3)).astype(np.float32) + 1e-6)[::-1]
        classes = random.choice(1000, 10, replace=False)
        terms = tuple(Term(KEYS[c], float(s)) for c, s in zip(classes, scores, strict=True))
        key = f"{i:032x}"
        document = Document(
            key, f"/p/{i}.jpg", f"{i}.jpg", key * 2, 640, 480, 90_000, "JPEG", now, terms
        )
        feature = random.standard_normal(DIMENSIONS, np.float32)
        made.append(replace(document, embedding=feature))
    return made


def of_store(store: ElasticStore, given: Sequence[Document]) -> None:
    for start in range(0, len(given), TOGETHER):
        store.write(given[start : start + TOGETHER])


def parallel_bulk(threads: int) -> Writer:
    def write(store: ElasticStore, given: Sequence[Document]) -> None:
        found = helpers.parallel_bulk(
            store.client,
            actions(store, given),
            thread_count=threads,
            index=store.location.rpartition("/")[2],
        )
        deque(found, maxlen=0)

    return write


def streaming_bulk(store: ElasticStore, given: Sequence[Document]) -> None:
    deque(
        helpers.streaming_bulk(
            store.client, actions(store, given), index=store.location.rpartition("/")[2]
        ),
        maxlen=0,
    )


def actions(store: ElasticStore, given: Sequence[Document]) -> Iterator[dict[str, Any]]:
    vocabulary = imagenet()
    for document in given:
        yield {"_id": document.id, "_source": document.to_source(vocabulary)}


CONTENDERS: dict[str, Writer] = {
    "ElasticStore.write": of_store,
    "parallel_bulk, 4 threads": parallel_bulk(4),
    "parallel_bulk, 2 threads": parallel_bulk(2),
    "streaming_bulk": streaming_bulk,
}


def fill(url: str, write: Writer, given: Sequence[Document]) -> float:
    """Seconds to fill a new index, which is then checked and deleted."""
    name = f"benchmark-bulk-{uuid.uuid4().hex[:8]}"
    store = ElasticStore(f"{url}/{name}")
    try:
        store.create(
            IndexSettings(
                {"model": {"name": "random"}, "image_filters": [], "term_filters": []},
                "sha256:none",
                imagenet(),
                DIMENSIONS,
            )
        )
        started = time.perf_counter()
        write(store, given)
        seconds = time.perf_counter() - started
        store.finish()
        if store.count() != len(given):
            raise SystemExit(f"{store.count()} of {len(given)} documents are there")
        return seconds
    finally:
        store.client.indices.delete(index=f"{name}-000001", ignore_unavailable=True)
        store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    given = documents(options.documents)
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with elasticsearch_node.node("9") as url:
        fill(url, streaming_bulk, given)  # warm the node
        for turn in range(options.repeats):
            names = list(CONTENDERS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds[name].append(fill(url, CONTENDERS[name], given))
    rates = {name: len(given) / statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"contender": name, "documents": len(given), "documents_per_second": round(rate, 1)}
        for name, rate in rates.items()
    ]
    base = rates["parallel_bulk, 4 threads"]
    print("| contender | documents | documents/s | times parallel_bulk |")
    print("|---|---:|---:|---:|")
    for name, rate in rates.items():
        print(f"| {name} | {len(given):,} | {rate:.0f} | {rate / base:.2f} |")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
