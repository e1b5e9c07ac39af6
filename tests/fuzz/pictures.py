"""Fuzz the picture reader, from real encoded pictures: a Picture or an ImageError, in little time.

    python -m tests.fuzz.pictures FOLDER -max_total_time=60

FOLDER keeps what was tried; it is filled with pictures first.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["imgsearch_es"]):
    from imgsearch_es.analysis import decoding
    from imgsearch_es.errors import ImageError
    from imgsearch_es.pictures.files import Limits
    from imgsearch_es.pictures.images import open_image
    from imgsearch_es.pictures.sources import kind_of
from tests.fuzz.seeds import seeds

LIMITS = Limits(max_pixels=1_000_000, max_bytes=1_000_000)


def check(data: bytes) -> None:
    """Open what may be a picture, in as much memory as a worker lets it take."""
    has = decoding._data_bytes() or 0
    try:
        if kind_of(data, "") != "WEBP":
            decoding._limit_data(has + decoding._MARGIN)
        found = open_image(data, limits=LIMITS)
    except (ImageError, MemoryError):
        return
    finally:
        decoding._limit_data(resource.RLIM_INFINITY)
    assert found.image.mode == "RGB"
    assert found.image.size == (found.width, found.height)
    assert 1 <= found.width * found.height <= LIMITS.max_pixels


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if Path(argument).is_dir():
            for name, content in seeds().items():
                (Path(argument) / name).write_bytes(content)
    atheris.Setup([*sys.argv, "-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"], check)
    atheris.Fuzz()
