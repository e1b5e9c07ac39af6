from __future__ import annotations

import builtins
import io
import os
import pickle
import pickletools
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from imgsearch_es.analysis.models.efficientnet_lite import read_checkpoint
from imgsearch_es.errors import WeightsError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}


class Tensor:
    """Pickled as ``torch.save`` pickles a tensor."""

    def __init__(self, key, items, shape, strides, offset=0, storage="FloatStorage"):
        self.pid = ("storage", storage, key, "cpu", items)
        self.shape, self.strides, self.offset = shape, strides, offset

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        storage = Storage(self.pid)
        return rebuild, (storage, self.offset, self.shape, self.strides, False, OrderedDict())


class Storage:
    def __init__(self, pid):
        self.pid = pid


class Pickler(pickle.Pickler):
    def persistent_id(self, item):
        if not isinstance(item, Storage):
            return None
        kind, storage, *rest = item.pid
        return (kind, getattr(sys.modules["torch"], storage), *rest, None)


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    """A package named torch for the pickles to name; reading them must never use it."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*args):
        raise AssertionError("the real name was called")

    _rebuild_tensor_v2.__module__ = utils.__name__
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    module._utils = utils
    for name in ("FloatStorage", "LongStorage", "ComplexFloatStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def dumps(value):
    stream = io.BytesIO()
    Pickler(stream, 2).dump(value)
    return stream.getvalue()


def legacy(state, storages, *, raw=None, system=SYSTEM):
    program = dumps(state) if raw is None else raw
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, system))
    body = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    return head + program + pickle.dumps(list(storages), 2) + body


@pytest.fixture
def save(tmp_path):
    def write(content):
        path = tmp_path / "model.pth"
        path.write_bytes(content)
        return path

    return write


VALUES = np.arange(12, dtype="<f4")
COUNT = np.array([7], dtype="<i8")
STATE = OrderedDict(
    rows=Tensor("1", 12, (3, 4), (4, 1)),
    columns=Tensor("1", 12, (4, 3), (1, 4)),
    part=Tensor("1", 12, (2,), (3,), offset=5),
    nothing=Tensor("1", 12, (0, 4), (4, 1)),
    count=Tensor("2", 1, (), (), storage="LongStorage"),
)
STORAGES = {"1": VALUES, "2": COUNT}


def test_tensors_are_views_of_their_storages(save):
    tensors = read_checkpoint(save(legacy(STATE, STORAGES)))
    assert list(tensors) == list(STATE)
    np.testing.assert_array_equal(tensors["rows"], VALUES.reshape(3, 4))
    np.testing.assert_array_equal(tensors["columns"], VALUES.reshape(3, 4).T)
    np.testing.assert_array_equal(tensors["part"], [5, 8])
    assert tensors["nothing"].shape == (0, 4)
    assert tensors["count"] == 7
    assert tensors["count"].shape == ()
    assert not tensors["rows"].flags.writeable


def test_attributes_of_the_dictionary_are_ignored(save):
    state = OrderedDict(x=Tensor("1", 12, (12,), (1,)))
    state._metadata = OrderedDict({"": {"version": 1}})
    assert list(read_checkpoint(save(legacy(state, {"1": VALUES})))) == ["x"]


def test_every_truncation_is_an_error(save):
    whole = legacy(STATE, STORAGES)
    for length in range(len(whole)):
        with pytest.raises(WeightsError, match=r"model\.pth"):
            read_checkpoint(save(whole[:length]))


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("where", ["magic", "state", "storage"])
@pytest.mark.parametrize(
    "attack",
    [
        lambda trap: Call(os.system, f"touch {trap}"),
        lambda trap: Call(builtins.eval, f"open({trap!r}, 'w')"),
        lambda trap: Call(builtins.exec, f"open({trap!r}, 'w')"),
        lambda trap: Call(builtins.getattr, os, "system"),
        lambda trap: Call(open, trap, "w"),
        lambda trap: Call(builtins.__import__, "antigravity"),
        lambda trap: Call(bytearray, 1 << 40),
        lambda trap: Call(np.zeros, 1 << 40),
    ],
)
def test_no_code_is_run(attack, where, save, tmp_path):
    trap = tmp_path / "trap"
    try:
        payload = dumps(attack(str(trap)))
    except TypeError:  # a module cannot be pickled; name it by hand
        payload = b"\x80\x02cbuiltins\ngetattr\ncos\n__dict__\n\x86R."
    whole = {
        "magic": payload,
        "state": legacy(None, {}, raw=payload),
        "storage": legacy(None, {}, raw=payload[:-1] + b"Q."),  # as a persistent id
    }[where]
    with pytest.raises(WeightsError, match=r"model\.pth"):
        read_checkpoint(save(whole))
    assert not trap.exists()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "program",
    [
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",  # dotted names
        b"ctorch._utils\n_import_dotted_name\n.",
        b"ctorch\nload\n.",
        b"ccollections\nOrderedDict\n(lp1\nR.",  # protocol 0 instructions
        b"\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"\x82\x01.",  # the extension registry
        b"(cos\nsystem\no.",  # OBJ
        b"(ios\nsystem\n.",  # INST
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of 16 GB
        b"\x80\x02X\xff\xff\xff\x7fabc.",  # a string of 2 GB
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\x00\x00\x00abc.",  # bytes of a terabyte
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # a number of 2 GB
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\x00\x00N.",  # a frame
        b"\x80\x02h\x05.",  # a memo entry that is not there
        b".",  # an empty stack
        b"\x80\x02}.",  # an empty dictionary
        b"\x80\x02}K\x01K\x02s.",  # a dictionary of numbers
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00__call__K\x01sb.",  # BUILD
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__call__K\x01s\x86b.",
        b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.",
    ],
)
def test_odd_programs_are_refused(program, save):
    with pytest.raises(WeightsError, match=r"model\.pth"):
        read_checkpoint(save(legacy(None, {}, raw=program)))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (Tensor("1", 12, (13,), (1,)), "beyond"),
        (Tensor("1", 12, (3, 4), (5, 1)), "beyond"),
        (Tensor("1", 12, (2,), (1,), offset=11), "beyond"),
        (Tensor("1", 12, (1,), (1,), offset=12), "beyond"),
        (Tensor("1", 12, (1 << 40,), (0,)), "beyond"),
        (Tensor("1", 12, (2,), (-1,), offset=5), "malformed"),
        (Tensor("1", 12, (-2,), (1,)), "malformed"),
        (Tensor("1", 12, (2,), (1,), offset=-1), "malformed"),
        (Tensor("1", 12, (2, 2), (1,)), "malformed"),
        (Tensor("1", 12, (1,) * 9, (1,) * 9), "malformed"),
        (Tensor("1", 12, (True,), (1,)), "malformed"),
        (Tensor("1", 12, ("a",), (1,)), "malformed"),
        (Tensor("1", 12, (12,), (1,), storage="ComplexFloatStorage"), "ComplexFloatStorage"),
        (Tensor("1", 1 << 40, (12,), (1,)), "size|ends"),
        (Tensor("1", -1, (12,), (1,)), "unknown way"),
        (Tensor(1, 12, (12,), (1,)), "unknown way"),
        (Tensor("9", 12, (12,), (1,)), "damaged"),
        ("text", "not a tensor"),
    ],
)
def test_tensors_stay_within_their_storages(tensor, reason, save):
    with pytest.raises(WeightsError, match=reason):
        read_checkpoint(save(legacy({"x": tensor}, {"1": VALUES})))


def test_one_storage_has_one_type(save):
    state = {"x": Tensor("1", 12, (2,), (1,)), "y": Tensor("1", 6, (2,), (1,), 0, "LongStorage")}
    with pytest.raises(WeightsError):
        read_checkpoint(save(legacy(state, {"1": VALUES})))


def test_other_layouts_are_refused(save, tmp_path):
    big_endian = SYSTEM | {"little_endian": False}
    with pytest.raises(WeightsError, match="little-endian"):
        read_checkpoint(save(legacy(STATE, STORAGES, system=big_endian)))
    with pytest.raises(WeightsError, match="_use_new_zipfile_serialization=False"):
        read_checkpoint(save(b"PK\x03\x04 a zip archive"))
    with pytest.raises(WeightsError, match="No such file"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(WeightsError):
        read_checkpoint(save(b""))


def test_what_torch_writes_is_what_is_admitted():
    from imgsearch_es.analysis.models.efficientnet_lite import _INSTRUCTIONS

    used = {op.name for op, _, _ in pickletools.genops(dumps(STATE))}
    assert used <= _INSTRUCTIONS
