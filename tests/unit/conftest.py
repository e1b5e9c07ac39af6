"""Fixtures of the unit tests: a model without TensorFlow, and small pictures."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import plugins
from tests.fakes import FakeModel


@pytest.fixture
def fake_model(monkeypatch: pytest.MonkeyPatch) -> type[FakeModel]:
    """Registers the model "fake"."""
    group = "imgsearch_es.models"
    registered = plugins._entry_points(group)
    fake = EntryPoint("fake", "tests.fakes:FakeModel", group)
    monkeypatch.setitem(registered, "fake", fake)
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
