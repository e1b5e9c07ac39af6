"""Time per query of every way to rank by synsets, all in one run, each checked with NumPy.

    python benchmarks/query.py --documents 10000 100000 1000000 --queries 100 --json query.json

Documents are top-10 posteriors: synthetic ones, or (--images) those of real photos with noise. All
contenders answer the same queries, each time in another order; a ranking counts as exact when its
ten ids and scores are what NumPy finds by the contender's formula.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402
from engines import ENGINES  # noqa: E402
from filling import fill  # noqa: E402
from needs import needs  # noqa: E402
from posteriors import (  # noqa: E402
    COLUMNS,
    KEYS,
    Answer,
    Collection,
    Jittered,
    Synthetic,
    identity,
    numpy_postings,
    places,
)

from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics  # noqa: E402
from imgsearch_es.retrieval.strategies import STRATEGIES as REGISTERED  # noqa: E402
from imgsearch_es.stores.base import Store  # noqa: E402
from imgsearch_es.stores.elastic.answers import first_pass, read_first_pass  # noqa: E402
from imgsearch_es.stores.elastic.clauses import sparse_clause  # noqa: E402
from imgsearch_es.stores.elastic.fetching import OFFERED  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

with needs("benchmark"):
    import faiss
    from sklearn.neighbors import NearestNeighbors

K = 10
STRATEGIES = ("auto", "script", "script-filtered", "tfidf", "cosine", "sqrt", "bm25")
DENSE_LIMIT = 200_000
"""More pictures than these are not made dense: 1,000 float32 numbers a picture."""


@dataclass(frozen=True)
class Contender:
    """One way to answer, and the strategy whose ranking it shall give."""

    answer: Callable[[Query], Answer]
    strategy: str = "auto"


class Reference:
    """Rankings by NumPy over the columns of a query's synsets."""

    def __init__(self, collection: Collection) -> None:
        self._matrix = collection.matrix
        self._lengths = np.asarray(self._matrix.sum(axis=1)).ravel()
        self._norms = np.sqrt(np.asarray(self._matrix.power(2).sum(axis=1)).ravel())

    def scores(self, query: Query) -> np.ndarray:
        """The score of every picture by the query's strategy."""
        columns = [COLUMNS[term.key] for term in query.terms]
        count = self._matrix.shape[0]
        frequencies = {
            term.key: self._matrix.indptr[c + 1] - self._matrix.indptr[c]
            for term, c in zip(query.terms, columns, strict=True)
        }
        known = Statistics(count, float(self._lengths.mean()), frequencies)
        formula = query.formula
        total = np.zeros(count)
        for term in formula.query_weights(query.terms, known):
            column = self._matrix[:, [COLUMNS[term.key]]]
            rows, d, w = column.indices, column.data, term.score
            if query.strategy == "cosine":
                total[rows] += w * d / self._norms[rows]
            elif query.strategy == "sqrt":
                total[rows] += w * np.sqrt(d)
            elif query.strategy == "bm25":
                lengths = self._lengths[rows] / known.average_length
                total[rows] += w * d * 2.2 / (d + 1.2 * (0.25 + 0.75 * lengths))
            else:
                total[rows] += w * d
        return total


def top(scores: np.ndarray) -> Answer:
    """The best ten of a score per picture, ties by id."""
    rounded = scores.astype(np.float32)
    last = np.partition(rounded, -K)[-K]
    found = np.flatnonzero(rounded >= max(last, np.float32(1e-45)))
    best = found[np.lexsort((places(found), -rounded[found]))][:K].tolist()
    return [(identity(i), float(rounded[i])) for i in best]


def agree(answer: Answer, expected: Answer, strategy: str) -> bool:
    """Whether a ranking is the expected one.

    Formula (1) to the last bit; formulas with roots and logarithms within 1e-6, pictures whose
    scores are that near in any order.
    """
    if len(answer) != len(expected):
        return False
    if REGISTERED[strategy].formula.name == "inner":
        return [(key, float(np.float32(score))) for key, score in answer] == expected
    scores = zip((s for _, s in answer), (s for _, s in expected), strict=True)
    near = all(abs(a - b) <= 1e-6 * max(1.0, abs(b)) for a, b in scores)
    last = expected[-1][1] * (1 + 1e-6)
    clear = {key for key, score in expected if score > last}
    return near and clear <= {key for key, _ in answer}


def of_store(store: Store, strategy: str) -> Contender:
    def answer(query: Query) -> Answer:
        hits = store.search(replace(query, strategy=strategy)).hits
        return [(hit.document.id, hit.score) for hit in hits]

    return Contender(answer, strategy)


