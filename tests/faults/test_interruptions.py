"""Killed, interrupted, out of room, two at once: nothing is lost, and nothing is there twice."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from tests.conftest import PATIENCE, python
from tests.fakes import FakeModel, pictures
from tests.faults.conftest import ALL, PICTURES, content, finish, wait_for_pictures


@pytest.mark.parametrize("moments", [[1], [60, 60, 60]], ids=str)
def test_killed_at_any_moment_and_again(start, place, folder, undisturbed, moments):
    location = place()
    for moment in moments:
        child = start(location, folder, "--pause", 0.02)
        wait_for_pictures(child, moment)
        child.send_signal(signal.SIGKILL)
        child.wait()
    report, _ = finish(start(location, folder))
    assert report["found"] == ALL
    assert content(location) == undisturbed()


def test_killed_while_writing(start, place, folder, undisturbed):
    location = place()
    where = "bulk" if location.startswith("http") else "writing"
    child = start(location, folder, "--die", where)
    child.communicate(timeout=2 * PATIENCE)
    assert child.returncode == -signal.SIGKILL
    with ImageIndex(location) as index:
        index.store.finish()
        assert 0 < index.count() < PICTURES
    finish(start(location, folder))
    assert content(location) == undisturbed()


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("embedded", signal.SIGTERM),
        pytest.param("elasticsearch", signal.SIGINT, marks=pytest.mark.node),
    ],
    indirect=["place"],
)
def test_stopped_in_good_order(start, place, folder, undisturbed, number):
    location = place()
    child = start(location, folder, "--hold", 30)
    wait_for_pictures(child, 30)
    child.send_signal(number)
    out, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 130, err
    report = json.loads(out.splitlines()[-1])
    with ImageIndex(location) as index:
        index.store.finish()
        assert index.count() == report["added"] >= 24
    assert report["found"] < ALL
    again, _ = finish(start(location, folder))
    assert (again["found"], again["unchanged"]) == (ALL, report["added"])
    assert content(location) == undisturbed()


def test_stopped_at_once_by_the_second_signal(start, place, folder, undisturbed):
    location = place()
    child = start(location, folder, "--pause", 3)
    wait_for_pictures(child, 10)
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == -signal.SIGINT, err  # as Python ends on KeyboardInterrupt
    finish(start(location, folder))
    assert content(location) == undisturbed()


def test_two_at_once_while_others_search(start, place, folder, undisturbed):
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.create()
        children = [start(location, folder, "--pause", 0.01) for _ in range(2)]
        while any(child.poll() is None for child in children):
            assert index.search(text="tabby", k=5).total <= PICTURES
    for child in children:
        report, _ = finish(child)
        assert report["found"] == ALL
    assert content(location) == undisturbed()


def test_what_is_said_of_a_picture_that_another_run_has_just_added(place, tmp_path, monkeypatch):
    location, folder = place(), pictures(tmp_path / "photos", 3)
    predict = FakeModel.predict

    def late(self, pixels):
        monkeypatch.setattr(FakeModel, "predict", predict)
        with ImageIndex(location, model="fake") as other:
            assert other.add(folder).added == 3
            other.label([folder / "00.png"], add=["mine"])
        return predict(self, pixels)

    monkeypatch.setattr(FakeModel, "predict", late)
    with ImageIndex(location, model="fake") as index:
        report = index.add(folder)
        assert (report.added, report.updated, index.count()) == (0, 3, 3)
        assert index.get(folder / "00.png").labels == ("mine",)


def test_no_room_for_the_file(start, folder, undisturbed, tmp_path):
    location = tmp_path / "index.duckdb"
    with ImageIndex(location, model="fake") as index:
        index.create()
    child = start(location, folder, "--room", 60_000)
    _, err = child.communicate(timeout=2 * PATIENCE)
    assert child.returncode == 1, err
    assert f"there is no room to write {location} (file too large)" in err
    assert len(err.splitlines()) == 1
    with ImageIndex(location) as index:
        assert index.count() < PICTURES
    finish(start(location, folder))
    assert content(str(location)) == undisturbed()


def test_nothing_is_left_behind(start, folder, tmp_path):
    location = tmp_path / "index.duckdb"
    child = start(location, folder, "--hold", 30)
    wait_for_pictures(child, 30)
    workers = children_of(child.pid)
    assert workers
    child.send_signal(signal.SIGKILL)
    child.wait()
    for worker in workers:
        assert ended(worker)
    assert not list(tmp_path.glob(".*.new"))


def children_of(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task")
    found = [path.read_text().split() for path in tasks.glob("*/children")]
    return [int(child) for line in found for child in line]


def ended(process: int) -> bool:
    """Whether a process ends soon; a zombie has ended."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return False


_IMPORTED = """
import os, signal, sys

def watch(frame, event, argument):
    above = frame.f_back
    while above and above.f_code.co_filename.endswith("enum.py"):
        above = above.f_back
    if frame.f_code.co_filename.endswith("enum.py") and above.f_code.co_name == CALLS:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGINT)

CALLS = "_call_with_frames_removed"  # an extension calls
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.setprofile(watch)
try:
    import imgsearch_es.stores.embedded
except KeyboardInterrupt:
    print("duckdb" in sys.modules)
"""


def test_ctrl_c_while_duckdb_is_imported_waits_until_it_is():
    run = python("-c", _IMPORTED)
    assert (run.returncode, run.stdout, run.stderr) == (0, "True\n", "")
