"""Read the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it.

A checkpoint is a pickle, and a pickle is a program. The one that ``torch.save`` writes for a
dictionary of tensors needs few instructions and three kinds of names: ``OrderedDict``, the tensor
rebuilder and the storage types. So each pickle is scanned before it is run, only those
instructions and names are admitted, and the names stand for inert values, not for the real
things. Both of PyTorch's formats are read: the legacy one (a row of pickles, then the storages)
and the zip archive of PyTorch 1.6 and newer.
Source: ``torch/serialization.py`` (``_legacy_load``, ``_load``).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import WeightsError

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_BYTES = 4 << 30
_MAX_DIMENSIONS = 8

_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
}

_INSTRUCTIONS = set(
    """PROTO STOP MARK GLOBAL REDUCE BUILD BINPERSID NONE NEWTRUE NEWFALSE BININT BININT1 BININT2
    LONG1 BINFLOAT BINUNICODE EMPTY_DICT SETITEM SETITEMS EMPTY_LIST APPEND APPENDS EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT BINGET LONG_BINGET""".split()  # noqa: SIM905
)
"""What ``torch.save`` writes (pickle protocol 2), and nothing else."""


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """Read the tensors of a ``.pth`` file that holds a dictionary of them.

    Args:
        path: the file, in PyTorch's legacy or zip format.

    Returns:
        Read-only arrays by name, in the order of the file.

    Raises:
        WeightsError: the file cannot be read, is damaged, or holds anything but named tensors.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise _RefusedError(f"it has more than {_MAX_BYTES >> 30} GB")
        data = path.read_bytes()
        return _read_zip(data) if data.startswith(b"PK\x03\x04") else _read_legacy(data)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except _RefusedError as error:
        raise WeightsError(
            f"{path} is not a PyTorch checkpoint of named tensors: {error}"
        ) from error
    except Exception as error:  # a malformed pickle or archive raises anything
        raise WeightsError(
            f"{path} is damaged, or is not a PyTorch checkpoint ({type(error).__name__}: {error})"
        ) from error


class _RefusedError(Exception):
    """The file asks for something that a checkpoint does not need."""


# What the pickle builds. All are immutable and without a __dict__, so a BUILD instruction cannot
# change them.


class _Type(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    dtype: str
    key: str
    items: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _NewDict:
    __slots__ = ()

    def __call__(self) -> OrderedDict[Any, Any]:
        return OrderedDict()


class _NewTensor:
    __slots__ = ()

    def __call__(  # the arguments of torch._utils._rebuild_tensor_v2
        self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise _RefusedError("a tensor has no storage")
        return _Tensor(storage, offset, shape, strides)


def _admitted(name: str) -> object:
    """What a global name in the pickle stands for."""
    module, _, member = name.partition(" ")
    if (module, member) == ("collections", "OrderedDict"):
        return _NewDict()
    if (module, member) == ("torch._utils", "_rebuild_tensor_v2"):
        return _NewTensor()
    if module == "torch" and member in _DTYPES:
        return _Type(_DTYPES[member])
    raise _RefusedError(f"it names {module}.{member}")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _admitted(f"{module} {name}")

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _Type(dtype), str(key), str(), int(items), *view) if items >= 0:
                if not any(view):
                    return _Storage(dtype, key, items)
        raise _RefusedError("a storage is described in an unknown way")


def _unpickle(stream: io.BytesIO) -> Any:
    """Run the pickle at the stream's position, once every instruction of it is admitted."""
    start = stream.tell()
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name not in _INSTRUCTIONS:
            raise _RefusedError(f"it has the pickle instruction {instruction.name}")
        if instruction.name == "GLOBAL":
            _admitted(str(argument))
        # CPython allocates its memo up to the largest index at once.
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > stream.tell() - start:
            raise _RefusedError("it has a memo index beyond its own length")
    end = stream.tell()
    program = stream.getbuffer()[start:end]
    return _Unpickler(io.BytesIO(program)).load()


def _read_legacy(data: bytes) -> dict[str, NDArray[Any]]:
    stream = io.BytesIO(data)
    if _unpickle(stream) != _LEGACY_MAGIC or _unpickle(stream) != _LEGACY_PROTOCOL:
        raise _RefusedError("it does not begin as one")
    if _unpickle(stream).get("little_endian") is not True:
        raise _RefusedError("its numbers are not little-endian")
    tensors = _tensors(_unpickle(stream))
    sizes = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    storages: dict[str, NDArray[Any]] = {}
    for key in _unpickle_keys(stream):
        storage = sizes[key]
        if int.from_bytes(stream.read(8), "little") != storage.items:
            raise _RefusedError(f"the storage {key!r} has another size than announced")
        position = stream.tell()
        storages[key] = _values(data, position, storage)
        stream.seek(position + storages[key].nbytes)
    return {name: _view(name, tensor, storages) for name, tensor in tensors.items()}


def _read_zip(data: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1 or any(item.compress_type for item in archive.infolist()):
            raise _RefusedError("the archive is not laid out as one")
        folder = pickles[0].rpartition("/")[0]
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise _RefusedError("its numbers are not little-endian")
        tensors = _tensors(_unpickle(io.BytesIO(archive.read(pickles[0]))))
        storages: dict[str, NDArray[Any]] = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            content = archive.read(f"{folder}/data/{storage.key}")
            storages[storage.key] = _values(content, 0, storage)
    return {name: _view(name, tensor, storages) for name, tensor in tensors.items()}


def _unpickle_keys(stream: io.BytesIO) -> list[str]:
    keys = _unpickle(stream)
    if not isinstance(keys, list) or len(set(keys)) != len(keys):
        raise _RefusedError("its list of storages is malformed")
    return keys


def _tensors(state: object) -> dict[str, _Tensor]:
    if not isinstance(state, dict) or not state:
        raise _RefusedError("it holds no dictionary")
    for name, tensor in dict.items(state):
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise _RefusedError(f"the entry {str(name)[:80]!r} is not a tensor")
    return dict(dict.items(state))


def _values(data: bytes, position: int, storage: _Storage) -> NDArray[Any]:
    if storage.items * np.dtype(storage.dtype).itemsize > len(data) - position:
        raise _RefusedError(f"it ends within the storage {storage.key!r}")
    return np.frombuffer(data, storage.dtype, storage.items, position)


def _view(name: str, tensor: _Tensor, storages: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The tensor as a view of its storage; every element of it lies within."""
    storage, offset, shape, strides = tensor
    values = storages[storage.key]
    numbers = (offset, *shape, *strides)
    if (
        any(type(number) is not int or number < 0 for number in numbers)
        or len(shape) != len(strides)
        or len(shape) > _MAX_DIMENSIONS
        or values.dtype != storage.dtype
    ):
        raise _RefusedError(f"the tensor {name!r} is malformed")
    items = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if items > len(values) or (items and last >= len(values)):
        raise _RefusedError(f"the tensor {name!r} reaches beyond its storage")
    if not items:
        return np.zeros(shape, storage.dtype)
    steps = tuple(step * values.itemsize for step in strides)
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
