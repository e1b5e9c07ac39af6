"""The parts of the server by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.server
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from weakref import WeakValueDictionary

import anyio
import numpy as np
import pytest
from starlette.datastructures import QueryParams

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.models.base import Prediction
from imgsearch_es.errors import AnalyzerError, ImageError, QueryError
from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.interfaces.server.batching import (
    MAX_TOGETHER,
    BatchingModel,
    Searchers,
    ServedIndex,
)
from imgsearch_es.interfaces.server.connections import RateLimit, owner_of
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.interfaces.server.page import timeline
from imgsearch_es.interfaces.server.pictures import ThumbnailCache
from imgsearch_es.interfaces.server.services import Services
from imgsearch_es.interfaces.server.uploads import (
    WORKERS,
    Checker,
    UnknownPictureError,
    Uploads,
    fetch,
)
from imgsearch_es.interfaces.server.view import State, facet_groups, share_url
from imgsearch_es.pictures.addresses import is_public
from imgsearch_es.pictures.files import Limits, picture_id
from imgsearch_es.retrieval.queries import Query
from tests.conftest import PATIENCE, wait_for
from tests.fakes import COMMAND, FakeModel, noise
from tests.serving import Client, answering, json_of
from tests.unit.test_meanings import GERMAN

ROOT = Path(__file__).resolve().parents[2]


# -- the model's thread --


class SlowModel(FakeModel):
    """Waits in its first pass until others have come; refuses black pictures."""

    def __init__(self) -> None:
        super().__init__("slow")
        self.go = threading.Event()
        self.threads: set[int] = set()
        self.batches: list[int] = []

    def predict(self, pixels: np.ndarray) -> Prediction:
        self.threads.add(threading.get_ident())
        self.go.wait(2 * PATIENCE)
        if not pixels.any(axis=(1, 2, 3)).all():
            raise AnalyzerError("a black picture")
        self.batches.append(len(pixels))
        return super().predict(pixels)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (1, 8, 8, 3), dtype=np.uint8)


def ask_all(model: BatchingModel, slow: SlowModel, pictures: list[np.ndarray]) -> list[object]:
    """The answers to requests that all come while the first pass is under way."""

    def ask(pixels: np.ndarray) -> object:
        try:
            return model.predict(pixels)
        except AnalyzerError as error:
            return error

    with ThreadPoolExecutor(len(pictures)) as pool:
        first = pool.submit(ask, pictures[0])
        wait_for(lambda: slow.threads)
        rest = [pool.submit(ask, pixels) for pixels in pictures[1:]]
        wait_for(lambda: len(model._waiting) == len(pictures) - 1)
        slow.go.set()
        return [future.result() for future in (first, *rest)]


def test_requests_that_wait_are_answered_together_by_one_thread():
    slow, seen = SlowModel(), []
    model = BatchingModel(slow, seen.append)
    pictures = [picture(i) for i in range(40)]
    answers = ask_all(model, slow, pictures)
    assert slow.batches == seen == [1, MAX_TOGETHER, 39 - MAX_TOGETHER]
    assert len(slow.threads) == 1
    for pixels, answer in zip(pictures, answers, strict=True):
        assert isinstance(answer, Prediction)
        alone = FakeModel("fake").predict(pixels)
        np.testing.assert_array_equal(answer.posterior, alone.posterior)
        np.testing.assert_array_equal(answer.embedding, alone.embedding)
    model.close()


def test_a_bad_picture_fails_alone():
    slow = SlowModel()
    model = BatchingModel(slow)
    pictures = [picture(0), picture(1), np.zeros((1, 8, 8, 3), np.uint8), picture(3)]
    answers = ask_all(model, slow, pictures)
    assert [isinstance(answer, AnalyzerError) for answer in answers] == [False, False, True, False]
    model.close()


# -- rates --


def test_a_bucket_empties_and_fills():
    now = [0.0]
    limit = RateLimit(2, 3, lambda: now[0])
    assert [limit.wait_seconds("a", 1) for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait_seconds("b", 1) == 0
    now[0] = 0.5
    assert limit.wait_seconds("a", 1) == 0
    assert limit.wait_seconds("a", 1) == 0.5
    assert RateLimit(0, 1).wait_seconds("a", 1e9) == 0


def test_a_network_of_ipv6_is_one_client():
    assert owner_of("2001:db8::1") == owner_of("2001:db8::ffff:1") != owner_of("2001:db8:1::1")
    assert owner_of("::ffff:10.0.0.1") == owner_of("10.0.0.1")
    assert owner_of("testing") == "testing"


# -- thumbnails on disk --


def test_thumbnails_are_made_once_and_the_folder_stays_small(tmp_path):
    cache, made = ThumbnailCache(tmp_path / "cache", 1000), []

    def get(i: int) -> bool:
        def make() -> bytes:
            made.append(i)
            return bytes(298) + b"\xff\xd9"

        return cache.get(f"{i:064x}-240", make)[1]

    assert [get(1), get(1), get(2), get(3)] == [False, True, False, False]
    for i, age in ((1, 50), (2, 90), (3, 70)):
        path = tmp_path / "cache" / "00" / f"{i:064x}-240.jpg"
        os.utime(path, (time.time() - age,) * 2)
    assert not get(4)  # now 1,200 bytes: the longest unused go, down to 900
    assert made == [1, 2, 3, 4]
    assert [get(1), get(3), get(4), get(2)] == [True, True, True, False]
    assert (tmp_path / "cache").stat().st_mode & 0o077 == 0


def test_a_full_disk_costs_the_cache_and_not_the_thumbnail(tmp_path, monkeypatch, caplog):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkstemp", full)
    cache = ThumbnailCache(tmp_path, 1000)
    for _ in range(2):
        assert cache.get(f"{1:064x}-240", lambda: b"jpeg") == (b"jpeg", False)
    assert [record.args[1] for record in caplog.records] == [os.strerror(errno.ENOSPC)]


def test_what_is_no_thumbnail_is_made_again(tmp_path, caplog):
    key, jpeg = f"{1:064x}-240", b"jpeg\xff\xd9"
    cache = ThumbnailCache(tmp_path / "cache", 1000)
    path = tmp_path / "cache" / "00" / f"{key}.jpg"
    path.parent.mkdir(parents=True)
    path.touch()  # as a power cut leaves it
    assert cache.get(key, lambda: jpeg) == (jpeg, False)
    assert cache.get(key, bytes) == (jpeg, True)
    path.unlink()
    path.mkdir()
    assert cache.get(key, lambda: jpeg) == (jpeg, False)
    (tmp_path / "file").touch()
    assert ThumbnailCache(tmp_path / "file", 1000).get(key, lambda: jpeg) == (jpeg, False)
    assert len(caplog.records) == 2
    with pytest.raises(ValueError, match="not the key"):
        cache.get("../../etc/passwd", bytes)


# -- uploads --


def test_uploads_are_forgotten(cat, monkeypatch):
    checker = Checker(Limits())
    uploads = Uploads(checker)
    first = uploads.add(cat.read_bytes())
    assert uploads.get(first.id) == first
    monkeypatch.setattr("imgsearch_es.interfaces.server.uploads._TOTAL_BYTES", 10)  # whoever is new
    second = uploads.add(cat.read_bytes())
    assert second.id != first.id
    with pytest.raises(UnknownPictureError, match="no longer kept"):
        uploads.get(first.id)
    assert uploads.get(second.id) == second
    later = SimpleNamespace(monotonic=lambda: second.until + 1)  # not for event loops of others
    monkeypatch.setattr("imgsearch_es.interfaces.server.uploads.time", later)
    with pytest.raises(UnknownPictureError, match="no longer kept"):
        uploads.get(second.id)
    checker.close()


def test_one_client_s_pictures_are_looked_at_one_by_one_and_another_s_at_once():
    """However many one sends, and however long each takes."""
    services = SimpleNamespace(
        _turns=WeakValueDictionary(), _checks=ThreadPoolExecutor(WORKERS), _places=None
    )
    services.turn = partial(Services.turn, services)
    go, order = threading.Event(), []

    async def ask(host: str, number: int) -> None:
        async def read() -> bytes:
            order.append((host, number))
            return b""

        request = SimpleNamespace(client=SimpleNamespace(host=host))
        await Services.check(
            services, request, read, lambda data: host != "quick" and go.wait(PATIENCE)
        )

    async def ask_all() -> None:
        services._places = asyncio.Semaphore(WORKERS)
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(ask, f"2001:db8::{number}", number)  # of one network
            await anyio.sleep(0.05)
            await ask("quick", 0)
            assert order == [("2001:db8::0", 0), ("quick", 0)]
            go.set()

    with ThreadPoolExecutor(1) as thread:  # has no event loop yet, whatever ran in this one
        thread.submit(anyio.run, ask_all).result()
    assert len(order) == 5


# -- the web --


PRIVATE = (
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0",  # noqa: S104
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
    "fec0::1", "64:ff9b:1::808:808", "2001:0:7f00:1::", "2001:0:808:808::f7f7:f7f7",
    "::8.8.8.8", "::ffff:0:8.8.8.8",
    "2001:db8::1", "3fff::1", "5f00::1", "100::1", "2001:2::1", "2001:10::1", "2001:20::1",
    "0.1.2.3", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "240.0.0.1", "4000::1", "fdff::1", "febf::1",
)  # fmt: skip
PUBLIC = ("93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e")
ODD_URLS = (
    "file:///etc/passwd", "ftp://example.org/a", "http://", "http://u:p@example.org/",
    "http://example.org:22/", "http://example.org:99999/", "http://exa mple.org/\r\nX: y",
)  # fmt: skip


def test_private_addresses_are_not_public():
    assert [address for address in PRIVATE if is_public(address)] == []
    assert all(map(is_public, PUBLIC))


@pytest.mark.parametrize("url", ["http://8.8.8.8:443/", "https://8.8.8.8:80/"])
def test_a_port_of_another_scheme_is_not_fetched_from(url):
    with pytest.raises(ImageError, match="only port 80 of http"):
        fetch(url, Limits(max_seconds=PATIENCE))


@pytest.mark.parametrize("url", ODD_URLS)
def test_odd_urls_are_not_fetched(url):
    with pytest.raises(ImageError):
        fetch(url, Limits(max_seconds=PATIENCE))


def test_a_name_of_a_private_address_is_not_fetched(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("8.8.8.8", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(ImageError, match="not on the public internet"):
        fetch("http://rebinding.example/", Limits(max_seconds=PATIENCE))


class Web(http.server.BaseHTTPRequestHandler):
    """A picture, a redirect to it, one to a private address, one to itself, and a large file."""

    hosts: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Web.hosts.append(self.headers["Host"])
        places = {"/moved": "/picture", "/inside": "http://10.0.0.1/", "/round": "/round"}
        places["/nowhere"] = "http://[::1/"
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
            return
        if self.path in ("/slow-head", "/slow-body"):
            self.trickle(b"HTTP/1.0 200 OK\r\n" + b"\r\n" * (self.path == "/slow-body"))
            return
        self.send_response(200 if self.path != "/missing" else 404)
        if self.path == "/cut":
            self.send_header("Content-Length", "11")
        self.end_headers()
        self.wfile.write(b"x" * (100_000 if self.path == "/large" else 10))

    def trickle(self, begin: bytes) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(begin)
            for _ in range(300):
                time.sleep(0.1)
                self.wfile.write(b"x")


@pytest.fixture
def web(monkeypatch) -> Iterator[str]:
    """A web server under a public name, for the code that is tested."""
    resolve, connect, public = socket.getaddrinfo, socket.create_connection, is_public
    asked: list[str] = []

    def getaddrinfo(host: str, *rest: object, **more: object) -> object:
        asked.append(host)
        assert asked.count("pictures.example") <= 5
        name = "93.184.215.14" if host == "pictures.example" else host
        return resolve(name, *rest, **more)  # type: ignore[arg-type]

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        assert address == ("93.184.215.14", 80)  # the address that was checked, not the name
        return connect(("127.0.0.1", server.server_port), timeout)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    assert public("93.184.215.14")
    Web.hosts = []
    with answering(Web) as server:
        yield "http://pictures.example"


def test_a_picture_is_fetched_from_the_address_that_was_checked(web):
    limits = Limits(max_bytes=1000, max_seconds=PATIENCE)
    assert fetch(f"{web}/picture", limits) == b"x" * 10
    assert fetch(f"{web}/moved", limits) == b"x" * 10
    assert set(Web.hosts) == {"pictures.example"}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/inside", "not on the public internet"),
        ("/round", "more than 3 redirects"),
        ("/large", "larger than the limit"),
        ("/missing", "answers 404"),
        ("/nowhere", "redirects to what is no URL"),
        ("/cut", "was cut off"),
    ],
)
def test_what_the_web_must_not_do(web, path, reason):
    with pytest.raises(ImageError, match=reason):
        fetch(web + path, Limits(max_bytes=1000, max_seconds=PATIENCE))


@pytest.mark.parametrize("slow", ["/slow-head", "/slow-body", "name server"])
def test_all_of_a_fetch_has_one_deadline(web, slow, monkeypatch):
    if slow == "name server":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(30) or [])
    began = time.monotonic()
    with pytest.raises(ImageError, match="in time"):
        fetch(f"{web}/{slow.strip('/')}".replace(" ", "-"), Limits(max_seconds=0.4))
    assert time.monotonic() - began < 15  # half of what it would take


# -- the state in the URL --


def complain(parts: Services, given: object) -> None:
    log.warning("all the same")
    raise RuntimeError


@pytest.mark.slow
def test_another_process_answers_and_where_none_can_the_server_does(
    start, word, cat, monkeypatch, tmp_path, capfd
):
    lexicon = tmp_path / "de.xml"
    lexicon.write_text(GERMAN)

    def answers(client: Client) -> list[bytes]:
        found = json_of(client.get(f"/api/v1/search?text={word} Hund"))
        page = client.get(f"/results?q={word}&image={picture_id(str(cat))}").data
        assert found["left_out"] == []
        return [str(found["hits"]).encode(), re.sub(rb"\d+ ms", b"", page)]

    with start(lexicon) as alone:
        expected = answers(alone)
    with start(lexicon, processes=1) as client:
        searchers = client.services.searchers
        wait_for(lambda: searchers.processes)
        for process in searchers.processes:  # Ctrl-C while it starts
            os.kill(process.pid, signal.SIGINT)
        wait_for(lambda: searchers.is_ready)
        refuse = mock.Mock(side_effect=QueryError("not here"))
        with monkeypatch.context() as patched:
            patched.setattr(client.services.searching, "query", refuse)
            assert answers(client) == expected
        refuse.assert_not_called()
        assert client.get("/results?q=qqqq").status == 400  # said by the server itself
        assert searchers.submit(complain, None).result() is None
        assert "all the same" not in capfd.readouterr().err  # as the server says it, a few times
        for process in searchers.processes:
            process.kill()
            process.join()
        assert answers(client) == expected
        monkeypatch.setattr("imgsearch_es.interfaces.server.batching.AGAIN_SECONDS", 0.1)
        (starting,) = searchers.processes
        starting.kill()  # before it is there
        starting.join()
        while not searchers.is_ready:
            assert answers(client) == expected
            time.sleep(0.05)
        assert searchers.processes[0].pid != starting.pid
        assert answers(client) == expected


def test_when_the_processes_that_search_are_closed_their_thread_has_ended(place):
    """Else Python, which ends then, now and then prints a traceback of the two that end."""
    searchers = Searchers(Services, ServedIndex(place), ServerSettings(processes=1))
    searchers.start()
    thread = searchers._pool._executor_manager_thread
    searchers.close()
    assert not thread.is_alive()


def test_a_url_is_the_state_and_back():
    state = State(
        "dog -poodle", ("a" * 32,), ("b" * 32,), ("c" * 32,), "0,0,0.5,1", ("label=x",), "bm25", 3
    )
    url = state.url(page=3, region=state.region)
    assert State.from_params(QueryParams(url.partition("?")[2])) == state
    assert State().url() == "/"
    other = State("dog", page=7).url(q="cat")  # begins at its first page
    assert State.from_params(QueryParams(other[2:])) == State("cat")
    many = "&".join(f"where=label={i}" for i in range(65))
    for wrong in ("region=1", "region=a,b,c,d", "page=0", "page=401", "page=x", many):
        with pytest.raises(QueryError):
            State.from_params(QueryParams(wrong))


def test_weights_that_no_words_can_have_are_not_shared():
    def shared(*weights: float) -> str | None:
        terms = tuple(Term(f"n0208412{i}", weight) for i, weight in enumerate(weights))
        return share_url(Query(terms), State(image=(f"upload-{'a' * 22}",)))

    assert shared(0.5, 2e-6) is not None
    assert shared(0.5, 9e-7) is None


def test_choices_become_conditions():
    state = State(where=("label=a=b", "label=c", "width=256-511", "bytes=<16 KB"))
    assert state.conditions() == {
        "label": ["a=b", "c"], "width": ["256..511"], "bytes": ["..16383"],
    }  # fmt: skip
    assert "width=" not in State(where=("width=256-511",)).with_choice("width", "256-511")
    for wrong in (("width=3",), ("secret=1",), ("within=1,2,3,4", "within=5,6,7,8")):
        with pytest.raises(QueryError):
            State(where=wrong).conditions()


def test_a_value_that_looks_like_a_range_is_chosen_alone(index, photos):
    for name, value in (("cat.0", "1..3"), ("cat.1", "2")):
        index.update(photos / "cats" / f"{name}.png", metadata={"v": value})
    where = State(where=("metadata.v=1..3",)).conditions()
    counted = index.facets(None, ["metadata.v"], where=where)["metadata.v"]
    assert counted == [{"value": "1..3", "count": 1}]


def test_ranges_of_a_facet_are_alternatives(index):
    index.add([noise(1, 255), noise(2, 256), noise(3, 511), noise(4, 512)])
    small, medium = "width=<256", "width=256-511"
    wheres = [State(where=one).conditions() for one in ((small,), (medium,), (small, medium))]
    counts = [index.facets(None, ["width"], where=where)["width"] for where in wheres]
    assert counts[2] == counts[0] + counts[1]
    assert counts[1] == [{"value": "256-511", "count": 2}]


def test_a_chosen_value_keeps_its_spelling():
    counted = {"camera": [{"value": "NIKON D70", "count": 14}, {"value": "X100", "count": 1}]}
    state = State(where=("camera=nikon d70",))
    (group,) = facet_groups(counted, state)
    assert group == (
        "camera",
        [{"value": "nikon d70", "count": 14}, {"value": "X100", "count": 1}],
        {"nikon d70"},
    )


def test_a_label_that_looks_like_a_time_is_a_choice():
    counted = {"label": [{"value": "2019-05", "count": 3}], "year": [{"value": "2019", "count": 3}]}
    state = State(where=("label=2019-05", "year=2019-05"))
    assert facet_groups(counted, state) == [("label", counted["label"], {"2019-05"})]


# -- the command --


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_and_ends_in_good_order(place, number):
    with subprocess.Popen(
        [*COMMAND, "serve", "-i", str(place), "--port", "0", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        line = server.stdout.readline()
        assert '"url": "http://127.0.0.1:' in line
        with socket.create_connection(
            ("127.0.0.1", int(line.split(":")[3].split("/")[0])), PATIENCE
        ) as one:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert one.recv(15) == b"HTTP/1.1 200 OK"
        server.send_signal(number)
        assert server.wait(PATIENCE) == 0
        assert server.stderr.read() == ""


@pytest.mark.parametrize(
    ("months", "where", "bars", "first", "condition"),
    [
        (("2019-05", "2021-04"), "", 36, "January 2019", "year=2019-05"),
        (("2010-05", "2019-04"), "", 10, "2010", "year=2010"),
        (("1850-05", "2019-04"), "", 17, "1850–1859", "year=1850..1859"),
        (("0001-01", "9999-12"), "", 100, "0001–0099", "year=0001..0099"),
        (("0001-01", "9999-12"), "year=0001..0099", 99, "0001", "year=0001"),
        (("1850-05", "2019-04"), "year=2010..2019", 10, "2010", "year=2019"),
        (("2010-05", "2019-04"), "year=2019-04", 12, "January 2019", "year=2019-04"),
    ],
)
def test_a_timeline_is_as_coarse_as_it_must_be(months, where, bars, first, condition):
    state = State(where=(where,) if where else ())
    shown = timeline([{"value": month, "count": 2} for month in months], state)
    all_bars = [bar for _, some in shown for bar in some]
    assert (len(all_bars), all_bars[0].name) == (bars, first)
    urls = [bar.url for bar in all_bars if bar.count]
    is_chosen = condition == where
    assert ("/" if is_chosen else State(where=(condition,)).url()) in urls
    assert State(where=(condition,)).conditions() == {"year": [condition[5:]]}
    assert sum(bar.count for bar in all_bars) == (4 if not where else 2)
