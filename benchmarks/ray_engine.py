"""What the engine ray costs on one machine, where it can gain nothing.

    python benchmarks/ray_engine.py --images photos --model efficientnet-lite0 --pictures 2000

Both engines index the same files into new DuckDB files, in turn, in one process; a cluster of this
machine runs all the while, and is started before. "first" is an index of one picture: what starting
the actors and loading the model costs each run. Pictures are repeated with a few bytes
at their end, so that each hash is new. Shown are medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from needs import needs

from imgsearch_es import ImageIndex, find_images

with needs("ray"):
    import ray


def repeated(images: Path, pictures: int, folder: Path) -> None:
    sources = [Path(uri) for uri in find_images(images)]
    for number in range(pictures):
        source = sources[number % len(sources)]
        data = source.read_bytes() + number.to_bytes(8, "big")
        (folder / f"{number:06}{source.suffix}").write_bytes(data)


def seconds(folder: Path, place: Path, model: str, engine: str) -> float:
    started = time.perf_counter()
    with ImageIndex(place, model=model) as index:
        report = index.add(folder, engine=engine)
    if report.rejected or not report.added:
        raise SystemExit(f"{engine}: {report}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, pictures in (("first", 1), ("all", asked.pictures)):
            (Path(place) / name).mkdir()
            repeated(asked.images, pictures, Path(place) / name)
        for turn in range(asked.turns):
            for name in ("first", "all"):
                for engine in ("local", "ray"):
                    file = Path(place) / f"{engine}-{name}-{turn}.duckdb"
                    took = seconds(Path(place) / name, file, asked.model, engine)
                    taken.setdefault(f"{engine} {name}", []).append(took)
    ray.shutdown()
    medians = {name: round(statistics.median(times), 2) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:12} {median:8.1f} s")
    whole = medians["ray all"] / medians["local all"]
    without = (medians["ray all"] - medians["ray first"]) / (
        medians["local all"] - medians["local first"]
    )
    print(f"ray / local {whole:.2f}, without starting {without:.2f}")
    if asked.json:
        figures = {"pictures": asked.pictures, "seconds": medians, "ratio": round(whole, 3)}
        asked.json.write_text(json.dumps(figures | {"ratio_without_start": round(without, 3)}))


if __name__ == "__main__":
    main()
