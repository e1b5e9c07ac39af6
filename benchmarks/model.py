"""Pictures per second of the network alone, on pixels in memory, by runtime and batch.

    python benchmarks/model.py --models efficientnet-lite0 vgg16:random --json model.json

``vgg16:random`` has random weights, which take as long as real ones. All contenders of a model run
in turn in one process, some rounds; the median is told, and how far scores are from the first's.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from imgsearch_es.analysis.models import create_model, runtime  # noqa: E402
from imgsearch_es.analysis.models.base import NetworkModel  # noqa: E402
from imgsearch_es.analysis.models.runtime import TensorFlowRuntime  # noqa: E402
from imgsearch_es.analysis.models.runtime_choice import probe_pictures  # noqa: E402

BATCH = 32
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def one_by_one(run: Run) -> Run:
    return lambda pixels: np.concatenate([run(pixels[i : i + 1]) for i in range(len(pixels))])


def contenders(model: NetworkModel) -> dict[str, Run]:
    network = model.checked_network()
    tensorflow = TensorFlowRuntime(network)

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = network.predict(pixels.astype(np.float32), verbose=0)[0]
        return scores

    runs = {
        "Keras predict, one by one": one_by_one(predict),
        "Keras predict, batches of 32": predict,
        "tf.function, one by one": one_by_one(lambda pixels: tensorflow(pixels)[0]),
        "tf.function, batches of 32": lambda pixels: tensorflow(pixels)[0],
    }
    if runtime.is_installed():
        converted = runtime.OpenVINORuntime(runtime.convert(tensorflow.function))
        runs["OpenVINO, one by one"] = one_by_one(lambda pixels: converted(pixels)[0])
        runs["OpenVINO, batches of 32"] = lambda pixels: converted(pixels)[0]
    return runs


def measure(name: str, rounds: int) -> list[dict[str, Any]]:
    base, _, weights = name.partition(":")
    model = create_model(base, **({"weights": weights} if weights else {}))
    if not isinstance(model, NetworkModel):
        raise SystemExit(f"{name} is no network")
    pixels = probe_pictures(BATCH, model.size)
    runs = contenders(model)
    scores = {contender: run(pixels) for contender, run in runs.items()}  # and warms up
    reference = next(iter(scores.values()))
    rates: dict[str, list[float]] = {contender: [] for contender in runs}
    for _ in range(rounds):
        for contender, run in runs.items():
            started = time.perf_counter()
            run(pixels)
            rates[contender].append(BATCH / (time.perf_counter() - started))
    first = statistics.median(next(iter(rates.values())))
    return [
        {
            "model": name,
            "contender": contender,
            "images_per_second": round(statistics.median(rates[contender]), 1),
            "times_the_first": round(statistics.median(rates[contender]) / first, 1),
            "scores_differ_by": float(np.abs(scores[contender] - reference).max()),
        }
        for contender in runs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["efficientnet-lite0", "vgg16:random"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = [row for name in options.models for row in measure(name, options.rounds)]
    print("| model | contender | pictures/s | times the first | scores differ by |")
    print("|---|---|---:|---:|---:|")
    for row in rows:
        print(
            "| {model} | {contender} | {images_per_second} | {times_the_first} | "
            "{scores_differ_by:.0e} |".format(**row)
        )
    if options.json:
        packages = ("keras", "tensorflow", "openvino") if runtime.is_installed() else ("keras",)
        versions = {package: version(package) for package in packages}
        result = {"cores": os.cpu_count(), "versions": versions, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
