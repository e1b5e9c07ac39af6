"""Many queries together: how many a second, of a file and of Elasticsearch, beside one by one.

    python benchmarks/many.py --documents 100000 --queries 10000 --json many.json

Documents are synthetic top-10 posteriors, as of query.py. All contenders answer the same queries in
the same run, part after part in turn; each answer of ten ids and scores is compared with NumPy's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402
from filling import fill  # noqa: E402
from posteriors import Answer, Collection, Synthetic, numpy_postings  # noqa: E402

from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.stores.base import SearchResult, Store  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

Many = Callable[[list[Query]], list[Answer]]
PARTS, ALONE = 5, 200
"""Parts of the queries, and the queries of a part that are asked one by one."""


def whole(found: SearchResult) -> Answer:
    """The hits with their documents."""
    return [(hit.document.id, hit.score) for hit in found.hits]


def of_store(store: Store, name: str) -> dict[str, Many]:
    """A store's ways."""
    return {
        f"{name}, one by one": lambda queries: [whole(store.search(q)) for q in queries[:ALONE]],
        f"{name}, together": lambda queries: [f.ranking for f in store.search_many(queries)],
        f"{name}, together, documents read": lambda queries: list(
            map(whole, store.search_many(queries))
        ),
    }


def contenders(collection: Collection, stores: list[str], stack: ExitStack) -> dict[str, Many]:
    """All ways to answer."""
    one = numpy_postings(collection)
    ways: dict[str, Many] = {
        "NumPy postings in memory": lambda queries: [one(query) for query in queries]
    }
    if "embedded" in stores:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        embedded = EmbeddedStore(f"{folder}/many.duckdb")
        fill(embedded, collection.documents(), imagenet())
        ways |= of_store(embedded, "embedded")
    if "elasticsearch" in stores:
        url = stack.enter_context(elasticsearch_node.node("9", heap="2g"))
        index = f"benchmark-{uuid.uuid4().hex[:8]}"
        elastic = ElasticStore(f"{url}/{index}")
        stack.callback(elastic.delete)
        fill(elastic, collection.documents(), imagenet())
        client = elastic.client.options(request_timeout=600)
        client.indices.forcemerge(index=index, max_num_segments=1)
        ways |= of_store(elastic, "Elasticsearch")
        del ways["Elasticsearch, together, documents read"]  # they always are
    return ways


def measure(queries: list[Query], ways: dict[str, Many]) -> list[dict[str, Any]]:
    """Queries a second, the median of the parts, and the share of answers that are NumPy's."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    exact, asked = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
    size = len(queries) // PARTS
    for way in ways.values():
        way(queries[:50])  # warm caches
    for first in range(0, size * PARTS, size):
        part, expected = queries[first : first + size], list[Answer]()
        for name, way in ways.items():
            started = time.perf_counter()
            answers = way(part)
            rates[name].append(len(answers) / (time.perf_counter() - started))
            expected = expected or answers
            exact[name] += sum(a == e for a, e in zip(answers, expected, strict=False))
            asked[name] += len(answers)
    return [
        {
            "contender": name,
            "queries": asked[name],
            "per_second": round(statistics.median(rates[name])),
            "exact_fraction": exact[name] / asked[name],
        }
        for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--stores", nargs="+", default=["embedded", "elasticsearch"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    collection = Synthetic(options.documents)
    with ExitStack() as stack:
        ways = contenders(collection, options.stores, stack)
        rows = measure(collection.queries(options.queries), ways)
    print(f"{options.documents:,} documents\n")
    print("| contender | queries | queries/s | exact |")
    print("|---|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['contender']} | {row['queries']:,} | {row['per_second']:,} "
            f"| {row['exact_fraction']:.0%} |"
        )
    if options.json:
        options.json.write_text(json.dumps({"documents": options.documents, "rows": rows}))


if __name__ == "__main__":
    main()
