"""Read the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it.

A checkpoint is a pickle, and a pickle is a program. The one that ``torch.save`` writes for a
dictionary of tensors needs few instructions and three kinds of names, so the reader knows no
others, and the names stand for inert values. PyTorch's legacy format is read: a row of pickles,
then the storages. Source: ``torch/serialization.py`` (``_legacy_load``).
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import WeightsError

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_MAX_BYTES = 4 << 30
_MAX_DIMENSIONS = 8

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
            or not len(tensor.shape) == len(tensor.strides) <= _MAX_DIMENSIONS
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
