"""What the watcher makes of rejected pictures; the rest is tested as a process of its own."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import signal
import sys
import threading
import time
from datetime import timedelta

import pytest
import watchfiles

from imgsearch_es import ImageIndex
from imgsearch_es.errors import StoreError
from imgsearch_es.interfaces import watching
from imgsearch_es.interfaces.watching import Watcher
from imgsearch_es.retrieval import ledger
from imgsearch_es.stores.interrupts import Ending
from tests.conftest import PATIENCE, trace_instructions, wait_for
from tests.fakes import noise
from tests.unit.test_photos import phone as phone


@pytest.fixture
def index(fake_model, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    with ImageIndex(tmp_path / "pets.duckdb", model="fake") as opened:
        yield opened


def test_a_picture_that_is_rejected_now_is_tried_again_and_struck_out_when_it_goes(index, photos):
    watcher, broken = Watcher(index, [photos]), str(photos / "broken.png")
    watcher._synchronize(photos)
    assert watcher.report.added == 12
    assert [*watcher._unreadable] == [*watcher.report.rejected] == [broken]
    (photos / "broken.png").unlink()
    watcher._take({broken})
    assert index.rejected() == []
    assert watcher.report.rejected == {}


def test_one_that_the_ledger_knows_is_not(index, photos, monkeypatch):
    index.add(photos)
    told = []
    monkeypatch.setattr(watching, "now", lambda: ledger.now() + timedelta(seconds=1))
    watcher = Watcher(index, [photos], tell=told.append)
    watcher._synchronize(photos)
    assert list(watcher.report.rejected) == [str(photos / "broken.png")]
    assert watcher._unreadable == {}
    assert told == []


def test_what_is_no_picture_any_more_is_taken_out(index, photos):
    watcher = Watcher(index, [photos])
    watcher._synchronize(photos)
    damaged, folder = photos / "cats" / "cat.0.png", photos / "cats" / "cat.1.png"
    damaged.write_bytes(b"")
    folder.unlink()
    folder.mkdir()
    watcher._take({str(damaged), str(folder)})
    assert (watcher.report.removed, index.count()) == (2, 10)
    assert str(damaged) in watcher.report.rejected


@pytest.mark.parametrize("number", range(10, 70, 5))
def test_a_signal_ends_the_wait_for_an_index_at_any_instruction(index, photos, monkeypatch, number):
    monkeypatch.setattr(watching, "_TICK_SECONDS", 0.01)
    watcher, instructions = Watcher(index, [photos]), itertools.count(1)

    def handle(frame, event, argument):  # by the thread that waits, as signals are
        frame.f_trace_opcodes = True
        if event == "opcode" and next(instructions) == number:
            watcher.stop()
        return handle

    def fail(_: object) -> None:
        trace_instructions(handle)
        raise StoreError("nobody is there")

    def wait() -> None:
        with pytest.raises(StoreError):
            watcher._patiently(fail, None)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_is_being_added_and_nothing_is_removed(
    index, fake_model, photos, monkeypatch, number
):
    index.add(photos, labels="pet")
    cats = [path.rename(path.with_name(f"new{path.name}")) for path in photos.glob("cats/*.png")]
    watcher, predict = Watcher(index, [photos]), fake_model.predict

    def interrupted(self, pixels):
        os.kill(os.getpid(), number)
        return predict(self, pixels)

    monkeypatch.setattr(fake_model, "predict", interrupted)
    for seed in range(200):
        noise(seed).save(photos / f"{seed}.png")
    broken = str(photos / "broken.png")
    watcher.report.rejected = {str(photos / "0.png"): "as it was cut off", broken: "no picture"}
    before = signal.signal(number, Ending(watcher.stop))
    try:
        watcher.run()
    finally:
        signal.signal(number, before)
    assert 0 < watcher.report.added < 200
    assert list(watcher.report.rejected) == [broken]
    monkeypatch.setattr(fake_model, "predict", predict)
    index.add(photos, prune=True)
    assert index.count() == 212
    assert all(index.get(path).labels == ("pet",) for path in cats)


def test_what_is_begun_after_a_signal_ends_at_once(index, photos):
    watcher = Watcher(index, [photos])
    watcher._synchronize(photos)
    for seed in range(200):
        noise(seed).save(photos / f"{seed}.png")
    ending = Ending(watcher.stop)
    before = signal.signal(signal.SIGTERM, ending)
    try:
        ending(signal.SIGTERM, None)
        watcher._synchronize(photos)
        assert signal.getsignal(signal.SIGTERM) is ending
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert watcher.report.added < 200


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is in UTF-8")
def test_a_name_that_is_no_utf_8_does_not_have_all_read_again_and_again(index, photos, monkeypatch):
    pause = property(lambda _: 0.1, lambda _, seconds: None)
    monkeypatch.setattr(Watcher, "_pause", pause, raising=False)
    odd = photos / os.fsdecode(b"\xff.png")
    odd.write_bytes((photos / "cats" / "cat.0.png").read_bytes())
    looks, lost = [], threading.Event()
    add = index.add
    monkeypatch.setattr(
        index, "add", lambda *given, **more: looks.append(given) or add(*given, **more)
    )
    watcher = Watcher(index, [photos], tell=lambda text: "not told" in text and lost.set())
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        assert lost.wait(PATIENCE)
        time.sleep(1.5)
        before = len(looks)
        (photos / "new.png").write_bytes((photos / "cats" / "cat.1.png").read_bytes())
        wait_for(lambda: index.count() >= 14)
    finally:
        watcher.stop()
        thread.join(PATIENCE)
        odd.unlink()
    assert index.count() == 14
    assert before <= 3


def test_a_folder_that_may_not_be_read_is_watched_once_it_may(index, photos, monkeypatch):
    allowed, told = threading.Event(), []
    monkeypatch.setattr(os, "access", lambda *_: allowed.is_set())
    watcher = Watcher(index, [photos], tell=told.append)
    thread = threading.Thread(target=watcher.run)
    thread.start()
    try:
        wait_for(lambda: told)
        allowed.set()
        wait_for(lambda: index.exists and index.count() == 12)
    finally:
        watcher.stop()
        thread.join(PATIENCE)
    assert told[0] == f"{photos} may not be read: nothing of it is removed until it is back"
    assert index.count() == 12


def test_of_a_drive_that_goes_just_after_a_change_nothing_is_removed(index, photos, tmp_path):
    watcher, cats = Watcher(index, [photos]), photos / "cats"
    watcher._synchronize(photos)
    shutil.move(cats, tmp_path / "drive")
    cats.mkdir()  # what is left where a drive was
    watcher._take({str(cats / "cat.0.png")})  # changed
    assert index.count() == 12
    watcher._take({str(cats / "cat.0.png"), f"{cats / 'cat.0.png'}/"})  # and deleted
    assert index.count() == 11


def test_a_folder_that_cannot_be_listed_holds_up_no_other_change(index, photos, monkeypatch):
    watcher, locked = Watcher(index, [photos]), photos / "locked"
    watcher._synchronize(photos)
    locked.mkdir()
    scandir = os.scandir

    def refusing(path):
        if path in (locked, str(locked)):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    new = photos / "new.png"
    noise(99).save(new)
    watcher._take({str(locked), str(new)})
    assert watcher._changes.empty()
    assert new in index


@pytest.mark.parametrize("video", [False, True])
def test_a_frame_of_a_video_is_watched_where_asked_for(index, phone, photos, video):
    watcher = Watcher(index, [photos], video=video)
    shutil.copy(phone / "e.mp4", photos / "a.mp4")
    watcher._synchronize(photos)
    shutil.copy(phone / "e.mp4", photos / "b.mp4")
    watcher._take({str(photos / "b.mp4")})
    assert [photos / name in index for name in ("a.mp4", "b.mp4")] == [video] * 2


def test_of_a_folder_that_was_moved_away_and_made_anew_only_what_is_there_stays(
    index, photos, tmp_path
):
    watcher, cats = Watcher(index, [photos]), photos / "cats"
    shutil.copy(photos / "broken.png", cats)
    watcher._synchronize(photos)
    cats.rename(tmp_path / "cats")
    cats.mkdir()
    shutil.copy(tmp_path / "cats" / "cat.1.png", cats)
    watcher._take({str(cats)})
    assert (watcher.report.removed, index.count()) == (5, 7)
    assert [entry.uri for entry in index.rejected()] == [str(photos / "broken.png")]


def test_it_is_told_that_the_system_has_no_more_watches(photos, monkeypatch):
    """watchfiles passes over that where it passes over folders that may not be read."""
    watch = watchfiles.watch

    def limited(*folders, **options):
        if not options.get("ignore_permission_denied"):
            raise OSError("OS file watch limit reached.")
        return watch(*folders, **options)

    monkeypatch.setattr(watchfiles, "watch", limited)
    changes = queue.SimpleQueue()
    with watching._told([photos], changes):
        assert isinstance(changes.get(timeout=PATIENCE), OSError)


def test_of_a_folder_whose_place_a_picture_takes_nothing_stays(index, photos, tmp_path):
    watcher, cats = Watcher(index, [photos]), photos / "cats"
    watcher._synchronize(photos)
    changes = queue.SimpleQueue()
    with watching._told([photos], changes):
        cats.rename(tmp_path / "cats")
        shutil.copy(tmp_path / "cats" / "cat.1.png", cats)
        watcher._take(changes.get(timeout=PATIENCE))
    assert (watcher.report.removed, index.count()) == (5, 7)  # one moved


def test_what_a_link_leads_to_in_the_same_folder_has_one_name(index, photos, tmp_path):
    (tmp_path / "come").mkdir()
    (tmp_path / "come" / "all").symlink_to(photos)
    (photos / "best").symlink_to(photos / "cats")
    watcher, new = Watcher(index, [photos]), photos / "cats" / "new.png"
    watcher._synchronize(photos)
    changes = queue.SimpleQueue()
    with watching._told([photos], changes):
        new.write_bytes((photos / "dogs" / "dog.1.png").read_bytes())
        (photos / "cats" / "cat.1.png").unlink()
        (photos / "cats" / "loop").symlink_to(photos)
        (tmp_path / "come").rename(photos / "come")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and (new not in index or index.count() != 12):
            watcher._take(changes.get(timeout=PATIENCE))
    uris = {document.uri for document in index.store.documents(())}
    assert uris == {str(path) for path in photos.glob("[cd]*/*.png")}


@pytest.mark.parametrize("removed", [1, 3])
def test_what_was_said_of_pictures_that_go_after_they_were_copied_goes_to_the_copies(
    index, photos, monkeypatch, removed
):
    monkeypatch.setattr(watching, "_FEW", 2)
    watcher, cats, new = Watcher(index, [photos]), photos / "cats", photos / "new"
    watcher._synchronize(photos)
    names = [f"cat.{number}.png" for number in range(removed)]
    index.label([cats / name for name in names], add=["mine"])
    index.add(cats / names[0], metadata={"rated": 5})
    shutil.copytree(cats, new)
    watcher._take({str(new)})
    for name in names:
        (cats / name).unlink()
    watcher._take({str(cats / name) for name in names})
    assert (watcher.report.removed, index.count()) == (removed, 18 - removed)
    assert [index.get(new / name).labels for name in names] == [("mine",)] * removed
    assert index.get(new / names[0]).metadata == {"rated": 5}
    (new / names[0]).unlink()
    index.add(photos, prune=True)
    assert index.search(where={"label": "mine"}).total == removed - 1


@pytest.mark.parametrize("late", [False, True])
def test_a_picture_that_moves_on_while_it_is_added_keeps_what_was_said_of_it(
    index, photos, monkeypatch, late
):
    watcher, add = Watcher(index, [photos]), index.add
    watcher._synchronize(photos)
    old, first, last = (photos / f"cats/{name}.png" for name in ("cat.0", "first", "last"))
    index.label([old], add=["mine"])
    old.rename(first)

    def moving(*given, **more):
        monkeypatch.setattr(index, "add", add)
        if late:
            add(photos / "cats" / "cat.1.png")
        first.rename(last)
        return add(*([photos / "cats" / "cat.1.png"] if late else given[0]), **more)

    monkeypatch.setattr(index, "add", moving)
    watcher._take({str(old), str(first)})
    watcher._take(watcher._changes.get_nowait() | {str(last)})
    assert index.get(last).labels == ("mine",)
    assert index.count() == 12
