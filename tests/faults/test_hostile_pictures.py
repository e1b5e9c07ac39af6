"""Folders as they are found: each picture is indexed right, or is in the ledger with a reason.

``tests/unit/test_images.py`` looks at single pictures; here whole runs must add up, first and
second, whatever lies between the good pictures.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.decoding.process import Decodings, WorkerProcess
from imgsearch_es.indexing import IndexReport
from imgsearch_es.pictures.files import Limits, to_uri
from tests.conftest import python
from tests.fakes import FakeModel
from tests.fuzz.seeds import encoded, seeds

NOISE = np.random.default_rng(3)


def picture(width: int = 32, height: int = 24) -> Image.Image:
    """A picture that no other is like."""
    pixels = NOISE.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height))


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with twenty good pictures, enough for worker processes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        picture().save(folder / f"good{number:02}.png")
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Iterator[ImageIndex]:
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as opened:
        yield opened


def run(index: ImageIndex, top: Path, bad: dict[str, str], good: int, **options: object) -> None:
    """Index twice: these are rejected for reasons with these words, and so many are indexed."""
    report = index.add(top, **options)
    reasons = {entry.uri: entry.reason for entry in report.rejected}
    assert len(reasons) == len(report.rejected)
    assert reasons.keys() == bad.keys()
    for uri, words in bad.items():
        assert words in reasons[uri], (uri, reasons[uri])
    assert (report.found, report.added) == (good + len(bad), good)
    check(index, report, good)
    calls = FakeModel.calls
    again = index.add(top, **options)
    assert (again.found, again.unchanged) == (good + len(bad), good)
    assert {entry.uri: entry.reason for entry in again.rejected} == reasons
    assert FakeModel.calls == calls
    check(index, again, good)


def check(index: ImageIndex, report: IndexReport, good: int) -> None:
    """What the index and its ledger hold is what the run reports."""
    assert index.count() == good
    assert len(index.store.below("/")) + len(index.store.below("file:///")) == good
    assert {(e.uri, e.reason) for e in index.rejected()} == {
        (e.uri, e.reason) for e in report.rejected
    }


def test_a_folder_in_which_everything_lies(index, top):
    """No pictures, some that are not what they say, bombs, what cannot be opened, odd names."""
    bad = {
        "empty.jpg": (b"", "the file is empty"),
        "text.png": (b"Dear photo,\n" * 9, "not a picture of a known format"),
        "page.gif": (b"<!DOCTYPE html><html></html>", "not a picture of a known format"),
        "zeros.jpg": (bytes(5000), "not a picture of a known format"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(40), "damaged HEIF picture"),
        "head.jpg": (b"\xff\xd8\xff\xe0" + os.urandom(2000), "damaged JPEG picture"),
        "bomb.png": (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "pixels are over the limit"),
        "large.png": (encoded(picture(), "PNG") + bytes(200_000), "larger than the limit"),
    }
    odd = b"\xe9\xff" if sys.platform != "darwin" else "\u00e9".encode()  # there always UTF-8
    stems = [
        b"two\nlines", b"tab\there", b"latin-" + odd, odd, "日本 \U0001f408".encode(), b"a%20b",
        b"a#b?c", b"quo\"te'", b"-rf", b" ", b"x" * 250, b"back\\slash", b"http:",
    ]  # fmt: skip
    good = {
        "a-png.jpg": encoded(picture(), "PNG"),
        "a-jpeg.PNG": encoded(picture(), "JPEG"),
        "no-extension": encoded(picture(), "GIF"),
        "a.webp.txt": encoded(picture(), "WEBP"),
        **{os.fsdecode(stem + b".png"): encoded(picture(), "PNG") for stem in stems},
    }
    broken = top / os.fsdecode(b"broken-" + odd + b"\n.png")
    for name, data in {**{k: data for k, (data, _) in bad.items()}, **good}.items():
        (top / name).write_bytes(data)
    broken.write_bytes(b"nothing")
    (top / "notes.txt").write_text("passed over")
    os.mkfifo(top / "pipe.jpg")
    (top / "zero.jpg").symlink_to("/dev/zero")
    (top / "full.png").symlink_to("/dev/full")
    (top / "gone.jpg").symlink_to(top / "nowhere.jpg")
    (top / "self.jpg").symlink_to(top / "self.jpg")
    (top / "loop").symlink_to(top)
    (top / "below").mkdir()
    (top / "below" / "up").symlink_to("..")
    (top / "copy.png").symlink_to(top / "good00.png")
    reasons = {str(top / name): words for name, (_, words) in bad.items()} | {
        to_uri(broken): "not a picture",
        str(top / "gone.jpg"): "broken link: no such file",
        str(top / "self.jpg"): "broken link: too many levels of symbolic links",
    }
    run(index, top, reasons, 21 + len(good), limits=Limits(max_bytes=200_000))


def test_pictures_that_are_rare_and_right(index, top):
    """Each is what it is alone; ``tests/unit/test_images.py`` says what that is."""
    rare = {
        **seeds(),
        "one.png": encoded(picture(1, 1), "PNG"),
        "wide.png": encoded(picture(30_000, 1), "PNG"),
        "tall.jpg": encoded(picture(1, 30_000), "JPEG"),
        "icc.jpg": encoded(picture(), "JPEG", icc_profile=b"no profile at all" * 9),
        "exif.png": encoded(picture(), "PNG", exif=b"Exif\0\0MM\0*" + os.urandom(60)),
    }
    for name, data in rare.items():
        (top / name).write_bytes(data)
    run(index, top, {}, 20 + len(rare), batch_size=7)
    for key, uri in index.store.below("/"):
        assert index.get(key).terms == index.analyze(uri).terms, uri
    assert index.get(top / "wide.png").width == 30_000


def test_a_pipe_or_device_that_is_named(index, top):
    os.mkfifo(top / "pipe.jpg")
    report = index.add([top, top / "pipe.jpg", "/dev/zero"])
    assert (report.found, report.added) == (22, 20)
    reasons = {entry.uri: entry.reason for entry in report.rejected}
    special = "is not a regular file but a FIFO, socket or device"
    assert reasons == {str(top / "pipe.jpg"): special, "/dev/zero": special}


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], *names: str) -> None:
    """Change some files in the moment before they are read."""
    decode_files = WorkerProcess.decode_files

    def after_change(worker: WorkerProcess, uris: Sequence[str]) -> Decodings:
        for path in map(Path, uris):
            if path.name in names:
                change(path)
        return decode_files(worker, uris)

    monkeypatch.setattr(WorkerProcess, "decode_files", after_change)


def test_files_that_are_replaced_or_vanish_while_the_run_goes_on(index, top, monkeypatch):
    other = encoded(picture(), "JPEG")
    with monkeypatch.context() as patched:
        changing(patched, lambda path: path.write_bytes(other), "good03.png")
        changing(patched, lambda path: path.write_bytes(other[:200]), "good05.png")
        changing(patched, lambda path: (path.unlink(), os.mkfifo(path))[0], "good07.png")
        changing(patched, Path.unlink, "good17.png")
        report = index.add(top)
    reasons = {Path(entry.uri).name: entry.reason for entry in report.rejected}
    assert reasons.keys() == {"good05.png", "good07.png", "good17.png"}
    assert reasons["good17.png"] == "cannot be opened: no such file or directory"
    assert reasons["good05.png"].startswith("damaged JPEG picture")
    assert "FIFO" in reasons["good07.png"]
    assert (report.found, report.added) == (20, 17)
    check(index, report, 17)
    again = index.add(top)  # the pipe is no picture, and what was hashed is what was indexed
    assert (again.found, again.unchanged, again.as_before) == (18, 17, 1)


def test_a_file_that_grows_while_it_is_read(index, top, monkeypatch):
    path = top / "growing.png"
    path.write_bytes(encoded(picture(), "PNG"))
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.wait(0.001):
                file.write(bytes(100_000))

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        report = index.add(top, limits=Limits(max_bytes=50_000_000))
    finally:
        stop.set()
        thread.join()
    assert report.found == report.added + len(report.rejected) == 21
    check(index, report, report.added)
    again = index.add(top)
    assert again.found == again.updated + again.unchanged + again.added == 21


COUNT = """
import resource, sys
from imgsearch_es import ImageIndex
from tests.fakes import register
register()
with ImageIndex(sys.argv[1], model="fake") as index:
    report = index.add(sys.argv[2])
    print(report.found, report.added, index.count())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def count_in_a_process(location: Path, folder: Path) -> tuple[str, float]:
    """The counts of a run, and the most memory it had, in megabytes."""
    counts, kilobytes = python("-c", COUNT, location, folder).stdout.splitlines()
    return counts, int(kilobytes) / 1000


def test_thirty_thousand_files_in_a_folder(tmp_path):
    """Most are no pictures, and must be looked at: no name tells. The names take memory, sorted
    as they are, the files none."""
    few, many, pictures = tmp_path / "few", tmp_path / "many", 1_000
    for folder in (few, many):
        folder.mkdir()
        for number in range(10):
            (folder / f"{number}").write_bytes(encoded(picture(2, 2), "PNG"))
        for number in range(10, pictures):
            os.link(folder / f"{number % 10}", folder / f"{number}")
    (tmp_path / "notes").write_bytes(b"no picture" * 10_000)
    for number in range(pictures, 30_000):
        os.link(tmp_path / "notes", many / f"{number}")
    found, least = count_in_a_process(tmp_path / "few.duckdb", few)
    assert found == f"{pictures} {pictures} {pictures}"
    found, most = count_in_a_process(tmp_path / "many.duckdb", many)
    assert found == f"{pictures} {pictures} {pictures}"
    assert most < least + 30  # a kilobyte for each file; their contents are a hundred times that
