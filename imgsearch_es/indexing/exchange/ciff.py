"""The Common Index File Format: an inverted index that PISA, Lucene, Terrier and others read.

A header, a list of postings for each term in the order of their names, and a record for each
document, each a message of Protocol Buffers behind its length (Lin et al., "Supporting
interoperability between open-source search engines with the Common Index File Format", SIGIR 2020;
https://github.com/osirrc/ciff). Its weights are whole numbers, so ours are rounded to multiples of
a 255th of the largest: 8 bits are what engines for impacts take. What would be 0 becomes 1, so that
each picture is still found by all its terms. Terms are in lower case, as PISA has those of queries;
keys differ by more than that.
"""

from __future__ import annotations

import gzip
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from numpy.typing import NDArray

from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import ExchangeError
from imgsearch_es.vocabulary.colors import is_color

LEVELS = 255
"""The largest weight of a posting."""
_FIELDS = {
    "Header": (
        *("version:int32", "num_postings_lists:int32", "num_docs:int32"),
        *("total_postings_lists:int32", "total_docs:int32", "total_terms_in_collection:int64"),
        *("average_doclength:double", "description:string"),
    ),
    "Posting": ("docid:int32", "tf:int32"),
    "PostingsList": ("term:string", "df:int64", "cf:int64", "postings:Posting"),
    "DocRecord": ("docid:int32", "collection_docid:string", "doclength:int32"),
}
"""Of each message, numbered from 1; postings are many."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What whole numbers cost.

    Attributes:
        step: the weight that 1 stands for; others are off by no more than half of it.
        postings: how many there are.
        raised: how many weights were below half a step, and are 1.
        added: what that adds to the sum of all weights, as a share of it.
    """

    step: float
    postings: int
    raised: int
    added: float

    def __str__(self) -> str:
        return (
            f"weights are whole multiples of {self.step:.3g}; {self.raised:,} of {self.postings:,} "
            f"were less than half of it and are raised to it, which adds {self.added:.1%} to the "
            "sum of all weights"
        )


class Ciff:
    """A file in this format, packed where its name ends in .gz."""

    def write(
        self, path: Path, header: Mapping[str, Any], rows: Iterable[dict[str, Any]]
    ) -> Rounding:
        """Write the terms of all rows; their postings, of 8 bytes each, are held in memory."""
        places: dict[str, array[int]] = {}
        weights: dict[str, array[float]] = {}
        ids: list[str] = []
        for place, row in enumerate(rows):
            ids.append(row["id"])
            named = zip(row["synsets"], row["scores"], strict=True)
            for key, score in ((key.lower(), s) for key, s in named if not is_color(key)):
                places.setdefault(key, array("I")).append(place)
                weights.setdefault(key, array("f")).append(score)
        largest = max((max(found) for found in weights.values()), default=1.0)
        lists = {
            key: (np.asarray(places[key]), _rounded(weights[key], largest))
            for key in sorted(places, key=str.encode)
        }
        lengths = np.zeros(len(ids), dtype=np.int64)
        for at, tf in lists.values():
            lengths[at] += tf
        step = largest / LEVELS
        opened = gzip.open if path.name.lower().endswith(".gz") else open
        with opened(path, "wb") as file:
            _put(file, "Header", _header(header, step, len(lists), lengths))
            for key, (at, tf) in lists.items():
                gaps = np.diff(at.astype(np.int64), prepend=0)  # these tell a list's documents
                pairs = zip(gaps.tolist(), tf.tolist(), strict=True)
                postings = [{"docid": gap, "tf": weight} for gap, weight in pairs]
                about = {"term": key, "df": len(tf), "cf": int(tf.sum())}
                _put(file, "PostingsList", {**about, "postings": postings})
            for place, (document, length) in enumerate(zip(ids, lengths.tolist(), strict=True)):
                record = {"docid": place, "collection_docid": document, "doclength": length}
                _put(file, "DocRecord", record)
        return _rounding(step, weights)

    def read(self, path: Path) -> NoReturn:
        """Nothing: it has no pictures."""
        raise ExchangeError(
            f"{path} is an inverted index for search engines, without pictures: import the .jsonl "
            "or .parquet of the same index"
        )


def _rounded(weights: array[float], largest: float) -> NDArray[np.int64]:
    scaled = np.asarray(weights, dtype=np.float64) * (LEVELS / largest)
    return np.maximum(1, np.rint(scaled)).astype(np.int64)


def _rounding(step: float, weights: Mapping[str, array[float]]) -> Rounding:
    whole = added = 0.0
    postings = raised = 0
    for found in weights.values():
        exact = np.asarray(found, dtype=np.float64)
        small = exact[np.rint(exact / step) == 0]
        postings, raised = postings + len(exact), raised + len(small)
        whole += float(exact.sum())
        added += float((step - small).sum())
    return Rounding(step, postings, raised, added / whole if whole else 0.0)


def _header(
    header: Mapping[str, Any], step: float, terms: int, lengths: NDArray[np.int64]
) -> dict[str, Any]:
    documents, model = len(lengths), header["analyzer"].get("model", {}).get("name", "")
    version = f"imgsearch_es {installed_version('imgsearch-es') or ''}".strip()
    return {
        "version": 1,
        "num_postings_lists": terms,
        "num_docs": documents,
        "total_postings_lists": terms,
        "total_docs": documents,
        "total_terms_in_collection": int(lengths.sum()),
        "average_doclength": float(lengths.mean()) if documents else 0.0,
        "description": f"{version}, {model}: weights in steps of {step!r}",
    }


def _put(file: BinaryIO | gzip.GzipFile, name: str, fields: Mapping[str, Any]) -> None:
    """Write a message behind its length."""
    data = _messages()[name](**fields).SerializeToString()
    number, length = len(data), bytearray()
    while number > 127:
        length.append(number & 127 | 128)
        number >>= 7
    length.append(number)
    file.write(bytes(length) + data)


@cache
def _messages() -> dict[str, type[Message]]:
    """The messages of ciff.proto, in a pool of their own: others may have the same names there."""
    kinds = descriptor_pb2.FieldDescriptorProto
    package = "io.osirrc.ciff"
    file = descriptor_pb2.FileDescriptorProto(name="ciff.proto", package=package, syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for number, (field, _, kind) in enumerate((f.partition(":") for f in fields), start=1):
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind in _FIELDS:
                added.label, added.type_name = kinds.LABEL_REPEATED, f".{package}.{kind}"
            name_of = "MESSAGE" if kind in _FIELDS else kind.upper()
            added.type = getattr(kinds, f"TYPE_{name_of}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in _FIELDS
    }
