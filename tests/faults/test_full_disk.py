"""No room: a file that is made is whole, or not there."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ConfigurationError, ExchangeError, StoreError
from imgsearch_es.evaluation.judging import QrelsFile
from imgsearch_es.interfaces.maps import CollectionMap
from imgsearch_es.learning.learner import TrainingReport
from imgsearch_es.pictures.files import replacing

REPORT = TrainingReport(Path("head.keras"), 1.0, 1.0, (1, 1, 1), (1, 1, 1), {}, "data")


@pytest.fixture
def room() -> Iterator[Callable[[int], None]]:
    """Limits how large a file can get, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def index(folder: Path, tmp_path: Path) -> Iterator[ImageIndex]:
    """An index of thirty pictures."""
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as made:
        made.add(folder / "1")
        yield made


def there(folder: Path) -> set[str]:
    """What is in a folder; an index may have a snapshot."""
    return {path.name for path in folder.iterdir()} - {"index.duckdb.snapshot"}


@pytest.mark.parametrize("size", [0, 13_000, 44_800, 60_000, 150_000, 300_000])
def test_an_index_is_whole_or_not_there(room, tmp_path, size):
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        room(size)
        with pytest.raises(StoreError, match=r"no room to write .*file too large"):
            index.create()
        room(resource.RLIM_INFINITY)
        assert list(tmp_path.iterdir()) == []
        (tmp_path / ".index.duckdb.new").write_bytes(b"left by one that was killed")
        (tmp_path / ".index.duckdb.new.wal").write_bytes(b"left, too")
        index.create()
        assert index.count() == 0
    assert there(tmp_path) == {"index.duckdb"}


def test_what_a_killed_process_spilled_is_removed(tmp_path):
    spilled = tmp_path / "index.duckdb.tmp"
    spilled.mkdir()
    (spilled / f"duckdb_temp_{2**30}_0_storage_DEFAULT-0.tmp").write_bytes(b"gigabytes")
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        index.create()
        index.remove("cat.jpg")
    assert not spilled.exists()


def test_reindexing_is_whole_or_not_there(room, index, tmp_path):
    index.close()
    room((tmp_path / "index.duckdb").stat().st_size // 2)
    with pytest.raises(StoreError, match=r"no room to write .*file too large"):
        index.reindex()
    room(resource.RLIM_INFINITY)
    assert index.reindex().documents == index.count() == 30
    assert there(tmp_path) == {"index.duckdb"}


def test_a_repair_is_whole_or_not_there(room, index):
    """A full disk is no harm of the index."""
    index.close()
    with duckdb.connect(index.location) as connection:
        connection.execute("DELETE FROM postings WHERE document % 2 = 0")
    harms = index.verify().counts
    room(1_000)
    with pytest.raises(StoreError, match=r"no room to write .*file too large"):
        index.verify(repair=True)
    room(resource.RLIM_INFINITY)
    index.close()
    assert index.verify().counts == harms != {}
    assert index.verify(repair=True).is_whole


@pytest.mark.parametrize("name", ["f.csv", "f.h5", "f.parquet", "f"])
def test_features_are_whole_or_not_there(room, index, tmp_path, name):
    room(1_000)
    with pytest.raises(ExchangeError, match=rf"cannot write .*{name}"):
        index.export_features(tmp_path / name)
    room(resource.RLIM_INFINITY)
    assert there(tmp_path) == {"index.duckdb"}
    index.export_features(tmp_path / name)
    with ImageIndex(tmp_path / "again.duckdb") as again:
        assert again.import_features(tmp_path / name).added == 30


@pytest.mark.parametrize("kind", ["page", "map", "curves"])
def test_what_is_drawn_is_whole_or_not_there(room, index, tmp_path, kind):
    hits = index.search(like=[index.search(text="animal")[0].id])
    points = np.random.default_rng(0).random((9, 2))
    draw, target = {
        "page": (hits.to_html, tmp_path / "page.html"),
        "map": (CollectionMap(points, ("a",) * 9, ("b",) * 9, "tsne").save, tmp_path / "map.png"),
        "curves": (REPORT.save_plot, tmp_path / "c.png"),
    }[kind]
    draw(target)
    before = target.read_bytes()
    room(1_000)
    with pytest.raises(ConfigurationError, match=rf"{target.name}: [Ff]ile too large"):
        draw(target)
    room(resource.RLIM_INFINITY)
    assert target.read_bytes() == before
    assert there(tmp_path) == {"index.duckdb", target.name}


def test_what_replaces_a_file_is_on_the_disk_before(monkeypatch, tmp_path):
    """A power cut soon after leaves the old one or the new one: judgements, a photo's sidecar."""
    file, synced = tmp_path / "qrels.txt", []
    note = lambda it: synced.append((file.read_text(), os.pread(it, 9, 0)))  # noqa: E731
    monkeypatch.setattr(os, "fsync", note)
    for text in ("old", "new"):
        with replacing(file) as draft:
            draft.write_text(text)
    assert synced == [("old", b"new")]
    file.unlink()
    for grade in (1, 2):
        QrelsFile(file).change("q", "d", grade)
    assert synced[1:] == [("", b"q 0 d 1\n"), ("q 0 d 1\n", b"q 0 d 2\n")]


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    """So that an administrator who writes to /dev/null still has it."""
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    file.write_text("old")
    link.symlink_to(file)
    with replacing(link) as draft:
        draft.write_text("new")
    assert (link.is_symlink(), file.read_text()) == (True, "new")
    os.mkfifo(pipe)
    with pytest.raises(FileExistsError, match="it is there already and no file"), replacing(pipe):
        pass
    assert pipe.is_fifo()
