"""Searches by words a second, of one client and of fifty, with and without processes that search.

    python benchmarks/searches.py --seconds 5 --rounds 3 --json searches.json

Both servers are asked in turns, by clients without pauses in this process, on the same cores. Also
the processor time for each search: of the process that has the model, and of all of a server's.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from needs import needs

from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.demo import make_photos

with needs("server"):
    from imgsearch_es.interfaces.server.app import run_server
    from imgsearch_es.interfaces.server.batching import ServedIndex
    from imgsearch_es.interfaces.server.guard import ServerSettings

WORDS = ("cat", "dog", "helmet", "coffee", "rocket", "vehicle", "animal", "instrument", "clock")
PATHS = {"API": "/api/v1/search?k=10&text=", "page": "/results?q="}
CLIENTS = (1, 50)
_TICKS = os.sysconf("SC_CLK_TCK")


class Served(NamedTuple):
    """A server, and its process."""

    address: tuple[str, int]
    process: int

    def seconds(self) -> tuple[float, float]:
        """Processor time so far: of its first process, and of all."""
        own = _seconds(self.process)
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text()
        return own, own + sum(map(_seconds, map(int, children.split())))


def main() -> None:
    options = parse()
    if options.serve is not None:
        settings = ServerSettings(port=0, rate=0, processes=options.serve)
        index = ServedIndex(options.index)
        run_server(index, settings, warm_up=False, tell=lambda url: print(url, flush=True))
        return
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        location = options.index or make_index(Path(name))
        servers = {n: stack.enter_context(served(location, n)) for n in (0, cores)}
        time.sleep(5)  # for the processes to be there
        rows = measure(servers, options)
    print(f"{cores} cores, {options.rounds} rounds of {options.seconds:g} s\n")
    print("| asked | processes | clients | searches/s | ms of the first process | ms of all |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            "| {asked} | {processes} | {clients} | {rate:.0f} | {own:.2f} | {all:.2f} |".format(
                **row
            )
        )
    if options.json:
        options.json.write_text(json.dumps({"cores": cores, "rows": rows}, indent=2) + "\n")


def make_index(folder: Path) -> str:
    location = str(folder / "photos.duckdb")
    with ImageIndex(location, model="efficientnet-lite0") as index:
        index.add(make_photos(folder / "photos"))
    return location


def measure(servers: dict[int, Served], options: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each path, server and number of clients: medians of the rounds."""
    found: dict[tuple[str, int, int], list[tuple[float, float, float]]] = {}
    for _ in range(options.rounds + 1):
        for asked, path in PATHS.items():
            for clients in CLIENTS:
                for processes, server in servers.items():
                    once = ask(server, path, clients, options.seconds)
                    found.setdefault((asked, processes, clients), []).append(once)
    rows = []
    for (asked, processes, clients), rounds in sorted(found.items()):
        rate, own, both = map(statistics.median, zip(*rounds[1:], strict=True))
        rows.append(
            {"asked": asked, "processes": processes, "clients": clients, "rate": rate,
             "own": own, "all": both}
        )  # fmt: skip
    return rows


def ask(server: Served, path: str, clients: int, seconds: float) -> tuple[float, float, float]:
    """Searches a second, and processor time of each in milliseconds."""
    counts: list[int] = []
    before, began = server.seconds(), time.perf_counter()
    until = began + seconds
    threads = [
        threading.Thread(target=client, args=(server, path, until, counts)) for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took, after = time.perf_counter() - began, server.seconds()
    own, both = (1000 * (b - a) / sum(counts) for a, b in zip(before, after, strict=True))
    return sum(counts) / took, own, both


def client(server: Served, path: str, until: float, counts: list[int]) -> None:
    """Ask for one word after the other on one connection, and note how many."""
    pick, count = random.Random(len(counts)), 0  # noqa: S311
    with socket.create_connection(server.address) as connection:
        while time.perf_counter() < until:
            head = f"GET {path}{pick.choice(WORDS)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
            connection.sendall(head.encode())
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += connection.recv(1 << 18)
            top, _, body = answer.partition(b"\r\n\r\n")
            if not top.startswith(b"HTTP/1.1 200"):
                sys.exit(f"error: {top[:200]!r}")
            left = int(re.findall(rb"(?i)content-length: (\d+)", top)[0]) - len(body)
            while left > 0:
                left -= len(connection.recv(1 << 18))
            count += 1
    counts.append(count)


@contextmanager
def served(location: str, processes: int) -> Iterator[Served]:
    command = [sys.executable, __file__, "--serve", str(processes), "--index", location]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        port = int(process.stdout.readline().rstrip("/\n").rpartition(":")[2])
        yield Served(("127.0.0.1", port), process.pid)
        process.terminate()


def _seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--index", help="an index instead of the demo's photos")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
