"""Fixtures of the unit tests: a model without TensorFlow, small pictures, an index, commands."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer import testing
from typer.testing import CliRunner, Result

from imgsearch_es import ImageIndex
from imgsearch_es.indexing import folder_label
from imgsearch_es.interfaces.cli import app
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from tests.fakes import FakeModel, register
from tests.serving import TOKEN, Client, Start, serving


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Registers the model "fake"."""
    register(monkeypatch)
    FakeModel.calls = 0
    return FakeModel


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve small pictures, and what tests copy instead of making it again."""
    top = tmp_path_factory.mktemp("stage")
    noise = np.random.default_rng(3)
    for kind in ("cats", "dogs"):
        (top / "pristine" / kind).mkdir(parents=True)
        for i in range(6):
            pixels = noise.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(top / "pristine" / kind / f"{kind[:-1]}.{i}.png")
    (top / "pristine" / "notes.txt").write_text("no picture")
    shutil.copytree(top / "pristine", top / "photos")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        with ImageIndex(top / "pets.duckdb", model="fake") as made:
            made.add(top / "photos", labels=folder_label)
    return top


@pytest.fixture
def photos(stage: Path) -> Iterator[Path]:
    """A folder of twelve small pictures in two subfolders, and a text file."""
    folder = stage / "photos"
    before = state(folder)
    yield folder
    if state(folder) != before:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(stage / "pristine", folder)


def state(folder: Path) -> set[tuple[Path, int, int, int]]:
    """What there is in a folder; other when anything was changed, added or removed."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {(path, at.st_ino, at.st_mode, at.st_mtime_ns) for path, at in found}


@pytest.fixture
def cat(photos: Path) -> Path:
    """One of the photos."""
    return photos / "cats" / "cat.0.png"


@pytest.fixture(scope="session", autouse=True)
def one_command() -> Iterator[None]:
    """The thirty commands are built once, not for each command that a test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(testing, "_get_command", functools.cache(testing._get_command))
        yield


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
def asked(run: Callable[..., Result]) -> Callable[..., Any]:
    """Runs a command with --json; gives what it printed."""
    return lambda *arguments, code=0: json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def place(run: Callable[..., Result], stage: Path, photos: Path, tmp_path: Path) -> Path:
    """The file of an index of the photos, labeled by their folders."""
    return Path(shutil.copy(stage / "pets.duckdb", tmp_path / "pets.duckdb"))


@pytest.fixture
def index(place: Path) -> Iterator[ImageIndex]:
    """The index of the photos, open."""
    with ImageIndex(place, model="fake") as opened:
        yield opened


@pytest.fixture
def new(fake_model: type[FakeModel], tmp_path: Path) -> Iterator[ImageIndex]:
    """An index that nobody has made yet."""
    with ImageIndex(tmp_path / "index.duckdb", model="fake") as opened:
        yield opened


@pytest.fixture
def start(place: Path, tmp_path: Path) -> Start:
    """Starts a server of the photos with settings."""

    def start(lexicon: Path | None = None, **settings: Any) -> AbstractContextManager[Client]:
        given = {"port": 0, "cache_folder": tmp_path / "cache", **settings}
        return serving(ServedIndex(place, lexicon=lexicon), ServerSettings(**given))

    return start


@pytest.fixture(scope="module")
def served(stage: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of the photos for tests that change nothing; it refuses nobody for haste."""
    folder = tmp_path_factory.mktemp("served")
    options = {"cache_folder": folder / "cache", "upload_folder": folder, "rate": 0.0}
    settings = ServerSettings(port=0, token=TOKEN, roots=(stage / "photos",), **options)
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        place = Path(shutil.copy(stage / "pets.duckdb", folder))
        with serving(ServedIndex(place), settings) as client:
            yield client


@pytest.fixture
def client(served: Client, photos: Path) -> Client:
    """The client of that server, without the token."""
    served.headers = {}
    return served


@pytest.fixture
def word(place: Path, cat: Path) -> str:
    """The best synset of a picture, so that there is something to find by word."""
    with ImageIndex(place) as index:
        return index.get(cat).terms[0].key
