"""Does a trained head raise the N-S score of objects that it has not learned from?

    python benchmarks/metric_learning.py --images dogs-vs-cats imagenet-sample --json head.json
    python benchmarks/metric_learning.py --ukbench ukbench/full --json ukbench.json

Groups of four are made of each photo, or UKBench's own are taken. For each seed a part of the
objects is put aside for the test; each contender learns from the rest, of which it holds out some
for itself. The N-S score of the objects put aside, by cosine, is compared with that of the features
as they are: paired, object by object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from needs import needs  # noqa: E402

from imgsearch_es import ImageIndex  # noqa: E402
from imgsearch_es.evaluation import interval, nister_stewenius, paired_tests  # noqa: E402
from imgsearch_es.learning import (  # noqa: E402
    TrainingOptions,
    apply_head,
    build_head,
    load_head,
    make_groups,
    train_head,
)
from imgsearch_es.learning.examples import Examples, examples_of  # noqa: E402
from imgsearch_es.learning.head import start_shortcut  # noqa: E402
from imgsearch_es.learning.training import Training  # noqa: E402

with needs("evaluation"):
    import scipy  # noqa: F401

RAW = "features as they are"
START = "default before it learns"
DEFAULT = "default: shortcut, dropout, semi-hard"
PLAIN: dict[str, Any] = {"shortcut": False, "dropout": 0.0}
CONTENDERS: dict[str, dict[str, Any]] = {
    "512-512-256 at random, random triplets": {**PLAIN, "mining": "random", "margin": 1.0},
    "512-512-256 at random, semi-hard": PLAIN,
    DEFAULT: {},
    "default with random triplets": {"mining": "random"},
    "default with the contrastive loss": {"loss": "contrastive"},
    "default with a shallow network": {"shallow": True},
}
TEST_SHARE = 0.4


def per_object(features: np.ndarray, examples: Examples) -> np.ndarray:
    """The N-S score of each object: the mean of its pictures."""
    scores = nister_stewenius(features, examples.groups, comparison="dense-cosine")
    return np.bincount(examples.groups, weights=scores) / np.bincount(examples.groups)


def learn(learned: Examples, path: Path, options: TrainingOptions) -> None:
    if options.shallow:
        Training(learned, path, options).run(force=True, progress=None)
    else:
        train_head(learned.features, learned.groups.tolist(), path, options=options)


def embeddings(path: Path, examples: Examples) -> np.ndarray:
    """What a saved head makes of examples, whose pictures are small already."""
    head = load_head(path)
    if len(head.inputs) > 1:
        head = head.get_layer("head")
    return apply_head(head, *examples.inputs()[: len(head.inputs)])


def run(
    examples: Examples, seed: int, epochs: int, contenders: list[str], folder: Path
) -> dict[str, Any]:
    """One division: the scores of each contender, by object put aside."""
    learned, test = examples.divide(TEST_SHARE, 1000 + seed)
    found = {RAW: per_object(test.features, test)}
    start = build_head(examples.dimensions, seed=seed)
    start_shortcut(start, learned.divide(TrainingOptions().validation, seed)[0].features)
    found[START] = per_object(apply_head(start, test.features), test)
    seconds = {START: 0.0}
    for number, name in enumerate(contenders):
        began = time.perf_counter()
        path = folder / f"{seed}-{number}.keras"
        learn(learned, path, TrainingOptions(seed=seed, epochs=epochs, **CONTENDERS[name]))
        found[name] = per_object(embeddings(path, test), test)
        seconds[name] = time.perf_counter() - began
        print(f"seed {seed}, {name}: {found[name].mean():.3f}", file=sys.stderr, flush=True)
    return {"objects": test.names, "scores": found, "seconds": seconds}


def by_object(runs: list[dict[str, Any]], name: str) -> np.ndarray:
    """The score of each object that was put aside, its mean over the divisions."""
    scores: dict[str, list[float]] = {}
    for part in runs:
        for item, score in zip(part["objects"], part["scores"][name], strict=True):
            scores.setdefault(item, []).append(score)
    return np.array([np.mean(values) for values in scores.values()])


def summarize(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each contender against the features: objects count once, with the mean over the seeds."""
    rows = []
    for name in runs[0]["scores"]:
        gain = by_object(runs, name) - by_object(runs, RAW)
        means = [float(part["scores"][name].mean()) for part in runs]
        row = {"contender": name, "by_seed": [round(mean, 4) for mean in means]}
        row["ns"] = round(float(np.mean(means)), 4)
        row["percent"] = round(25 * float(np.mean(means)), 2)
        if name != RAW:
            known = interval(gain)
            row |= {"gain": round(known.mean, 4), "low": round(known.low, 4)}
            row |= {"high": round(known.high, 4), "objects": len(gain)}
            row["p"] = paired_tests(np.zeros(len(gain)), gain)["randomization"]
            row["p_by_seed"] = [
                paired_tests(part["scores"][RAW], part["scores"][name])["randomization"]
                for part in runs
            ]
            if DEFAULT in runs[0]["scores"] and name != DEFAULT:
                more = by_object(runs, name) - by_object(runs, DEFAULT)
                row["over_default"] = round(float(more.mean()), 4)
                row["p_default"] = paired_tests(np.zeros(len(more)), more)["randomization"]
            row["seconds"] = round(float(np.mean([part["seconds"][name] for part in runs])), 1)
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    print("| contender | N-S | of 4 | gain (95 %) | p | p by seed | over default (p) | s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = [row["contender"], f"{row['ns']:.3f}", f"{row['percent']:.1f} %"]
        if "gain" in row:
            cells.append(f"{row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})")
            cells.append(f"{row['p']:.4f}")
            cells.append(", ".join(f"{p:.4f}" for p in row["p_by_seed"]))
            known = "p_default" in row
            cells.append(f"{row['over_default']:+.3f} ({row['p_default']:.4f})" if known else "")
            cells.append(f"{row['seconds']:.0f}")
        print("| " + " | ".join([*cells, *[""] * (8 - len(cells))]) + " |")


def pictures_of(options: argparse.Namespace, work: Path) -> Examples:
    """All pictures and their features, by an index that is kept in ``work``."""
    own = options.ukbench
    pictures = [own] if own else make_groups(options.images, work / "groups", light=options.light)
    with ImageIndex(work / "index.duckdb", model=options.model) as index:
        report = index.add(pictures)
        print(report, file=sys.stderr)
        return examples_of(index, "ukbench" if own else "folder", shallow=True)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, nargs="+", metavar="DIR")
    source.add_argument("--ukbench", type=Path, metavar="DIR", help="ukbench00000.jpg and so on")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--light", type=float, default=0.6, help="of made groups")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=CONTENDERS)
    parser.add_argument("--work", type=Path, metavar="DIR", help="keep groups and index there")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    chosen = [name for name in CONTENDERS if not options.only or name in options.only]
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        examples = pictures_of(options, work)
        seeds = range(options.seeds)
        runs = [run(examples, seed, options.epochs, chosen, Path(folder)) for seed in seeds]
    rows = summarize(runs)
    print(f"{len(examples.names)} objects, {len(examples)} pictures, {len(runs)} divisions\n")
    show(rows)
    if options.json:
        facts = {"model": options.model, "objects": len(examples.names), "epochs": options.epochs}
        facts |= {"options": asdict(TrainingOptions()), "test_share": TEST_SHARE, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
