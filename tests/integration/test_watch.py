"""``imgsearch watch`` as a process of its own, with real files, on both stores."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from tests.conformance.conftest import place  # noqa: F401 - both stores, here as well
from tests.conftest import PATIENCE, ROOT
from tests.fakes import COMMAND, noise, pictures

WAIT_SECONDS = 2 * PATIENCE
ON_A_FILE = pytest.mark.parametrize("place", ["embedded"], indirect=True)
"""What is watched does not depend on the store."""


class Watch:
    """The process, its lines, and the index that it keeps."""

    def __init__(self, location: str, *folders: Path) -> None:
        arguments = ["watch", *map(str, folders), "-i", location, "-m", "fake"]
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.index, self.lines = ImageIndex(location), queue.SimpleQueue[str]()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.put(line.rstrip("\n"))

    def says(self, text: str) -> str:
        """The next line with this text."""
        seen = []
        while True:
            try:
                seen.append(self.lines.get(timeout=WAIT_SECONDS))
            except queue.Empty:
                pytest.fail(f"never said {text!r}, but {seen}")
            if text in seen[-1]:
                return seen[-1]

    def names(self) -> set[str]:
        return {document.filename for document in self.index.store.documents()}

    def has(self, *names: str) -> None:
        """Wait until the index has these pictures and no others."""
        self.until(lambda: self.names() == set(names))

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < end, self.names()
            time.sleep(0.1)

    def end(self, how: signal.Signals = signal.SIGINT) -> str:
        self.process.send_signal(how)
        assert self.process.wait(WAIT_SECONDS) == 0
        self._thread.join()
        last = ""
        while not self.lines.empty():
            last = self.lines.get()
        return last

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        self.index.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = pictures(tmp_path / "photos", 2)
    (made / "00.png").rename(made / "a.png")
    return (made / "01.png").rename(made / "b.png").parent


@pytest.fixture
def watch(place: Callable[[], str]) -> Iterator[Callable[..., Watch]]:  # noqa: F811
    started, location = list[Watch](), place()

    def start(*folders: Path) -> Watch:
        started.append(Watch(location, *folders))
        started[-1].says("watching")
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_it_follows_what_happens(watch, folder):
    watching = watch(folder)
    watching.has("a.png", "b.png")
    noise(3).save(folder / "c.png")
    (folder / ".hidden.png").write_bytes((folder / "c.png").read_bytes())
    (folder / "notes.txt").write_text("no picture")
    watching.has("a.png", "b.png", "c.png")
    before = watching.index.get(folder / "a.png").sha256
    noise(4).save(folder / "a.png")
    (folder / "b.png").rename(folder / "moved.png")
    watching.has("a.png", "c.png", "moved.png")
    watching.until(lambda: watching.index.get(folder / "a.png").sha256 != before)
    outside = folder.parent / "outside"
    outside.mkdir()
    noise(5).save(outside / "d.png")
    outside.rename(folder / "inside")
    watching.has("a.png", "c.png", "d.png", "moved.png")
    shutil.rmtree(folder / "inside")
    (folder / "c.png").unlink()
    watching.has("a.png", "moved.png")
    summary = watching.end()
    assert summary.startswith(watching.index.location)
    assert summary.endswith(" removed, 0 rejected")


@ON_A_FILE
def test_a_folder_whose_name_is_not_in_utf8_does_not_end_the_watch(watch, folder):
    watching = watch(folder)
    watching.has("a.png", "b.png")
    strange = Path(os.fsdecode(os.fsencode(folder) + b"/d\xff"))
    strange.mkdir()
    noise(3).save(strange / "c.png")
    watching.says("looking at everything, as changes were not told: ")
    watching.has("a.png", "b.png", "c.png")
    (folder / "a.png").unlink()
    watching.has("b.png", "c.png")
    watching.end()


@ON_A_FILE
def test_a_file_that_is_written_slowly_is_indexed_when_it_is_whole(watch, folder):
    watching = watch(folder)
    data = (folder / "a.png").read_bytes()
    with (folder / "slow.png").open("wb") as file:
        file.write(data[:100])
        file.flush()
        watching.says("rejected")
        file.write(data[100:])
    watching.has("a.png", "b.png", "slow.png")
    assert watching.end(signal.SIGTERM).endswith("0 rejected")


@ON_A_FILE
def test_nothing_is_removed_while_the_folder_is_gone(watch, folder):
    watching = watch(folder)
    watching.has("a.png", "b.png")
    folder.rename(folder.with_name("away"))
    watching.says("is gone: nothing of it is removed")
    time.sleep(1)
    watching.has("a.png", "b.png")
    noise(3).save(folder.with_name("away") / "c.png")
    (folder.with_name("away") / "a.png").unlink()
    folder.with_name("away").rename(folder)
    watching.has("b.png", "c.png")
    watching.end()


@ON_A_FILE
def test_what_happened_before_is_caught_up_and_an_empty_folder_removes_nothing(watch, folder):
    first = watch(folder)
    first.has("a.png", "b.png")
    first.end()
    (folder / "a.png").unlink()
    noise(3).save(folder / "c.png")
    second = watch(folder)
    second.has("b.png", "c.png")
    second.end()
    shutil.rmtree(folder)
    folder.mkdir()
    third = watch(folder)
    third.has("b.png", "c.png")
    third.end()
