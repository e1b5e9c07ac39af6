"""Pictures per second from files to an index, against simpler ways and against the machine's limit.

    python benchmarks/indexing.py --images photos --model efficientnet-lite0 --pictures 2000

The pictures of the folder are repeated until there are as many as asked for; each repetition gets a
few bytes at its end, so that its hash is new and its pixels are not. Each contender runs in a
process of its own, so that its peak of resident memory is its own; the network is built, and run
once, before its time begins. The contenders take turns, and the medians of all turns are shown:

    simple loop        load_img, predict and one write for each picture
    batch loop         threads load, one thread predicts batches, everything to one .npy file at
                       the end, as clip-retrieval's inference does
    bare model         batches of arrays in memory, no files and no index
    bare decoding      one thread reads and decodes, no model and no index
    pipeline           ImageIndex.add

The machine's limit is cores / (core-seconds of decoding + core-seconds of the model) per picture,
both measured alone, in this run. The slow contenders get fewer pictures (--slow).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import elasticsearch_node  # noqa: E402

from imgsearch_es import ImageIndex, find_images, open_image  # noqa: E402
from imgsearch_es.analysis.analyzer import Analysis, Analyzer, Term  # noqa: E402
from imgsearch_es.indexing.read import cores  # noqa: E402
from imgsearch_es.retrieval.documents import Document  # noqa: E402

BATCH = 32
Result = dict[str, Any]


def simple_loop(analyzer: Analyzer, paths: list[Path], location: str) -> Result:
    import keras

    network = analyzer.model.build_network()  # type: ignore[attr-defined]
    height, width = network.inputs[0].shape[1:3]
    index = ImageIndex(location, analyzer=analyzer)
    index.create()
    network.predict(np.zeros((1, height, width, 3)), verbose=0)
    keys = analyzer.vocabulary.keys
    with measured() as result:
        for path in paths:
            loaded = keras.utils.load_img(path, target_size=(height, width))
            pixels = keras.utils.img_to_array(loaded)[np.newaxis]
            posterior, feature = network.predict(pixels, verbose=0)
            best = np.argsort(-posterior[0], kind="stable")[:10]
            terms = tuple(Term(keys[i], float(posterior[0, i])) for i in best)
            picture = open_image(path)
            index.store.write([Document.from_picture(picture, Analysis(terms, feature[0]))])
        index.store.finish()
    return result


def batch_loop(analyzer: Analyzer, paths: list[Path], location: str) -> Result:
    kept = []

    def load(path: Path) -> np.ndarray:
        return analyzer.prepare(open_image(path).image)

    with ThreadPoolExecutor(cores()) as threads, measured() as result:
        ahead = threads.map(load, paths[:BATCH])
        for start in range(0, len(paths), BATCH):
            batch = list(ahead)
            ahead = threads.map(load, paths[start + BATCH : start + 2 * BATCH])
            kept += [analysis.embedding for analysis in analyzer.analyze_prepared(batch)]
        np.save(Path(location).with_suffix(".npy"), np.stack(kept))
    return result


def bare_model(analyzer: Analyzer, paths: list[Path], location: str) -> Result:
    arrays = [analyzer.prepare(open_image(path).image) for path in paths[: 4 * BATCH]]
    batches = [arrays[i : i + BATCH] for i in range(0, len(arrays), BATCH)]
    rounds = max(1, len(paths) // len(arrays))
    with measured() as result:
        for _ in range(rounds):
            for batch in batches:
                analyzer.analyze_prepared(batch)
    return result | {"pictures": rounds * len(arrays)}


def bare_decoding(analyzer: Analyzer, paths: list[Path], location: str) -> Result:
    with measured() as result:
        for path in paths:
            analyzer.prepare(analyzer.open(path.read_bytes(), uri=str(path)).image)
    return result


def pipeline(analyzer: Analyzer, paths: list[Path], location: str) -> Result:
    index = ImageIndex(location, analyzer=analyzer)
    with measured() as result:
        report = index.add([str(path) for path in paths])
    if report.added != len(paths):
        raise SystemExit(f"{location}: {report}")
    return result | {"stages": report.to_dict()["stages"]}


CONTENDERS: dict[str, Callable[[Analyzer, list[Path], str], Result]] = {
    "simple loop": simple_loop,
    "batch loop": batch_loop,
    "bare model": bare_model,
    "bare decoding": bare_decoding,
    "pipeline": pipeline,
}
SLOW = ("simple loop",)
STORELESS = ("batch loop", "bare model", "bare decoding")


class measured:  # noqa: N801 - used as a statement
    """Wall time, core-seconds of this process and its workers, and the peak of their memory."""

    def __enter__(self) -> Result:
        self._result: Result = {}
        self._peak, self._done = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        self._wall, self._cores = time.perf_counter(), core_seconds()
        return self._result

    def __exit__(self, *error: object) -> None:
        seconds, spent = time.perf_counter() - self._wall, core_seconds() - self._cores
        self._done.set()
        self._watch.join()
        self._result |= {"seconds": seconds, "core_seconds": spent, "peak_rss_mb": self._peak}

    def _look(self) -> None:
        while not self._done.wait(0.25):
            self._peak = max(self._peak, resident())


def resident() -> float:
    """Resident memory of this process and its workers, in MB."""
    children = Path("/proc/self/task").glob("*/children")
    processes = ["self", *(child for path in children for child in path.read_text().split())]
    pages = 0
    for process in processes:
        with suppress(OSError):  # it ended meanwhile
            pages += int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def core_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def run_one(options: argparse.Namespace) -> None:
    """In a process of its own: one contender, its result on standard output."""
    analyzer = Analyzer({"model": json.loads(options.model_config)})
    paths = sorted(Path(options.images).iterdir())[: options.pictures]
    analyzer.analyze_prepared([analyzer.prepare(open_image(paths[0]).image)] * BATCH)
    result = CONTENDERS[options.contender](analyzer, paths, options.location)
    print(json.dumps({"pictures": len(paths)} | result))


def repeated(images: str, pictures: int, folder: Path) -> int:
    """Copy pictures until there are as many as asked for; gives how many different ones."""
    found = [Path(uri) for uri in find_images(images)]
    if not found:
        raise SystemExit(f"there are no pictures in {images}")
    for number in range(pictures):
        source = found[number % len(found)]
        content = source.read_bytes() + number.to_bytes(8, "big")
        (folder / f"{number:07}{source.suffix}").write_bytes(content)
    return len(found)


def places(stores: list[str], folder: Path, node: str) -> Generator[tuple[str, str], None, None]:
    """(store, location) of fresh indices, without end for the caller to take from."""
    while True:
        for store in stores:
            name = f"benchmark-indexing-{uuid.uuid4().hex[:8]}"
            if store == "embedded":
                yield store, str(folder / f"{name}.duckdb")
                continue
            try:
                yield store, f"{node}/{name}"
            finally:
                path = f"/{name}-000001?ignore_unavailable=true"
                elasticsearch_node.request(node, path, method="DELETE")


def measure(options: argparse.Namespace, photos: Path, work: Path) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    with ExitStack() as stack:
        needs_node = "elasticsearch" in options.stores
        node = stack.enter_context(elasticsearch_node.node("9")) if needs_node else ""
        fresh = stack.enter_context(closing(places(options.stores, work, node)))
        for _ in range(options.repeats):
            for contender in options.contenders:
                stores = options.stores[:1] if contender in STORELESS else options.stores
                for _ in options.stores:
                    store, location = next(fresh)
                    if store not in stores:
                        continue
                    pictures = options.slow if contender in SLOW else options.pictures
                    name = contender if contender in STORELESS else f"{contender}, {store}"
                    result = in_a_process(options, contender, photos, pictures, location)
                    found.setdefault(name, []).append(result)
                    print(f"{name}: {result}", file=sys.stderr)
    return found


def in_a_process(
    options: argparse.Namespace, contender: str, photos: Path, pictures: int, location: str
) -> Result:
    command = [
        sys.executable, str(Path(__file__)), "--contender", contender, "--images", str(photos),
        "--pictures", str(pictures), "--location", location,
        "--model-config", json.dumps(model_config(options)),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr}")
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def model_config(options: argparse.Namespace) -> dict[str, str]:
    random = {"weights": "random"} if options.random_weights else {}
    return {"name": options.model, **random}


def rows(found: dict[str, list[Result]]) -> list[Result]:
    table = []
    for name, results in found.items():
        row = {
            "contender": name,
            "pictures": results[0]["pictures"],
            "images_per_second": median(results, lambda r: r["pictures"] / r["seconds"]),
            "core_seconds_per_picture": median(
                results, lambda r: r["core_seconds"] / r["pictures"], 5
            ),
            "peak_rss_mb": median(results, lambda r: r["peak_rss_mb"], 0),
        }
        if "stages" in results[0]:
            row["stages"] = results[-1]["stages"]
        table.append(row)
    return table


def median(results: list[Result], figure: Callable[[Result], float], digits: int = 2) -> float:
    return round(statistics.median(map(figure, results)), digits)


def limit(table: list[Result]) -> float | None:
    """What the machine allows, in pictures per second."""
    costs = {row["contender"]: row["core_seconds_per_picture"] for row in table}
    if not {"bare model", "bare decoding"} <= costs.keys():
        return None
    return round(cores() / (costs["bare model"] + costs["bare decoding"]), 2)


def show(table: list[Result], most: float | None) -> None:
    base = {row["contender"].partition(", ")[2]: row["images_per_second"] for row in table
            if row["contender"].startswith("simple loop")}  # fmt: skip
    print("| contender | pictures | pictures/s | times the simple loop | of the limit | peak MB |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in table:
        rate = row["images_per_second"]
        loop = base.get(row["contender"].partition(", ")[2])
        times = f"{rate / loop:.1f}" if loop else ""
        share = f"{rate / most:.0%}" if most and not row["contender"].startswith("bare") else ""
        print(
            f"| {row['contender']} | {row['pictures']:,} | {rate} | {times} | {share} "
            f"| {row['peak_rss_mb']:.0f} |"
        )
    for row in table:
        if "stages" in row:
            shares = ", ".join(f"{stage} {share:.0%}" for stage, share in row["stages"].items())
            print(f"\n{row['contender']}, work by stage: {shares}")
    if most:
        print(f"\nThe machine's limit: {most} pictures/s on {cores()} cores")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", required=True, help="a folder of pictures")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--random-weights", action="store_true", help="for models to download")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=100, help="pictures for the simple loop")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stores", nargs="+", default=["embedded", "elasticsearch"])
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--model-config", help=argparse.SUPPRESS)
    parser.add_argument("--location", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        run_one(options)
        return
    work = Path(tempfile.mkdtemp(prefix="imgsearch-benchmark-"))
    try:
        photos = work / "photos"
        photos.mkdir()
        different = repeated(options.images, options.pictures, photos)
        table = rows(measure(options, photos, work))
    finally:
        shutil.rmtree(work)
    facts = {
        "model": model_config(options),
        "different_pictures": different,
        "cores": cores(),
        "limit_images_per_second": limit(table),
    }
    show(table, facts["limit_images_per_second"])
    if options.random_weights:
        print("The weights are random: speed is the same, the terms mean nothing.")
    if options.json:
        Path(options.json).write_text(json.dumps({"rows": table, **facts}, indent=2))


if __name__ == "__main__":
    main()
