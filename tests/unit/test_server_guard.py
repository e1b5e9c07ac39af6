"""What the server refuses. Each test fails when its defense is taken away."""

from __future__ import annotations

import contextlib
import hmac
import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest
from PIL import Image

from imgsearch_es.errors import ConfigurationError, QueryError, ServerError
from imgsearch_es.interfaces.server import connections, guard
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.interfaces.server.schemas import What
from imgsearch_es.pictures.files import Limits, picture_id
from imgsearch_es.retrieval.queries import Query
from tests.conftest import PATIENCE, wait_for
from tests.serving import BEARER, TOKEN, Client, json_of

SMALL = Limits(max_pixels=10_000, max_bytes=50_000, max_seconds=PATIENCE)


# -- who gets in --


def test_other_addresses_than_loopback_need_a_good_token():
    for host in ("0.0.0.0", "192.168.1.7", "::", "example.org"):  # noqa: S104
        with pytest.raises(ConfigurationError, match="IMGSEARCH_TOKEN"):
            ServerSettings(host=host)
        assert not ServerSettings(host=host, token=TOKEN).readable_without_token
    line_end = f"{TOKEN}\n"  # as of a file that is read as it is; no header could carry it
    for token in ("short", "with a space in it, and long", "ünïcode-token-long", line_end):
        with pytest.raises(ConfigurationError, match="a token has at least"):
            ServerSettings(token=token)


def test_the_token_is_never_shown(start, caplog):
    caplog.set_level(logging.DEBUG)
    assert TOKEN not in repr(ServerSettings(token=TOKEN))
    with start(token=TOKEN) as client:
        for path in ("/", "/api/v1/stats", "/results?q=tabbi", "/openapi.json", "/metrics"):
            assert TOKEN.encode() not in client.get(path, headers=BEARER).data
    assert TOKEN not in caplog.text


def test_elsewhere_reading_needs_the_token_too(start, cat):
    name = picture_id(str(cat))
    with start(host="0.0.0.0", token=TOKEN) as client:  # noqa: S104
        for path in (
            "/results", f"/why?picture={name}", "/api/v1/search?text=dog", "/api/v1/stats",
            f"/thumbnails/{name}/240", f"/api/v1/documents/{name}/picture", "/metrics",
            "/openapi.json",
        ):  # fmt: skip
            assert client.get(path).status == 401, path
            assert client.get(path, headers={"Authorization": f"Basic {TOKEN}"}).status == 401
            assert client.get(path, headers=BEARER).status in (200, 400), path
        page = client.get("/?q=dog")
        assert page.status == 200
        assert b"thumbnails" not in page.data
        assert json_of(client.get("/health")) == {"status": "ok"}
        assert json_of(client.get("/health", headers=BEARER))["pictures"] == 12


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []

    def compare(given: bytes, wanted: bytes) -> bool:
        compared.append((given, wanted))
        return given == wanted

    monkeypatch.setattr(hmac, "compare_digest", compare)
    settings = ServerSettings(token=TOKEN)
    assert settings.carries_token({"authorization": f"Bearer {TOKEN}"})
    assert not settings.carries_token({"authorization": "Bearer x"})
    assert not settings.carries_token({})
    assert [given for given, _ in compared] == [TOKEN.encode(), b"x", b""]


def test_foreign_names_are_refused(start):
    with start(host_names=("pictures.example",)) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            problem = json_of(client.get("/health", headers={"Host": host}), 400)
            assert problem["error"]["kind"] == "UnknownHost"
        for host in ("localhost", "LOCALHOST:1", "[::1]:8000", "10.1.2.3", "pictures.example"):
            assert client.get("/health", headers={"Host": host}).status == 200


