"""A worker process: decodes pictures, as its parent asks on standard input.

A request is a line of JSON: the URIs of local files, or one URI whose file's bytes follow. An
answer is a line of JSON about each of these pictures; the pixels are in the memory that the parent
shares, and those without room in it follow the line. The worker ends when its standard input does,
so none is left behind when the parent is killed.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from imgsearch_es.decoding import AREA, Decoded, Decoder, Refused
from imgsearch_es.errors import ImageError
from imgsearch_es.files import Limits, read_bytes

_HEADER = tuple(field.name for field in fields(Decoded) if field.name != "pixels")

_GRACE_SECONDS = 10.0
"""The parent ends a worker that takes too long; should it be gone, the worker ends itself."""


def main() -> None:
    """Answer until there are no more requests."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    order = json.loads(requests.readline())
    worker = _Worker(Limits(**order["limits"]), order["image_filters"], order["area"])
    answers.write(b"{}\n")
    answers.flush()
    for line in requests:
        request = json.loads(line)
        data = None if request["bytes"] is None else requests.read(request["bytes"])
        for part in worker.answer(request["uris"], data):
            answers.write(part)
        answers.flush()


class _Worker:
    def __init__(
        self, limits: Limits, image_filters: Sequence[Mapping[str, Any]], area: Sequence[int]
    ) -> None:
        self._decoder = Decoder(image_filters, limits)
        self._limits = limits
        self._area = mmap.mmap(area[0], AREA) if area else None
        self._seconds = {"read": 0.0, "decode": 0.0}

    def answer(self, uris: Sequence[str], data: bytes | None) -> list[bytes | memoryview]:
        """The line about some pictures, and the pixels that have no room in the shared memory."""
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        filled = 0
        said: list[dict[str, Any]] = []
        rest: list[memoryview] = []
        for uri in uris:
            signal.setitimer(signal.ITIMER_REAL, self._limits.max_seconds + _GRACE_SECONDS)
            found = self._look_at(uri, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if isinstance(found, Refused):
                said.append(asdict(found))
                continue
            pixels = np.ascontiguousarray(found.pixels).data.cast("B")
            end = filled + pixels.nbytes
            is_shared = self._area is not None and end <= AREA
            if self._area is not None and is_shared:
                self._area[filled:end] = pixels
                filled = end
            else:
                rest.append(pixels)
            header = {name: getattr(found, name) for name in _HEADER}
            said.append({**header, "shape": found.pixels.shape, "is_shared": is_shared})
        line = json.dumps({"pictures": said, "seconds": self._seconds})
        return [line.encode() + b"\n", *rest]

    def _look_at(self, uri: str, data: bytes | None) -> Decoded | Refused:
        try:
            with self._timed("read"):
                data = read_bytes(uri, self._limits) if data is None else data
            with self._timed("decode"):
                return self._decoder.decode(data, uri)
        except ImageError as error:
            return Refused(error.reason, "" if data is None else hashlib.sha256(data).hexdigest())

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - started
