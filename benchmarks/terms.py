"""What fifty terms a document cost beside ten: time of a query, exactness, proof and bytes.

    python benchmarks/terms.py --documents 1000000 --stores embedded --json terms.json

One synthetic collection (see benchmarks/query.py) is kept whole and cut at its best ten terms. The
same queries go to both, by ``auto``, with their best ten terms as those of pictures do, and to the
whole with all. All contenders answer each query in turn; a ranking counts as exact when its ten ids
and scores are those that NumPy finds. Processor time, which a busy machine changes less, is that of
this process: all of a file's search, but not Elasticsearch's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402
from filling import fill  # noqa: E402
from posteriors import Collection, Synthetic  # noqa: E402
from query import Answer, Reference, proven, top  # noqa: E402

from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.stores.base import Store  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

FEW, MANY = 10, 50
SETTINGS = ((FEW, FEW), (MANY, FEW), (MANY, MANY))
"""Terms of a document, and of a query."""


class Contender(NamedTuple):
    """A full store, and how many terms queries ask it with."""

    kind: str
    terms: int
    asked: int
    store: Store


def asking(query: Query, terms: int) -> Query:
    """The query with its best terms alone."""
    best = sorted(query.terms, key=lambda term: -term.score)[:terms]
    return replace(query, terms=tuple(term for term in query.terms if term in best))


def ask(store: Store, query: Query) -> tuple[float, float, Answer]:
    """Milliseconds, those of this process's processor time, and the ranking."""
    started, spent = time.perf_counter(), time.process_time()
    hits = store.search(query).hits
    took, busy = time.perf_counter() - started, time.process_time() - spent
    return took * 1000, busy * 1000, [(hit.document.id, hit.score) for hit in hits]


def opened(kind: str, url: str, stack: ExitStack) -> Store:
    """An empty place for an index, which goes with the stack."""
    if kind == "embedded":
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store: Store = EmbeddedStore(f"{folder}/b.duckdb")
        stack.callback(store.close)
        return store
    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    elastic = ElasticStore(f"{url}/{name}", refresh_interval="-1", timeout=600)
    stack.callback(lambda: elastic.client.indices.delete(index=f"{name}-000001"))
    return elastic


def filled(
    kinds: list[str], collections: dict[int, Collection], url: str, stack: ExitStack
) -> tuple[list[Contender], list[dict[str, Any]]]:
    """Full stores, and facts of each."""
    found, facts = [], []
    for kind in kinds:
        for terms, collection in collections.items():
            store = opened(kind, url, stack)
            seconds = fill(store, collection.documents(), imagenet())
            fact: dict[str, Any] = {"store": kind, "terms": terms, "seconds": round(seconds, 1)}
            if isinstance(store, ElasticStore):
                name = store.location.rpartition("/")[2]
                store.client.indices.forcemerge(index=name, max_num_segments=1)
                store.client.indices.flush(index=name)
                store.client.indices.refresh(index=name)
                queries = [asking(query, FEW) for query in collections[MANY].queries(100)]
                fact["proven_by_window"] = proven(store, queries)
            fact["bytes_per_document"] = round(store.stats()["bytes"] / len(collection.scores))
            print(fact, file=sys.stderr, flush=True)
            facts.append(fact)
            found += [Contender(kind, *each, store) for each in SETTINGS if each[0] == terms]
    return found, facts


def measure(
    contenders: list[Contender], collections: dict[int, Collection], count: int
) -> list[dict[str, Any]]:
    """Every contender on each query, in turn, another one first each time."""
    references = {terms: Reference(each) for terms, each in collections.items()}
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    exact = [0] * len(contenders)
    for number, query in enumerate(collections[MANY].queries(count + 5)):
        queries = {asked: asking(query, asked) for asked in (FEW, MANY)}
        right = {(t, q): top(references[t].scores(queries[q])) for t, q in SETTINGS}
        for turn in range(len(contenders)):
            place = (number + turn) % len(contenders)
            _, terms, asked, store = contenders[place]
            took, busy, answer = ask(store, queries[asked])
            if number >= 5:  # the first ones warm caches
                times[place].append((took, busy))
                exact[place] += answer == right[terms, asked]
    rows = [
        {
            "store": each.kind,
            "terms": each.terms,
            "query terms": each.asked,
            "p50 ms": round(statistics.median(took for took, _ in mine), 1),
            "p95 ms": round(statistics.quantiles((took for took, _ in mine), n=20)[-1], 1),
            "processor ms": round(statistics.median(busy for _, busy in mine), 1),
            "exact": f"{right_ones / count:.0%}",
        }
        for each, mine, right_ones in zip(contenders, times, exact, strict=True)
    ]
    base = {row["store"]: row["p50 ms"] for row in rows if row["terms"] == FEW}
    return [row | {"times ten terms": round(row["p50 ms"] / base[row["store"]], 2)} for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--stores", nargs="+", default=["embedded", "elasticsearch"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    whole = Synthetic(options.documents, terms=MANY)
    collections = {FEW: whole.cut(FEW), MANY: whole}
    with ExitStack() as stack:
        needs_node = "elasticsearch" in options.stores
        url = stack.enter_context(elasticsearch_node.node("9", heap="2g")) if needs_node else ""
        contenders, facts = filled(options.stores, collections, url, stack)
        rows = measure(contenders, collections, options.queries)
    print(f"| {' | '.join(rows[0])} |\n|---|{'---:|' * (len(rows[0]) - 1)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row.values()))} |")
    print(f"\n{options.documents:,} documents; {json.dumps(facts)}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "facts": facts}, indent=2))


if __name__ == "__main__":
    main()