def test_requests_of_other_web_pages_are_refused(client, cat):
    own = client.url
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": own},
    ):
        client.headers = headers
        problem = json_of(client.upload("/api/v1/uploads", cat), 403)
        assert problem["error"]["kind"] == "ForeignOrigin"
    client.headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    assert client.upload("/api/v1/uploads", cat).status == 201
    answer = client.get("/api/v1/stats", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


def test_too_many_requests_have_to_wait(start):
    with start(rate=0.001, burst=3) as client:
        answers = [client.get("/health") for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_only_named_proxies_say_for_whom_they_ask(start):
    def statuses(client: Client, *names: str) -> list[int]:
        ask = [{**BEARER, "X-Forwarded-For": name} for name in names]
        return [client.get("/health", headers=headers).status for headers in ask]

    with start(rate=0.001, burst=2, proxies=("127.0.0.0/8",), token=TOKEN) as client:
        people = ("192.0.2.1", "192.0.2.1", "6.6.6.6, 192.0.2.1", "192.0.2.2", "192.0.2.1")
        assert statuses(client, *people) == [200, 200, 429, 200, 429]
        assert statuses(client, "192.0.2.3:5", "192.0.2.3:6", "192.0.2.3:7") == [200, 200, 429]
        assert statuses(client, "no address", '"::1"', "x" * 50_000) == [200, 200, 429]
        assert client.get("/api/v1/stats").status == 401
    with start(rate=0.001, burst=2, token=TOKEN, proxies=("192.0.2.9",)) as client:
        assert statuses(client, "192.0.2.1", "192.0.2.2", "192.0.2.3") == [200, 200, 429]
    assert "::ffff:10.0.0.0/104" in ServerSettings(token=TOKEN, proxies=("10.0.0.0/8",)).believed
    for wrong, why in (({"proxies": ("proxy",)}, "a proxy is"), ({"proxies": ("::1",)}, "a token")):
        with pytest.raises(ConfigurationError, match=why):
            ServerSettings(**wrong)  # type: ignore[arg-type]


# -- what is served --


def test_paths_are_no_names(client, photos):
    Image.new("RGB", (30, 20), "red").save(photos / "secret.png")  # beside the indexed ones
    secret = picture_id(str(photos / "secret.png"))
    dotted = ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/secret.png", "/etc/passwd")
    for name in (secret, *dotted, "0" * 31):
        assert client.get(f"/thumbnails/{name}/240").status == 404, name
        assert client.get(f"/api/v1/documents/{name}/picture").status == 404, name
    for name in (*dotted, "0" * 31):
        assert client.get(f"/static/{name}").status == 404, name
        assert client.post("/api/v1/search", {"image": [name]}).status == 422, name
        assert client.get(f"/?image={name}").status in (400, 404), name


def test_a_file_that_was_replaced_is_not_served(client, photos):
    cached, new = (photos / name for name in ("dogs/dog.1.png", "dogs/dog.2.png"))
    assert client.get(f"/thumbnails/{picture_id(str(cached))}/240").status == 200
    for dog in (cached, new):
        Image.new("RGB", (2, 2), "red").save(dog)
        problem = json_of(client.get(f"/thumbnails/{picture_id(str(dog))}/240"), 422)
        assert problem["error"]["message"].endswith(": has changed since it was indexed")
        assert str(dog.parent) not in problem["error"]["message"]


@pytest.mark.parametrize("with_roots", [True, False])
def test_links_out_of_the_roots_are_refused(start, photos, cat, tmp_path, with_roots):
    elsewhere = tmp_path / "elsewhere.png"
    cat.rename(elsewhere)
    cat.symlink_to(elsewhere)  # the very bytes that were indexed, so that only the place is wrong
    path = f"/thumbnails/{picture_id(str(cat))}/240"
    with start(roots=(photos,) if with_roots else ()) as client:
        problem = json_of(client.get(path), 422)
        assert "outside the folders that are served: start" in problem["error"]["message"]
        cat.unlink()
        cat.symlink_to(cat.name)  # in circles
        problem = json_of(client.get(path), 422)
        assert problem["error"]["message"].startswith(f"{cat.name}: cannot be opened")


def test_a_name_that_no_file_of_this_locale_has_is_only_not_shown():
    code = """
from pathlib import Path
from unittest import mock
from imgsearch_es.errors import ImageError
from imgsearch_es.interfaces.server.pictures import Pictures
found = Pictures(None, None, None, None, (Path("/"),))
try:
    found.read(mock.Mock(uri="/\\xfc\\U0001f600.png", filename="odd", bytes=1))
except ImageError as error:
    assert "cannot be opened" in error.reason, error
else:
    raise SystemExit("it was read")
"""
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_limits_are_numbers():
    for name in ("rate", "request_seconds"):
        for value in (-1.0, float("nan")):
            with pytest.raises(ConfigurationError, match=f"{name} must be"):
                ServerSettings(**{name: value})  # type: ignore[arg-type]


def test_folders_that_are_links_out_of_the_roots_are_refused(start, photos, cat, tmp_path):
    (photos / "cats").rename(tmp_path / "cats")
    (photos / "cats").symlink_to(tmp_path / "cats")
    with start(roots=(photos, tmp_path / "cats")) as client:
        assert client.get(f"/thumbnails/{picture_id(str(cat))}/240").status == 200
    with start(roots=(photos,)) as client:  # its thumbnail is in the cache
        assert client.get(f"/thumbnails/{picture_id(str(cat))}/240").status == 422


# -- how much is taken --


def test_large_uploads_are_refused_by_their_length_and_as_they_come(start, caplog):
    with start(upload_limits=SMALL) as client:
        data = b"x" * 200_000
        assert json_of(client.upload("/api/v1/uploads", data), 413)["error"]["kind"] == "TooLarge"
        assert json_of(client.post("/api/v1/search", {"text": "x" * 2_100_000}), 413)

        connection = http.client.HTTPConnection(*client.address)
        connection.putrequest("POST", "/api/v1/uploads")
        connection.putheader("Content-Type", "multipart/form-data; boundary=b")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        head = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="p"\r\n\r\n'
        connection.send(b"%x\r\n%s\r\n" % (len(head), head))
        for _ in range(3):  # 150,000 bytes without an end
            connection.send(b"%x\r\n%s\r\n" % (50_000, data[:50_000]))
        answer = connection.getresponse()
        assert (answer.status, b"TooLarge" in answer.read()) == (413, True)
        connection.close()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("path", "limits", "status"), [("uploads", SMALL, 413), ("documents", Limits(), 403)]
)
def test_who_still_sends_what_nobody_reads_hears_why(start, path, limits, status):
    """As nginx does by default, which answers 502 where the connection is closed before."""
    with start(token=TOKEN, upload_limits=limits) as client, socket.socket() as old:
        old.settimeout(PATIENCE)
        old.connect(client.address)
        old.sendall(
            f"POST /api/v1/{path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            f"Authorization: {BEARER['Authorization']}\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
        )
        old.sendall(bytes(9_000_000))
        assert f" {status} ".encode() in old.recv(100)


def test_who_waits_to_be_asked_for_a_body_hears_at_once_that_it_is_refused(start):
    with start(upload_limits=SMALL) as client, socket.socket() as polite:
        polite.settimeout(PATIENCE)
        polite.connect(client.address)
        polite.sendall(
            b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
            b"Connection: close\r\nExpect: 100-continue\r\n\r\n"
        )
        assert b" 413 " in polite.recv(100)


def test_a_body_of_two_lengths_ends_the_connection(client):
    """What follows it may be what a proxy took for the body."""
    with (
        socket.create_connection(client.address, timeout=PATIENCE) as both,
        both.makefile("rb") as read,
    ):
        both.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 56\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        answers = read.read()
    assert (answers.count(b"HTTP/1.1 "), answers[:12]) == (1, b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("head", "options", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: evil.example", {}, b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example", {}, b"403"),
        (b"GET /health HTTP/1.1\r\nHost: localhost", {"rate": 0.001, "burst": 1}, b"429"),
    ],
)
def test_many_requests_sent_at_once_end_with_the_first_that_is_refused_for_nothing(
    start, head, options, status
):
    with (
        start(**options) as client,
        socket.create_connection(client.address, timeout=PATIENCE) as flood,
        flood.makefile("rb") as read,
    ):
        flood.sendall(50 * (head + b"\r\n\r\n"))
        answers = re.findall(rb"HTTP/1\.1 (\d+)", read.read())
    assert answers == [b"200", status][-len(answers) :]


