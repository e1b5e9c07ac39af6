"""Fixtures of the unit tests: a model without TensorFlow, small pictures, an index, commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from imgsearch_es import ImageIndex
from imgsearch_es.cli import app
from tests.fakes import FakeModel, register


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Registers the model "fake"."""
    register(monkeypatch)
    FakeModel.calls = 0
    return FakeModel


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of twelve small pictures in two subfolders, and a text file."""
    folder = tmp_path / "photos"
    noise = np.random.default_rng(3)
    for kind in ("cats", "dogs"):
        (folder / kind).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{kind[:-1]}.{i}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def cat(photos: Path) -> Path:
    """One of the photos."""
    return photos / "cats" / "cat.0.png"


@pytest.fixture
def index(fake_model: type[FakeModel], photos: Path, tmp_path: Path) -> Iterator[ImageIndex]:
    """An index of the photos."""
    with ImageIndex(tmp_path / "pets.duckdb", model="fake") as opened:
        opened.add(photos)
        fake_model.calls = 0
        yield opened


@pytest.fixture
def run(fake_model: type[FakeModel], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process, with the model "fake"."""
    monkeypatch.delenv("IMGSEARCH_INDEX", raising=False)

    def run(*arguments: object, code: int = 0, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


@pytest.fixture
def place(run: Callable[..., Result], photos: Path, tmp_path: Path) -> Path:
    """The file of an index of the photos, which a command made."""
    path = tmp_path / "pets.duckdb"
    run("index", photos, "--index", path, "--model", "fake", "--label-from-folder")
    return path


@pytest.fixture
def word(place: Path, cat: Path) -> str:
    """The best synset of a picture, so that there is something to find by word."""
    with ImageIndex(place) as index:
        return index.get(cat).terms[0].key
