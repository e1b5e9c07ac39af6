"""A server that restarts, is overloaded, or refuses: waited for, or given up with a clear sentence.

The node is one of our own; most faults are made by the proxy in front of it. Whatever happens, the
run or the next one ends with what an undisturbed run gives: nothing lost, nothing twice.
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import elasticsearch_node
import pytest
from elasticsearch import Elasticsearch

from imgsearch_es import ImageIndex
from tests.faults.conftest import ALL, BROKEN, PICTURES, Start, content, wait_for_pictures
from tests.faults.proxy import Answer, Cut, Fault, Proxy, Refusal, Request, Stall, proxy

pytestmark = pytest.mark.node
WAITS, GOES_ON = "waiting for up to", "Elasticsearch answers again, after"
Undisturbed = Callable[[], dict[str, Any]]


@pytest.fixture(scope="module")
def running() -> Iterator[elasticsearch_node.Running]:
    with elasticsearch_node.own_node("9", heap="512m") as node:
        yield node


@pytest.fixture
def between(running: elasticsearch_node.Running) -> Iterator[tuple[Proxy, str]]:
    """The proxy, and the location of a new index behind it."""
    with proxy(running.url) as (state, url):
        yield state, f"{url}/faults-{uuid.uuid4().hex[:12]}"


def first(*numbers: int, fault: Fault) -> Callable[[Request], Fault]:
    """The fault for the writes of these numbers."""
    return lambda request: fault if request.is_write and request.number in numbers else None


def finish(child: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The report of a run that ends well, and what it said."""
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


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
def test_a_write_that_meets_a_busy_server_is_sent_again(
    start: Start,
    between: tuple[Proxy, str],
    folder: Path,
    undisturbed: Undisturbed,
    fault: Fault,
) -> None:
    state, location = between
    state.fault = first(2, 4, fault=fault)
    report, said = finish(start(location, folder))
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert WAITS in said
    assert GOES_ON in said
    assert content(location) == undisturbed()


@pytest.mark.parametrize("fault", [TOO_MANY, Cut(applied=True)], ids=str)
def test_every_request_may_fail_once(
    start: Start,
    between: tuple[Proxy, str],
    folder: Path,
    undisturbed: Undisturbed,
    fault: Fault,
) -> None:
    state, location = between
    with ImageIndex(location, model="fake") as index:
        index.create()
    seen: set[bytes] = set()

    def once(request: Request) -> Fault:
        key = request.path.encode() + request.body
        if "/_" not in request.path or key in seen:
            return None  # opening the index is not part of a run
        seen.add(key)
        return fault

    child = start(location, folder, "--pause", 0.05)
    wait_for_pictures(child, 1)
    state.fault = once
    report, _ = finish(child)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert len(seen) > 8
    state.fault = lambda request: None
    assert content(location) == undisturbed()


def test_an_index_whose_shard_is_not_ready_yet(
    start: Start, between: tuple[Proxy, str], folder: Path, undisturbed: Undisturbed
) -> None:
    state, location = between
    with ImageIndex(location, model="fake") as index:
        index.create()
    reason = {"error": {"type": "no_shard_available_action_exception", "reason": "all failed"}}
    left = iter([Answer(503, reason)] * 6)  # the client itself asks four times, without a pause
    state.fault = lambda request: next(left, None) if "/_count" in request.path else None
    report, said = finish(start(location, folder))
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert WAITS in said
    assert content(location) == undisturbed()


def test_a_server_that_says_nothing(
    start: Start, between: tuple[Proxy, str], folder: Path, undisturbed: Undisturbed
) -> None:
    state, location = between
    state.fault = first(2, fault=Stall(3))
    report, said = finish(start(location, folder, "--timeout", 1.0))
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert "timed out" in said
    assert content(location) == undisturbed()


def test_a_node_killed_and_restarted(
    start: Start,
    between: tuple[Proxy, str],
    running: elasticsearch_node.Running,
    folder: Path,
    undisturbed: Undisturbed,
) -> None:
    state, location = between
    child = start(location, folder, "--pause", 0.05)
    wait_for_pictures(child, 40)
    running.restart()
    state.target = running.url
    report, said = finish(child)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert WAITS in said
    assert GOES_ON in said
    assert content(location) == undisturbed()
    again, _ = finish(start(location, folder))
    assert (again["unchanged"], again["as_before"]) == (PICTURES, BROKEN)


