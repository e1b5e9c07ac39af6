"""A worker process: decodes one picture after the other, as its parent asks on standard input.

Requests and answers are a line of JSON, followed by the file's bytes or by the pixels. The worker
ends when its standard input does, so none is left behind when the parent is killed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from typing import Any, BinaryIO

from imgsearch_es.decoding import Decoder
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
    decoder = Decoder(order["image_filters"], limits)
    _answer(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        data = requests.read(request["bytes"])
        faulthandler.dump_traceback_later(limits.max_seconds + _GRACE_SECONDS, exit=True)
        try:
            found = decoder.decode(data, request["uri"])
        except ImageError as error:
            _answer(answers, {"reason": error.reason})
        else:
            size = {"width": found.width, "height": found.height, "format": found.format}
            _answer(answers, {**size, "shape": found.pixels.shape}, found.pixels.tobytes())
        faulthandler.cancel_dump_traceback_later()


def _answer(answers: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(content)
    answers.flush()
