"""Random indexes, operations and queries: both stores must answer what NumPy answers.

    python -m tests.conformance.differential --comparisons 1000000 --seed 1

A comparison is one hit: its place, its document and its score. What differs ends the run with the
seed of its round, which ``--seed`` repeats.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.indexing.exchange.documents import export_documents, import_documents
from imgsearch_es.indexing.reindexing import Rebuild
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query, synset_vector
from imgsearch_es.retrieval.scoring import FORMULAS
from imgsearch_es.retrieval.strategies import DENSE, STRATEGIES
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import SearchResult, Store
from imgsearch_es.stores.elastic import aliased, waiting
from imgsearch_es.stores.elastic.fetching import OFFERED
from imgsearch_es.stores.embedded import writing
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import DIMENSIONS, KEYS, document
from tests.conformance.conftest import SETTINGS as PLAIN
from tests.conformance.conftest import Case
from tests.conformance.reference import Reference, _is_wanted, having
from tests.conformance.test_dense import expected_score
from tests.conformance.test_fusion import DENSE as DENSE_PARTS
from tests.conformance.test_fusion import SPARSE, WORDS, expected_of, fused
from tests.conformance.test_visual_words import score

POOL = KEYS[:50]
SETTINGS = PLAIN.with_visual_words(WORDS)
CONDITIONS: tuple[dict[str, Any], ...] = (
    {}, {}, {}, {"label": "pets"}, {"width": {"lt": 130}}, {"-label": "pets", "format": "PNG"},
    {"metadata.camera": "Z 5"}, {"top_score": {"gte": 0.3}},
)  # fmt: skip
QUERIES = 40
"""Of a round."""


class DifferenceError(Exception):
    """A store answers something else than NumPy."""


def random_documents(random: np.random.Generator, names: Sequence[int]) -> list[Document]:
    """Documents of these names: steep, flat, equal and tiny scores, deep features or none."""
    made = []
    for name in names:
        keys = random.choice(POOL, size=random.integers(0, 12), replace=False)
        kind = random.integers(4)
        scores = {
            0: lambda n: random.dirichlet(np.full(n, 0.3)) if n else [],
            1: lambda n: np.full(n, 0.5),
            2: lambda n: 0.5 + random.integers(0, 9, n) * 2.0**-20,
            3: lambda n: 10.0 ** random.uniform(-18, 0, n),
        }[int(kind)](len(keys))
        terms = [(str(k), float(s)) for k, s in zip(keys, scores, strict=True) if s > 1e-18]
        labels = [["pets"], ["pets", "indoor"], []][random.integers(3)]
        vector = np.maximum(random.normal(size=DIMENSIONS), 0).astype(np.float32)
        if random.random() < 0.2:
            vector = np.round(vector)
        one = document(f"d/{name}.jpg", terms, number=int(random.integers(1000)), labels=labels)
        made.append(replace(one, embedding=None if random.random() < 0.05 else vector))
    return made


class World:
    """The same documents in every store, and what they should be."""

    def __init__(self, seed: int, places: dict[str, str], folder: Path) -> None:
        self.random = np.random.default_rng(seed)
        self.folder = folder
        self.places = places
        options: dict[str, Any] = {"impacts": OFFERED} if seed % 2 else {}
        options |= {"layout": "lean"} if seed // 2 % 2 else {}
        options |= {"shards": 3} if seed % 3 == 0 else {}
        self.stores: dict[str, Store] = {
            name: open_store(at, **(options if at.startswith("http") else {}))
            for name, at in places.items()
        }
        for store in self.stores.values():
            store.delete()
            store.create(SETTINGS)
        self.truth: dict[str, Document] = {}
        self.done: Counter[str] = Counter()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        for store in self.stores.values():
            store.delete()
            store.close()

    def operate(self) -> None:
        """One operation on every store."""
        operations = [self.write, self.write, self.write, self.remove, self.exchange, self.rebuild]
        chosen = self.random.choice(len(operations) + 1, p=[0.25, 0.2, 0.2, 0.2, 0.08, 0.05, 0.02])
        operation = [*operations, self.crash][chosen]
        operation()
        self.done[operation.__name__] += 1
        for store in self.stores.values():
            store.finish()

    def write(self) -> None:
        """Add documents, and replace some."""
        documents = self._some()
        for store in self.stores.values():
            assert store.write(documents).rejected == []
        self.truth |= {d.id: d for d in documents}

    def _some(self) -> list[Document]:
        names = self.random.integers(0, 400, self.random.integers(1, 120))
        return random_documents(self.random, sorted(set(names.tolist())))

    def remove(self) -> None:
        ids = [key for key in self.truth if self.random.random() < 0.2]
        for store in self.stores.values():
            assert store.remove(ids) == len(ids)
        for key in ids:
            del self.truth[key]

    def exchange(self) -> None:
        """Export, remove some, and import all again."""
        path = self.folder / "all.jsonl"
        ids = [key for key in self.truth if self.random.random() < 0.3]
        for store in self.stores.values():
            export_documents(store, path, force=True)
            store.remove(ids)
            report = import_documents(store, path)
            assert not report.rejected, report

    def rebuild(self) -> None:
        """Build the index anew and swap."""
        for store in self.stores.values():
            Rebuild(store, store.beside(), SETTINGS, None).run((), keep=False)
            store.settings()

    def crash(self) -> None:
        """A process that writes is killed: a file is as before, and the write is done again."""
        seed = int(self.random.integers(2**32))
        names = [str(n) for n in sorted(self.random.integers(0, 400, 60).tolist())]
        for name, store in self.stores.items():
            store.close()
            command = [sys.executable, "-m", "tests.conformance.differential"]
            child = subprocess.run(
                [*command, "--die", self.places[name], "--seed", str(seed), "--names", *names],
                check=False,
            )
            assert child.returncode == -signal.SIGKILL
        if not any(place.startswith("http") for place in self.places.values()):
            return
        documents = killed_documents(seed, names)
        for store in self.stores.values():
            assert store.write(documents).rejected == []
        self.truth |= {d.id: d for d in documents}


def killed_documents(seed: int, names: Sequence[str]) -> list[Document]:
    return random_documents(np.random.default_rng(seed), sorted({int(name) for name in names}))


def die(place: str, seed: int, names: Sequence[str]) -> None:
    """Write, and be killed in the middle of it."""

    def kill(*_: Any, **__: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    bulk, documents = waiting.bulk, killed_documents(seed, names)
    writing.insert = kill

    def half(client: Any, index: str, items: dict[str, Any], *rest: Any, **options: Any) -> Any:
        first = dict(list(items.items())[: len(items) // 2])
        bulk(client, index, first, *rest, **{**options, "chunk_size": len(first) or 1})
        kill()

    waiting.bulk = half
    open_store(place).write(documents)


def random_query(random: np.random.Generator, documents: Sequence[Document]) -> Query:
    """By picture or words, with conditions and pages, by any strategy."""
    strategy = str(random.choice(sorted(STRATEGIES)))
    one = documents[random.integers(len(documents))]
    options: dict[str, Any] = {
        "strategy": strategy,
        "k": int(random.choice([1, 5, 20, 50, 100])),
        "offset": int(random.choice([0, 0, 0, 3, 30])),
        "filters": parse_filters(CONDITIONS[random.integers(len(CONDITIONS))], imagenet()),
        "exclude": (one.id,) if random.random() < 0.3 else (),
    }
    if random.random() < 0.15 and one.embedding is not None and one.embedding.any():
        return _random_fusion(random, one, options)
    if strategy in DENSE:
        vector = np.maximum(random.normal(size=DIMENSIONS), 0).astype(np.float32) + np.float32(0.01)
        return Query((), embedding=vector, visual_words=WORDS, **options)
    if one.terms and random.random() < 0.6:
        terms = one.terms
    else:
        keys = random.choice(POOL, random.integers(1, 8), replace=False)
        terms = tuple(Term(str(k), float(2.0 ** random.integers(-12, 3))) for k in keys)
    if strategy == "bm25" and random.random() < 0.5:
        options["parameters"] = {"k1": float(random.uniform(0, 3)), "b": float(random.random())}
    if random.random() < 0.2:
        keys = list(map(str, random.choice(POOL, 6, replace=False)))
        options["filters"] += having(keys, float(random.choice([0, 0.1])))
        options["filters"] += having(keys[:1], negated=True)
    return Query(synset_vector(terms), **options)


def _random_fusion(random: np.random.Generator, one: Document, options: dict[str, Any]) -> Query:
    method = str(random.choice(["sum", "sum", "rrf"]))
    to_the_bit = [*SPARSE[:3], "visual-words"]  # ranks of others may differ where scores hardly do
    offered = to_the_bit if method == "rrf" else [*SPARSE, *DENSE_PARTS, "visual-words"]
    chosen = random.choice(offered, random.integers(1, 4))
    weights = {str(part): float(2.0 ** random.integers(-3, 4)) for part in chosen}
    if not one.terms:
        weights.pop("image", None)
    keys = random.choice(POOL, random.integers(1, 4), replace=False)
    words = {str(key): float(2.0 ** random.integers(-6, 1)) for key in keys}
    options["k"] = min(options["k"], 50)  # each part ranks 100 pictures by rrf
    del options["strategy"]
    return fused(weights or {"words": 1.0}, one, words, method=method, **options)


def expected(reference: Reference, query: Query) -> tuple[dict[str, float], float]:
    """The score of every match by NumPy, and how exact a store's is: 0 to the last bit."""
    if query.fusion is not None:
        case = Case(cast(Store, None), reference.documents)
        return expected_of(case, query), 2e-6
    wanted = {d.id for d in reference.documents if _is_wanted(d, query)}
    if query.strategy in COMPARISONS:
        found = {
            d.id: expected_score(query.strategy, query.embedding, d.embedding)
            for d in reference.documents
            if d.embedding is not None and query.embedding is not None
        }
    elif query.by_words:
        every = {
            d.id: score(query.embedding, d.embedding, WORDS)
            for d in reference.documents
            if d.embedding is not None and query.embedding is not None and d.id in wanted
        }
        return {key: value for key, value in every.items() if value > 0}, 0.0
    elif query.formula.name == "inner":
        ranked, _ = reference.rank(replace(query, k=10_000, offset=0))
        return {key: score for score, key in ranked}, 0.0
    else:
        found = reference.score(query)
    return {key: score for key, score in found.items() if key in wanted}, 1e-6


