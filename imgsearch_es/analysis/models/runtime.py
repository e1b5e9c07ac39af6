"""What runs a network: Keras on TensorFlow, imported late and quietly."""

from __future__ import annotations

import importlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import (
    AnalyzerError,
    ConfigurationError,
    ImgsearchError,
    MissingDependencyError,
)

if TYPE_CHECKING:
    import keras

RUNTIMES = ("auto", "tensorflow", "openvino")
VARIABLE = "IMGSEARCH_RUNTIME"
"""The environment variable that names a runtime where no option does."""

Outputs: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""(posterior, embedding), of shapes (pictures, classes) and (pictures, dimensions)."""
Runtime: TypeAlias = Callable[[NDArray[np.uint8]], Outputs]
"""A network, ready to run; safe in many threads. Takes one or more pictures, RGB, 0 to 255, of
shape (pictures, height, width, 3)."""

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_NOTHING = "3"
_BACKEND = "KERAS_BACKEND"
_CHATTER = re.compile(
    rb"[IWE]0000 |WARNING: All log messages before absl::|To enable the following instructions"
)
_importing = threading.Lock()


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

    Args:
        network: float32 pixels (pictures, height, width, 3) -> [posterior, embedding].
    """

    def __init__(self, network: keras.Model) -> None:
        import tensorflow as tf

        def run(pixels: tf.Tensor) -> list[tf.Tensor]:
            outputs = network(tf.cast(pixels, tf.float32), training=False)
            return [tf.cast(output, tf.float32) for output in outputs]

        self._error: type[Exception] = tf.errors.OpError
        self._lock = threading.Lock()  # one batch at a time uses all cores, and its own memory
        signature = [tf.TensorSpec(network.inputs[0].shape, tf.uint8)]
        self.function = tf.function(run, input_signature=signature, autograph=False)

    def __call__(self, pixels: NDArray[np.uint8]) -> Outputs:
        """One forward pass; see `Runtime`."""
        with telling("the network does not run", kind=self._error), self._lock:
            posterior, embedding = self.function(pixels)
        return posterior.numpy(), embedding.numpy()


def check_runtime(name: str) -> str:
    """The name of a runtime, or a ConfigurationError if it is none."""
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


@contextmanager
def telling(
    problem: str, say: type[Exception] = AnalyzerError, kind: type[Exception] = Exception
) -> Iterator[None]:
    """What libraries raise within becomes an error that a user understands."""
    try:
        yield
    except ImgsearchError:
        raise
    except kind as error:
        raise say(f"{problem}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What went wrong, in one line: Keras's and TensorFlow's errors run on for pages."""
    text = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config:")[0]
    lines = text.strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")[:300]


def import_keras() -> Any:
    """Import Keras 3 on TensorFlow, without TensorFlow's messages; safe in many threads."""
    with _importing:
        return _import_keras()


@cache
def _import_keras() -> Any:
    _check_backend(os.environ.setdefault(_BACKEND, "tensorflow"))
    with _quiet():
        try:
            importlib.import_module("tensorflow")
            keras = importlib.import_module("keras")
        except ModuleNotFoundError as error:
            if error.name not in ("tensorflow", "keras"):
                raise
            raise MissingDependencyError(
                "classifying pictures needs TensorFlow: pip install tensorflow"
            ) from error
    if not keras.__version__.startswith("3."):
        found = f"Keras 3 is needed and {keras.__version__} is installed"
        raise MissingDependencyError(f"{found}: pip install --upgrade tensorflow keras")
    _check_backend(keras.config.backend())
    _share_gpus()
    return keras


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
def _quiet() -> Iterator[None]:
    """Keep TensorFlow's start-up messages off the terminal, unless the user set a lower level.

    It writes some to file descriptor 2 before it looks at any setting. So that descriptor is held
    while TensorFlow is imported; whatever else was written to it meanwhile is passed on.
    """
    if os.environ.setdefault(_LOG_LEVEL, _NOTHING) != _NOTHING or "tensorflow" in sys.modules:
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
