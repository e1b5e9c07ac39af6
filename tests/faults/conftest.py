"""A folder of pictures, places for indices, and processes that index."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgsearch_es import ImageIndex
from tests.conformance.conftest import place  # noqa: F401 - both stores, here as well
from tests.conftest import ROOT
from tests.fakes import FakeModel, noise, register

PICTURES = 120
BROKEN = 3
ALL = PICTURES + BROKEN
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def fake_model(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Registers the model "fake"."""
    register(monkeypatch)
    FakeModel.calls = 0
    return FakeModel


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures in four folders; some are copies, and three are broken."""
    top = tmp_path_factory.mktemp("faults") / "photos"
    for number in range(PICTURES):
        path = top / f"{number % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 20 == 7:
            path.write_bytes((top / "0" / "0.png").read_bytes())
            continue
        noise(number).save(path)
    for number in range(BROKEN):
        (top / f"broken{number}.jpg").write_bytes(b"\xff\xd8\xff and no more" + bytes([number]))
    return top


@pytest.fixture(scope="session")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict]:
    """What an index holds after a run that nothing disturbed."""

    @functools.cache
    def read() -> dict:
        location = str(tmp_path_factory.mktemp("undisturbed") / "index.duckdb")
        with ImageIndex(location, model="fake") as index:
            assert index.add(folder, batch_size=8).found == ALL
        return content(location)

    return read


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts ``tests.faults.indexer`` with these arguments."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.faults.indexer", *map(str, arguments)]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **pipes))
        return started[-1]

    yield run
    for child in started:
        child.kill()
        child.communicate()


def finish(child: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The report of a run that ends well, and what it said."""
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1]), err


def wait_for_pictures(child: subprocess.Popen[str], number: int) -> None:
    """Wait until the pipeline of a process has finished with so many pictures."""
    assert child.stdout is not None
    assert child.stderr is not None
    for _ in range(number):
        assert child.stdout.readline() == "picture\n", child.stderr.read()


def content(location: str) -> dict[str, tuple[Any, ...]]:
    """All that an index holds but the time, by URI; the ledger, too."""
    with ImageIndex(location) as index:
        index.store.finish()
        ids = [key for key, _ in index.store.below("/")]
        assert len(ids) == len(set(ids)) == index.count()
        documents = index.store.get(ids).values()
        found: dict[str, tuple[Any, ...]] = {
            d.uri: (d.id, d.sha256, d.terms, d.labels, dict(d.metadata), d.embedding.tolist())
            for d in documents
            if d.embedding is not None
        }
        rejected = {entry.uri: (entry.reason, entry.sha256) for entry in index.rejected()}
    assert len(found) == len(ids)
    return found | rejected
