"""A deterministic model without TensorFlow, registered as a plug-in would be."""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis import plugins
from imgsearch_es.analysis.models.base import Prediction
from imgsearch_es.vocabulary.synsets import imagenet

if TYPE_CHECKING:
    import pytest


COMMAND = (
    *(sys.executable, "-c"),
    "from tests.fakes import register; register(); from imgsearch_es.__main__ import main; main()",
)
"""``imgsearch`` with the model "fake", in a process of its own."""


def noise(seed: int, width: int = 30, height: int = 20) -> Image.Image:
    """A picture unlike any of another seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def installed(folder: Path, points: str, module: str, code: str) -> str:
    """A package as pip installs it: its path, with these entry points and one module."""
    made = folder / f"{module}-1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text(f"Name: {module}\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text(points)
    (folder / f"{module}.py").write_text(code)
    return str(folder)


def pictures(folder: Path, count: int) -> Path:
    """A new folder with pictures 00.png, 01.png, ..., each unlike the others."""
    folder.mkdir()
    for number in range(count):
        noise(number).save(folder / f"{number:02}.png")
    return folder


class FakeModel:
    """Scores depend on the pixels only, are positive, and sum to 1; counts its calls."""

    calls = 0
    """Forward passes of all fake models; tests set it to 0."""

    def __init__(self, name: str, weights: str = "one") -> None:
        self.name = name
        self.config = {"name": name, "weights": weights}
        self.vocabulary = imagenet()
        self.image_filters = [{"name": "resize", "height": 8, "width": 8}]

    def fingerprint(self) -> str:
        return "sha256:" + hashlib.sha256(str(self.config["weights"]).encode()).hexdigest()

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        FakeModel.calls += 1
        mix = np.random.default_rng(7)
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
        weights = 4 * mix.standard_normal((flat.shape[1], 1000)).astype(np.float32)
        logits = np.stack([row @ weights for row in flat])  # the same whatever the batch
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits / 8)
        posterior = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return Prediction(posterior, flat[:, :16].copy())


def register(
    patch: pytest.MonkeyPatch | None = None,
    name: str = "fake",
    place: str = "tests.fakes:FakeModel",
) -> None:
    """Register a model, as an installed package would; without ``patch`` until the process ends."""
    group = "imgsearch_es.models"
    registered, entry = plugins._entry_points(group), EntryPoint(name, place, group)
    if patch is None:
        registered[name] = entry
    else:
        patch.setitem(registered, name, entry)
