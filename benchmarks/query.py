"""Time per query of every way to compute formula (1), all in one run, each checked with NumPy.

    python benchmarks/query.py --documents 100000 --queries 100 --json query.json

Documents are synthetic top-10 posteriors: Zipf classes with confusable neighbors. All contenders
answer the same queries in turn; a ranking counts as exact when its ten ids and scores are NumPy's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from scipy import sparse

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402

from imgsearch_es.analysis import Term  # noqa: E402
from imgsearch_es.documents import Document  # noqa: E402
from imgsearch_es.queries import Query, synset_vector  # noqa: E402
from imgsearch_es.stores.base import IndexSettings, Store  # noqa: E402
from imgsearch_es.stores.elastic import ElasticStore  # noqa: E402
from imgsearch_es.stores.elastic.strategies import Impact, is_proven, sparse_clause  # noqa: E402
from imgsearch_es.stores.embedded import EmbeddedStore  # noqa: E402
from imgsearch_es.synsets import imagenet  # noqa: E402

K = 10
KEYS = imagenet().keys
Answer = list[tuple[str, float]]


class Collection:
    """Seeded posteriors: ten terms a picture, kept as a matrix of (pictures, classes)."""

    def __init__(self, documents: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        popularity = 1 / np.arange(1, 1001) ** 0.8
        self._popularity = popularity / popularity.sum()
        self._neighbors = np.stack([self.random.permutation(1000)[:30] for _ in range(1000)])
        self.classes, self.scores = self.posteriors(documents)
        rows = np.repeat(np.arange(documents), 10)
        entries = (self.scores.ravel().astype(np.float64), (rows, self.classes.ravel()))
        self.matrix = sparse.csc_matrix(entries, shape=(documents, 1000))

    def posteriors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Classes, shape (count, 10), and their scores, best first."""
        first = self.random.choice(1000, size=count, p=self._popularity)
        others = self.random.random((count, 30)).argsort(axis=1)[:, :9]
        classes = np.column_stack([first, np.take_along_axis(self._neighbors[first], others, 1)])
        for row in np.flatnonzero([len(set(row)) < 10 for row in classes]):
            classes[row] = (first[row] + np.arange(10) * 37) % 1000
        steepness = self.random.choice([0.15, 0.5, 2.0], size=count)[:, None]
        odds = self.random.gamma(steepness, size=(count, 10)) + 1e-9
        scores = np.sort(odds / odds.sum(axis=1, keepdims=True), axis=1)[:, ::-1]
        return classes, scores.astype(np.float32)

    def documents(self) -> Iterator[Document]:
        """The collection, one document a picture."""
        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        for i, (classes, scores) in enumerate(zip(self.classes, self.scores, strict=True)):
            terms = tuple(
                Term(KEYS[c], float(s)) for c, s in zip(classes, scores, strict=True) if s > 1e-30
            )
            name = f"{i:032x}"
            yield Document(
                name, f"/p/{i}.jpg", f"{i}.jpg", name * 2, 640, 480, 1, "JPEG", now, terms
            )

    def queries(self, count: int, **options: Any) -> list[Query]:
        """Queries by new posteriors of the same kind."""
        classes, scores = self.posteriors(count)
        return [
            Query(
                synset_vector(Term(KEYS[c], float(s)) for c, s in zip(cs, ss, strict=True)),
                **options,
            )
            for cs, ss in zip(classes, scores, strict=True)
        ]

    def dense(self, query: Query) -> np.ndarray:
        """A query's weights, one for each class."""
        vector = np.zeros(1000)
        column = {key: i for i, key in enumerate(KEYS)}
        for term in query.terms:
            vector[column[term.key]] = term.score
        return vector


def top(scores: np.ndarray) -> Answer:
    """The best ten of a score per picture, ties by id (which is the picture's number)."""
    rounded = scores.astype(np.float32)
    last = np.partition(rounded, -K)[-K]
    found = np.flatnonzero(rounded >= max(last, np.float32(1e-45)))
    best = found[np.lexsort((found, -rounded[found]))][:K]
    return [(f"{i:032x}", float(rounded[i])) for i in best]


def fill(store: Store, collection: Collection) -> float:
    """Index all documents; gives seconds."""
    settings = IndexSettings(
        {"model": {"name": "synthetic"}, "image_filters": [], "term_filters": []},
        "sha256:none",
        imagenet(),
        0,
    )
    started = time.perf_counter()
    store.create(settings)
    batch = []
    for document in collection.documents():
        batch.append(document)
        if len(batch) == 5000:
            store.write(batch)
            batch = []
    if batch:
        store.write(batch)
    store.finish()
    return time.perf_counter() - started


def of_store(store: Store, strategy: str) -> Callable[[Query], Answer]:
    def answer(query: Query) -> Answer:
        hits = store.search(replace(query, strategy=strategy)).hits
        return [(hit.document.id, hit.score) for hit in hits]

    return answer


