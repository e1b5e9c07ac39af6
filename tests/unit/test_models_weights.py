from __future__ import annotations

import hashlib
import tempfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from imgsearch_es.analysis.configuration import fingerprint
from imgsearch_es.analysis.models import applications
from imgsearch_es.analysis.models.applications import APPLICATIONS
from imgsearch_es.errors import WeightsError
from imgsearch_es.pictures.places import cache_folder
from tests.serving import answering

CONTENT = b"weights" * 1000
MD5 = "md5:" + hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        if self.path == "/silent.h5":
            self.server.release.wait(10)
            return
        if self.path == "/missing.h5":
            self.send_error(404)
            return
        self.send_response(200)
        extra = 5 if self.path == "/short.h5" else 0
        self.send_header("Content-Length", str(len(CONTENT) + extra))
        self.end_headers()
        self.wfile.write(CONTENT)


@pytest.fixture
def server():
    with answering(Handler) as http:
        http.requests, http.release = 0, threading.Event()
        yield http
        http.release.set()


@pytest.fixture
def publish(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(applications, "_BASE", f"http://127.0.0.1:{server.server_port}/")

    def published(name, checksum=MD5):
        return replace(APPLICATIONS["vgg16"], file=name, checksum=checksum)

    return published


def assert_nothing_left(tmp_path):
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_download_lands_where_keras_looks_and_happens_once(publish, server, tmp_path, capsys):
    for _ in range(2):
        path = publish("good.h5").fetch()
        assert path == tmp_path / "keras" / "models" / "good.h5"
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert list(path.parent.iterdir()) == [path]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "checksum", "reason"),
    [
        ("missing.h5", MD5, "404: Not Found"),
        ("short.h5", "", "ended after 7000 of 7005"),
        ("bad.h5", "md5:" + "0" * 32, "checksum"),
    ],
)
def test_a_failed_download_says_why_and_the_ways_out(publish, tmp_path, name, checksum, reason):
    with pytest.raises(WeightsError) as error:
        publish(name, checksum).fetch()
    for part in ("vgg16", name, reason, "--weights FILE", "--model efficientnet-lite0"):
        assert part in str(error.value)
    assert_nothing_left(tmp_path)


def test_a_silent_server_is_given_up(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(applications, "_TIMEOUT", 0.1)
    with pytest.raises(WeightsError, match="timed out"):
        publish("silent.h5").fetch()
    assert_nothing_left(tmp_path)


def test_no_network(publish, tmp_path, monkeypatch):
    monkeypatch.setattr(applications, "_BASE", "http://127.0.0.1:1/")
    with pytest.raises(WeightsError, match="Connection refused"):
        publish("x.h5").fetch()
    assert_nothing_left(tmp_path)


def test_half_a_file_left_by_someone_else_is_downloaded_again(publish, server):
    item = publish("good.h5")
    item.path.parent.mkdir(parents=True)
    item.path.write_bytes(CONTENT[:100])
    assert item.fetch().read_bytes() == CONTENT
    assert server.requests == 1


def test_fingerprints_follow_the_content(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"one")
    first = fingerprint(path, "vgg16")
    path.write_bytes(b"other")
    assert first == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert fingerprint(path, "vgg16") == "sha256:" + hashlib.sha256(b"other").hexdigest()
    path.unlink()
    with pytest.raises(WeightsError, match=r"weights\.h5 of vgg16: No such file"):
        fingerprint(path, "vgg16")


def test_the_cache_of_keras(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert APPLICATIONS["vgg16"].path == (
        tmp_path / ".keras/models/vgg16_weights_tf_dim_ordering_tf_kernels.h5"
    )


def test_a_user_without_a_home(tmp_path, monkeypatch):
    """As in a container, or under another number than any user's."""
    for name in ("HOME", "XDG_CACHE_HOME", "KERAS_HOME", "IMGSEARCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert APPLICATIONS["vgg16"].path.is_relative_to(tmp_path)
    assert cache_folder("runtimes") == Path("/.cache/imgsearch_es/runtimes")
