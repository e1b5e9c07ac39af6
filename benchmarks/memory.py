"""The memory that `index` and `serve` take for the thinnest, largest and most twisted pictures.

    python benchmarks/memory.py --pictures 2000 --json memory.json

Makes ordinary pictures with the hostile ones among them, indexes them, then serves the index and
sends those that may be uploaded, twelve at a time, asks for their thumbnails and searches by them.
Printed is the most that all processes had together: Linux's proportional set size, in which what
processes share counts once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import urllib3
from PIL import Image

MODEL = "efficientnet-lite0"
LARGEST = 13_377
"""Its square is just within the limit of pixels."""
UPLOAD = 7_000
"""And this one's within that of uploads."""
TOGETHER = 12
SECONDS = 30


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert(mode)


def make_thin(folder: Path) -> None:
    """The thinnest: from 124 bytes on."""
    for number, length in enumerate((10_000, 60_000, 2_000_000, 178_000_000)):
        Image.new("L", (1, length), 99).save(folder / f"tall{number}.png")
        Image.new("L", (length, 1), 99).save(folder / f"wide{number}.png")


def make_large(folder: Path, side: int) -> None:
    """The largest, in the forms that take most."""
    turned = Image.Exif()
    turned[274] = 6
    for mode in ("1", "L", "RGB", "RGBA", "I;16"):
        gradient(side, side, mode).save(folder / f"{mode.replace(';', '')}.png")
    picture = gradient(side, side)
    picture.save(folder / "turned.jpg", exif=turned)
    for name, subsampling in (("whole", 0), ("sampled", 2)):
        picture.save(folder / f"{name}.jpg", progressive=True, subsampling=subsampling)
    picture.save(folder / "picture.webp")
    gradient(side, side, "P").save(folder / "picture.gif")
    gradient(min(side, 9_000), min(side, 9_000)).save(folder / "picture.tif")
    gradient(min(side, 7_000), min(side, 7_000)).save(folder / "picture.jp2")


def make_ordinary(folder: Path, pictures: int) -> None:
    noise = np.random.default_rng(1)
    for number in range(pictures):
        pixels = noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)
        picture.save(folder / f"ordinary{number:05}.jpg")


class Peak(threading.Thread):
    """Watches over a process with all below it."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self._process = process
        self.kilobytes = 0
        self.start()

    def run(self) -> None:
        """Look again and again, until the process ends."""
        while members := list(tree(self._process)):
            self.kilobytes = max(self.kilobytes, sum(map(proportional, members)))
            time.sleep(0.02)


def tree(process: int) -> Iterator[int]:
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield from tree(int(child))
        if "State:\tZ" not in Path(f"/proc/{process}/status").read_text():
            yield process
    except OSError:
        return


def proportional(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"Pss:\s+(\d+) kB", text)
    return int(found[1]) if found else 0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "imgsearch_es", *arguments]


def index(folder: Path, place: Path) -> dict[str, Any]:
    arguments = ("index", str(folder), "-i", str(place), "-m", MODEL, "--json")
    run = subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True)  # noqa: S603 - this program
    peak = Peak(run.pid)
    report = json.loads(run.communicate()[0])
    megabytes = peak.kilobytes / 1024
    print(
        f"index: {megabytes:,.0f} MB; exit code {run.returncode}, "
        f"{report['added']} added in {report['seconds']:.0f} s"
    )
    for entry in report["rejected"]:
        print(f"  rejected {Path(entry['uri']).name}: {entry['reason']}")
    return {"peak_mb": megabytes, "report": report}


@contextmanager
def served(place: Path, cache: Path) -> Iterator[tuple[str, Peak]]:
    arguments = ("serve", "-i", str(place), "--port", "0", "--rate", "0")
    environment = {**os.environ, "IMGSEARCH_CACHE": str(cache)}
    server = subprocess.Popen(  # noqa: S603 - this program
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment,
    )  # fmt: skip
    try:
        peak = Peak(server.pid)
        found = None
        while found is None:
            found = re.search(r"http://[\d.]+:\d+", server.stdout.readline())
        yield found[0], peak
    finally:
        server.terminate()
        server.wait()


def serve(folder: Path, place: Path, cache: Path) -> dict[str, Any]:
    pool = urllib3.PoolManager(maxsize=2 * TOGETHER, retries=False, timeout=2 * SECONDS)
    with served(place, cache) as (url, peak), ThreadPoolExecutor(TOGETHER) as threads:

        def attack(path: Path) -> list[str]:
            fields = {"picture": (path.name, path.read_bytes())}
            answer = pool.request("POST", f"{url}/api/v1/uploads", fields=fields)
            statuses = [f"upload {answer.status}"]
            if answer.status == 201:
                name = json.loads(answer.data)["id"]
                shown = pool.request("GET", f"{url}/thumbnails/{name}/240")
                body = {"image": [name], "views": ["mirror", "rotations"]}
                hits = pool.request("POST", f"{url}/api/v1/search", json=body)
                statuses += [f"thumbnail {shown.status}", f"search {hits.status}"]
            return statuses

        statuses: Counter[str] = Counter()
        for answers in threads.map(attack, sorted(folder.iterdir()) * 2):
            statuses.update(answers)
        said = ", ".join(f"{number} x {status}" for status, number in sorted(statuses.items()))
        print(f"serve: {peak.kilobytes / 1024:,.0f} MB; {said}")
    return {"peak_mb": peak.kilobytes / 1024, "answers": dict(statuses)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        for name in ("indexed", "uploads"):
            (top / name).mkdir()
        make_thin(top / "indexed")
        make_large(top / "indexed", LARGEST)
        make_ordinary(top / "indexed", options.pictures - len(list((top / "indexed").iterdir())))
        make_large(top / "uploads", UPLOAD)
        make_thin(top / "uploads")
        os.environ["IMGSEARCH_CACHE"] = str(top / "cache")
        first = str(top / "indexed" / "ordinary00000.jpg")  # chooses a runtime, with TensorFlow
        subprocess.run(command("analyze", first, "-m", MODEL), check=True)  # noqa: S603 - this program
        indexed = index(top / "indexed", top / "index.duckdb")
        answered = serve(top / "uploads", top / "index.duckdb", top / "cache")
    if options.json:
        options.json.write_text(json.dumps({"index": indexed, "serve": answered}, indent=2))


if __name__ == "__main__":
    main()
