"""What runs a network: Keras on TensorFlow, or OpenVINO on the processor; both imported late.

OpenVINO is faster, and sooner ready. Converting needs TensorFlow once; a converted network is kept
in a folder (`runtime_choice`), and is read without TensorFlow.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import re
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models.kept_files import record_files
from imgsearch_es.errors import (
    AnalyzerError,
    ConfigurationError,
    MissingDependencyError,
    pip_install,
    reason_of,
    telling,
)
from imgsearch_es.pictures.places import alone_in

if TYPE_CHECKING:
    import keras

Outputs: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(posterior, embedding), of shapes (pictures, classes) and (pictures, dimensions)."""
Runtime: TypeAlias = Callable[[NDArray[np.uint8]], Outputs]
"""A network, ready to run; safe in many threads. Takes one or more pictures, RGB, 0 to 255, of
shape (pictures, height, width, 3)."""

_BACKEND = "KERAS_BACKEND"
_CHATTER = re.compile(
    rb"[IWE]0000 |WARNING: All log messages before absl::|To enable the following instructions"
)
_DEVICE = "CPU"
NETWORK = "network.xml"
"""A converted network in its folder; its weights lie beside it (network.bin)."""
_TELEMETRY = "openvino_telemetry"
_FEWER_BITS = "ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE", "TF_SET_ONEDNN_FPMATH_MODE"
_importing, _setting = threading.Lock(), threading.RLock()
_log = logging.getLogger(__name__)


def cores() -> int:
    """How many cores this process may use; fewer than the machine's under taskset or Slurm."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class TensorFlowRuntime:
    """A Keras network as one ``tf.function``, on the device that TensorFlow chooses.

    It is traced once, for batches of any length. (Keras's ``predict`` builds a data pipeline at
    each call: slower, and its memory grows.) Without XLA and mixed precision, which are slower on
    processors or move scores; docs/decisions/009-runtimes.md has the numbers.
    """

    def __init__(self, network: keras.Model) -> None:
        import tensorflow as tf

        def run(pixels: tf.Tensor) -> list[tf.Tensor]:
            with in_float32():
                outputs = network(tf.cast(pixels, tf.float32), training=False)
            return [tf.cast(output, tf.float32) for output in outputs]

        self._error: type[Exception] = tf.errors.OpError
        self._lock = threading.Lock()  # one batch at a time uses all cores, and its own memory
        signature = [tf.TensorSpec(network.inputs[0].shape, tf.uint8)]
        self.function = tf.function(run, input_signature=signature, autograph=False)

    def __call__(self, pixels: NDArray[np.uint8]) -> Outputs:
        """One forward pass; see `Runtime`."""
        import_keras()
        with telling("the network does not run", kind=self._error), self._lock:
            posterior, embedding = self.function(pixels)
        return posterior.numpy(), embedding.numpy()


@dataclass
class _Compiled:
    """A network for single pictures and for batches, and the batches' queues that are free."""

    single: Any = None
    many: Any = None
    queues: list[Any] = field(default_factory=list)


class OpenVINORuntime:
    """A converted network, compiled for one picture at a time; safe in many threads.

    A batch is one request for each picture, each on one core, and one more waits for each core. So
    a picture's scores do not depend on its neighbors, and no core waits for another, nor for
    Python, which matters while other processes decode. Two threads may have a batch each; then no
    core is without work while a batch ends. A single picture gets all cores instead.

    The network that `convert` or `read` gave is changed to a batch of one. What is compiled of it
    is kept in the folder, if there is one, for the next process.
    """

    def __init__(self, network: Any, folder: Path | None = None) -> None:
        _, *picture = network.inputs[0].partial_shape
        network.reshape([1, *picture])
        self._network = network
        self._lengths = [int(output.shape[1]) for output in network.outputs]
        self.folder = folder
        self._lock = threading.Lock()
        # By process, as a fork has none of the threads that run what its parent compiled.
        self._compiled = defaultdict[int, _Compiled](_Compiled)

    def __call__(self, pixels: NDArray[np.uint8]) -> Outputs:
        """One forward pass; see `Runtime`."""
        with telling("OpenVINO does not run the network", kind=RuntimeError):
            return self._one(pixels) if len(pixels) == 1 else self._many(pixels)

    def _one(self, pixels: NDArray[np.uint8]) -> Outputs:
        with self._lock:
            mine = self._compiled[os.getpid()]
            mine.single = mine.single or self._compile("LATENCY", streams=1)
            posterior, embedding = mine.single(pixels).values()
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
        self._compiled[os.getpid()].queues.append(queue)  # one that failed is not used again
        return outputs[0], outputs[1]

    def _free_queue(self) -> Any:
        """One that no other thread uses; all of them give work to the same streams."""
        with self._lock:
            mine = self._compiled[os.getpid()]
            mine.many = mine.many or self._compile("THROUGHPUT", streams=cores())
            if mine.queues:
                return mine.queues.pop()
            return import_openvino().AsyncInferQueue(mine.many, 2 * cores())

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
        if self.folder:
            kept = {**options, "CACHE_DIR": str(self.folder)}
            try:
                with alone_in(self.folder):  # it maps what another may be writing, which ends it
                    found = core().compile_model(self._network, _DEVICE, kept)
                    record_files(self.folder)
                return found
            except (RuntimeError, OSError) as error:  # the disk is full, say
                _log.warning("nothing compiled is kept for the next start: %s", error)
                self.folder = None
        return core().compile_model(self._network, _DEVICE, options)