def test_a_disk_that_is_full_for_a_while(
    start: Start,
    between: tuple[Proxy, str],
    running: elasticsearch_node.Running,
    folder: Path,
    undisturbed: Undisturbed,
) -> None:
    _, location = between
    name = location.rpartition("/")[2]
    with ImageIndex(location, model="fake") as index:
        index.create()
    with Elasticsearch(running.url) as client:
        set_full(client, name, True)
        child = start(location, folder)
        assert child.stderr is not None
        notice = child.stderr.readline()
        assert WAITS in notice
        assert "flood-stage watermark" in notice
        assert client.count(index=name)["count"] == 0
        set_full(client, name, False)
    report, _ = finish(child)
    assert counts(report) == (ALL, PICTURES, BROKEN)
    assert content(location) == undisturbed()


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
def test_a_server_that_does_not_come_back(
    start: Start,
    between: tuple[Proxy, str],
    folder: Path,
    undisturbed: Undisturbed,
    fault: Fault,
    reason: str,
) -> None:
    state, location = between
    state.fault = lambda request: fault if request.is_write and request.number > 2 else None
    error = one_sentence(start(location, folder, "--patience", 2))
    assert f"does not answer for 2 seconds: {reason}. What was written is stored" in error
    state.fault = lambda request: None
    report, _ = finish(start(location, folder))
    assert report["found"] == ALL
    assert report["added"] + report["unchanged"] == PICTURES
    assert report["unchanged"] >= 24
    assert content(location) == undisturbed()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_ends_at_once_on_a_signal(
    start: Start,
    between: tuple[Proxy, str],
    folder: Path,
    undisturbed: Undisturbed,
    number: signal.Signals,
) -> None:
    state, location = between
    state.fault = lambda request: AWAY if request.is_write and request.number > 2 else None
    child = start(location, folder)
    assert child.stderr is not None
    assert WAITS in child.stderr.readline()
    child.send_signal(number)
    _, err = child.communicate(timeout=20)  # and not the two minutes
    assert child.returncode == 1
    assert "does not answer: status 503" in err
    state.fault = lambda request: None
    assert finish(start(location, folder))[0]["found"] == ALL
    assert content(location) == undisturbed()


@pytest.mark.parametrize(
    "fault", [Answer(400, {"error": {"type": "x", "reason": "bad"}}), Answer(401), Answer(413)]
)
def test_what_cannot_succeed_is_not_tried_again(
    start: Start, between: tuple[Proxy, str], folder: Path, fault: Fault
) -> None:
    state, location = between
    state.fault = lambda request: fault if request.is_write else None
    error = one_sentence(start(location, folder))
    assert location in error or "refuses us (401)" in error
    bodies = [request.body for request in state.requests if request.is_write]
    assert len(bodies) == len(set(bodies))


def test_one_document_refused(
    start: Start, between: tuple[Proxy, str], folder: Path, undisturbed: Undisturbed
) -> None:
    _, location = between
    picture = str(folder / "1" / "1.png")
    report, said = finish(start(location, folder, "--refused", picture))
    assert counts(report) == (ALL, PICTURES - 1, BROKEN + 1)
    assert WAITS not in said
    (entry,) = (each for each in report["rejected"] if each["uri"] == picture)
    assert "immense term" in entry["reason"]
    found = content(location)
    assert found.keys() == undisturbed().keys()
    again, _ = finish(start(location, folder))
    assert (again["added"], again["unchanged"]) == (1, PICTURES - 1)
    assert content(location) == undisturbed()


def test_an_index_deleted_under_us(
    start: Start,
    between: tuple[Proxy, str],
    running: elasticsearch_node.Running,
    folder: Path,
    undisturbed: Undisturbed,
) -> None:
    _, location = between
    child = start(location, folder, "--pause", 0.05)
    wait_for_pictures(child, 60)
    with Elasticsearch(running.url) as client:
        client.indices.delete(index=f"{location.rpartition('/')[2]}-000001")
    assert location in one_sentence(child)
    report, _ = finish(start(location, folder))
    assert report["found"] == ALL
    assert content(location) == undisturbed()


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_disagree(
    start: Start, between: tuple[Proxy, str], folder: Path, undisturbed: Undisturbed, years: int
) -> None:
    _, location = between
    report, _ = finish(start(location, folder, "--clock", years))
    assert counts(report) == (ALL, PICTURES, BROKEN)
    again, _ = finish(start(location, folder))
    assert (again["unchanged"], again["as_before"]) == (PICTURES, BROKEN)
    assert content(location) == undisturbed()


def test_a_search_does_not_wait(between: tuple[Proxy, str], folder: Path) -> None:
    state, location = between
    with ImageIndex(location, model="fake") as index:
        index.add(folder / "0")
        state.fault = lambda request: AWAY
        ended = threading.Event()
        timer = threading.Timer(20, ended.set)
        timer.start()
        with pytest.raises(Exception, match="state not recovered"):
            index.search("dog")
        timer.cancel()
        assert not ended.is_set()
