"""What the watcher makes of rejected pictures; the rest is tested as a process of its own."""

from __future__ import annotations

from datetime import timedelta

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.interfaces import watching
from imgsearch_es.interfaces.watching import Watcher
from imgsearch_es.retrieval import ledger


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


def test_what_pruning_refuses_is_told(index, photos, tmp_path):
    index.add(photos)
    for path in photos.rglob("*.png"):
        path.unlink()
    told = []
    watcher = Watcher(index, [photos], tell=told.append)
    watcher._synchronize(photos)
    assert "Is the drive mounted?" in told[0]
    assert index.count() == 12
