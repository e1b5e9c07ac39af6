"""Decisions about runtimes and converted networks, kept in the user's cache folder.

One folder for each network, machine and set of versions: deleting any of them costs a few seconds
on the next start. It is written beside its place and moved there whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from imgsearch_es.analysis.models import (
    networks,
    openvino,
    parallel,
    pooling,
    runtime,
    saved_network,
)
from imgsearch_es.analysis.models.learnt_file import without_paths
from imgsearch_es.analysis.models.runtime import Network

_FILE = "choice.json"
_DISTRIBUTIONS = ("imgsearch-es", "openvino", "keras", "tensorflow", "tensorflow-cpu")
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA's driver, of it under Windows's Linux, of AMD's."""
_BUILDING = (
    networks.__file__,
    parallel.__file__,
    pooling.__file__,
    runtime.__file__,
    saved_network.__file__,
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision, and what it rests on.

    Attributes:
        runtime: "tensorflow" or "openvino".
        reason: in a sentence.
        model: the model's name.
        differences: of OpenVINO's output from TensorFlow's; see `runtime_choice.differences`.
        speed: pictures per second by runtime, then by the number of pictures in a batch.
        agrees: whether OpenVINO may be used at all.
        made_for: the versions and the machine that this holds for.
    """

    runtime: str
    reason: str
    model: str = ""
    differences: dict[str, float] = field(default_factory=dict)
    speed: dict[str, dict[str, float]] = field(default_factory=dict)
    agrees: bool = False
    made_for: dict[str, str] = field(default_factory=dict)


def cache_folder() -> Path:
    """Where they are: below IMGSEARCH_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_dir

    chosen = os.environ.get("IMGSEARCH_CACHE")
    cache = Path(chosen).expanduser() if chosen else Path(user_cache_dir("imgsearch_es"))
    return cache / "runtimes"


def folder_of(model: Network) -> Path:
    """The folder of a network on this machine; it need not exist.

    Its name holds a hash of all that the output depends on: the model's options and weights, its
    deep feature, the code that builds its network, versions and processor.

    Raises:
        WeightsError: the weights are missing.
        MissingDependencyError: OpenVINO is not installed.
    """
    feature = without_paths(model.deep_feature.to_config())
    parts = (model.config, feature, model.fingerprint(), _code(model), made_for())
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"\W+", "-", Path(model.name).name)
    return cache_folder() / f"{name}-{digest[:16]}"


def made_for() -> dict[str, str]:
    """The versions and the machine that a decision holds for.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    found = {name: number for name in _DISTRIBUTIONS if (number := _version(name))}
    return {**found, "processor": openvino.processor(), "gpu": "yes" if _has_gpu() else "no"}


def read_choice(folder: Path) -> Choice | None:
    """The decision kept in a folder; None where there is none, or it cannot be read."""
    try:
        return Choice(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def known_choices() -> list[Choice]:
    """The decisions that hold for this machine and what is installed, by model."""
    if not openvino.is_installed():
        return []
    current = made_for()
    found = [read_choice(path.parent) for path in cache_folder().glob(f"*/{_FILE}")]
    holding = [choice for choice in found if choice and choice.made_for == current]
    return sorted(holding, key=lambda choice: choice.model)


def write(folder: Path, choice: Choice) -> None:
    """Keep a decision in a folder."""
    text = json.dumps(dataclasses.asdict(choice), indent=2)
    (folder / _FILE).write_text(text, encoding="utf-8")


def empty(folder: Path) -> None:
    """Remove what is in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


@contextmanager
def replaced(folder: Path) -> Iterator[Path | None]:
    """A new folder to write to, which takes the place of ``folder`` in the end, or of none.

    Gives None where the cache cannot be written: then nothing is kept.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        _log.warning("nothing is kept for the next start: %s", error)
        yield None
        return
    try:
        yield place
        shutil.rmtree(folder, ignore_errors=True)
        try:
            place.rename(folder)
        except OSError:
            _log.info("another process was faster to write %s", folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _code(model: Network) -> str:
    """A hash of the modules that build the network, so that changed code is no old network."""
    classes = [cls for cls in type(model).__mro__ if cls.__module__ not in ("builtins", "abc")]
    sources = map(inspect.getsourcefile, classes)
    digest = hashlib.sha256()
    for source in sorted({*filter(None, sources), *_BUILDING}):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()


def _has_gpu() -> bool:
    """Whether TensorFlow may find a GPU; said without importing it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not hidden and any(map(os.path.exists, _GPU_DEVICES))


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
