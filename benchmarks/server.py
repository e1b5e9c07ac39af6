"""50 people on one server for a minute: how long they wait, and whether anything fails.

    python benchmarks/server.py --users 50 --seconds 60 --json server.json

Each user searches by words, from a result, by an uploaded picture, refines, narrows, asks why, and
loads the thumbnails of what is shown, with a pause of 0.5 to 1.5 seconds between steps. The server
is `imgsearch serve` in a process of its own; users are threads of this one, on the same cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from needs import needs

from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.demo import make_photos

with needs("server"):
    import fastapi  # noqa: F401
    import uvicorn  # noqa: F401

MODEL = "efficientnet-lite0"
WORDS = ("cat", "dog", "helmet", "coffee", "rocket", "vehicle", "animal", "instrument", "clock")
THUMBNAILS = 6
"""Of a page that a user sees before scrolling, and its browser has not yet."""
_ID = re.compile(rb'data-id="([0-9a-f]{32})"')
Times = dict[str, list[float]]


class User:
    """Someone who looks for pictures until the time is over."""

    def __init__(self, url: str, photos: list[bytes], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  (the same steps in each run)
        self._pool = urllib3.HTTPConnectionPool(*_place(url), maxsize=1, timeout=60, retries=False)
        self._photos = photos
        self.times: Times = defaultdict(list)
        self.errors: list[str] = []

    def run(self, until: float) -> None:
        """Take steps, with pauses."""
        steps = (self.by_words, self.by_result, self.by_upload, self.refine, self.narrow, self.why)
        weights = (6, 4, 2, 2, 2, 2)
        time.sleep(self._random.random())
        while time.perf_counter() < until:
            (step,) = self._random.choices(steps, weights)
            step()
            time.sleep(self._random.uniform(0.5, 1.5))

    def by_words(self) -> list[str]:
        """Search by a word; gives the ids shown."""
        return self._see("words", f"/results?q={self._random.choice(WORDS)}")

    def by_result(self) -> None:
        """Search from a result."""
        shown = self.by_words()
        if shown:
            self._see("result", f"/results?image={self._random.choice(shown)}")

    def by_upload(self) -> None:
        """Search by a picture of one's own."""
        form = [("picture", ("picture.jpg", self._random.choice(self._photos)))]
        kept = self._ask("upload", "/api/v1/uploads", fields=form)
        if kept:
            self._see("picture", f"/results?image={json.loads(kept)['id']}")

    def refine(self) -> None:
        """Like one result and dislike another."""
        shown = self.by_words()
        if len(shown) > 1:
            good, bad = self._random.sample(shown, 2)
            self._see("refine", f"/results?q=animal&like={good}&dislike={bad}")

    def narrow(self) -> None:
        """Choose a facet."""
        self._see("narrow", "/results?q=animal&where=format%3DJPEG")

    def why(self) -> None:
        """Ask why a picture was found."""
        shown = self.by_words()
        if shown:
            self._ask("why", f"/why?q=animal&picture={shown[0]}")

    def _see(self, what: str, path: str) -> list[str]:
        page = self._ask(what, path)
        shown = [name.decode() for name in _ID.findall(page)]
        for name in shown[:THUMBNAILS]:
            self._ask("thumbnail", f"/thumbnails/{name}/480?v=1")
        return shown

    def _ask(self, what: str, path: str, **form: Any) -> bytes:
        began = time.perf_counter()
        try:
            answer = self._pool.request("POST" if form else "GET", path, **form)
        except urllib3.exceptions.HTTPError as error:
            self.errors.append(f"{what}: {type(error).__name__}")
            return b""
        self.times[what].append(1000 * (time.perf_counter() - began))
        if answer.status >= 400:
            self.errors.append(f"{what}: {answer.status}")
            return b""
        return answer.data


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = make_photos(folder / "photos")
        location = options.index or str(folder / "photos.duckdb")
        with ImageIndex(location, model=None if options.index else MODEL) as index:
            if not options.index:
                index.add(photos)
            pictures = index.count()
        with served(location, folder) as url:
            users = load(url, photos, options)
            figures = urllib3.request("GET", url + "metrics").data.decode()
    report(users, figures, pictures, options)


def load(url: str, photos: Path, options: argparse.Namespace) -> list[User]:
    """Let the users do what they do."""
    uploads = [path.read_bytes() for path in sorted(photos.glob("*-cropped.jpg"))]
    users = [User(url, uploads, seed) for seed in range(options.users)]
    until = time.perf_counter() + options.seconds
    threads = [threading.Thread(target=user.run, args=(until,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return users


def report(users: list[User], figures: str, pictures: int, options: argparse.Namespace) -> None:
    """Print a table, and write JSON."""
    times: Times = defaultdict(list)
    for user in users:
        for what, some in user.times.items():
            times[what] += some
    errors = [error for user in users for error in user.errors]
    rows = {what: summarize(some) for what, some in sorted(times.items())}
    pages = [t for what, some in times.items() if what != "thumbnail" for t in some]
    rows["all but thumbnails"] = summarize(pages)
    rows["all"] = summarize([t for some in times.values() for t in some])
    passes = float(re.findall(r"model_batch_pictures_count (\S+)", figures)[0])
    analyzed = float(re.findall(r"model_batch_pictures_sum (\S+)", figures)[0])
    cores = os.cpu_count()
    print(f"{options.users} users, {options.seconds:g} s, {pictures} pictures, {cores} cores")
    print("\n| request | count | p50 ms | p95 ms | p99 ms | max ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for what, row in rows.items():
        cells = " | ".join(f"{row[key]:,.0f}" for key in ("p50", "p95", "p99", "max"))
        print(f"| {what} | {row['count']:,} | {cells} |")
    print(f"\nerrors: {len(errors)} {sorted(set(errors))}")
    print(f"forward passes: {passes:.0f} for {analyzed:.0f} pictures")
    if options.json:
        found = {"rows": rows, "errors": len(errors), "passes": passes, "analyzed": analyzed}
        settings = {"users": options.users, "seconds": options.seconds, "pictures": pictures}
        text = json.dumps({**settings, "cores": cores, **found}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(bool(errors))


def summarize(times: list[float]) -> dict[str, float]:
    """How many, and quantiles in milliseconds."""
    cuts = statistics.quantiles(times, n=100) if len(times) > 1 else times * 99
    return {
        "count": len(times), "p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(times),
    }  # fmt: skip


@contextmanager
def served(location: str, folder: Path) -> Iterator[str]:
    """The URL of `imgsearch serve`, once its model is loaded."""
    command = [
        sys.executable, "-m", "imgsearch_es", "serve", "--index", location, "--port", "0",
        "--rate", "0", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None  # noqa: S101
        url = json.loads(process.stdout.readline())["url"]
        while b'"ready"' not in urllib3.request("GET", url + "health").data:
            time.sleep(0.2)
        yield url
        process.terminate()
        if process.wait(30) != 0:
            sys.exit("error: the server did not end in good order")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--index", help="an index instead of the demo's photos")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _place(url: str) -> tuple[str, int]:
    parts = urllib3.util.parse_url(url)
    return parts.host or "", parts.port or 80


if __name__ == "__main__":
    main()
