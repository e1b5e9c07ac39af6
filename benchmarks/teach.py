"""How well taught words find photos, and how long it takes to teach a large index one.

    python benchmarks/teach.py --images coco-sample --documents 100000

The folder has a table, labels.tsv, of the objects in each photo. For each word that at least four
photos show, half of these photos and half of the others teach it, and the rest are ranked: by the
classifier's synsets that the word names, by the taught word, and by both added.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from filling import fill  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.analysis.analyzer import Term  # noqa: E402
from imgsearch_es.analysis.terms import TaughtWord  # noqa: E402
from imgsearch_es.errors import UnknownWordError  # noqa: E402
from imgsearch_es.evaluation.significance import interval  # noqa: E402
from imgsearch_es.pictures.files import picture_id  # noqa: E402
from imgsearch_es.retrieval.documents import Document  # noqa: E402
from imgsearch_es.retrieval.ledger import now  # noqa: E402
from imgsearch_es.search.teaching import learn  # noqa: E402
from imgsearch_es.stores import open_store  # noqa: E402
from imgsearch_es.vocabulary.synsets import imagenet  # noqa: E402

LEAST = 4
"""Photos that show a word."""
DIMENSIONS, TERMS = 1280, 50
WAYS = ("synsets", "taught", "both")


def labels(images: Path) -> dict[str, set[str]]:
    """The objects of each photo, by its file's name."""
    rows = (images / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return {name: set(filter(None, of.split(","))) for name, of in (r.split("\t") for r in rows)}


def average_precision(scores: NDArray[np.float64], shows: NDArray[np.bool_]) -> float:
    """Of the photos that score above 0, equal ones in their order."""
    order = np.argsort(-scores, kind="stable")
    found = shows[order[scores[order] > 0]]
    ranks = np.flatnonzero(found) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / shows.sum())


def precision(images: Path, model: str, seeds: int) -> dict[str, dict[str, list[float]]]:
    """The average precisions of each way, by word, one for each seed."""
    objects = labels(images)
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(f"{folder}/teach.duckdb", model=model) as index,
    ):
        index.add(images, progress=False)
        known = (d for d in index.store.documents() if d.filename in objects)
        documents = sorted(known, key=attrgetter("filename"))
        vocabulary = index.vocabulary
    features = np.stack([d.embedding for d in documents if d.embedding is not None])
    scores = [{term.key: term.score for term in d.terms} for d in documents]
    found: dict[str, dict[str, list[float]]] = {}
    for name in sorted(set().union(*objects.values())):
        shows = np.array([name in objects[d.filename] for d in documents])
        if shows.sum() < LEAST:
            continue
        try:
            keys = [key for sense in vocabulary.resolve_text(name) for key in sense.keys]
        except UnknownWordError:
            keys = []
        named = np.array([sum(one.get(key, 0.0) for key in keys) for one in scores])
        results = found.setdefault(name, {way: [] for way in WAYS})
        for seed in range(seeds):
            random = np.random.default_rng(seed)
            good = random.permutation(np.flatnonzero(shows))
            rest = random.permutation(np.flatnonzero(~shows))
            half = (len(good) + 1) // 2
            tested = np.r_[good[half:], rest[len(rest) // 2 :]]
            learnt = learn(features[good[:half]], features[rest[: len(rest) // 2]], features[:0])
            word = TaughtWord(name, name, 0, learnt.weights, learnt.bias, ())
            taught = word.scores(features).astype(float)
            for way, each in zip(WAYS, (named, taught, named + taught), strict=True):
                results[way].append(average_precision(each[tested], shows[tested]))
    return found


def _made(count: int, dimensions: int) -> Iterator[Document]:
    random, keys = np.random.default_rng(0), imagenet().keys
    centers = np.abs(random.standard_normal((100, dimensions))).astype(np.float32)
    for i in range(count):
        noise = random.random(dimensions, dtype=np.float32)
        chosen = random.choice(1000, TERMS, replace=False)
        yield Document(
            id=picture_id(f"/made/{i}.jpg"),
            uri=f"/made/{i}.jpg",
            filename=f"{i}.jpg",
            sha256=f"{i:064x}",
            width=640,
            height=480,
            bytes=100_000,
            format="JPEG",
            indexed_at=now(),
            terms=tuple(Term(keys[n], float(np.float32(0.5 / k))) for k, n in enumerate(chosen, 1)),
            embedding=centers[i % 100] + noise,
        )


def speed(count: int, dimensions: int) -> dict[str, float]:
    """Seconds to teach, teach again and forget a word that about one in 100 documents shows."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/large.duckdb"
        store = open_store(place)
        filled = fill(store, _made(count, dimensions), imagenet(), dimensions=dimensions)
        store.close()
        print(f"{count:,} documents written in {filled:.0f} s", file=sys.stderr)
        with ImageIndex(place) as index:
            found: dict[str, float] = {}
            for name, last in (("teach", 600), ("teach again", 900)):
                started = time.perf_counter()
                word = index.teach("word", like=[f"/made/{i}.jpg" for i in range(0, last, 100)])
                found[name] = time.perf_counter() - started
                found[f"pictures, {name}"] = word.pictures
            started = time.perf_counter()
            index.forget("word")
            found["forget"] = time.perf_counter() - started
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, metavar="DIR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--documents", type=int, default=0)
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS, help="of their deep features")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    answer: dict[str, object] = {}
    if options.images:
        found = precision(options.images, options.model, options.seeds)
        answer["precision"] = found
        means = {way: np.array([np.mean(r[way]) for r in found.values()]) for way in WAYS}
        print(f"{len(found)} words, {options.seeds} divisions\n")
        print("| ranked by | mean AP | 95 % | gain over synsets (95 %) |\n|---|---:|---:|---:|")
        for way, values in means.items():
            mean, gain = interval(values), interval(values - means["synsets"])
            more = f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
            row = [way, f"{mean.mean:.3f}", f"{mean.low:.3f} to {mean.high:.3f}"]
            print(f"| {' | '.join([*row, '' if way == 'synsets' else more])} |")
    if options.documents:
        answer["seconds"] = seconds = speed(options.documents, options.dimensions)
        print(f"\n{options.documents:,} documents with deep features of {DIMENSIONS}:")
        for name, value in seconds.items():
            print(f"  {name}: {value:,.1f}")
    if options.json:
        options.json.write_text(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()
