"""OpenVINO runs a network on the processor; a faster `Runtime` than TensorFlow, and sooner ready.

Converting needs TensorFlow once; a converted network is read without it.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models import runtime_cache
from imgsearch_es.analysis.models.runtime import Outputs, cores, reason
from imgsearch_es.errors import AnalyzerError, MissingDependencyError, pip_install

NETWORK = "network.xml"
"""The converted network in its folder; its weights lie beside it (network.bin)."""

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
        try:
            return self._one(pixels) if len(pixels) == 1 else self._many(pixels)
        except RuntimeError as error:
            raise AnalyzerError(f"OpenVINO does not run the network: {reason(error)}") from error

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
        if self._folder is None:
            return self._compiled_by({}, hint, streams)
        try:
            found = self._compiled_by({"CACHE_DIR": str(self._folder)}, hint, streams)
            runtime_cache.record(self._folder)
        except (RuntimeError, OSError) as error:  # the disk is full, say
            _log.warning("nothing compiled is kept for the next start: %s", error)
            self._folder = None
            return self._compiled_by({}, hint, streams)
        return found

    def _compiled_by(self, cache: dict[str, str], hint: str, streams: int) -> Any:
        return _core().compile_model(
            self._network,
            _DEVICE,
            {
                # Left alone, OpenVINO takes bfloat16 on processors that have it: scores then
                # differ by some hundredths.
                "INFERENCE_PRECISION_HINT": "f32",
                "PERFORMANCE_HINT": hint,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": cores(),
                "ENABLE_CPU_PINNING": False,  # decoding processes want the same cores
                **cache,
            },
        )


def convert(function: Any) -> Any:
    """Convert `TensorFlowRuntime.function`: the same input, the same two outputs.

    (Keras's ``network.export(format="openvino")`` calls the same converter.)

    Raises:
        AnalyzerError: OpenVINO cannot convert it.
        MissingDependencyError: OpenVINO is not installed.
    """
    openvino = import_openvino()
    try:
        # Shared weights would be freed with TensorFlow's network, and numbers at random then.
        return openvino.convert_model(function, share_weights=False)
    except Exception as error:  # the converter raises a dozen kinds
        raise AnalyzerError(f"OpenVINO cannot convert the network: {reason(error)}") from error


def save(network: Any, folder: Path) -> None:
    """Write a converted network into a folder, its weights as float32.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        import_openvino().save_model(network, folder / NETWORK, compress_to_fp16=False)
    except RuntimeError as error:
        raise OSError(f"cannot write {folder / NETWORK}: {reason(error)}") from error


def read(folder: Path) -> Any:
    """Read a converted network from its folder, without TensorFlow.

    Raises:
        AnalyzerError: it is not there, or damaged.
    """
    try:
        return _core().read_model(folder / NETWORK)
    except RuntimeError as error:
        raise AnalyzerError(f"cannot read {folder / NETWORK}: {reason(error)}") from error


def parse(description: bytes, weights: bytes) -> Any:
    """Make a network of the content of its two files.

    Raises:
        AnalyzerError: they are damaged.
        MissingDependencyError: OpenVINO is not installed.
    """
    try:
        return _core().read_model(description, weights)
    except RuntimeError as error:
        raise AnalyzerError(f"cannot read a network: {reason(error)}") from error


def is_installed() -> bool:
    """Whether the package is there; does not import it."""
    return find_spec("openvino") is not None


def processor() -> str:
    """What a decision depends on: the processor's name and the kinds of numbers it computes with.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
    """
    core = _core()
    abilities = sorted(core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
    return f"{core.get_property(_DEVICE, 'FULL_DEVICE_NAME')} ({', '.join(abilities)})"


def import_openvino() -> Any:
    """Import OpenVINO, safe in many threads.

    Its package ``openvino_telemetry`` reports each import and conversion to its makers, unless the
    user says otherwise. What is done with pictures here is nobody's business, so it stays out, and
    OpenVINO takes the stand-in that it has for that case.

    Raises:
        MissingDependencyError: OpenVINO is not installed, or does not run on this machine.
    """
    with _importing:
        return _import_openvino()


@cache
def _import_openvino() -> Any:
    with without_telemetry():
        try:
            return importlib.import_module("openvino")
        except ImportError as error:
            missing = "is not installed" if not is_installed() else f"does not load ({error})"
            raise MissingDependencyError(
                f"OpenVINO {missing}: {pip_install('fast')}, or use --runtime tensorflow"
            ) from error


@contextmanager
def without_telemetry() -> Iterator[None]:
    """It cannot be imported for a while; if it is imported already, it stays."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


@cache
def _core() -> Any:
    return import_openvino().Core()
