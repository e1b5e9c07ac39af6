"""The page: how soon it is there, how much a server takes, and 50 people on one for a minute.

    python benchmarks/server.py --users 50 --seconds 60 --json server.json

First one person, in Chromium: bytes of the start page, and the time from Enter to the first picture
on the screen. Then clients without pauses: searches by words and pictures sent, of one and of all.
Then people: each searches by words, from a result, by an uploaded picture, refines, narrows, asks
why, and loads the thumbnails of what is shown, with a pause of 0.5 to 1.5 seconds between steps.
The server is `imgsearch serve` in a process of its own; users are threads of this one, on the same
cores, each from an address of its own. To compare with older code, set PYTHONPATH to its folder.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3
from needs import needs
from searches import PATHS, Served, ask

from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.demo import make_photos

with needs("server"):
    import fastapi  # noqa: F401
    import uvicorn  # noqa: F401
with needs("test"):
    from playwright.sync_api import Page, sync_playwright

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))
from prepare import find_browser

MODEL = "efficientnet-lite0"
WORDS = ("cat", "dog", "helmet", "coffee", "rocket", "vehicle", "animal", "instrument", "clock")
THUMBNAILS = 6
"""Of a page that a user sees before scrolling, and its browser has not yet."""
_ID = re.compile(rb'data-id="([0-9a-f]{32})"')
Times = dict[str, list[float]]
FIRST_PICTURE = """(word) => new Promise((resolve) => {
    const words = document.getElementById("q");
    words.value = word;
    const began = performance.now();
    words.form.requestSubmit();
    const look = () => {
        const shown = document.querySelector(".layout")?.dataset.q === word;
        const image = shown && document.querySelector(".picture img");
        if (performance.now() - began > 20_000) resolve(NaN);
        else if (!image?.complete || !image.naturalWidth) requestAnimationFrame(look);
        else requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    };
    look();
})"""
"""Milliseconds from Enter to the frame after the one that has the first picture."""


class User:
    """Someone who looks for pictures until the time is over."""

    def __init__(self, url: str, photos: list[bytes], seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  (the same steps in each run)
        self._pool = pool(url, seed)
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
        uploads = [path.read_bytes() for path in sorted(photos.glob("*-cropped.jpg"))]
        with served(location, folder) as (url, server):
            page = seen(url)
            rates = {**search_rates(server, options), **upload_rates(url, uploads, options)}
            users = load(url, uploads, options)
            figures = urllib3.request("GET", url + "metrics").data.decode()
    print(
        f"{options.users} users, {options.seconds:g} s, {pictures} pictures, {os.cpu_count()} cores"
    )
    for title, rows in (("one person", page), ("a second", rates)):
        print(f"\n| {title} | |\n|---|---:|")
        for what, value in rows.items():
            print(f"| {what} | {value:,.0f} |")
    report(users, figures, {"pictures": pictures, **page, **rates}, options)


def seen(url: str) -> dict[str, float]:
    """Bytes of the start page, and milliseconds to the first picture, when it is new and later."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        page = browser.new_page()
        found = sizes(page, url)
        for name in ("first time", "again"):
            page.goto(url)
            page.wait_for_load_state("networkidle")
            words = page.locator(".ideas a").all_inner_texts()  # of which there are pictures
            times = [page.evaluate(FIRST_PICTURE, word) for word in words]
            found[f"Enter to the first picture, {name}, p50 ms"] = statistics.median(times)
            found[f"the same, longest, ms, {name}"] = max(times)
            page = browser.new_context().new_page()
        browser.close()
    return found


def sizes(page: Page, url: str) -> dict[str, float]:
    """Bytes of modules, styles, icon and HTML, as they are; what the index has beside them."""
    answers = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(url)
    page.wait_for_load_state("networkidle")
    bodies = {one.url: one.body() for one in answers if "/thumbnails/" not in one.url}
    empty = re.sub(rb"(?s)(<main.*?>).*</main>", rb"\1</main>", bodies[url])
    whole = sum(map(len, bodies.values()))
    results = len(bodies[url]) - len(empty)
    return {"bytes of the start page": whole - results, "bytes of its results": results}


def search_rates(server: Served, options: argparse.Namespace) -> dict[str, float]:
    """Searches by words a second, of one client and of all, by the API and on the page."""
    return {
        f"searches, {what}, {clients} clients": ask(server, path, clients, options.rate_seconds)[0]
        for what, path in PATHS.items()
        for clients in (1, options.users)
    }


def upload_rates(url: str, uploads: list[bytes], options: argparse.Namespace) -> dict[str, float]:
    """Pictures sent a second by all clients: kept alone, and analyzed and searched by."""
    rates = {}
    for what, path in (
        ("pictures sent and kept", "/api/v1/uploads"),
        ("pictures sent and searched by", "/api/v1/search/upload"),
    ):
        began, done = time.perf_counter(), [0] * options.users

        def send(number: int, path: str = path, done: list[int] = done) -> None:
            clients, until = pool(url, number), time.perf_counter() + options.rate_seconds
            while time.perf_counter() < until:
                data = uploads[(number + done[number]) % len(uploads)]
                form = [("picture", ("picture.jpg", data))]
                answer = clients.request("POST", path, fields=form)
                if answer.status >= 300:
                    sys.exit(f"error: {answer.data[:200]!r}")
                done[number] += 1

        together(send, options.users)
        rates[f"{what}, {options.users} clients"] = sum(done) / (time.perf_counter() - began)
    return rates


def together(act: Callable[[int], None], many: int) -> None:
    """Do something in so many threads at once."""
    threads = [threading.Thread(target=act, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def load(url: str, uploads: list[bytes], options: argparse.Namespace) -> list[User]:
    """Let the users do what they do."""
    users = [User(url, uploads, seed) for seed in range(options.users)]
    until = time.perf_counter() + options.seconds
    together(lambda number: users[number].run(until), len(users))
    return users


def report(
    users: list[User], figures: str, known: dict[str, float], options: argparse.Namespace
) -> None:
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
    print("\n| request | count | p50 ms | p95 ms | p99 ms | max ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for what, row in rows.items():
        cells = " | ".join(f"{row[key]:,.0f}" for key in ("p50", "p95", "p99", "max"))
        print(f"| {what} | {row['count']:,} | {cells} |")
    print(f"\nerrors: {len(errors)} {sorted(set(errors))}")
    print(f"forward passes: {passes:.0f} for {analyzed:.0f} pictures")
    if options.json:
        found = {"rows": rows, "errors": len(errors), "passes": passes, "analyzed": analyzed}
        settings = {"users": options.users, "seconds": options.seconds, **known}
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
def served(location: str, folder: Path) -> Iterator[tuple[str, Served]]:
    """The URL of `imgsearch serve`, once its model is loaded, and its process."""
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
        try:
            yield url, Served(_place(url), process.pid)
        finally:
            process.terminate()
        if process.wait(30) != 0:
            sys.exit("error: the server did not end in good order")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate-seconds", type=float, default=10, help="for each rate")
    parser.add_argument("--index", help="an index instead of the demo's photos")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def pool(url: str, number: int) -> urllib3.HTTPConnectionPool:
    """One connection of a client from an address of its own."""
    place = _place(url)
    source = (f"127.0.1.{number % 250 + 1}", 0) if place[0].startswith("127.") else None
    return urllib3.HTTPConnectionPool(
        *place, maxsize=1, timeout=60, retries=False, source_address=source
    )


def _place(url: str) -> tuple[str, int]:
    parts = urllib3.util.parse_url(url)
    return parts.host or "", parts.port or 80


if __name__ == "__main__":
    main()
