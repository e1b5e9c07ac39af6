"""Which runtime a network gets: OpenVINO where it is installed and its output is TensorFlow's.

That is found out once for each network, machine and set of versions, and kept beside the converted
network, so that later processes need no TensorFlow. Where TensorFlow has a GPU, it stays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import without_paths
from imgsearch_es.analysis.models.kept_files import check_files, record_files
from imgsearch_es.analysis.models.runtime import (
    OpenVINORuntime,
    Outputs,
    Runtime,
    TensorFlowRuntime,
    convert,
    import_keras,
    import_openvino,
    is_installed,
    processor,
    read,
    save,
)
from imgsearch_es.analysis.plugins import installed_version, version_of
from imgsearch_es.errors import AnalyzerError, ConfigurationError, MissingDependencyError
from imgsearch_es.pictures import places

if TYPE_CHECKING:
    import keras

    from imgsearch_es.analysis.configuration import DeepFeature

RUNTIMES = ("auto", "tensorflow", "openvino")
VARIABLE = "IMGSEARCH_RUNTIME"
"""The environment variable that names a runtime where no option does."""

TOLERANCE = 1e-4
"""How far an output may be from TensorFlow's; see `differences`."""
NETWORKS = 1
"""To be raised when the same configuration gives another network: older ones are then not used."""

_CHOICE = "choice.json"
_log = logging.getLogger(__name__)


class Network(Protocol):
    """What is asked of a `NetworkModel`."""

    name: str
    config: Any
    size: tuple[int, int]
    deep_feature: DeepFeature

    def fingerprint(self) -> str:
        """As of the model."""

    def checked_network(self) -> keras.Model:
        """The network, built."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision for "tensorflow" or "openvino", and what it rests on."""

    runtime: str
    reason: str
    model: str = ""
    differences: dict[str, float] = field(default_factory=dict)
    agrees: bool = False
    """Whether OpenVINO may be used at all."""
    made_for: dict[str, str] = field(default_factory=dict)
    """The versions and the machine that this holds for."""


def open_runtime(model: Network, wanted: str | None) -> tuple[Runtime, Choice]:
    """Make the runtime wanted of a network, else as IMGSEARCH_RUNTIME says, else "auto"."""
    wanted = check_runtime(wanted or os.environ.get(VARIABLE) or "auto")
    if wanted == "tensorflow":
        return _tensorflow(model), Choice("tensorflow", "it was asked for", model.name)
    try:
        import_openvino()
    except MissingDependencyError as error:
        if wanted == "openvino":
            raise
        return _tensorflow(model), Choice("tensorflow", str(error), model.name)
    folder = folder_of(model)
    runtimes: dict[str, Runtime] = {}
    choice = _read(folder)
    if choice:
        try:
            check_files(folder)
            if choice.agrees and "openvino" in (wanted, choice.runtime):
                return OpenVINORuntime(read(folder), folder), choice
        except AnalyzerError as error:
            _log.warning("%s; measuring again", error)
            choice = None
    if choice is None:
        runtimes, choice = _decide(model, folder)
    if wanted == "openvino" and not choice.agrees:
        raise AnalyzerError(f"{model.name} cannot use the runtime openvino: {choice.reason}")
    name = choice.runtime if wanted == "auto" else wanted
    return runtimes.get(name) or _tensorflow(model), choice


def check_runtime(name: str) -> str:
    """A ConfigurationError unless this is one of RUNTIMES."""
    if name not in RUNTIMES:
        raise ConfigurationError(
            f"there is no runtime {name!r}: --runtime and {VARIABLE} take {', '.join(RUNTIMES)}"
        )
    return name


def has_gpu() -> bool:
    """Whether TensorFlow runs on a GPU here."""
    import_keras()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def measure(model: Network) -> Choice:
    """Decide anew, whatever was decided before; raises without OpenVINO."""
    import_openvino()
    return _decide(model, folder_of(model))[1]


def differences(reference: Outputs, other: Outputs) -> dict[str, float]:
    """How far two outputs are apart: the largest difference of two scores ("posterior").

    And of two values of a deep feature, in relation to its largest value ("embedding").
    """
    apart = np.abs(reference[1] - other[1]).max(axis=1)
    largest = np.abs(reference[1]).max(axis=1)
    relative = np.divide(apart, largest, out=np.zeros_like(apart), where=apart > 0)
    return {
        "posterior": float(np.abs(reference[0] - other[0]).max()),
        "embedding": float(relative.max()),
    }


def known_choices() -> list[Choice]:
    """The decisions that hold for this machine and what is installed, by model."""
    if not is_installed():
        return []
    current = _made_for()
    kept = [_read(path.parent) for path in cache_folder().glob(f"*/{_CHOICE}")]
    holding = [choice for choice in kept if choice and choice.made_for == current]
    return sorted(holding, key=lambda choice: choice.model)


def folder_of(model: Network) -> Path:
    """The folder of a network on this machine, named by all that its output depends on."""
    feature = without_paths(model.deep_feature.to_config())
    made = (type(model).__qualname__, version_of("imgsearch_es.models", model.name), NETWORKS)
    parts = (model.config, feature, model.fingerprint(), made, _made_for())
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    name = re.sub(r"\W+", "-", Path(model.name).name)
    return cache_folder() / f"{name}-{digest[:16]}"


def cache_folder() -> Path:
    """Where they are."""
    return places.cache_folder("runtimes")


