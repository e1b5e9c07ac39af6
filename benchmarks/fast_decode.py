"""What decoding JPEG files at reduced scale changes: terms, rankings, time.

    python benchmarks/fast_decode.py --images dogs-vs-cats --enlarge 3 --json fast_decode.json

Each photo is analyzed twice, decoded whole and at reduced scale. Where files are named by their
class, as ``dog.17.jpg``, precision@10 of formula (1) is told for both, leave one out. Only photos
larger than twice the model's input are affected; ``--enlarge`` makes larger ones of small ones.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from imgsearch_es.analysis.analyzer import Analysis, Analyzer  # noqa: E402
from imgsearch_es.analysis.filters import with_fast_decode  # noqa: E402

K = 10
BATCH = 32


def enlarged(path: Path, factor: float) -> bytes:
    if factor == 1:
        return path.read_bytes()
    image = Image.open(path).convert("RGB")
    size = (round(image.width * factor), round(image.height * factor))
    file = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=90)
    return file.getvalue()


def decode(analyzer: Analyzer, data: bytes) -> tuple[NDArray[np.uint8], float]:
    """The prepared pixels, and the milliseconds that it took."""
    started = time.perf_counter()
    pixels = analyzer.prepare(analyzer.open(data).image)
    return pixels, (time.perf_counter() - started) * 1000


def matrix(analyzer: Analyzer, analyses: list[Analysis]) -> NDArray[np.float64]:
    """Scores of shape (pictures, terms); the terms that an index would keep."""
    column = {key: i for i, key in enumerate(analyzer.vocabulary.keys)}
    scores = np.zeros((len(analyses), len(column)))
    for row, analysis in enumerate(analyses):
        for term in analysis.terms:
            scores[row, column[term.key]] = term.score
    return scores


def rankings(scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """The ten nearest of each picture but itself by formula (1), of shape (pictures, 10)."""
    products = scores @ scores.T
    np.fill_diagonal(products, -1)
    return np.argsort(-products, axis=1, kind="stable")[:, :K]


def precision(found: NDArray[np.intp], kinds: list[str]) -> float:
    return statistics.mean(
        statistics.mean(kinds[i] == kind for i in row)
        for kind, row in zip(kinds, found, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--enlarge", type=float, default=1, metavar="FACTOR")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    photos = sorted(options.images.glob("*.[jJ][pP]*[gG]"))
    whole = Analyzer(options.model)
    filters = with_fast_decode(whole.config["image_filters"])
    fast = Analyzer({"model": options.model, "image_filters": filters})
    analyzers = {"whole": whole, "fast": fast}
    times: dict[str, list[float]] = {name: [] for name in analyzers}
    analyses: dict[str, list[Analysis]] = {name: [] for name in analyzers}
    for start in range(0, len(photos), BATCH):
        batches: dict[str, list[Any]] = {name: [] for name in analyzers}
        for photo in photos[start : start + BATCH]:
            data = enlarged(photo, options.enlarge)
            for name, analyzer in analyzers.items():
                pixels, milliseconds = decode(analyzer, data)
                batches[name].append(pixels)
                times[name].append(milliseconds)
        for name, batch in batches.items():
            analyses[name] += whole.analyze_prepared(batch)
    scores = {name: matrix(whole, analyses[name]) for name in analyzers}
    found = {name: rankings(each) for name, each in scores.items()}
    kinds = [photo.name.partition(".")[0] for photo in photos]
    rows = [
        {
            "contender": name,
            "decode_and_resize_ms": round(statistics.median(times[name]), 1),
            "precision_at_10": round(precision(found[name], kinds), 4),
        }
        for name in analyzers
    ]
    pairs = zip(found["whole"], found["fast"], strict=True)
    effect = {
        "photos": len(photos),
        "same_best_synset": float(
            np.mean(scores["whole"].argmax(axis=1) == scores["fast"].argmax(axis=1))
        ),
        "mean_score_difference": float(
            np.abs(scores["whole"] - scores["fast"]).sum() / (len(photos) * K)
        ),
        "overlap_of_top_10": float(np.mean([len({*a} & {*b}) / K for a, b in pairs])),
    }
    print("| decoding | ms to decode and resize | precision@10 |\n|---|---:|---:|")
    for row in rows:
        print("| {contender} | {decode_and_resize_ms} | {precision_at_10:.3f} |".format(**row))
    print("\n".join(f"{name}: {value:.4g}" for name, value in effect.items()))
    if options.json:
        result = {"model": options.model, "enlarge": options.enlarge, "rows": rows, **effect}
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