def by_script(store: ElasticStore, strategy: str) -> Contender:
    """A formula on an index that keeps no impacts of it: a script over all that share a synset."""
    index = store.location.rpartition("/")[2]

    def answer(query: Query) -> Answer:
        asked = replace(query, strategy=strategy)
        keys = [term.key for term in query.terms]
        known = store.statistics(keys) if asked.formula.needs_statistics else None
        body = asked.to_elasticsearch(statistics=known)
        hits = store.client.search(index=index, body=body)["hits"]["hits"]
        return [(hit["_id"], hit["_score"]) for hit in hits]

    return Contender(answer, strategy)


def paper_script(client: Elasticsearch, index: str) -> Contender:
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

    return Contender(answer)


def bare_sparse_vector(client: Elasticsearch, index: str) -> Contender:
    """The inverted index alone, without rescoring: the floor, and not exact."""

    def answer(query: Query) -> Answer:
        clause = sparse_clause(query.terms)
        hits = client.search(index=index, query=clause, size=K, source=["id"])["hits"]["hits"]
        return [(hit["_id"], hit["_score"]) for hit in hits]

    return Contender(answer)


def named(ask: Callable[[Query], list[tuple[int, float]]], query: Query) -> Answer:
    """An engine's answer, by ids."""
    return [(identity(number), score) for number, score in ask(query)]


def dense_contenders(collection: Collection) -> dict[str, Contender]:
    """What a user would do without an inverted index: 1,000 numbers a picture, all compared."""
    dense = np.ascontiguousarray(collection.matrix.toarray(), dtype=np.float32)
    faiss.omp_set_num_threads(1)
    flat = faiss.IndexFlatIP(len(KEYS))
    flat.add(dense)
    neighbors = NearestNeighbors(n_neighbors=K, metric="cosine", algorithm="brute").fit(dense)

    def vector(query: Query) -> np.ndarray:
        row = np.zeros((1, len(KEYS)), dtype=np.float32)
        for term in query.terms:
            row[0, COLUMNS[term.key]] = term.score
        return row

    def by_faiss(query: Query) -> Answer:
        scores, numbers = flat.search(vector(query), K)
        return [
            (identity(i), float(s)) for i, s in zip(numbers[0].tolist(), scores[0], strict=True)
        ]

    def by_sklearn(query: Query) -> Answer:
        distances, numbers = neighbors.kneighbors(vector(query))
        found = zip(numbers[0].tolist(), distances[0], strict=True)
        return [(identity(i), 1 - float(d)) for i, d in found]

    return {
        "faiss flat, 1,000 dimensions": Contender(by_faiss),
        "scikit-learn cosine, 1,000 dimensions": Contender(by_sklearn, "cosine"),
    }


def proven(store: ElasticStore, queries: list[Query]) -> dict[int, float]:
    """The share of queries whose ranking is proven by rescoring a window of so many documents."""
    shares = {}
    index = store.location.rpartition("/")[2]
    for window in (20, 30, 50, 100, 250):
        count = 0
        for query in queries:
            body = first_pass(query, NO_STATISTICS, window)
            answer = store.client.search(index=index, body=body)
            count += read_first_pass(query, NO_STATISTICS, answer.body, window) is not None
        shares[window] = count / len(queries)
    return shares


