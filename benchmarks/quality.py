"""Precision@10 of strategies and fusions, leave one out, on photos named after their class.

    python benchmarks/quality.py --images dogs-vs-cats --json quality.json

``dog.17.jpg`` is of the class "dog". Each photo is searched for with the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.fusion import METHODS, Fusion  # noqa: E402
from imgsearch_es.hits import Hits  # noqa: E402
from imgsearch_es.queries import STRATEGIES  # noqa: E402

K = 10
SAME_AS_AUTO = ("impact", "script", "script-filtered")
FUSED = (
    {"auto": 1.0, "dense-cosine": 1.0},
    {"sqrt": 1.0, "dense-cosine": 1.0},
    {"sqrt": 1.0, "dense-cosine": 2.0},
    {"sqrt": 1.0, "dense-euclidean": 0.1},
)
"""Weights of synsets and deep features, each fused by both methods."""


def kind(name: str) -> str:
    """The class in a file's name."""
    return name.partition(".")[0]


def precision(name: str, hits: Hits) -> float:
    """The share of the first ten that are of the photo's class; missing ones count as wrong."""
    return sum(kind(hit.filename) == kind(name) for hit in hits) / K


def measure(
    index: ImageIndex, photos: list[Path], contender: str, **options: Any
) -> dict[str, Any]:
    precisions, times = [], []
    for photo in photos:
        started = time.perf_counter()
        hits = index.search(photo, k=K, exclude_self=True, **options)
        times.append((time.perf_counter() - started) * 1000)
        precisions.append(precision(photo.name, hits))
    return {
        "contender": contender,
        "queries": len(photos),
        "precision_at_10": round(statistics.mean(precisions), 4),
        "p50_ms": round(statistics.median(times), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    photos = sorted(options.images.glob("*.jpg"))
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageIndex(f"{folder}/quality.duckdb", model=options.model) as index,
    ):
        index.add(photos)
        chosen = [name for name in STRATEGIES if name not in SAME_AS_AUTO]
        rows = [measure(index, photos, strategy, strategy=strategy) for strategy in chosen]
        for method in METHODS:
            for weights in FUSED:
                fusion = Fusion(weights, method)
                rows.append(measure(index, photos, str(fusion), fuse=fusion))
    print("| strategy | queries | precision@10 | p50 ms |\n|---|---:|---:|---:|")
    for row in rows:
        print("| {contender} | {queries} | {precision_at_10:.3f} | {p50_ms} |".format(**row))
    if options.json:
        options.json.write_text(json.dumps({"model": options.model, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
