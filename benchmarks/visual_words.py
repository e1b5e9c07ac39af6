"""What visual words find, and what they cost, beside synsets and the whole deep feature.

    python benchmarks/visual_words.py --images dogs-vs-cats --pictures 20000 --json words.json

``dog.17.jpg`` of --images is of the class "dog": each photo is searched for with the others, by all
ways and numbers of words on the same queries, tested against dense-cosine. "Centered and split" is
the other way to make words: the largest numbers of the feature less the collection's mean, those
below it with words of their own; it is computed by NumPy, as the package has the first way alone.
--pictures are synthetic features (see benchmarks/dense.py), searched for in turn by all ways.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402
from dense import Collection, K, filled  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.analysis.terms import DEFAULT_WORDS, visual_words  # noqa: E402
from imgsearch_es.evaluation import Evaluation, Run, evaluate  # noqa: E402
from imgsearch_es.retrieval.queries import Query  # noqa: E402
from imgsearch_es.stores.base import Store  # noqa: E402
from imgsearch_es.stores.elastic.store import ElasticStore  # noqa: E402
from imgsearch_es.stores.embedded.store import EmbeddedStore  # noqa: E402

JUDGEMENTS, MEASURES = "name:{label}.{number}.jpg", "P@10,AP"
EXACT, WORDS = "dense-cosine", "visual-words"


def split(features: np.ndarray, count: int) -> np.ndarray:
    """Visual words of the centered feature, shape (pictures, 2 x dimensions)."""
    centered = features - features.mean(axis=0)
    words, weights = visual_words(centered, count)
    table = np.zeros((len(features), 2 * features.shape[1]))
    np.put_along_axis(table, words, weights.astype(np.float64), axis=1)
    return table


def by_numpy(index: ImageIndex, count: int) -> Run:
    """The rankings of all pictures by centered and split words."""
    documents = list(index.store.documents())
    table = split(np.stack([d.embedding for d in documents if d.embedding is not None]), count)
    rankings = {}
    for number, row in enumerate(table @ table.T):
        order = [i for i in np.argsort(-row, kind="stable") if i != number and row[i] > 0]
        rankings[documents[number].id] = [(documents[i].id, float(row[i])) for i in order]
    return Run(f"centered and split, {count}", rankings)


def recall(found: Run, exact: Run) -> float:
    """The mean share of the exact best ten among the best ten found."""
    shares = [
        len({*found.documents(q)[:K]} & {*exact.documents(q)[:K]}) / K for q in exact.rankings
    ]
    return statistics.fmean(shares)


def quality(
    images: Path, model: str, counts: list[int], candidates: list[int]
) -> tuple[Evaluation, dict[str, float]]:
    """All ways on labelled photos; and the recall of candidates, by words and candidates."""
    approximate = [f"{EXACT}:candidates={many}" for many in candidates]
    runs, recalls = [], {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(f"{folder}/words.duckdb", model=model, visual_words=True) as index,
    ):
        index.add(images, progress=False)
        for count in counts:
            index.reindex(visual_words=count)
            found = evaluate(index, JUDGEMENTS, [EXACT, WORDS, *approximate], MEASURES)
            runs.append(Run(f"{WORDS}, {count}", found.runs[WORDS].rankings))
            recalls |= {
                f"{count} words, {many} candidates": recall(found.runs[name], found.runs[EXACT])
                for name, many in zip(approximate, candidates, strict=True)
            }
        runs += [by_numpy(index, count) for count in counts]
        runs = [
            run.renamed({d.id: d.filename for d in index.store.documents()}.get) for run in runs
        ]
        return evaluate(
            index, JUDGEMENTS, ["auto", EXACT], MEASURES, runs=runs, compare=EXACT
        ), recalls


@contextmanager
def made(kind: str, url: str, collection: Collection, words: int) -> Iterator[Store]:
    """A full store, deleted in the end."""
    with ExitStack() as stack:
        if kind == "embedded":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            store: Store = EmbeddedStore(f"{folder}/words.duckdb")
            stack.callback(store.close)
        else:
            name = f"benchmark-{uuid.uuid4().hex[:8]}"
            store = elastic = ElasticStore(f"{url}/{name}", timeout=600)
            stack.callback(elastic.client.indices.delete, index=f"{name}-000001")
        filled(store, collection, words)
        if kind != "embedded":
            elastic.client.indices.forcemerge(index=name, max_num_segments=1)
            elastic.client.indices.flush(index=name)
        yield store


def speed(
    kind: str, url: str, collection: Collection, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Every way on each query, another one first each time; and bytes with and without words."""
    with made(kind, url, collection, 0) as store:
        plain = store.stats()["bytes"] / len(collection.vectors)
    shared = {"k": K, "visual_words": DEFAULT_WORDS}
    ways = {EXACT: {"strategy": EXACT}, WORDS: {"strategy": WORDS}} | {
        f"{EXACT}, {many} candidates": {"strategy": EXACT, "candidates": many}
        for many in options.candidates
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    found = dict.fromkeys(ways, 0)
    with made(kind, url, collection, DEFAULT_WORDS) as store:
        size = store.stats()["bytes"] / len(collection.vectors)
        for number, vector in enumerate(collection.features(options.queries + 3)):
            nearest, names = set(collection.nearest(vector)), list(ways)
            for turn in range(len(names)):
                name = names[(turn + number) % len(names)]
                query = Query((), embedding=vector, **shared, **ways[name])
                started = time.perf_counter()
                hits = store.search(query).hits
                if number >= 3:  # the first ones warm caches
                    times[name].append((time.perf_counter() - started) * 1000)
                    found[name] += len(nearest & {int(hit.document.id, 16) for hit in hits})
    sizes = {"bytes a picture": round(plain), "bytes of words": round(size - plain)}
    return [
        {
            "store": kind,
            "way": name,
            "p50 ms": round(statistics.median(times[name]), 1),
            "recall@10": round(found[name] / (options.queries * K), 4),
            **sizes,
        }
        for name in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--words", type=int, nargs="+", default=[64, DEFAULT_WORDS, 256])
    parser.add_argument("--candidates", type=int, nargs="+", default=[50, 100, 200])
    parser.add_argument("--pictures", type=int, default=0, help="synthetic ones")
    parser.add_argument("--dimensions", type=int, default=1280)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--stores", nargs="+", default=["embedded", "elasticsearch"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    answer: dict[str, Any] = {}
    if options.images:
        found, recalls = quality(options.images, options.model, options.words, options.candidates)
        print(found.to_markdown())
        for name, value in recalls.items():
            print(f"recall@{K}, {name}: {value:.3f}")
        answer |= {"quality": found.to_dict(), "recall": recalls}
    if options.pictures:
        collection = Collection(options.pictures, options.dimensions)
        with ExitStack() as stack:
            remote = "elasticsearch" in options.stores
            url = stack.enter_context(elasticsearch_node.node("9")) if remote else ""
            rows = [row for kind in options.stores for row in speed(kind, url, collection, options)]
        print(f"| {' | '.join(rows[0])} |\n|---|---|{'---:|' * (len(rows[0]) - 2)}")
        for row in rows:
            print(f"| {' | '.join(map(str, row.values()))} |")
        answer["speed"] = rows
    if options.json:
        options.json.write_text(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