def test_who_sends_too_much_hears_why_although_the_connection_ends(start):
    with start(rate=0.001, burst=1) as client:
        assert client.get("/health").status == 200
        assert client.upload("/api/v1/uploads", bytes(9_000_000)).status == 429


def test_bodies_that_are_on_their_way_have_room_for_others(start, monkeypatch, word):
    monkeypatch.setattr(connections, "_BODIES_BYTES", 0)  # then one of the largest for each client
    made: list[connections.Bodies] = []

    def bodies(largest: int) -> connections.Bodies:
        made.append(connections.Bodies(largest))
        return made[-1]

    monkeypatch.setattr(guard, "Bodies", bodies)
    with start(upload_limits=SMALL) as client, socket.socket() as slow:
        slow.connect(client.address)
        slow.sendall(
            b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 115000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            b'Content-Disposition: form-data; name="picture"; filename="p"\r\n\r\n' + b"x" * 110_000
        )
        wait_for(lambda: made[0]._held.total() > 110_000)
        data = b"x" * 100_000
        wait_for(lambda: client.upload("/api/v1/uploads", data).status == 503)
        assert client.get(f"/api/v1/search?text={word}").status == 200
        slow.close()
        wait_for(lambda: client.upload("/api/v1/uploads", data).status == 422)


