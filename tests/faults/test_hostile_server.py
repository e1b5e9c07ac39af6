"""A server that restarts, is overloaded, or refuses: waited for, or given up with a clear sentence.

Most faults are made by a proxy in front of the node. Whatever happens, the run or the next one ends
with what an undisturbed run gives: nothing lost, nothing twice.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import elasticsearch_node
import pytest
from elasticsearch import Elasticsearch

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ImgsearchError
from tests.faults.conftest import ALL, BROKEN, PICTURES, Start, content, finish, wait_for_pictures
from tests.faults.proxy import Answer, Cut, Fault, Proxy, Refusal, Request, Stall, proxy

pytestmark = pytest.mark.node
WAITS, GOES_ON = "waiting for up to", "Elasticsearch answers again, after"


@dataclass
class Scene:
    """A new index behind a proxy, and runs that fill it."""

    proxy: Proxy
    location: str
    folder: Path
    _start: Start
    undisturbed: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]

    def create(self) -> None:
        with ImageIndex(self.location, model="fake") as index:
            index.create()

    def start(self, *options: object) -> subprocess.Popen[str]:
        return self._start(self.location, self.folder, *options)

    def run(self, *options: object) -> tuple[dict[str, Any], str]:
        return finish(self.start(*options))

    def check_whole(self) -> None:
        """The index holds what an undisturbed run gives."""
        assert content(self.location) == self.undisturbed()


@pytest.fixture
def scene(
    elasticsearch_url: str,
    fresh_index_name: str,
    start: Start,
    folder: Path,
    undisturbed: Callable[[], Any],
) -> Iterator[Scene]:
    with proxy(elasticsearch_url) as (state, url):
        yield Scene(state, f"{url}/{fresh_index_name}", folder, start, undisturbed)


def first(*numbers: int, fault: Fault) -> Callable[[Request], Fault]:
    """The fault for the writes of these numbers."""
    return lambda request: fault if request.is_write and request.number in numbers else None


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return report["found"], report["added"], len(report["rejected"])


def one_sentence(child: subprocess.Popen[str]) -> str:
    """What a run says that fails: the last line is the only one that is no notice of waiting."""
    _, err = child.communicate(timeout=120)
    assert child.returncode == 1, err
    *notices, error = err.splitlines()
    assert all(WAITS in line or GOES_ON in line for line in notices), err
    return error


TOO_MANY = Answer(429, {"error": {"type": "es_rejected", "reason": "too many requests"}})
AWAY = Answer(503, {"error": {"type": "cluster_block", "reason": "state not recovered"}})


@pytest.mark.parametrize(
    "fault",
    [
        TOO_MANY,
        AWAY,
        Answer(502),
        Cut(applied=False),
        Cut(applied=True),
        Refusal(2, 429, "es_rejected_execution_exception"),
        Refusal(1, 503, "unavailable_shards_exception"),
    ],
    ids=str,
)
def test_a_write_that_meets_a_busy_server_is_sent_again(scene: Scene, fault: Fault) -> None:
    scene.proxy.fault = first(2, 4, fault=fault)
    report, said = scene.run()
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert WAITS in said
    assert GOES_ON in said
    scene.check_whole()


@pytest.mark.parametrize("fault", [TOO_MANY, Cut(applied=True)], ids=str)
def test_every_request_may_fail_once(scene: Scene, fault: Fault) -> None:
    scene.create()
    seen: set[bytes] = set()

    def once(request: Request) -> Fault:
        key = request.path.encode() + request.body
        if "/_" not in request.path or key in seen:
            return None  # opening the index is not part of a run
        seen.add(key)
        return fault

    child = scene.start("--pause", 0.05)
    wait_for_pictures(child, 1)
    scene.proxy.fault = once
    report, _ = finish(child)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert len(seen) > 8
    scene.proxy.fault = lambda request: None
    scene.check_whole()


def test_an_index_whose_shard_is_not_ready_yet(scene: Scene) -> None:
    scene.create()
    reason = {"error": {"type": "no_shard_available_action_exception", "reason": "all failed"}}
    left = iter([Answer(503, reason)] * 6)  # the client itself asks four times, without a pause
    scene.proxy.fault = lambda request: next(left, None) if "/_count" in request.path else None
    report, said = scene.run()
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert WAITS in said
    scene.check_whole()


def test_a_server_that_says_nothing(scene: Scene) -> None:
    scene.proxy.fault = first(2, fault=Stall(3))
    report, said = scene.run("--timeout", 1.0)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert "timed out" in said
    scene.check_whole()


@pytest.mark.long
def test_a_node_killed_and_restarted(scene: Scene) -> None:
    with elasticsearch_node.own_node("9", heap="512m") as running:
        scene.proxy.target = running.url
        child = scene.start("--pause", 0.05)
        wait_for_pictures(child, 40)
        running.restart()
        scene.proxy.target = running.url
        report, said = finish(child)
        assert counts(report) == (ALL, PICTURES, BROKEN)
        assert WAITS in said
        assert GOES_ON in said
        scene.check_whole()
        again, _ = scene.run()
        assert (again["unchanged"], again["as_before"]) == (PICTURES, BROKEN)


def test_a_disk_that_is_full_for_a_while(scene: Scene, elasticsearch_url: str) -> None:
    scene.create()
    with Elasticsearch(elasticsearch_url) as client:
        set_full(client, scene.name, True)
        child = scene.start()
        assert child.stderr is not None
        notice = child.stderr.readline()
        assert WAITS in notice
        assert "flood-stage watermark" in notice
        assert client.count(index=scene.name)["count"] == 0
        set_full(client, scene.name, False)
    report, _ = finish(child)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    scene.check_whole()


def set_full(client: Elasticsearch, name: str, is_full: bool) -> None:
    """Do to an index what the server does to all when its disk is full."""
    setting = {"index.blocks.read_only_allow_delete": is_full or None}
    client.indices.put_settings(index=name, settings=setting)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (AWAY, "status 503: state not recovered"),
        (Refusal(3, 429, "es_rejected_execution_exception"), "status 429: refused on the way"),
        (Cut(applied=True), "Remote end closed connection without response"),
    ],
    ids=str,
)
def test_a_server_that_does_not_come_back(scene: Scene, fault: Fault, reason: str) -> None:
    scene.proxy.fault = lambda request: fault if request.is_write and request.number > 2 else None
    error = one_sentence(scene.start("--patience", 2))
    assert f"does not answer for 2 seconds: {reason}. What was written is stored" in error
    scene.proxy.fault = lambda request: None
    report, _ = scene.run()
    assert report["found"] == ALL
    assert report["added"] + report["unchanged"] == PICTURES
    assert report["unchanged"] >= 24
    scene.check_whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_ends_at_once_on_a_signal(scene: Scene, number: signal.Signals) -> None:
    scene.proxy.fault = lambda request: AWAY if request.is_write and request.number > 2 else None
    child = scene.start()
    assert child.stderr is not None
    assert WAITS in child.stderr.readline()
    child.send_signal(number)
    _, err = child.communicate(timeout=20)  # and not the two minutes
    assert child.returncode == 1
    assert "does not answer: status 503" in err
    scene.proxy.fault = lambda request: None
    assert scene.run()[0]["found"] == ALL
    scene.check_whole()


@pytest.mark.parametrize(
    "fault", [Answer(400, {"error": {"type": "x", "reason": "bad"}}), Answer(401), Answer(413)]
)
def test_what_cannot_succeed_is_not_tried_again(scene: Scene, fault: Fault) -> None:
    scene.proxy.fault = lambda request: fault if request.is_write else None
    error = one_sentence(scene.start())
    assert scene.location in error or "refuses us (401)" in error
    bodies = [request.body for request in scene.proxy.requests if request.is_write]
    assert len(bodies) == len(set(bodies))


def test_one_document_refused(scene: Scene) -> None:
    picture = str(scene.folder / "1" / "1.png")
    report, said = scene.run("--refused", picture)
    assert counts(report) == (ALL, PICTURES - 1, BROKEN + 1)
    assert WAITS not in said
    (entry,) = (each for each in report["rejected"] if each["uri"] == picture)
    assert "a label may have 32,766 bytes" in entry["reason"]
    found = content(scene.location)
    assert found.keys() == scene.undisturbed().keys()
    again, _ = scene.run()
    assert (again["added"], again["unchanged"]) == (1, PICTURES - 1)
    scene.check_whole()


def test_an_index_deleted_under_us(scene: Scene, elasticsearch_url: str) -> None:
    child = scene.start("--pause", 0.05)
    wait_for_pictures(child, 60)
    with Elasticsearch(elasticsearch_url) as client:
        client.indices.delete(index=f"{scene.name}-000001")
    assert scene.location in one_sentence(child)
    report, _ = scene.run()
    assert report["found"] == ALL
    scene.check_whole()


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_disagree(scene: Scene, years: int) -> None:
    report, _ = scene.run("--clock", years)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    again, _ = scene.run()
    assert (again["unchanged"], again["as_before"]) == (PICTURES, BROKEN)
    scene.check_whole()


def test_a_search_does_not_wait(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        scene.proxy.fault = lambda request: AWAY
        began = time.monotonic()
        with pytest.raises(ImgsearchError, match="state not recovered"):
            index.search(text="dog")
        assert time.monotonic() - began < 20