def paper_script(client: Elasticsearch, index: str) -> Callable[[Query], Answer]:
    """The paper's script as printed: a source text for each query.

    With the guard without which it fails on missing fields since Elasticsearch 7, and with
    apostrophes escaped.
    """

    def answer(query: Query) -> Answer:
        source = "0.0"
        for term in query.terms:
            field = f"synset.{term.key}.score".replace("'", "\\'")
            source += f" + (doc['{field}'].size() == 0 ? 0 : doc['{field}'].value * {term.score!r})"
        score = {"script": {"source": source}}
        body = {"function_score": {"query": {"match_all": {}}, "script_score": score}}
        hits = client.search(index=index, query=body, size=K, source=["id"])["hits"]["hits"]
        return [(hit["_id"], hit["_score"]) for hit in hits]

    return answer


def bare_sparse_vector(client: Elasticsearch, index: str) -> Callable[[Query], Answer]:
    """The inverted index alone, without rescoring: the floor, and not exact."""

    def answer(query: Query) -> Answer:
        clause = sparse_clause(query.terms)
        hits = client.search(index=index, query=clause, size=K, source=["id"])["hits"]["hits"]
        return [(hit["_id"], hit["_score"]) for hit in hits]

    return answer


def proven(store: ElasticStore, queries: list[Query]) -> dict[int, float]:
    """The share of queries whose ranking is proven by rescoring a window of so many documents."""
    shares = {}
    for window in (20, 30, 50, 100, 250):
        count = 0
        for query in queries:
            body = Impact().body(query, window)
            hits = store.client.search(index=store.location.rpartition("/")[2], body=body)["hits"][
                "hits"
            ]
            count += is_proven(query, [hit["_score"] for hit in hits], window)
        shares[window] = count / len(queries)
    return shares


def contenders(
    collection: Collection, stack: ExitStack
) -> tuple[dict[str, Callable[[Query], Answer]], dict[str, Any]]:
    """All ways to answer, and how long their indexes took."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    url = stack.enter_context(elasticsearch_node.node("9", heap="2g"))
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    elastic, embedded = ElasticStore(f"{url}/{name}"), EmbeddedStore(f"{folder}/b.duckdb")
    stack.callback(lambda: elastic.client.indices.delete(index=f"{name}-000001"))
    facts: dict[str, Any] = {
        "indexing_s": {
            "elasticsearch": round(fill(elastic, collection), 1),
            "embedded": round(fill(embedded, collection), 1),
        }
    }
    elastic.client.options(request_timeout=600).indices.forcemerge(index=name, max_num_segments=1)
    # Only so that the paper's script can be timed at all beyond 150 queries.
    rate = "script.max_compilations_rate"
    elastic.client.cluster.put_settings(persistent={rate: "100000/1m"})
    stack.callback(lambda: elastic.client.cluster.put_settings(persistent={rate: None}))
    ways: dict[str, Callable[[Query], Answer]] = {
        "paper script": paper_script(elastic.client, name),
        "script": of_store(elastic, "script"),
        "script-filtered": of_store(elastic, "script-filtered"),
        "auto": of_store(elastic, "auto"),
        "bare sparse_vector": bare_sparse_vector(elastic.client, name),
        "embedded": of_store(embedded, "auto"),
        "SciPy CSC": lambda query: top(collection.matrix @ collection.dense(query)),
    }
    facts["proven_by_window"] = proven(elastic, collection.queries(200))
    return ways, facts


def measure(collection: Collection, queries: int, ways: dict[str, Any]) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    exact = dict.fromkeys(ways, 0)
    for query in collection.queries(5):
        for way in ways.values():
            way(query)  # warm caches
    for query in collection.queries(queries):
        expected = top(collection.matrix @ collection.dense(query))
        for name, way in ways.items():
            started = time.perf_counter()
            answer = way(query)
            times[name].append((time.perf_counter() - started) * 1000)
            rounded = [(key, float(np.float32(score))) for key, score in answer]
            exact[name] += rounded == expected
    return [
        {
            "contender": name,
            "documents": len(collection.scores),
            "p50_ms": round(statistics.median(times[name]), 2),
            "p95_ms": round(float(np.percentile(times[name], 95)), 2),
            "exact_fraction": exact[name] / queries,
        }
        for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    collection = Collection(options.documents)
    with ExitStack() as stack:
        ways, facts = contenders(collection, stack)
        rows = measure(collection, options.queries, ways)
    paper = rows[0]["p50_ms"]
    print("| contender | documents | p50 ms | p95 ms | exact | times the paper's speed |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['contender']} | {row['documents']:,} | {row['p50_ms']} | {row['p95_ms']} "
            f"| {row['exact_fraction']:.0%} | {paper / row['p50_ms']:.1f} |"
        )
    print(f"\n{json.dumps(facts)}")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": rows, **facts}, indent=2))


if __name__ == "__main__":
    main()
