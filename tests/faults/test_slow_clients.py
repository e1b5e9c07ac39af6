"""Clients that send half a request: they get no room, and nobody else waits for them."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

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


def searches(port: int, word: str, until: Callable[[], bool]) -> int:
    """How many are answered, each by a new connection, one after the other."""
    found = 0
    while not until():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", f"/api/v1/search?text={word}")
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        connection.close()
        found += 1
        time.sleep(0.05)
    return found


def is_open(one: socket.socket) -> bool:
    """Whether the server has not closed it."""
    try:
        return bool(one.recv(1000))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def attack(port: int, seconds: float) -> None:
    """Keep ``SLOW`` half-sent requests open: those that the server closes are made again."""
    kept: list[socket.socket] = []
    made, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for one in [one for one in kept if not is_open(one)]:
            kept.remove(one)
            one.close()
        while len(kept) < SLOW:
            one = socket.socket()
            one.settimeout(1)
            one.bind(("127.0.0.2", 0))
            with contextlib.suppress(OSError):
                one.connect(("127.0.0.1", port))
                one.send(HALF[made % 2])
            one.setblocking(False)
            kept.append(one)
            made += 1
        time.sleep(0.5)


@pytest.mark.long
def test_half_sent_requests_cost_others_nothing(server: tuple[int, str, Path]):
    port, word, log = server
    calm = time.monotonic() + 10
    alone = searches(port, word, lambda: time.monotonic() > calm)
    command = f"from {__name__} import attack; attack({port}, 60)"
    with subprocess.Popen([sys.executable, "-c", command], cwd=ROOT) as attacker:
        beside = searches(port, word, lambda: attacker.poll() is not None)
    assert beside > alone  # in six times the time
    assert log.stat().st_size < 100_000
