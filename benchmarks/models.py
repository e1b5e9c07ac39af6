"""Models beside each other, by every strategy: pets by picture, objects by words; and pictures/s.

    python benchmarks/models.py --objects coco/labels.tsv --images dogs-vs-cats --json models.json

The photos and queries are those of benchmarks/words.py, the indexes those of the defaults, with
visual words. For pictures/s the models index --images in turns; medians, with the processor time of
a picture (decoding and the network), which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from words import BY_PICTURE, JUDGEMENTS, objects_of, show, understood  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.evaluation import Evaluation, Judgements, Topic, evaluate  # noqa: E402
from imgsearch_es.retrieval.strategies import STRATEGIES  # noqa: E402

MODELS = "efficientnet-lite0,efficientnet-lite1,efficientnet-lite2"
SAME_AS_AUTO = ("impact", "script", "script-filtered")
BY_WORDS = [n for n, way in STRATEGIES.items() if n not in SAME_AS_AUTO and not way.is_dense]
BY_PICTURES = [n for n in STRATEGIES if n not in SAME_AS_AUTO]


def quality(model: str, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """By strategy, each measure with its interval."""
    grades = {w: seen for w, seen in objects_of(options.objects).items() if understood(w, model)}
    topics = {word: Topic(text=word) for word in grades}
    with tempfile.TemporaryDirectory() as folder:
        with ImageIndex(f"{folder}/words.duckdb", model=model) as index:
            index.add(options.objects.parent, progress=False)
            words = evaluate(index, Judgements(grades), BY_WORDS, "AP", queries=topics)
        with ImageIndex(f"{folder}/pets.duckdb", model=model, visual_words=True) as index:
            index.add(options.images, progress=False)
            pictures = evaluate(index, JUDGEMENTS, BY_PICTURES, ",".join(BY_PICTURE))
    return {
        name: ({"AP by words": figures(words, name, "AP")} if name in BY_WORDS else {})
        | {f"{measure} by picture": figures(pictures, name, measure) for measure in BY_PICTURE}
        for name in BY_PICTURES
    }


def figures(found: Evaluation, system: str, measure: str) -> list[float]:
    """A mean and the ends of its interval."""
    mean = found.mean(system, measure)
    return [mean.mean, mean.low, mean.high]


def processor_time() -> float:
    """Seconds of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def speed(models: list[str], images: Path, turns: int) -> dict[str, dict[str, float]]:
    """Pictures/s of adding to a file, and ms of processor time of a picture; medians."""
    rates: dict[str, list[float]] = {model: [] for model in models}
    costs: dict[str, list[float]] = {model: [] for model in models}
    for _ in range(turns):
        for model in models:
            with (
                tempfile.TemporaryDirectory() as folder,
                ImageIndex(f"{folder}/speed.duckdb", model=model) as index,
            ):
                index.analyzer.embedding_dimensions  # noqa: B018 - loads the model
                started, spent = time.perf_counter(), processor_time()
                added = index.add(images, progress=False).added
                rates[model].append(added / (time.perf_counter() - started))
                costs[model].append((processor_time() - spent) / added * 1000)
    return {
        model: {
            "pictures/s": round(statistics.median(rates[model]), 1),
            "ms": round(statistics.median(costs[model]), 1),
        }
        for model in models
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=Path, required=True, metavar="TSV")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--models", default=MODELS, metavar="A,B")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    models = options.models.split(",")
    found: dict[str, Any] = {model: quality(model, options) for model in models}
    columns = ["strategy", "model", "AP by words", *(f"{name} by picture" for name in BY_PICTURE)]
    print(f"| {' | '.join(columns)} |\n|---|---|{'---:|' * (len(columns) - 2)}")
    for name in BY_PICTURES:
        for model in models:
            cells = [
                show(found[model][name][c]) if c in found[model][name] else "" for c in columns[2:]
            ]
            print(f"| {' | '.join([name, model, *cells])} |", flush=True)
    rates = speed(models, options.images, options.turns)
    print("\n| model | pictures/s | ms of processor time |\n|---|---:|---:|")
    for model, row in rates.items():
        print(f"| {model} | {row['pictures/s']} | {row['ms']} |")
    if options.json:
        options.json.write_text(json.dumps({"quality": found, "speed": rates}, indent=2))


if __name__ == "__main__":
    main()