@contextmanager
def _replaced(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` in the end, or of none.

    Not of one that another process made meanwhile, and may use.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    before = _made_at(folder)
    place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        yield place
        if _made_at(folder) == before:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            place.rename(folder)
        except OSError:
            _log.info("another process was faster to write %s", folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _made_at(folder: Path) -> int | None:
    """When the decision in a folder was made; None where there is none."""
    try:
        return (folder / _CHOICE).stat().st_mtime_ns
    except OSError:
        return None


def _made_for() -> dict[str, str]:
    made_with = ("imgsearch-es", "openvino", "keras", "tensorflow", "tensorflow-cpu")
    versions = {name: number for name in made_with if (number := installed_version(name))}
    # Of NVIDIA's driver, of it under Windows's Linux, of AMD's; TensorFlow need not say it.
    devices = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    gpu = not hidden and any(map(os.path.exists, devices))
    return {**versions, "processor": processor(), "gpu": "yes" if gpu else "no"}


def _read(folder: Path) -> Choice | None:
    """The decision kept in a folder; None where there is none, or it cannot be read."""
    try:
        return Choice(**json.loads((folder / _CHOICE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _decide(model: Network, folder: Path) -> tuple[dict[str, Runtime], Choice]:
    """Run the probe on both runtimes; keep the decision, and the network if it may be used."""
    _log.info("finding out once whether OpenVINO agrees with TensorFlow on %s", model.name)
    reference = _tensorflow(model)
    try:
        with _replaced(folder) as place:
            runtimes, choice = _probe(model, reference, place)
        other: Any = runtimes.get("openvino")
        if other is not None:
            other.folder = folder  # where what it compiles later is kept
        return runtimes, choice
    except OSError as error:  # the disk is full, say
        _log.warning("nothing is kept for the next start: %s", error)
        return _probe(model, reference, None)


def _probe(
    model: Network, reference: TensorFlowRuntime, place: Path | None
) -> tuple[dict[str, Runtime], Choice]:
    """The runtimes that may be used, and the decision; both kept in a folder, if there is one."""
    runtimes: dict[str, Runtime] = {"tensorflow": reference}
    try:
        other = _openvino(reference, place)
        pixels = probe_pictures(32, model.size)
        choice = _compared(model.name, differences(reference(pixels), other(pixels)))
    except AnalyzerError as error:
        choice = Choice("tensorflow", str(error), model.name, made_for=_made_for())
    if choice.agrees:
        runtimes["openvino"] = other
    else:
        _log.warning("%s runs on TensorFlow: %s", model.name, choice.reason)
        if place:
            shutil.rmtree(place)
            place.mkdir()
    if place:
        text = json.dumps(dataclasses.asdict(choice), indent=2)
        (place / _CHOICE).write_text(text, encoding="utf-8")
        record_files(place)
    return runtimes, choice


def _compared(name: str, apart: dict[str, float]) -> Choice:
    reason = f"OpenVINO differs from TensorFlow by {apart['posterior']:.1e} in scores and by "
    reason += f"{apart['embedding']:.1e} in deep features"
    # Written so that a NaN disagrees.
    agrees = all(difference <= TOLERANCE for difference in apart.values())
    runtime = "openvino" if agrees and not has_gpu() else "tensorflow"
    if not agrees:
        reason += f", more than {TOLERANCE:.0e}"
    elif runtime == "tensorflow":
        reason = f"it has a GPU; {reason}"
    return Choice(runtime, reason, name, apart, agrees, _made_for())


def _tensorflow(model: Network) -> TensorFlowRuntime:
    return TensorFlowRuntime(model.checked_network())


def _openvino(reference: TensorFlowRuntime, place: Path | None) -> OpenVINORuntime:
    network = convert(reference.function)
    if place:
        save(network, place)
        network = read(place)
    return OpenVINORuntime(network, place)


def probe_pictures(count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures that excite a classifier as photos do; always the same.

    The amplitudes of a photo's frequencies fall as 1/f (Field 1987, J. Opt. Soc. Am. A 4), its
    colors go together, and objects hide what is behind them: so smooth colored noise, and on it
    ellipses filled with other such noise. The size is (height, width).
    """
    random = np.random.default_rng(0)
    pictures = np.empty((count, *size, 3), np.uint8)
    y, x = (np.linspace(0, 1, side) for side in size)
    for picture in pictures:
        picture[:] = _texture(size, random)
        for _ in range(6):
            middle, radius = random.random(2), random.uniform(0.05, 0.35, 2)
            down, across = (y - middle[0]) / radius[0], (x - middle[1]) / radius[1]
            inside = down[:, np.newaxis] ** 2 + across**2 < 1
            picture[inside] = _texture(size, random)[inside]
    return pictures


def _texture(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 1/f of shape (height, width, 3), 0 to 255: mostly lightness, a little color."""
    mean = random.uniform(60, 200, 3)
    light = _noise(size, random)[..., np.newaxis]
    color = np.stack([_noise(size, random) for _ in range(3)], axis=-1)
    return np.clip(mean + random.uniform(10, 50) * light + 15 * color, 0, 255)


def _noise(size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Noise of 1/f with mean 0 and standard deviation 1."""
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(random.standard_normal(size)) / frequency
    noise = np.fft.irfft2(spectrum, size)
    spread = noise.std()
    return noise / spread if spread else noise