@contextmanager
def contenders(
    collection: Collection, url: str
) -> Iterator[tuple[dict[str, Contender], dict[str, Any]]]:
    """All ways to answer, and facts of their indexes; without Elasticsearch where ``url`` is ""."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        facts: dict[str, Any] = {"indexing_s": {}, "bytes": {}}
        ways = of_elasticsearch(collection, url, stack, facts) if url else {}
        embedded = EmbeddedStore(f"{folder}/b.duckdb")
        seconds = fill(embedded, collection.documents(), imagenet())
        facts["indexing_s"]["embedded"] = round(seconds, 1)
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
        facts["bytes"]["embedded"] = sizes
        ways["embedded"] = of_store(embedded, "auto")
        ways |= {f"embedded {s}": of_store(embedded, s) for s in STRATEGIES[3:]}
        ways["NumPy postings in memory"] = Contender(numpy_postings(collection))
        for name, build in ENGINES.items():
            engine = build(collection, Path(folder))
            facts["indexing_s"][name], facts["bytes"][name] = round(engine.seconds, 1), engine.size
            ways[name] = Contender(partial(named, engine.ask))
        if len(collection.scores) <= DENSE_LIMIT:
            ways |= dense_contenders(collection)
        yield ways, facts


def of_elasticsearch(
    collection: Collection, url: str, stack: ExitStack, facts: dict[str, Any]
) -> dict[str, Contender]:
    """The ways to answer from a full index of a node, which goes with the stack."""
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    store = ElasticStore(f"{url}/{name}", impacts=OFFERED)
    client = store.client
    stack.callback(lambda: client.indices.delete(index=f"{name}-000001"))
    seconds = fill(store, collection.documents(), imagenet())
    facts["indexing_s"]["elasticsearch"] = round(seconds, 1)
    client.options(request_timeout=600).indices.forcemerge(index=name, max_num_segments=1)
    # Only so that the paper's script can be timed at all beyond 150 queries.
    rate = "script.max_compilations_rate"
    client.cluster.put_settings(persistent={rate: "100000/1m"})
    stack.callback(lambda: client.cluster.put_settings(persistent={rate: None}))
    facts["bytes"]["elasticsearch"] = store.stats()["bytes"]
    facts["proven_by_window"] = proven(store, collection.queries(200))
    return {
        "paper script": paper_script(client, name),
        **{strategy: of_store(store, strategy) for strategy in STRATEGIES},
        **{f"{formula}, no impacts": by_script(store, formula) for formula in OFFERED},
        "bare sparse_vector": bare_sparse_vector(client, name),
    }


def measure(
    collection: Collection, queries: int, ways: dict[str, Contender]
) -> list[dict[str, Any]]:
    """Every way on each query, in another order each time, for the sake of caches.

    Who comes after a scan of everything finds them cold, who comes after its own kind warm.
    """
    order = random.Random(0)  # noqa: S311  (no secret)
    times: dict[str, list[float]] = {name: [] for name in ways}
    exact, recall = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0)
    reference = Reference(collection)
    for query in collection.queries(5):
        for way in ways.values():
            way.answer(query)  # warm caches
    for query in collection.queries(queries):
        strategies = {way.strategy for way in ways.values()}
        expected = {s: top(reference.scores(replace(query, strategy=s))) for s in strategies}
        for name, way in order.sample(list(ways.items()), len(ways)):
            started = time.perf_counter()
            answer = way.answer(query)
            times[name].append((time.perf_counter() - started) * 1000)
            right = expected[way.strategy]
            exact[name] += agree(answer, right, way.strategy)
            recall[name] += len({key for key, _ in answer} & {key for key, _ in right}) / len(right)
    return [
        {
            "contender": name,
            "documents": len(collection.scores),
            "p50_ms": round(statistics.median(times[name]), 2),
            "p95_ms": round(float(np.percentile(times[name], 95)), 2),
            "exact_fraction": exact[name] / queries,
            "recall_at_10": round(recall[name] / queries, 4),
        }
        for name in ways
    ]


def show(rows: list[dict[str, Any]]) -> None:
    """One table, the paper's script first if it is there."""
    first, paper = rows[0]["contender"], rows[0]["p50_ms"]
    print(
        f"| contender | documents | p50 ms | p95 ms | exact | recall@10 "
        f"| times the speed of {first} |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for row in rows:
        print(
            f"| {row['contender']} | {row['documents']:,} | {row['p50_ms']} | {row['p95_ms']} "
            f"| {row['exact_fraction']:.0%} | {row['recall_at_10']:.3f} "
            f"| {paper / row['p50_ms']:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--images", type=Path, metavar="DIR", help="jitter real photos' posteriors")
    parser.add_argument("--model", default="efficientnet-lite0", help="for --images")
    parser.add_argument("--stores", nargs="+", default=["embedded", "elasticsearch"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    all_rows: list[dict[str, Any]] = []
    all_facts: list[dict[str, Any]] = []
    with ExitStack() as stack:
        node = (
            elasticsearch_node.node("9", heap="2g") if "elasticsearch" in options.stores else None
        )
        url = stack.enter_context(node) if node else ""
        for count in options.documents:
            collection = (
                Jittered(count, options.images, options.model)
                if options.images
                else Synthetic(count)
            )
            with contenders(collection, url) as (ways, facts):
                rows = measure(collection, options.queries, ways)
            show(rows)
            print(f"\n{json.dumps(facts)}\n", flush=True)
            all_rows += rows
            all_facts.append(facts)
    if options.json:
        options.json.write_text(json.dumps({"rows": all_rows, "facts": all_facts}, indent=2))


if __name__ == "__main__":
    main()
