"""Decoders that crash, hang or fail: each costs one picture, and no more."""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import sys
import textwrap
import time
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis import plugins
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.decoding import AREA, LARGE, Decoded, Refused
from imgsearch_es.analysis.decoding.process import NoWorkerError, WorkerLostError, WorkerProcess
from imgsearch_es.analysis.filters import Preparation, create_image_filter
from imgsearch_es.errors import AnalyzerError, ImageError, ShortageError
from imgsearch_es.indexing.find import Found, Options
from imgsearch_es.indexing.read import Readers
from imgsearch_es.indexing.report import Stages
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.turns import Turns
from tests.fakes import installed

FILTERS = [{"name": "hostile"}, {"name": "resize", "height": 8, "width": 8}]
KEEPS, EATS, CRASHES, HANGS, FAILS, DIES_ONCE = 11, 12, 13, 14, 15, 16
"""The width of a picture says what the filter "hostile" does."""


@pytest.fixture(autouse=True)
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an image filter that must not run in this process."""
    code = f"""
        import os, pathlib, signal, time
        from dataclasses import dataclass

        kept = []

        @dataclass(frozen=True)
        class Hostile:
            def __call__(self, image):
                if image.width <= {DIES_ONCE} or image.width * image.height > {LARGE}:
                    assert os.getpid() != {os.getpid()}, "decoded in the parent"
                if image.width == {KEEPS}:
                    kept.append(bytearray(150 << 20))
                if image.width == {EATS}:
                    bytearray(400 << 20)
                if image.width == {CRASHES}:
                    os.kill(os.getpid(), signal.SIGSEGV)
                if image.width == {HANGS}:
                    time.sleep(600)
                if image.width == {FAILS}:
                    raise ValueError("seven\\nis no color")
                once = pathlib.Path({str(tmp_path / "once")!r})
                if image.width == {DIES_ONCE} and not once.exists():
                    once.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return image
    """
    group = "imgsearch_es.image_filters"
    points = f"[{group}]\nhostile = hostile:Hostile\n"
    package = installed(tmp_path / "packages", points, "hostile", textwrap.dedent(code))
    monkeypatch.syspath_prepend(package)
    found = EntryPoint("hostile", "hostile:Hostile", group)
    monkeypatch.setitem(plugins._entry_points(group), "hostile", found)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Thirty harmless pictures, enough for worker processes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        Image.new("RGB", (40, 30 + number), (number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    analyzer = {"model": {"name": "fake"}, "image_filters": FILTERS}
    return ImageIndex(tmp_path / "index.duckdb", analyzer=analyzer)


def hurt(folder: Path, name: str, width: int) -> str:
    path = folder / name
    Image.new("RGB", (width, 9), "red").save(path)
    return str(path)


def test_a_picture_that_eats_memory_costs_itself_and_is_tried_again(index, photos):
    """No worker is lost, and a picture that is rejected for want of memory may come in later."""
    uri = hurt(photos, "05b.png", EATS)
    for added, unchanged in ((30, 0), (0, 30)):
        report = index.add(photos)
        assert (report.added, report.unchanged, report.as_before) == (added, unchanged, 0)
        assert [entry.uri for entry in report.rejected] == [uri]
        assert report.rejected[0].reason.startswith("the memory is short, or its decoder takes")
        assert str(report).endswith("1 rejected, 1 of them for want of memory or time")
    assert index.rejected() == report.rejected


def test_a_large_picture_is_decoded_by_a_worker_even_if_it_is_alone(index, tmp_path):
    Image.new("1", (LARGE // 4096, 4097)).save(tmp_path / "large.png")
    assert index.add(tmp_path / "large.png").added == 1


def test_large_pictures_take_turns():
    turns, order = Turns(10), []

    def decode(name: str, pixels: int) -> None:
        with turns.take(pixels):
            order.append(name)

    with turns.take(6):
        threads = [
            Thread(target=decode, args=("huge", 99)),
            Thread(target=decode, args=("small", 1)),
        ]
        for number, thread in enumerate(threads, 1):
            thread.start()
            while len(turns._waiting) < number:
                time.sleep(0.001)
        assert order == []  # the small one has room, but the huge one came first
    for thread in threads:
        thread.join()
    assert order == ["huge", "small"]


def test_a_picture_that_hangs_the_decoder(index, photos):
    uri = hurt(photos, "05b.png", HANGS)
    report = index.add(photos, limits=Limits(max_seconds=4))
    assert report.added == 30
    assert [(entry.uri, entry.reason) for entry in report.rejected] == [
        (uri, "decoding takes longer than 4 seconds")
    ]


def test_a_worker_that_is_killed_for_no_fault_of_its_picture_costs_none(index, photos):
    hurt(photos, "05b.png", DIES_ONCE)
    report = index.add(photos)
    assert (report.added, report.rejected) == (31, [])


def test_an_image_filter_that_fails_ends_the_run_with_its_words(index, photos):
    uri = hurt(photos, "05b.png", FAILS)
    with pytest.raises(AnalyzerError, match=rf"preparing {uri} .* failed: is no color"):
        index.add(photos)


def test_what_crashed_is_not_tried_again_unless_asked_or_changed(index, photos):
    path = Path(hurt(photos, "05b.png", CRASHES))
    first = index.add(photos)
    assert (first.found, first.added, index.count()) == (31, 30, 30)
    assert index.rejected() == first.rejected
    assert [(entry.uri, entry.reason) for entry in first.rejected] == [
        (str(path), "crashes the decoder: its process was killed by SIGSEGV twice")
    ]
    again = index.add(photos)
    assert (again.unchanged, again.as_before, again.rejected) == (30, 1, first.rejected)
    assert again.rejected[0].rejected_at == first.rejected[0].rejected_at
    retried = index.add(photos, retry=True)  # one picture to decode, and yet 31 to look at
    assert (retried.as_before, retried.rejected) == (0, first.rejected)
    Image.new("RGB", (40, 9), "red").save(path)
    mended = index.add(photos)
    assert (mended.added, mended.unchanged, mended.rejected) == (1, 30, [])
    assert index.rejected() == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says what it keeps")
def test_a_worker_that_keeps_memory_of_a_picture_gives_way_to_a_new_one(worker, photos):
    there = worker()
    data = Path(hurt(photos, "05b.png", KEEPS)).read_bytes()
    first, pixels = there._process.pid, there.decode(data, "a.png").pixels
    assert there._process.pid != first
    assert (
        pixels.tobytes()
        == there.decode_files([str(photos / "05b.png")]).pictures[0].pixels.tobytes()
    )
    second = there._process.pid
    there.decode_files([str(photos / "00.png")])
    assert there._process.pid == second


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says what it takes")
def test_a_decoder_that_takes_its_memory_when_it_is_made_is_refused(worker):
    """WebP's takes two canvases before anybody knows how large they are: once filled, for good."""
    pages, file = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")], io.BytesIO()
    pages[0].save(file, "WEBP", save_all=True, append_images=pages[1:])
    data, side = bytearray(file.getvalue()), 13_000
    data[24:30] = 2 * (side - 1).to_bytes(3, "little")  # of the canvas, where the pages are small
    with pytest.raises(ImageError, match=r"its decoder takes more than 300 MB") as caught:
        worker().decode(bytes(data), "a.webp")
    assert not isinstance(caught.value, ShortageError)  # another try would end as this one


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing says what it takes")
def test_a_file_that_fills_its_decoder_before_its_size_is_known_is_refused(worker):
    """FFmpeg took 2 GB for these 52 bytes, which it takes for the beginning of a video."""
    file = bytes.fromhex(
        "0000002066747970ff000000000000000001000001000000011300ffff0000cd"
        "0000002869696e66696166410f420000fbad"
    )
    there = worker()
    with pytest.raises(ShortageError, match=r"its decoder takes more than 300 MB"):
        there.decode(file, "a.mp4")
    status = Path(f"/proc/{there._process.pid}/status").read_text()
    assert int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) < 500_000


