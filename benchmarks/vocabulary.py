"""Vocabularies of 1,000 to 80,000 classes on both stores: sizes, times, and exactness.

    python benchmarks/vocabulary.py [--documents 2000] [--url http://localhost:9200] [--json FILE]

Classes are WordNet's nouns; each document keeps the 50 largest of random weights. Every answer is
compared with NumPy's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store
from imgsearch_es.vocabulary.synsets import Vocabulary, imagenet
from imgsearch_es.vocabulary.wordnet import nouns

TERMS, QUERIES = 50, 20


def documents(vocabulary: Vocabulary, count: int) -> list[Document]:
    """The largest of random weights of all classes, half of which are of few classes."""
    made, chance, keys = [], np.random.default_rng(0), vocabulary.keys
    for number in range(count):
        odds = chance.exponential(size=len(keys)) ** 4
        best = np.argpartition(-odds, TERMS)[:TERMS]
        best = best[np.argsort(-odds[best])]
        scores = (odds[best] / odds.sum()).astype(np.float32)
        uri = f"/photos/{number}.jpg"
        terms = tuple(Term(keys[i], float(s)) for i, s in zip(best, scores, strict=True))
        when = datetime(2026, 1, 1, tzinfo=timezone.utc)
        made.append(
            Document(
                picture_id(uri), uri, f"{number}.jpg", f"{number:064x}", 10, 10, 10, "PNG", when,
                terms,
            )
        )  # fmt: skip
    return made


def exact(query: Query, collection: list[Document]) -> list[tuple[float, str]]:
    """What NumPy answers."""
    sums = np.zeros(len(collection))
    scores = [{term.key: term.score for term in one.terms} for one in collection]
    for term in query.terms:
        sums += [row.get(term.key, 0.0) * term.score for row in scores]
    found = [(float(s), d.id) for s, d in zip(sums.astype(np.float32), collection, strict=True)]
    return sorted((x for x in found if x[0] > 0), key=lambda x: (-x[0], x[1]))[: query.k]


def seconds(action: Any) -> tuple[float, Any]:
    """How long it took, and what came of it."""
    start = time.perf_counter()
    found = action()
    return time.perf_counter() - start, found


def measured(store: Store, settings: IndexSettings, collection: list[Document]) -> dict[str, Any]:
    """Index, search by pictures and by a word, and explain."""
    vocabulary = settings.vocabulary
    store.create(settings)
    write, _ = seconds(lambda: [store.write(collection), store.finish()])
    pictures = [Query(one.terms[:10]) for one in collection[:QUERIES]]
    words = Query(parse_words("dog", vocabulary).terms)
    times: dict[str, list[float]] = {"picture": [], "word": []}
    for name, queries in (("picture", pictures), ("word", [words] * 5)):
        for query in queries:
            took, result = seconds(lambda query=query: store.search(query))
            hits = Hits(query, result)
            explained = [(hits.explain(i).total, hit.id) for i, hit in enumerate(hits)]
            if not hits.exact or explained != exact(query, collection):
                raise SystemExit(f"{store.location} does not answer what NumPy answers: {query}")
            times[name].append(1000 * took)
    row = {
        "documents/s": len(collection) / write,
        "picture ms": median(times["picture"]),
        "word ms": median(times["word"]),
        "bytes/document": store.stats()["bytes"] / len(collection),
    }
    client = getattr(store, "client", None)
    if client is not None:
        (found,) = client.indices.get_mapping(index=store.location.rpartition("/")[2]).values()
        shown = json.dumps(found["mappings"]["properties"])
        row |= {"fields": shown.count('"type"'), "mapping bytes": len(json.dumps(dict(found)))}
    return row


def main() -> None:
    """Print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--url", help="an Elasticsearch; only files without it")
    parser.add_argument("--classes", type=int, nargs="+", default=[1_000, 11_000, 80_000])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for count in options.classes:
        labels = np.random.default_rng(0).choice(nouns(), count, replace=False).tolist()
        if count == len(imagenet()):
            labels = imagenet().labels
        told = {"name": "wordnet", "labels": labels}
        start = time.process_time()
        vocabulary = Vocabulary.from_dict(told)
        known = len(vocabulary.resolve("dog").keys)
        ready = time.process_time() - start
        analyzer = {"model": {"name": "none"}, "image_filters": [], "term_filters": []}
        settings = IndexSettings(
            analyzer, "sha256:none", vocabulary, 0, synset_fields=count <= 1000
        )
        collection = documents(vocabulary, options.documents)
        with tempfile.TemporaryDirectory() as folder:
            places = [f"{folder}/index.duckdb"]
            if options.url:
                places.append(f"{options.url.rstrip('/')}/vocabulary-{count}")
            for place in places:
                store = open_store(place, **({"timeout": 600} if "://" in place else {}))
                row = {
                    "classes": count, "store": type(store).__name__, "dog": known,
                    "ready s": ready, **measured(store, settings, collection),
                }  # fmt: skip
                store.delete()
                store.close()
                rows.append(row)
                print({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
