"""Decoding pictures for the model, here or in worker processes.

A decoder that crashes or hangs on a hostile file takes its process along, so a run over many files
decodes in processes of its own. They know Pillow and the image filters, and never import
TensorFlow. Large pictures wait for one another, lest their number multiply their memory.

`main` is the child, which answers its parent (``process.py``) through a pipe. A request is a
message of JSON: the URIs of local files, or one URI whose file's bytes are the next message. An
answer is a message of JSON about each of these pictures; the pixels are in the memory that the
parent shares, and those without room in it are messages of their own. The child ends when the pipe
does, so none is left behind when the parent is killed.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import resource
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.filters import Preparation
from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import ImageError, ShortageError
from imgsearch_es.pictures.decoders import PACKAGES
from imgsearch_es.pictures.files import Limits, read_bytes
from imgsearch_es.pictures.images import Facts, Picture, open_image
from imgsearch_es.pictures.sources import kind_of

AREA = 4 << 20
"""Bytes that parent and worker share: pixels come there, and through a pipe what has no room."""
LARGE = 1 << 24
"""A picture of more pixels is decoded by a worker process that was told to, in its turn."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Facts):
    """One picture, ready for the model; its full-size pixels are let go."""

    pixels: NDArray[np.uint8]
    """What `Preparation` made of it."""

    @classmethod
    def of(cls, picture: Picture, pixels: NDArray[np.uint8]) -> Decoded:
        """An opened picture with what the image filters made of it."""
        facts = {field.name: getattr(picture, field.name) for field in fields(Facts)}
        return cls(**facts, pixels=pixels)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that cannot be decoded, and why."""

    reason: str
    sha256: str
    """Of its bytes, hexadecimal; empty when it cannot be read."""
    is_shortage: bool = False
    """For want of memory or time, so that another time it may be decoded."""


@dataclass(frozen=True, slots=True)
class Large:
    """A file of so many pixels that it is decoded in its turn."""

    pixels: int


class LargeError(ImageError):
    """A picture is large (``pixels`` says how), and it is not its turn."""

    def __init__(self, uri: str, pixels: int) -> None:
        super().__init__(uri, f"its {pixels:,} pixels are to be decoded in turn")
        self.pixels = pixels


def described(limits: Limits) -> str:
    """What pictures are tried with; a rejected one deserves another try when this changes."""
    versions = ((package, installed_version(package)) for package in ("Pillow", *PACKAGES))
    decoders = ", ".join(f"{package} {version}" for package, version in versions if version)
    return (
        f"{decoders}, {limits.max_pixels} pixels, {limits.max_bytes} bytes, "
        f"{limits.max_seconds:g} seconds"
    )


# -- the child ---------------------------------------------------------------------------------

_HEADER = tuple(field.name for field in fields(Decoded) if field.name != "pixels")
_MARGIN = 300 << 20
"""Bytes that a picture may take beyond its pixels."""
_KEPT = 100 << 20
"""Bytes that a worker may keep from picture to picture; one with more gives way to a new one, as
`_data_bytes` would allow the next picture so many more."""
_TOO_MUCH = f"its decoder takes more than {_MARGIN >> 20} MB beyond its pixels"


def main(read: int, write: int) -> None:
    """Answer until there are no more requests."""
    requests: Connection[Any, Any] = Connection(read, writable=False)
    answers: Connection[Any, Any] = Connection(write, readable=False)
    order = json.loads(requests.recv_bytes())
    worker = _Worker(Limits(**order["limits"]), order["analyzer"], order["area"])
    answers.send_bytes(b"{}")
    while True:
        try:
            request = json.loads(requests.recv_bytes())
            data = requests.recv_bytes() if request["has_data"] else None
        except (EOFError, OSError):
            return
        for part in worker.answer(request["uris"], data, is_turn=request["is_turn"]):
            answers.send_bytes(part)


class _Worker:
    def __init__(self, limits: Limits, analyzer: Mapping[str, Any], area: Sequence[int]) -> None:
        self._prepare = Preparation.of(analyzer)
        self._limits = limits
        self._area = mmap.mmap(area[0], AREA) if area else None
        self._started_with = _data_bytes() or 0

    def answer(
        self, uris: Sequence[str], data: bytes | None, *, is_turn: bool
    ) -> list[bytes | memoryview]:
        """What to say of some pictures, and the pixels that have no room in the shared memory."""
        self._is_turn = is_turn
        self._seconds = {"read": 0.0, "decode": 0.0}
        filled = 0
        said: list[dict[str, Any]] = []
        rest: list[memoryview] = []
        for uri in uris:
            # The parent ends a worker that takes too long; where that is gone, it ends itself.
            signal.setitimer(signal.ITIMER_REAL, self._limits.max_seconds + 10)
            found = self._look_at(uri, data)
            signal.setitimer(signal.ITIMER_REAL, 0)
            if isinstance(found, Refused | Large):
                said.append(asdict(found))
                continue
            pixels = np.ascontiguousarray(found.pixels).data.cast("B")
            end = filled + pixels.nbytes
            header = {name: getattr(found, name) for name in _HEADER}
            header |= {"shape": found.pixels.shape, "is_shared": False}
            header["photo"] = found.photo.to_dict()
            if self._area is not None and end <= AREA:
                self._area[filled:end] = pixels
                filled, header["is_shared"] = end, True
            else:
                rest.append(pixels)
            said.append(header)
        kept = (_data_bytes() or 0) - self._started_with - len(data or b"")
        told = {"pictures": said, "seconds": self._seconds, "is_full": kept > _KEPT}
        return [json.dumps(told).encode(), *rest]

    def _look_at(self, uri: str, data: bytes | None) -> Decoded | Refused | Large:
        try:
            with self._timed("read"):
                data = read_bytes(uri, self._limits) if data is None else data
            with self._timed("decode"):
                return self._decode(data, uri)
        except LargeError as error:
            return Large(error.pixels)
        except (ShortageError, MemoryError):
            return Refused(f"the memory is short, or {_TOO_MUCH}", "", is_shortage=True)
        except ImageError as error:
            reason = error.reason
            if self._is_turn and reason.startswith("damaged"):  # some decoders do not tell
                reason = f"{reason}; or {_TOO_MUCH}"
            return Refused(reason, "" if data is None else hashlib.sha256(data).hexdigest())

    def _decode(self, data: bytes, uri: str) -> Decoded:
        """Decode within the memory that this picture may take."""
        has = _data_bytes()

        def admit(pixels: int) -> None:
            if pixels > LARGE and not self._is_turn:
                raise LargeError(uri, pixels)
            if has is not None:
                most = has + 4 * pixels + _MARGIN  # Pillow's RGB has four bytes
                if (_data_bytes() or 0) > most:  # WebP's decoder took it before this was known
                    raise ImageError(uri, _TOO_MUCH)
                _limit_data(most)

        size = self._prepare.decode_size
        try:
            if has is not None and kind_of(data, uri) != "WEBP":  # whose decoder takes all at once
                _limit_data(has + _MARGIN)
            picture = open_image(data, uri=uri, limits=self._limits, at_least=size, admit=admit)
            return Decoded.of(picture, self._prepare(picture.image))
        finally:
            if has is not None:
                _limit_data(resource.RLIM_INFINITY)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[stage] += time.perf_counter() - started


def _data_bytes() -> int | None:
    """What RLIMIT_DATA counts of this process; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except OSError:  # it is not Linux
        return None


def _limit_data(most: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [each for each in (most, hard) if each != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits, default=resource.RLIM_INFINITY), hard))