def compare(query: Query, result: SearchResult, scores: dict[str, float], error: float) -> int:
    """How many hits were compared.

    Raises:
        DifferenceError: one differs in document, score or place.
    """
    found = [(hit.score, hit.document.id) for hit in result.hits]
    ranked = sorted((-score, key) for key, score in scores.items())
    best = [(-score, key) for score, key in ranked][query.offset : query.offset + query.k]
    least = 1e-6
    if query.fusion is not None:  # what parts add, each a float32 number, may cancel
        least = 4 * sum(part.weight for part in query.parts)
    same = found == best if not error else _are_close(found, best, scores, error, least)
    if not same or not result.exact or (result.total_is_exact and result.total != len(scores)):
        both = f"{found[:5]}\n  {best[:5]}"
        raise DifferenceError(f"{query.strategy}: {query}\n  {both}\n  {result.means}")
    return max(1, len(found))


def _are_close(
    found: list[tuple[float, str]],
    best: list[tuple[float, str]],
    scores: dict[str, float],
    error: float,
    least: float,
) -> bool:
    def near(one: float, other: float) -> bool:
        return abs(one - other) <= error * max(least, abs(other), 1.0 * (other < 0))

    return (
        len(found) == len(best)
        and found == sorted(found, key=lambda item: (-item[0], item[1]))
        and len({key for _, key in found}) == len(found)
        and all(key in scores and near(score, scores[key]) for score, key in found)
        and all(near(one, other) for (one, _), (other, _) in zip(found, best, strict=True))
    )


