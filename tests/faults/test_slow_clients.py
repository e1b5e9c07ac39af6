"""Clients that send half a request: they get no room, and nobody else waits for them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from tests.conftest import ROOT
from tests.fakes import COMMAND

HALF = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{",
)
SLOW = 1300
FILES = 1024
"""That a process may open, by default, on most systems."""


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[tuple[int, str, Path]]:
    """The port of ``imgsearch serve``, a word to search for, and the server's log."""
    place, log = tmp_path / "index.duckdb", tmp_path / "log"
    with ImageIndex(place, model="fake") as index:
        index.add(folder)
        word = index.get(folder / "0" / "0.png").terms[0].key
    command = [*COMMAND, "serve", "-i", place, "--port=0"]
    with log.open("wb") as errors:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        child = subprocess.Popen(
            [*command, "--json", "--no-warm-up"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, most)),
        )
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        yield int(url.rstrip("/").rpartition(":")[2]), word, log
        child.terminate()
        assert child.wait(20) == 0
        child.stdout.close()


def search_seconds(port: int, word: str, until: Callable[[], bool]) -> list[float]:
    """How long searches take, each by a new connection, one after the other."""
    found = []
    while not until():
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/api/v1/search?text={word}")
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        connection.close()
        found.append(time.perf_counter() - began)
        time.sleep(0.05)
    return found


class Attack:
    """Keeps ``SLOW`` half-sent requests open: those that the server closes are made again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: list[socket.socket] = []
        self.made = 0

    def keep_up(self) -> None:
        """Look at some, and open what is missing."""
        kept = []
        for one in self._open:
            with contextlib.suppress(BlockingIOError):
                with contextlib.suppress(ConnectionError):
                    if one.recv(1000):
                        kept.append(one)
                        continue
                one.close()
                continue
            kept.append(one)
        self._open = kept
        while len(self._open) < SLOW:
            one = socket.socket()
            one.settimeout(1)
            one.bind(("127.0.0.2", 0))
            with contextlib.suppress(OSError):
                one.connect(("127.0.0.1", self._port))
                one.send(HALF[self.made % 2])
            one.setblocking(False)
            self._open.append(one)
            self.made += 1

    def close(self) -> None:
        for one in self._open:
            one.close()


def attack(port: int, seconds: float) -> None:
    attack, until = Attack(port), time.monotonic() + seconds
    while time.monotonic() < until:
        attack.keep_up()
        time.sleep(0.5)
    print(attack.made)
    attack.close()


@pytest.mark.long
def test_half_sent_requests_cost_others_nothing(server: tuple[int, str, Path]):
    port, word, log = server
    until = time.monotonic() + 10
    calm = search_seconds(port, word, lambda: time.monotonic() > until)
    seconds = float(os.environ.get("IMGSEARCH_TEST_ATTACK_SECONDS", "60"))
    command = f"from {__name__} import attack; attack({port}, {seconds})"
    with subprocess.Popen([sys.executable, "-c", command], cwd=ROOT) as attacker:
        time.sleep(2)
        during = search_seconds(port, word, lambda: attacker.poll() is not None)
    p95 = [float(np.percentile(found, 95)) for found in (calm, during)]
    print(f"p95 of {len(calm)} and {len(during)}: {p95}; log {log.stat().st_size} bytes")
    assert p95[1] < 2 * p95[0] + 0.05
    assert log.stat().st_size < 100_000
