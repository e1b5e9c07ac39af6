"""A server that restarts, is overloaded, or refuses: waited for, or given up with a clear sentence.

Most faults are made by a proxy in front of the node. Whatever happens, the run or the next one ends
with what an undisturbed run gives: nothing lost, nothing twice.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import elasticsearch_node
import pytest
from elasticsearch import Elasticsearch

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ImgsearchError
from imgsearch_es.indexing import IndexReport, run
from imgsearch_es.stores.base import ANSWER_SECONDS
from imgsearch_es.stores.elastic import waiting
from tests.conftest import PATIENCE
from tests.faults.conftest import ALL, BROKEN, PICTURES, Start, content, finish, wait_for_pictures
from tests.faults.indexer import BATCH, WRITE
from tests.faults.proxy import Answer, Cut, Fault, Proxy, Refusal, Request, Stall, proxy

pytestmark = pytest.mark.node
WAITS, GOES_ON = "waiting for up to", "Elasticsearch answers again, after"


@dataclass
class Scene:
    """A new index behind a proxy, and runs that fill it: here, or in a process of its own."""

    proxy: Proxy
    location: str
    folder: Path
    undisturbed: Callable[[], dict[str, Any]]

    @property
    def name(self) -> str:
        return self.location.rpartition("/")[2]

    def create(self) -> None:
        with ImageIndex(self.location, model="fake") as index:
            index.create()

    def run(self, timeout: float = 30.0, **options: Any) -> IndexReport:
        with ImageIndex(self.location, model="fake", timeout=timeout) as index:
            return index.add(self.folder, batch_size=BATCH, **options)

    def run_whole(self, **options: Any) -> None:
        """Run, to the end that an undisturbed run comes to."""
        report = self.run(**options)
        found = report.found, report.added, len(report.rejected)
        assert found == (ALL, PICTURES, BROKEN)
        self.check_whole()

    def check_whole(self) -> None:
        """The index holds what an undisturbed run gives."""
        self.proxy.fault = lambda request: None
        assert content(self.location) == self.undisturbed()


@pytest.fixture
def scene(
    elasticsearch_url: str,
    fresh_index_name: str,
    folder: Path,
    undisturbed: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scene]:
    monkeypatch.setattr(run, "WRITE_SIZE", WRITE)
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "PAUSE_SECONDS", 0.5)
    with proxy(elasticsearch_url) as (state, url):
        yield Scene(state, f"{url}/{fresh_index_name}", folder, undisturbed)


def first(*numbers: int, fault: Fault) -> Callable[[Request], Fault]:
    """The fault for the writes of these numbers."""
    return lambda request: fault if request.is_write and request.number in numbers else None


def at_picture(number: int, do: Callable[[], object]) -> Callable[..., None]:
    """A progress that does something when so many pictures are done."""
    pictures = itertools.count(1)

    def progress(*_: object) -> None:
        if next(pictures) == number:
            do()

    return progress


TOO_MANY = Answer(429, {"error": {"type": "es_rejected", "reason": "too many requests"}})
DENIED = Answer(403, {"error": {"type": "security_exception", "reason": "action [x] is no"}})
AWAY = Answer(503, {"error": {"type": "cluster_block", "reason": "state not recovered"}})


@pytest.mark.parametrize(
    "fault",
    [
        TOO_MANY,
        AWAY,
        Answer(502),
        Cut(applied=False),
        Cut(applied=True),
        Answer(200, {"hits": "log in"}),
        Answer(200, b'{"items":[', "Elasticsearch"),
        Refusal(2, 429, "es_rejected_execution_exception"),
        Refusal(1, 503, "unavailable_shards_exception"),
    ],
    ids=str,
)
def test_a_write_that_meets_a_busy_server_is_sent_again(scene: Scene, fault: Fault, caplog) -> None:
    scene.proxy.fault = first(2, 4, fault=fault)
    scene.run_whole()
    assert WAITS in caplog.text
    assert GOES_ON in caplog.text


def each(fault: Fault, seen: Counter[bytes], times: int = 1) -> Callable[[Request], Fault]:
    """This fault for each request when it first comes, but those that open the index."""

    def at_first(request: Request) -> Fault:
        key = request.path.encode() + request.body
        seen[key] += "/_" in request.path
        return fault if 0 < seen[key] <= times else None

    return at_first


@pytest.mark.parametrize("fault", [TOO_MANY, Cut(applied=True)], ids=str)
def test_every_request_may_fail_once(scene: Scene, fault: Fault) -> None:
    scene.create()
    seen = Counter[bytes]()

    def begin() -> None:
        scene.proxy.fault = each(fault, seen)

    scene.run_whole(progress=at_picture(1, begin))
    assert len(+seen) > 8


def test_every_request_of_an_import_and_of_a_rebuild_may_fail_once(scene: Scene, tmp_path) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        index.export(tmp_path / "all.jsonl")
        for run in (
            lambda: index.import_(tmp_path / "all.jsonl").updated,
            lambda: index.reindex(query_terms=5).copied,
        ):
            seen = Counter[bytes]()
            scene.proxy.fault = each(TOO_MANY, seen, 5)  # the client tries again by itself, thrice
            assert run() == 30
            assert len(+seen) > 4
            scene.proxy.fault = lambda request: None


def test_an_index_whose_shard_is_not_ready_yet(scene: Scene, caplog) -> None:
    scene.create()
    reason = {"error": {"type": "no_shard_available_action_exception", "reason": "all failed"}}
    left = iter([Answer(503, reason)] * 6)  # the client itself asks four times, without a pause
    scene.proxy.fault = lambda request: next(left, None) if "/_search" in request.path else None
    scene.run_whole()
    assert WAITS in caplog.text


def test_a_server_that_says_nothing(scene: Scene, caplog) -> None:
    scene.create()  # which may take long, and is not tried again
    scene.proxy.fault = first(2, fault=Stall(PATIENCE))
    scene.run_whole(timeout=3.0)
    assert "timed out" in caplog.text


@pytest.mark.long
def test_a_node_killed_and_restarted(scene: Scene, start: Start) -> None:
    with elasticsearch_node.own_node("9", heap="512m") as running:
        scene.proxy.target = running.url
        child = start(scene.location, scene.folder, "--pause", 0.05)
        wait_for_pictures(child, 40)
        running.restart()
        scene.proxy.target = running.url
        report, said = finish(child)
        assert (report["found"], report["added"]) == (ALL, PICTURES)
        assert WAITS in said
        assert GOES_ON in said
        scene.check_whole()
        again = scene.run()
        assert (again.unchanged, again.as_before) == (PICTURES, BROKEN)


def test_a_disk_that_is_full_for_a_while(scene: Scene, elasticsearch_url: str, caplog) -> None:
    scene.create()
    counted: list[int] = []
    with Elasticsearch(elasticsearch_url) as client:

        def full(is_full: bool) -> None:
            """Do to an index what the server does to all when its disk is full."""
            setting = {"index.blocks.read_only_allow_delete": is_full or None}
            client.indices.put_settings(index=scene.name, settings=setting)

        def tidy_up(request: Request) -> Fault:
            if request.is_write and request.number == 2:
                counted.append(client.count(index=scene.name)["count"])
                full(False)
            return None

        full(True)
        scene.proxy.fault = tidy_up
        scene.run_whole()
    assert counted == [0]
    assert WAITS in caplog.text
    assert "flood-stage watermark" in caplog.text


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (AWAY, "status 503: state not recovered"),
        (Refusal(3, 429, "es_rejected_execution_exception"), "status 429: refused on the way"),
        (Cut(applied=True), "Remote end closed connection without response"),
    ],
    ids=str,
)
def test_a_server_that_does_not_come_back(scene: Scene, fault, reason, monkeypatch) -> None:
    scene.proxy.fault = lambda request: fault if request.is_write and request.number > 2 else None
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "LONGEST_SECONDS", 2)
        with pytest.raises(ImgsearchError) as raised:
            scene.run()
    said = f"does not answer for 2 seconds: {reason}. What was written is stored"
    assert said in str(raised.value)
    scene.proxy.fault = lambda request: None
    report = scene.run()
    assert (report.found, report.added + report.unchanged) == (ALL, PICTURES)
    assert report.unchanged >= WRITE
    scene.check_whole()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_ends_at_once_on_a_signal(scene: Scene, start: Start, number) -> None:
    scene.proxy.fault = lambda request: AWAY if request.is_write and request.number > 2 else None
    child = start(scene.location, scene.folder)
    assert child.stderr is not None
    assert WAITS in child.stderr.readline()
    child.send_signal(number)
    _, err = child.communicate(timeout=PATIENCE)  # and not the two minutes
    assert child.returncode == 1
    *notices, error = err.splitlines()
    assert all(WAITS in line or GOES_ON in line for line in notices), err
    assert "does not answer: status 503" in error
    scene.proxy.fault = lambda request: None
    assert scene.run().found == ALL
    scene.check_whole()


@pytest.mark.parametrize(
    "fault", [Answer(400, {"error": {"type": "x", "reason": "bad"}}), Answer(401), Answer(413)]
)
def test_what_cannot_succeed_is_not_tried_again(scene: Scene, fault: Fault) -> None:
    scene.proxy.fault = lambda request: fault if request.is_write else None
    with pytest.raises(ImgsearchError) as raised:
        scene.run()
    assert scene.location in str(raised.value) or "refuses us (401)" in str(raised.value)
    bodies = [request.body for request in scene.proxy.requests if request.is_write]
    assert len(bodies) == len(set(bodies))


LOST = Answer(404, {"error": {"type": "search_context_missing_exception", "reason": "gone"}})


def test_what_was_done_is_counted_though_the_answer_was_lost(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        ids = [document.id for document in index]
        for do in (lambda: index.label([*ids, "none"], add=["new"]), lambda: index.remove(ids)):
            cut = iter([Cut(applied=True)])
            scene.proxy.fault = lambda request, cut=cut: (
                next(cut, None) if request.is_write else None
            )
            assert do() == len(ids) == 30


def test_a_server_that_goes_away_while_documents_are_changed(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        ids = [document.id for document in index]
        scene.proxy.fault = lambda request: (
            Cut(applied=False) if b"seq_no_primary_term" in request.body else None
        )
        with pytest.raises(ImgsearchError, match="cannot reach"):
            index.label(ids, add=["new"])


def test_an_index_that_is_blocked_for_writing(
    scene: Scene, elasticsearch_url: str, monkeypatch
) -> None:
    """Whoever rebuilds it blocks it for a moment; else nothing is rejected, and nothing ignored."""
    monkeypatch.setattr(waiting, "_BLOCKED_SECONDS", 1)
    with ImageIndex(scene.location, model="fake") as index, Elasticsearch(elasticsearch_url) as es:
        index.add(scene.folder / "0")
        es.indices.put_settings(index=scene.name, settings={"index.blocks.write": True})
        (key, *_) = (document.id for document in index)
        for change in (
            lambda: index.add(scene.folder / "1"),
            lambda: index.label([key], add=["new"]),
            lambda: index.remove([key]),
        ):
            with pytest.raises(ImgsearchError, match=r"can be written to .*: .* blocked by"):
                change()
        assert (index.count(), index.rejected()) == (30, [])
        monkeypatch.setattr(waiting, "_BLOCKED_SECONDS", 5)

        writes = itertools.count()

        def lift(request: Request) -> None:
            if request.is_write and next(writes) == 1:
                es.indices.put_settings(index=scene.name, settings={"index.blocks.write": None})

        scene.proxy.fault = lift
        assert index.add(scene.folder / "1").added == 30


def test_an_alias_that_is_moved_though_the_answer_was_lost(
    scene: Scene, elasticsearch_url: str
) -> None:
    with ImageIndex(scene.location, model="fake") as index, Elasticsearch(elasticsearch_url) as es:
        index.add(scene.folder / "0")
        cut = iter([Cut(applied=True), Cut(applied=True)])
        moves = ("/_aliases", f"/{scene.name}-000001")  # the alias, and the old index's end
        scene.proxy.fault = lambda request: (
            next(cut, None) if request.method != "GET" and request.path in moves else None
        )
        assert index.reindex(query_terms=5).copied == 30
        assert index.count() == 30
        assert [*es.indices.get(index=f"{scene.name}*")] == [f"{scene.name}-000002"]


@pytest.mark.parametrize("fault", [AWAY, DENIED], ids=str)
def test_an_old_index_that_cannot_be_deleted(scene: Scene, fault, monkeypatch, caplog) -> None:
    monkeypatch.setattr(waiting, "LONGEST_SECONDS", 0.5)
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        old = "DELETE", f"/{scene.name}-000001"
        scene.proxy.fault = lambda request: (
            fault if (request.method, request.path.partition("?")[0]) == old else None
        )
        assert index.reindex(query_terms=5).copied == 30
        assert f"delete {scene.name}-000001, which could not be: " in caplog.text
        assert index.count() == 30
        assert index.add(scene.folder / "1").added == 30


def test_a_block_that_a_rebuild_left_is_taken_off(scene: Scene, monkeypatch) -> None:
    """As one that is killed leaves it; one that lives begins anew, and nothing is lost."""
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        scene.proxy.requests.clear()
        scene.proxy.fault = lambda request: (
            AWAY if any(each.path == "/_aliases" for each in scene.proxy.requests) else None
        )
        with monkeypatch.context() as patch:
            patch.setattr(waiting, "LONGEST_SECONDS", 0.5)
            with pytest.raises(ImgsearchError, match="does not answer"):
                index.reindex(query_terms=5)
        scene.proxy.fault = lambda request: None
        monkeypatch.setattr(waiting, "_BLOCKED_SECONDS", 1)
        assert index.add(scene.folder / "1").added == 30

        def write(request: Request) -> None:
            if request.path == "/_aliases" and next(moves) == 0:
                with ImageIndex(scene.location, model="fake") as other:
                    other.add(scene.folder / "2")

        moves = itertools.count()
        scene.proxy.fault = write
        assert index.reindex(query_terms=5).documents == 90
        assert index.count() == 90
        assert index.add(scene.folder / "3").added == 30


def test_an_index_that_was_made_though_the_answer_was_lost(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        for number, do in enumerate((index.create, lambda: index.reindex(query_terms=5)), 1):
            cut = iter([Cut(applied=True)])
            path = f"/{scene.name}-{number:06}"
            scene.proxy.fault = lambda request, cut=cut, path=path: (
                next(cut, None) if (request.method, request.path) == ("PUT", path) else None
            )
            do()
            assert next(cut, None) is None
        with pytest.raises(ImgsearchError, match="exists already"):
            index.create()
        assert index.add(scene.folder / "0").added == 30


def test_what_the_server_forgot_is_not_taken_for_nothing_or_for_harm(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add([scene.folder / "0", *scene.folder.glob("broken*")])
        assert len(index.rejected()) == BROKEN
        scene.proxy.fault = lambda request: LOST if "/_search/scroll" in request.path else None
        with pytest.raises(ImgsearchError, match="gone"):
            index.rejected()
        scene.proxy.fault = lambda request: LOST if request.path.startswith("/_search?") else None
        with pytest.raises(ImgsearchError, match="search again"):
            index.verify()


def test_no_read_takes_a_part_for_the_whole(scene: Scene) -> None:
    """As the server gives it by default where a shard is away; of a scroll the client tells."""
    with ImageIndex(scene.location, model="fake") as index:
        index.add([scene.folder / "0", *scene.folder.glob("broken*")])
        scene.proxy.requests.clear()
        index.verify()
        index.store.below("/")
        index.store.matching(index.query("dog"))
        assert (index.count(), index.stats()["documents"], len(index.rejected())) == (30, 30, 3)
    paths = [request.path for request in scene.proxy.requests]
    asked = [
        path for path in paths if "/_count" in path or "/_search?" in path or path == "_search"
    ]
    assert len(asked) > 10
    assert not [path for path in asked if "allow_partial_search_results=false" not in path]


def test_no_read_takes_the_answer_of_another_or_half_a_one(scene: Scene) -> None:
    others = (Answer(200, {"hits": "log in"}), "cannot reach .*: something else answers in its")
    halves = (Answer(200, b'{"hits":["secret', "Elasticsearch"), "its answer is cut off$")
    nothing = (Answer(200, b"", "Elasticsearch"), "its answer is cut off$")
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        for fault, said in (others, halves, nothing):
            for read in (index.count, lambda: index.search("dog"), index.verify, index.rejected):
                scene.proxy.fault = lambda request, fault=fault: fault
                with pytest.raises(ImgsearchError, match=said):
                    read()


def test_closing_an_index_ends_all_waiting(scene: Scene) -> None:
    scene.run()
    with ThreadPoolExecutor() as pool, ImageIndex(scene.location, model="fake") as index:
        ids = [document.id for document in index]
        waits = threading.Event()
        scene.proxy.fault = lambda request: waits.set() or AWAY if request.is_write else None
        labeling = pool.submit(index.label, ids, add=["new"])
        assert waits.wait(PATIENCE)
        index.close()
        with pytest.raises(ImgsearchError, match="does not answer"):
            labeling.result(timeout=PATIENCE)


def test_one_document_refused(scene: Scene, caplog) -> None:
    """Its label is too long for a keyword, which no server takes."""
    picture = str(scene.folder / "1" / "1.png")
    report = scene.run(labels=lambda uri: ["x" * 40_000] if uri == picture else [])
    assert (report.found, report.added) == (ALL, PICTURES - 1)
    assert WAITS not in caplog.text
    (entry,) = (each for each in report.rejected if each.uri == picture)
    assert "a label may have 32,766 bytes" in entry.reason
    assert content(scene.location).keys() == scene.undisturbed().keys()
    again = scene.run()
    assert (again.added, again.unchanged) == (1, PICTURES - 1)
    scene.check_whole()


@pytest.mark.parametrize("limit", [30_000, 100])
def test_a_proxy_that_takes_no_large_requests(scene: Scene, limit: int) -> None:
    """As many do by default, of more than a megabyte."""
    scene.proxy.fault = lambda request: (
        Answer(413) if request.is_write and len(request.body) > limit else None
    )
    if limit > 1000:
        scene.run_whole()
        assert sum(len(each.body) > limit for each in scene.proxy.requests if each.is_write)
        return
    with pytest.raises(ImgsearchError, match=r"larger than the server takes .*: status 413"):
        scene.run()
    assert len([each for each in scene.proxy.requests if each.is_write]) < 30


def test_what_is_not_allowed_or_closed_is_said_at_once(
    scene: Scene, elasticsearch_url: str
) -> None:
    with ImageIndex(scene.location, model="fake") as index, Elasticsearch(elasticsearch_url) as es:
        scene.proxy.fault = lambda request: DENIED if scene.name in request.path else None
        for ask in (index.count, index.rejected):
            with pytest.raises(ImgsearchError, match=r"action \[x\] is no"):
                ask()
        scene.proxy.fault = lambda request: (
            Refusal(1, 403, "security_exception") if request.is_write else None
        )
        with pytest.raises(ImgsearchError, match="nothing can be written: refused on the way"):
            index.add(scene.folder)
        scene.proxy.fault = lambda request: None
        assert [entry.reason for entry in index.rejected() if "refused" in entry.reason] == []
        index.add(scene.folder)
        es.indices.close(index=f"{scene.name}-rejected")
        began = time.monotonic()
        for do in (lambda: index.add(scene.folder), index.retry, index.rejected):
            with pytest.raises(ImgsearchError, match="closed"):
                do()
        assert time.monotonic() - began < 60


def test_an_index_deleted_under_us(scene: Scene, elasticsearch_url: str) -> None:
    with Elasticsearch(elasticsearch_url) as client:
        delete = partial(client.indices.delete, index=f"{scene.name}-000001")
        with pytest.raises(ImgsearchError, match=scene.location):
            scene.run(progress=at_picture(60, delete))
    assert scene.run().found == ALL
    scene.check_whole()


@pytest.mark.parametrize("years", [-30, 30])
def test_clocks_that_disagree(scene: Scene, years, monkeypatch) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365 * years)

    with monkeypatch.context() as patch:
        for module in ("documents", "ledger"):
            patch.setattr(f"imgsearch_es.retrieval.{module}.datetime", Wrong)
        scene.run_whole()
    again = scene.run()
    assert (again.unchanged, again.as_before) == (PICTURES, BROKEN)
    scene.check_whole()


def test_scripts_that_the_server_forbids_are_not_called_possible(scene: Scene) -> None:
    no = Answer(400, {"error": {"type": "x", "reason": "cannot execute [inline] scripts"}})
    with ImageIndex(scene.location, model="fake") as index:
        assert "painless scripts" not in index.store.features()
        index.create()
        assert index.store.features()["painless scripts"] == "yes"
        scene.proxy.fault = lambda request: no if "_search" in request.path else None
        assert "cannot execute [inline]" in index.store.features()["painless scripts"]


def test_a_search_does_not_wait(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        scene.proxy.fault = lambda request: AWAY
        began = time.monotonic()
        with pytest.raises(ImgsearchError, match="state not recovered"):
            index.search(text="dog")
        assert time.monotonic() - began < PATIENCE


def test_a_search_that_is_answered_soon_does_not_wait_for_a_silent_server(scene: Scene) -> None:
    with ImageIndex(scene.location, model="fake") as index:
        index.add(scene.folder / "0")
        scene.proxy.fault = lambda request: Stall(2 * PATIENCE)
        before = ANSWER_SECONDS.set(0.5)
        try:
            began = time.monotonic()
            with index.store.patient(), pytest.raises(ImgsearchError, match="timed out"):
                index.search_many([index.query(text="dog")])
            assert time.monotonic() - began < PATIENCE
        finally:
            ANSWER_SECONDS.reset(before)
