"""OpenVINO runs a network on the processor; a faster `Runtime` than TensorFlow, and sooner ready.

Converting needs TensorFlow once. A converted network is kept in a folder of the user's cache, with
what was compiled of it and decided about it, and is read without TensorFlow. Deleting any of these
folders costs a few seconds on the next start. A folder is written beside its place and moved there
whole, and each file in it has a checksum, for a damaged network gives wrong scores in silence.
"""

from __future__ import annotations

import importlib
import json
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.runtime import Outputs, cores, telling
from imgsearch_es.analysis.models.weights import digest_of
from imgsearch_es.errors import AnalyzerError, MissingDependencyError, pip_install
from imgsearch_es.pictures import files

NETWORK = "network.xml"
"""The converted network in its folder; its weights lie beside it (network.bin)."""

_CHECKSUMS = "checksums.json"
_TELEMETRY = "openvino_telemetry"
_DEVICE = "CPU"
_importing = threading.Lock()
_log = logging.getLogger(__name__)


class OpenVINORuntime:
    """A converted network, compiled for one picture at a time; safe in many threads.

    A batch is one request for each picture, each on one core, and one more waits for each core. So
    a picture's scores do not depend on its neighbors, and no core waits for another, nor for
    Python, which matters while other processes decode. Two threads may have a batch each; then no
    core is without work while a batch ends. A single picture gets all cores instead.

    Args:
        network: what `convert` or `read` gives; changed to a batch of one.
        folder: keeps what is compiled here for the next process; None keeps nothing.
    """

    def __init__(self, network: Any, folder: Path | None = None) -> None:
        _, *picture = network.inputs[0].partial_shape
        network.reshape([1, *picture])
        self._network = network
        self._lengths = [int(output.shape[1]) for output in network.outputs]
        self._folder = folder
        self._lock = threading.Lock()
        self._single: Any = None
        self._compiled: Any = None
        self._queues: list[Any] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> Outputs:
        """One forward pass; see `Runtime`."""
        with telling("OpenVINO does not run the network", kind=RuntimeError):
            return self._one(pixels) if len(pixels) == 1 else self._many(pixels)

    def _one(self, pixels: NDArray[np.uint8]) -> Outputs:
        with self._lock:
            if self._single is None:
                self._single = self._compile("LATENCY", streams=1)
            posterior, embedding = self._single(pixels).values()
            return posterior.copy(), embedding.copy()

    def _many(self, pixels: NDArray[np.uint8]) -> Outputs:
        pixels = np.ascontiguousarray(pixels)  # its rows are not copied
        queue = self._free_queue()
        outputs = tuple(np.empty((len(pixels), n), np.float32) for n in self._lengths)
        tensor = import_openvino().Tensor
        for row in range(len(pixels)):
            # Both ends are rows of these arrays: nothing is copied, nor called back for each.
            request = queue[queue.get_idle_request_id()]
            request.set_input_tensor(0, tensor(pixels[row : row + 1], shared_memory=True))
            for i, output in enumerate(outputs):
                request.set_output_tensor(i, tensor(output[row : row + 1], shared_memory=True))
            queue.start_async()
        queue.wait_all()
        self._queues.append(queue)  # one that failed is not used again
        return outputs[0], outputs[1]

    def _free_queue(self) -> Any:
        """One that no other thread uses; all of them give work to the same streams."""
        with self._lock:
            if self._compiled is None:
                self._compiled = self._compile("THROUGHPUT", streams=cores())
            if self._queues:
                return self._queues.pop()
            return import_openvino().AsyncInferQueue(self._compiled, 2 * cores())

    def _compile(self, hint: str, streams: int) -> Any:
        options = {
            # Left alone, OpenVINO takes bfloat16 on processors that have it: scores then
            # differ by some hundredths.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": hint,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": cores(),
            "ENABLE_CPU_PINNING": False,  # decoding processes want the same cores
        }
        if self._folder:
            kept = {**options, "CACHE_DIR": str(self._folder)}
            try:
                found = core().compile_model(self._network, _DEVICE, kept)
                record(self._folder)
                return found
            except (RuntimeError, OSError) as error:  # the disk is full, say
                _log.warning("nothing compiled is kept for the next start: %s", error)
                self._folder = None
        return core().compile_model(self._network, _DEVICE, options)


def convert(function: Any) -> Any:
    """Convert `TensorFlowRuntime.function`: the same input, the same two outputs."""
    openvino = import_openvino()
    with telling("OpenVINO cannot convert the network"):
        # Shared weights would be freed with TensorFlow's network, and numbers at random then.
        return openvino.convert_model(function, share_weights=False)


def save(network: Any, folder: Path) -> None:
    """Write a converted network into a folder, its weights as float32; raises OSError."""
    with telling(f"cannot write {folder / NETWORK}", OSError, RuntimeError):
        import_openvino().save_model(network, folder / NETWORK, compress_to_fp16=False)


def read(folder: Path) -> Any:
    """Read a converted network from its folder, without TensorFlow."""
    with telling(f"cannot read {folder / NETWORK}", kind=RuntimeError):
        return core().read_model(folder / NETWORK)


def cache_folder() -> Path:
    """Where they are."""
    return files.cache_folder("runtimes")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new folder to write to, which takes the place of ``folder`` in the end, or of none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        yield place
        shutil.rmtree(folder, ignore_errors=True)
        try:
            place.rename(folder)
        except OSError:
            _log.info("another process was faster to write %s", folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def record(folder: Path) -> None:
    """Keep the checksums of the files that have none yet."""
    recorded = _recorded(folder)
    new = {path.name: digest_of(path) for path in _files(folder) if path.name not in recorded}
    if new:
        with files.replacing(folder / _CHECKSUMS) as draft:
            draft.write_text(json.dumps(recorded | new, indent=2), encoding="utf-8")


def check(folder: Path) -> None:
    """An AnalyzerError if a file is damaged or gone; one that was not recorded is removed."""
    recorded = _recorded(folder)
    for path in _files(folder):
        if path.name not in recorded:
            path.unlink(missing_ok=True)
    for name, digest in recorded.items():
        try:
            if digest_of(folder / name) != digest:
                raise AnalyzerError(f"{folder / name} is damaged: its checksum is wrong")
        except OSError as error:
            raise AnalyzerError(f"cannot read {folder / name}: {error.strerror}") from error
    if not recorded:
        raise AnalyzerError(f"{folder} has no checksums")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != _CHECKSUMS]


def _recorded(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def is_installed() -> bool:
    """Whether the package is there; does not import it."""
    return find_spec("openvino") is not None


def processor() -> str:
    """The processor's name and the kinds of numbers it computes with."""
    abilities = sorted(core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
    return f"{core().get_property(_DEVICE, 'FULL_DEVICE_NAME')} ({', '.join(abilities)})"


def import_openvino() -> Any:
    """Import OpenVINO, safe in many threads; without its package that reports to its makers."""
    with _importing:
        return _import_openvino()


@cache
def _import_openvino() -> Any:
    with without_telemetry():
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            missing = "is not installed" if not is_installed() else f"does not load ({error})"
            way = f"{pip_install('fast')}, or use --runtime tensorflow"
            raise MissingDependencyError(f"OpenVINO {missing}: {way}") from error


@contextmanager
def without_telemetry() -> Iterator[None]:
    """``openvino_telemetry``, which reports each import and conversion, cannot be imported here.

    OpenVINO has a stand-in for that case. If it is imported already, it stays.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


@cache
def core() -> Any:
    """OpenVINO's own object, by which networks are read and compiled."""
    return import_openvino().Core()