def test_an_upload_that_is_broken_off_is_no_mistake_of_ours(start, caplog):
    with start() as client:
        with socket.socket() as leaving:
            leaving.connect(client.address)
            leaving.sendall(
                b"POST /api/v1/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
        counted = b'route="/api/v1/uploads",status="400"'
        wait_for(lambda: counted in client.get("/metrics").data)
    assert caplog.text == ""


def test_pictures_of_too_many_pixels_are_refused(start, tmp_path):
    bomb = tmp_path / "bomb.png"
    Image.new("1", (4000, 4000)).save(bomb)
    assert bomb.stat().st_size < SMALL.max_bytes
    with start(upload_limits=SMALL) as client:
        problem = json_of(client.upload("/api/v1/uploads", bomb), 422)
        assert "over the limit of 10,000" in problem["error"]["message"]


def test_answers_that_take_too_long_are_given_up_and_have_no_more_threads(start, monkeypatch):
    release = threading.Event()
    hanging = mock.Mock(side_effect=lambda: release.wait(2 * PATIENCE))
    with start(request_seconds=0.2, threads=2) as client:
        monkeypatch.setattr(client.services.index, "stats", hanging)
        began = time.perf_counter()
        asked = 0
        while asked < 5 or hanging.call_count < 2:  # one may be given up before a thread has it
            assert json_of(client.get("/api/v1/stats"), 504)["error"]["kind"] == "TooSlow"
            asked += 1
        assert time.perf_counter() - began < PATIENCE
        release.set()
        wait_for(lambda: client.get("/health").status == 200)
        assert hanging.call_count == 2


def test_a_change_may_take_long_and_others_wait_until_its_thread_ends(start, cat, monkeypatch):
    release = threading.Event()
    path = f"/api/v1/documents/{picture_id(str(cat))}"
    with start(request_seconds=0.2, token=TOKEN) as client:
        client.headers = dict(BEARER)
        removing = mock.Mock(side_effect=lambda name: release.wait(0.6) or 1)
        monkeypatch.setattr(client.services.index, "remove", removing)
        assert json_of(client("DELETE", path)) == {"removed": 1}
        monkeypatch.setattr(guard, "_CHANGING_SECONDS", 0.2)
        removing.side_effect = lambda name: release.wait(2 * PATIENCE)
        assert json_of(client("DELETE", path), 504)["error"]["kind"] == "TooSlow"
        while removing.call_count < 2:  # it may have been given up before its thread began
            client("DELETE", path)
        monkeypatch.setattr(guard, "_CHANGING_SECONDS", PATIENCE)
        assert json_of(client("DELETE", path), 409)["error"]["kind"] == "Busy"
        release.set()
        wait_for(lambda: client("DELETE", path).status == 200)


def test_a_change_that_takes_too_long_is_said_to_go_on(start, cat, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(guard, "_CHANGING_SECONDS", 0.3)
    with start(token=TOKEN) as client:
        client.headers = dict(BEARER)
        monkeypatch.setattr(
            client.services.index, "label", lambda *_, **__: release.wait(2 * PATIENCE)
        )
        body = {"pictures": [picture_id(str(cat))], "add": ["x"]}
        said = json_of(client.post("/api/v1/documents/label", body), 504)["error"]["message"]
        assert said == "the answer took longer than 0.3 seconds; the change goes on"
        release.set()


def test_a_change_that_the_index_did_not_answer_may_be_made(start, cat, monkeypatch):
    with start(token=TOKEN) as client:
        client.headers = dict(BEARER)
        lost = mock.Mock(side_effect=ServerError("no answer"))
        monkeypatch.setattr(client.services.index, "label", lost)
        body = {"pictures": [picture_id(str(cat))], "add": ["x"]}
        said = json_of(client.post("/api/v1/documents/label", body), 503)["error"]
        assert said["kind"] == "ServerError"
        assert said["message"].endswith(". The change may be made, or a part of it: make it again")


HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); input()"


def test_who_reads_what_is_written_is_told_in_time_and_who_changes_it_waits(
    start, place, cat, client
):
    paths = ("/", "/results", "/results?q=dog", "/health")
    for path in paths:  # what pages are made of is read, which takes no time of theirs then
        client.get(path)
    given = [sys.executable, "-c", HOLD, str(place)]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"\n"  # before the server looks at the index
        with start(request_seconds=6, token=TOKEN) as late, ThreadPoolExecutor() as threads:
            path = f"/api/v1/documents/{picture_id(str(cat))}"
            removed = threads.submit(late, "DELETE", path, headers=BEARER)
            pages = list(threads.map(late.get, paths))
            time.sleep(0.7)
            other.stdin.close()
            assert json_of(removed.result()) == {"removed": 1}
    assert [one.status for one in pages] == [503] * 4
    assert all(b"The index is being written" in one.data for one in pages[:3])


def test_a_client_s_pictures_are_opened_for_one_request_at_a_time(start, monkeypatch, word, photos):
    ids = [picture_id(str(path)) for path in photos.rglob("*.png")]
    asked = {"image": ids[:8], "views": ["mirror"], "k": 1}
    opened, release = [], threading.Event()
    with start(threads=2) as client, ThreadPoolExecutor(4) as crowd:
        searching = client.services.searching
        query = searching.query

        def slow(what: What, *page: int) -> Query:
            if what.views:
                opened.append(what)
                assert release.wait(2 * PATIENCE)
            return query(what, *page)

        monkeypatch.setattr(searching, "query", slow)
        answers = [crowd.submit(client.post, "/api/v1/search", asked) for _ in range(4)]
        try:
            wait_for(lambda: bool(opened))
            for path in ("/health", f"/api/v1/search?text={word}", "/results"):
                assert client.get(path).status == 200
            assert len(opened) == 1
        finally:
            release.set()
        assert [one.result().status for one in answers] == [200] * 4
        more = json_of(client.post("/api/v1/search", asked | {"image": ids[:9]}), 422)
        assert more["error"]["message"] == "views and a region are of at most 8 pictures"
        sent = client.upload(
            "/api/v1/search/upload", next(photos.rglob("*.png")), query=json.dumps(asked)
        )
        assert sent.status == 400


def test_who_still_waits_when_the_server_is_stopped_is_told(start, monkeypatch, word, caplog):
    monkeypatch.setattr("imgsearch_es.interfaces.server.app._GRACE_SECONDS", 0.2)
    begun, release = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as crowd:
        with start() as client:

            def slow(*given: object) -> Query:
                begun.set()
                assert release.wait(2 * PATIENCE)
                raise QueryError("too late")

            monkeypatch.setattr(client.services.searching, "query", slow)
            waiting = crowd.submit(client.get, f"/api/v1/search?text={word}")
            assert begun.wait(PATIENCE)
        release.set()
        assert json_of(waiting.result(), 503)["error"]["kind"] == "Stopped"
    assert "Traceback" not in caplog.text


def test_a_body_that_never_comes_is_given_up(start):
    with (
        start(request_seconds=0.3) as client,
        socket.create_connection(client.address, PATIENCE) as slow,
    ):
        slow.sendall(
            b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 504")


HALF = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"POST /api/v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
)


def test_half_sent_requests_make_room_for_others(start, monkeypatch, word, caplog):
    monkeypatch.setattr(connections, "MOST", 40)
    wait = connections.BoundedProtocol._wait

    def briefly(connection: connections.BoundedProtocol) -> None:
        with pytest.MonkeyPatch.context() as patch:  # of those that were not answered yet
            patch.setattr(connections, "HEAD_SECONDS", PATIENCE if connection.is_between else 1)
            wait(connection)

    monkeypatch.setattr(connections.BoundedProtocol, "_wait", briefly)
    with start() as client:
        assert client.get("/health").status == 200  # its connection is kept, between two requests
        slow = [socket.create_connection(client.address, PATIENCE) for _ in range(60)]
        for number, one in enumerate(slow):
            with contextlib.suppress(ConnectionError):
                one.sendall(HALF[number % 2])
            if number % 20 == 0:
                assert client.get(f"/api/v1/search?text={word}").status == 200
        assert client._pool.connection_from_url(client.url).num_connections == 1
        assert "too many connections" in caplog.text
        for one in slow[::2]:  # those without a head are all closed by and by
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        for one in slow:
            one.close()


def test_an_answer_that_nobody_takes_is_given_up(start, monkeypatch):
    given_up, waited = threading.Event(), connections.BoundedProtocol._waited

    def noticed(connection: connections.BoundedProtocol) -> None:
        waited(connection)
        if connection.transport.is_closing():
            given_up.set()

    monkeypatch.setattr(connections.BoundedProtocol, "_waited", noticed)

    def text() -> bytes:  # and not before: so long one may take to ask
        monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
        return b"x" * 20_000_000

    with start() as client, socket.socket() as slow:
        monkeypatch.setattr(client.services.metrics, "text", text)
        slow.settimeout(PATIENCE)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(client.address)
        slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert given_up.wait(PATIENCE)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while block := slow.recv(1 << 20):
                taken += len(block)
        assert taken < 20_000_000


def test_originals_that_nobody_takes_have_so_much_memory(start, monkeypatch, tmp_path):
    monkeypatch.setattr(connections, "_BODIES_BYTES", 30_000_000)
    large = tmp_path / "large.bmp"
    Image.effect_noise((2600, 2600), 50).convert("RGB").save(large)
    with start() as client, socket.socket() as slow:
        client.services.index.add([large])
        path = f"/api/v1/documents/{picture_id(str(large))}/picture"
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(client.address)
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: client.services.answers._held.total() > 0)
        assert json_of(client.get(path), 503)["error"]["kind"] == "Busy"
        slow.close()
        wait_for(lambda: client.services.answers._held.total() == 0)
        found = client.get(path)
        assert found.data == large.read_bytes()
        assert found.headers["content-length"] == str(large.stat().st_size)
        assert found.headers["content-type"] == "image/bmp"
        assert client("HEAD", path).headers["content-length"] == found.headers["content-length"]
        wait_for(lambda: client.services.answers._held.total() == 0)