def rounds(seed: int, places: dict[str, str], folder: Path) -> Iterator[tuple[int, Counter[str]]]:
    """Operations and queries without end: comparisons of each round, and what was done."""
    with World(seed, places, folder) as world:
        world.write()
        while True:
            for _ in range(world.random.integers(1, 4)):
                world.operate()
            if not world.truth:
                world.write()
            documents = list(world.truth.values())
            reference = Reference(documents, KEYS)
            queries = [random_query(world.random, documents) for _ in range(QUERIES)]
            if not reference._scores.any():  # an index without terms has no statistics
                queries = [q for q in queries if q.strategy not in FORMULAS]
            answers = [expected(reference, query) for query in queries]
            compared = 0
            for store in world.stores.values():
                for query, result, known in zip(
                    queries, store.search_many(queries), answers, strict=True
                ):
                    compared += compare(query, result, *known)
                for query, known in list(zip(queries, answers, strict=True))[:5]:
                    compared += compare(query, store.search(query), *known)
                    if query.fusion is None:
                        compared += _compare_pages(query, store, known)
            yield compared, world.done


def _compare_pages(query: Query, store: Store, known: tuple[dict[str, float], float]) -> int:
    pages = list(store.pages(replace(query, k=40, offset=0)))
    compared = 0
    for i, page in enumerate(pages):
        compared += compare(replace(query, k=40, offset=40 * i), page, *known)
    return compared


def run(
    comparisons: int,
    seed: int,
    places: dict[str, str],
    folder: Path,
    tell: Callable[..., object] = lambda *_: None,
) -> int:
    """Compare so many hits; each world lives for some rounds."""
    compared = 0
    while compared < comparisons:
        lives = 0
        try:
            for count, done in rounds(seed, places, folder):
                compared, lives = compared + count, lives + 1
                tell(compared, seed, done)
                if lives == 25 or compared >= comparisons:
                    break
        except DifferenceError as error:
            raise DifferenceError(f"seed {seed}, round {lives}: {error}") from error
        seed += 1
    return compared


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--comparisons", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--die", metavar="PLACE")
    parser.add_argument("--names", nargs="*", default=[])
    asked = parser.parse_args()
    if asked.die:
        die(asked.die, asked.seed, asked.names)
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
    import elasticsearch_node

    started, shown = time.monotonic(), 0.0

    def tell(compared: int, seed: int, done: Counter[str]) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            print(f"{compared:,} at {shown - started:.0f} s, seed {seed}, {dict(done)}", flush=True)

    aliased._LAST_SEARCHES_SECONDS = 0.0
    with tempfile.TemporaryDirectory() as folder, elasticsearch_node.node("9") as url:
        name = f"differential-{uuid.uuid4().hex[:12]}"
        places = {"embedded": f"{folder}/index.duckdb", "elasticsearch": f"{url}/{name}"}
        compared = run(asked.comparisons, asked.seed, places, Path(folder), tell)
    print(f"{compared:,} comparisons without a difference in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