def convert(function: Any) -> Any:
    """Convert `TensorFlowRuntime.function`: the same input, the same two outputs."""
    openvino = import_openvino()
    with telling("OpenVINO cannot convert the network"):
        if sys.version_info >= (3, 13):  # where how OpenVINO 2026 asks for the version fails
            utils = importlib.import_module("openvino.frontend.tensorflow.utils")
            versions = {"tensorflow": sys.modules["tensorflow"].__version__}
            utils.get_environment_setup = lambda framework: versions
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


def import_keras() -> Any:
    """Import Keras 3 on TensorFlow, without TensorFlow's messages; safe in many threads.

    Not in a fork of a process that did: TensorFlow would wait for threads that are not there.
    """
    with _importing:
        keras, process = _import_keras()
    if process != os.getpid():
        raise AnalyzerError(
            "this process was forked after TensorFlow was loaded, which does not run in it: start "
            'processes by "spawn"'
        )
    _check_program(sys.modules["tensorflow"])
    return keras


def _check_program(tensorflow: Any) -> None:
    """Refuse what the program around set for TensorFlow where scores would be others."""
    if not tensorflow.compat.v1.executing_eagerly_outside_functions():
        raise ConfigurationError(
            "this program builds graphs of TensorFlow 1 (disable_eager_execution, tf.Graph), in "
            "which no picture can be classified: do so before, or in a process of its own"
        )
    options = tensorflow.config.optimizer.get_experimental_options()
    if fewer_bits := [name for name in options if "mixed_precision" in name and options[name]]:
        raise ConfigurationError(
            f"this program lets TensorFlow compute with fewer bits, so scores would be others: set "
            f"{fewer_bits[0]!r} to False (tf.config.optimizer.set_experimental_options)"
        )


@contextmanager
def in_float32() -> Iterator[None]:
    """Whatever the program or keras.json sets for networks, those made within have the defaults.

    And Keras takes its seeds from Python's random numbers: these go on as if none had been taken.
    """
    config, names = import_keras().config, ("dtype_policy", "floatx", "image_data_format")
    with _setting:
        before, numbers = [getattr(config, name)() for name in names], random.getstate()
        try:
            for name, value in zip(names, ("float32", "float32", "channels_last"), strict=True):
                getattr(config, f"set_{name}")(value)
            yield
        finally:
            for name, value in zip(names, before, strict=True):
                getattr(config, f"set_{name}")(value)
            random.setstate(numbers)


def _use_all_bits() -> None:
    """Take away what lets oneDNN, which computes for both, round factors to bfloat16."""
    for name in _FEWER_BITS:
        os.environ.pop(name, None)


@cache
def _import_keras() -> tuple[Any, int]:
    _use_all_bits()
    _check_backend(os.environ.setdefault(_BACKEND, "tensorflow"))
    with quiet():
        try:
            importlib.import_module("tensorflow")
            keras = importlib.import_module("keras")
        except Exception as error:  # protobuf raises one of its own
            said = f"needs TensorFlow, which does not load ({reason_of(error)})"
            if isinstance(error, ModuleNotFoundError) and error.name in ("tensorflow", "keras"):
                said = "needs TensorFlow: pip install tensorflow"
            raise MissingDependencyError(f"classifying pictures {said}") from error
    if not keras.__version__.startswith("3."):
        found = f"Keras 3 is needed and {keras.__version__} is installed"
        raise MissingDependencyError(f"{found}: pip install --upgrade tensorflow keras")
    _check_backend(keras.config.backend())
    _share_gpus()
    return keras, os.getpid()


def _check_backend(backend: str) -> None:
    if backend != "tensorflow":
        raise ConfigurationError(
            f"Keras runs on {backend!r} here, but imgsearch_es needs it on TensorFlow: "
            f"set {_BACKEND}=tensorflow before Python starts"
        )


def _share_gpus() -> None:
    """Let GPUs take memory as it is needed, and compute with float32 as processors do.

    With TensorFloat-32 (10 bits of each factor) a picture's scores would depend on the machine.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    try:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        return  # the application has used TensorFlow already, and its settings hold
    if gpus:
        tf.config.experimental.enable_tensor_float_32_execution(False)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's start-up messages off the terminal, unless the user set a lower level.

    It writes some to file descriptor 2 before it looks at any setting. So that descriptor is held
    while TensorFlow is imported; whatever else was written to it meanwhile is passed on.
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if level != "3" or "tensorflow" in sys.modules:
        yield
        return
    try:
        terminal = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(terminal, line)
            os.close(terminal)


def is_installed() -> bool:
    """Whether the package is there; does not import it."""
    return find_spec("openvino") is not None


def processor() -> str:
    """The processor's name and the kinds of numbers it computes with."""
    with telling("OpenVINO does not run", kind=RuntimeError):
        abilities = sorted(core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES"))
        return f"{core().get_property(_DEVICE, 'FULL_DEVICE_NAME')} ({', '.join(abilities)})"


def import_openvino() -> Any:
    """Import OpenVINO, safe in many threads; without its package that reports to its makers."""
    with _importing:
        return _import_openvino()


@cache
def _import_openvino() -> Any:
    _use_all_bits()
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