@pytest.fixture
def worker():
    """Starts worker processes, and ends them after the test."""
    started = []

    def start(filters=FILTERS, **limits) -> WorkerProcess:
        started.append(WorkerProcess(filters, Limits(**limits)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.close()


def decoded_here(filters, path: Path) -> Decoded:
    picture = open_image(path)
    pixels = Preparation(tuple(map(create_image_filter, filters)))(picture.image)
    return Decoded.of(picture, pixels)


def assert_same(one: Decoded, two: Decoded) -> None:
    for name in ("sha256", "bytes", "width", "height", "format"):
        assert getattr(one, name) == getattr(two, name)
    assert one.pixels.dtype == two.pixels.dtype
    assert np.array_equal(one.pixels, two.pixels)


@pytest.mark.parametrize(("side", "shares"), [(20, True), (20, False), (1200, True)])
def test_a_worker_gives_what_decoding_here_gives(photos, worker, monkeypatch, side, shares):
    """Through the memory that both share; through the pipe without it, and what is too large."""
    if not shares:
        monkeypatch.setattr("imgsearch_es.analysis.decoding.process._shared_file", lambda: None)
    filters = [{"name": "resize", "shorter_side": side, "interpolation": "bicubic"}]
    assert (3 * side**2 > AREA) == (side == 1200)
    there = worker(filters)
    for path in sorted(photos.iterdir())[:3]:
        assert_same(decoded_here(filters, path), there.decode(path.read_bytes(), str(path)))


def test_a_worker_reads_files_and_gives_what_decoding_here_gives(photos, worker, tmp_path):
    """As many as fit come through the memory that both share, the others through the pipe."""
    filters = [{"name": "resize", "height": 800, "width": 800}]
    paths = sorted(photos.iterdir())[:4]
    assert 3 * 800**2 * len(paths) > AREA
    paths[2:2] = [tmp_path / "none.png", tmp_path / "nothing.png"]
    paths[3].touch()
    found = worker(filters).decode_files([str(path) for path in paths])
    no_file, empty = found.pictures[2:4]
    assert no_file == Refused("cannot be opened: no such file or directory", "")
    assert empty == Refused("the file is empty", hashlib.sha256(b"").hexdigest())
    assert set(found.seconds) == {"read", "decode"}
    assert min(found.seconds.values()) > 0
    for path, one in zip(paths, found.pictures, strict=True):
        if path not in paths[2:4]:
            assert_same(one, decoded_here(filters, path))


@pytest.mark.parametrize("width", [CRASHES, HANGS, FAILS])
def test_a_worker_that_is_lost_over_several_files_is_replaced(photos, worker, width):
    there = worker(max_seconds=4)
    bad, good = hurt(photos, "bad.png", width), str(photos / "00.png")
    with pytest.raises(WorkerLostError):
        there.decode_files([good, bad, good])
    (one, two) = there.decode_files([good, good]).pictures
    assert_same(one, two)


def test_a_worker_says_why_a_picture_is_rejected(worker):
    with pytest.raises(ImageError, match=r"a\.jpg: not a picture"):
        worker(max_pixels=100).decode(b"nothing", "a.jpg")


def test_a_worker_that_was_killed_while_idle_is_replaced(photos, worker):
    there = worker()
    data = (photos / "00.png").read_bytes()
    there.decode(data, "one")
    os.kill(there._process.pid, signal.SIGKILL)
    assert there.decode(data, "two").width == 40


def test_a_worker_that_does_not_know_a_filter_cannot_be_had():
    with pytest.raises(NoWorkerError, match=r"there is no image filter 'nowhere'"):
        WorkerProcess([{"name": "nowhere"}], Limits())


def test_without_worker_processes_threads_decode(tmp_path, photos, monkeypatch, caplog):
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as index:
        assert index.add(photos).added == 30
    assert len([r for r in caplog.records if "decoded in threads" in r.message]) == 1


def test_no_picture_comes_twice_when_no_worker_can_be_had(tmp_path, photos, monkeypatch, caplog):
    """Also when that is known before the last picture is."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    tasks = [Found(str(path)) for path in sorted(photos.iterdir())]

    def known_first():
        yield from tasks[:-1]
        while not caplog.records:
            time.sleep(0.01)
        yield tasks[-1]

    analyzer = Analyzer("fake")
    readers = Readers(lambda: analyzer, Options(workers=2), Stages())
    try:
        outcomes = list(readers.read(known_first()))
    finally:
        readers.close()
    assert outcomes == tasks
    assert all(found.decoded for found in outcomes)
