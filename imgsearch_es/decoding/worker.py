"""A worker process: decodes one picture after the other, as its parent asks on standard input.

A request is a line of JSON, followed by the file's bytes. So is an answer; the pixels are in the
memory that the parent shares, or follow when they are too many. The worker ends when its standard
input does, so none is left behind when the parent is killed.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from typing import Any, BinaryIO

import numpy as np

from imgsearch_es.decoding import AREA, Decoder
from imgsearch_es.errors import ImageError
from imgsearch_es.files import Limits

_GRACE_SECONDS = 10.0
"""The parent ends a worker that takes too long; should it be gone, the worker ends itself."""


def main() -> None:
    """Answer until there are no more requests."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    order = json.loads(requests.readline())
    limits = Limits(**order["limits"])
    area = mmap.mmap(order["area"][0], AREA) if order["area"] else None
    decoder = Decoder(order["image_filters"], limits)
    _answer(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        data = requests.read(request["bytes"])
        signal.setitimer(signal.ITIMER_REAL, limits.max_seconds + _GRACE_SECONDS)
        try:
            found = decoder.decode(data, request["uri"])
        except ImageError as error:
            _answer(answers, {"reason": error.reason})
        else:
            pixels = np.ascontiguousarray(found.pixels)
            size = {"width": found.width, "height": found.height}
            header = {**size, "format": found.format, "shape": pixels.shape}
            if area is None or pixels.nbytes > AREA:
                _answer(answers, header, pixels.data)
            else:
                area[: pixels.nbytes] = pixels.data.cast("B")
                _answer(answers, header)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(answers: BinaryIO, header: dict[str, Any], content: bytes | memoryview = b"") -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(content)
    answers.flush()