def test_many_log_lines_of_a_kind_are_counted_not_written():
    logger, lines = logging.Logger("any"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    now = [0.0]
    logger.addFilter(connections.few_lines(clock=lambda: now[0]))
    for number in range(1000):
        logger.warning("no request: %d", number)
    now[0] = 10.0
    logger.warning("no request: %d", 1000)
    assert len(lines) == 21
    assert lines[-1] == "no request: 1000 (and 980 times more since the last such line)"


def test_urls_are_not_fetched_unless_allowed(start, client):
    asked = {"url": "http://127.0.0.1/picture.png"}
    problem = json_of(client.post("/api/v1/uploads/url", asked), 403)
    assert problem["error"]["kind"] == "UrlsNotAllowed"
    with start(allow_urls=True) as allowing:
        problem = json_of(allowing.post("/api/v1/uploads/url", asked), 422)
        assert "not on the public internet" in problem["error"]["message"]


def test_one_client_s_urls_are_fetched_one_by_one(start, cat, monkeypatch):
    begun, release = [], threading.Event()

    def slow(url: str, limits: Limits) -> bytes:
        begun.append(url)
        assert release.wait(2 * PATIENCE)
        return cat.read_bytes()

    monkeypatch.setattr("imgsearch_es.interfaces.server.services.fetch", slow)
    with start(allow_urls=True) as client, ThreadPoolExecutor(9) as crowd:
        asked = {"url": "http://pictures.example/"}
        answers = [crowd.submit(client.post, "/api/v1/uploads/url", asked) for _ in range(9)]
        wait_for(lambda: bool(begun) and client.services.metrics.in_progress._value.get() == 9)
        assert len(begun) == 1
        release.set()
        assert [one.result().status for one in answers] == [201] * 9


# -- what answers say --


def test_every_answer_has_the_headers(client, cat):
    paths = ("/", "/health", "/static/page.js", f"/thumbnails/{picture_id(str(cat))}/240", "/none")
    for path in paths:
        headers = client.get(path).headers
        for name, value in guard.SECURITY_HEADERS.items():
            assert headers[name] == value, (path, name)
    refused = client.get("/", headers={"Host": "evil.example"})
    assert "unsafe" not in refused.headers["content-security-policy"]
    assert "server" not in refused.headers


def test_head_says_what_get_would(client, cat):
    picture = f"/thumbnails/{picture_id(str(cat))}/240"
    for path in ("/", "/results?q=cat", picture, "/api/v1/stats", "/static/page.css", "/nothing"):
        said, got = client("HEAD", path), client.get(path)
        assert (said.status, said.data) == (got.status, b"")
        assert said.headers["content-type"] == got.headers["content-type"]


def test_another_method_is_told_which_there_are(client):
    answer = client("OPTIONS", "/api/v1/suggest")
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_errors_are_pages_for_people_and_json_for_programs(client, start, cat):
    browser = {"Accept": "text/html,application/xhtml+xml"}
    for path, status in (
        ("/nothing", 404), (f"/thumbnails/{picture_id(str(cat))}/241", 404),
        ("/why?picture=none", 404),
        ("/api/v1/suggest", 422), ("/?page=0", 400), ("/api/v1/documents/none", 404),
    ):  # fmt: skip
        shown = client.get(path, headers=browser)
        assert (shown.status, shown.data[:15]) == (status, b"<!doctype html>"), path
        assert b"Start again" in shown.data
    for path in ("/nothing", "/why?picture=none"):
        assert json_of(client.get(path), 404)["error"]["message"]
    with start(host="0.0.0.0", token=TOKEN) as locked:  # noqa: S104
        refused = locked.get("/results", headers=browser)  # at the door
        assert (refused.status, refused.data[:15]) == (401, b"<!doctype html>")


def test_the_page_needs_nothing_that_its_policy_forbids(client, word):
    page = client.get(f"/?q={word}").data.decode()
    assert "style=" not in page
    assert "<style" not in page
    assert " onclick" not in page
    assert page.count("<script") == page.count('<script src="/static/') + page.count(
        '<script type="module" src="/static/'
    )
    assert "http://" not in page.replace(client.url, "")
    page = client.get("/?q=%3Cscript%3Ealert(1)%3C/script%3E").data.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_our_mistakes_are_not_explained_to_others(client, monkeypatch):
    broken = mock.Mock(side_effect=RuntimeError("secret detail"))
    monkeypatch.setattr(client.services.index, "stats", broken)
    answer = client.get("/api/v1/stats")
    assert answer.status == 500
    assert b"secret detail" not in answer.data
    assert b"Traceback" not in answer.data
    assert b"server's log" in answer.data


# -- starting --


def test_what_cannot_be_served_is_a_clear_error(run, place, tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("serve", "-i", place, "--port", port, code=1)
    assert f"port {port} of 127.0.0.1 is in use" in result.output
    monkeypatch.delenv("IMGSEARCH_TOKEN", raising=False)
    assert "there is no index" in run("serve", "-i", tmp_path / "no.duckdb", code=1).output
    result = run("serve", "-i", place, "--host", "0.0.0.0", code=1)  # noqa: S104
    assert "a token is needed" in result.output
    result = run("serve", "-i", place, "--root", tmp_path / "nowhere", code=1)
    assert "there is no folder" in result.output
