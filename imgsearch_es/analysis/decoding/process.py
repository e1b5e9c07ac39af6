"""The parent's side of a worker process.

The worker is started as a program of its own, not by ``multiprocessing``: that imports the main
module again (a script without ``if __name__ == "__main__"`` would index without end, and a
notebook has no main module to import), and a fork of a process that runs TensorFlow may hang.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from multiprocessing.connection import Pipe
from typing import IO, Any, NamedTuple

import numpy as np

from imgsearch_es.analysis.decoding import AREA, Decoded, Large, Refused
from imgsearch_es.errors import AnalyzerError, ImageError, ShortageError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.pictures.turns import TURNS, Turns

_START = (
    "import sys; pipes = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3:]; "
    "from imgsearch_es.analysis.decoding import main; main(*pipes)"
)
_ENVIRONMENT = {
    # Bytes that glibc does not give back after each picture, to be faulted in again for the next.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    # NumPy's threads, started for nothing.
    "OPENBLAS_NUM_THREADS": "1",
}


class NoWorkerError(Exception):
    """No worker process can be had here; decode in threads instead."""


class WorkerLostError(Exception):
    """The worker crashed, failed or was too slow, and nobody knows by which of several files."""


class _DiedError(Exception):
    """The worker's end of a pipe was closed."""


class _TooLateError(Exception):
    """The worker did not answer in time."""


class Decodings(NamedTuple):
    """What became of several files, and what "read" and "decode" took for all together."""

    pictures: list[Decoded | Refused | Large]
    seconds: Mapping[str, float]


class WorkerProcess:
    """A worker process, restarted when it dies; for one thread at a time.

    A NoWorkerError where it does not start, or does not know the image filters. All workers that
    share ``turns`` decode large pictures in turn.
    """

    def __init__(
        self,
        image_filters: Sequence[Mapping[str, Any]],
        limits: Limits,
        turns: Turns = TURNS,
        *,
        views: str | None = None,
    ) -> None:
        self._shared = _shared_file()
        self._inherited = [] if self._shared is None else [self._shared.fileno()]
        self._area = None if self._shared is None else mmap.mmap(self._shared.fileno(), AREA)
        self._order = {
            "analyzer": {"image_filters": list(image_filters), "views": views},
            "limits": asdict(limits),
            "area": self._inherited,
        }
        self._limits = limits
        self._turns = turns
        self._killed = False
        try:
            self._start()
        except NoWorkerError:
            self._let_go()
            raise

    def decode(self, data: bytes, uri: str) -> Decoded:
        """Decode one picture, given its file's bytes; a large one waits for its turn.

        An ImageError where it cannot be decoded or crashes the decoder, a ShortageError where it
        takes too long or too much memory, or its process was killed; an AnalyzerError where an
        image filter fails, a NoWorkerError where the process died and does not start again.
        """
        found = self._decode_twice(data, uri)
        if isinstance(found, Large):
            with self._turns.take(found.pixels):
                found = self._decode_twice(data, uri, is_turn=True)
        if isinstance(found, Refused):
            raise (ShortageError if found.is_shortage else ImageError)(uri, found.reason)
        assert isinstance(found, Decoded)  # noqa: S101  (in its turn none is too large)
        return found

    def decode_files(self, uris: Sequence[str]) -> Decodings:
        """Read and decode local files, all of them within the time that one may take.

        After a WorkerLostError `decode` finds out by which file; a NoWorkerError as there.
        """
        try:
            return self._ask(uris)
        except (_DiedError, _TooLateError):
            self._replace()
            raise WorkerLostError from None

    def kill(self) -> None:
        """End the process for good, whatever it is doing; any thread may."""
        self._killed = True
        self._process.kill()

    def close(self) -> None:
        """Let go of a process that was killed."""
        self._end()
        self._let_go()

    def _let_go(self) -> None:
        for part in (self._area, self._shared):
            if part is not None:
                part.close()

    def _start(self) -> None:
        if self._killed:
            raise NoWorkerError("it was ended")
        requests, self._requests = Pipe(duplex=False)
        self._answers, answers = Pipe(duplex=False)
        theirs = [requests.fileno(), answers.fileno()]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in _end
        start = [sys.executable, "-c", _START, *map(str, theirs)]
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this program
                # It finds modules where this process does; "" in the path is this folder.
                [*start, *map(os.path.abspath, sys.path)],
                stdin=subprocess.DEVNULL,
                stdout=self._errors,
                stderr=self._errors,
                pass_fds=[*theirs, *self._inherited],
                env={**_ENVIRONMENT, **os.environ},
                start_new_session=True,  # Ctrl-C in the terminal is the parent's to handle
            )
        except OSError as error:
            self._let_go_of_pipes()
            raise NoWorkerError(f"{sys.executable} does not start: {error}") from error
        finally:
            requests.close()
            answers.close()
        try:
            self._send(json.dumps(self._order).encode())
            self._deadline = time.monotonic() + 60
            self._receive()
        except (_DiedError, _TooLateError) as error:
            self._process.kill()
            raise NoWorkerError(f"a worker process does not start: {self._last_words()}") from error

    def _decode_twice(
        self, data: bytes, uri: str, *, is_turn: bool = False
    ) -> Decoded | Refused | Large:
        """Give the picture a second worker: one may be killed for no fault of the picture."""
        for _ in range(2):
            try:
                return self._decode(data, uri, is_turn=is_turn)
            except _DiedError:
                was_killed = self._process.wait() == -signal.SIGKILL
                how = self._end()
                self._start()
        if was_killed:  # by a person, or for want of memory, but not by the picture
            raise ShortageError(uri, f"its decoder {how} twice")
        raise ImageError(uri, f"crashes the decoder: its process {how} twice")

    def _decode(self, data: bytes, uri: str, *, is_turn: bool) -> Decoded | Refused | Large:
        try:
            (found,) = self._ask([uri], data, is_turn=is_turn).pictures
        except _TooLateError:
            self._replace()
            seconds = f"{self._limits.max_seconds:g} seconds"
            raise ShortageError(uri, f"decoding takes longer than {seconds}") from None
        except _DiedError:
            if self._process.wait() == 1:  # Python ended with a traceback
                words = self._last_words()
                self._start()
                raise AnalyzerError(f"preparing {uri} for the model failed: {words}") from None
            raise
        return found

    def _ask(
        self, uris: Sequence[str], data: bytes | None = None, *, is_turn: bool = False
    ) -> Decodings:
        request = {"uris": uris, "has_data": data is not None, "is_turn": is_turn}
        self._send(json.dumps(request).encode())
        if data is not None:
            self._send(data)
        self._deadline = time.monotonic() + self._limits.max_seconds
        answer = json.loads(self._receive())
        filled = 0
        pictures: list[Decoded | Refused | Large] = []
        for said in answer["pictures"]:
            if "pixels" in said:
                pictures.append(Large(**said))
            elif "reason" in said:
                pictures.append(Refused(**said))
            else:
                shape = said.pop("shape")
                if said.pop("is_shared") and self._area is not None:
                    content = self._area[filled : filled + math.prod(shape)]
                    filled += len(content)
                else:
                    content = self._receive()
                pixels = np.frombuffer(content, np.uint8).reshape(shape)
                said["photo"] = Photo.from_dict(said["photo"])
                pictures.append(Decoded(**said, pixels=pixels))
        if answer["is_full"]:
            self._replace()
        return Decodings(pictures, answer["seconds"])

    def _send(self, message: bytes) -> None:
        try:
            self._requests.send_bytes(message)
        except OSError:
            raise _DiedError from None

    def _receive(self) -> bytes:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0 or not self._answers.poll(left):
                raise _TooLateError
            return self._answers.recv_bytes()
        except (EOFError, OSError):
            raise _DiedError from None

    def _replace(self) -> None:
        self._process.kill()
        self._end()
        self._start()

    def _let_go_of_pipes(self) -> None:
        for pipe in (self._requests, self._answers, self._errors):
            pipe.close()

    def _end(self) -> str:
        """Wait for the process that has died, and say how."""
        self._let_go_of_pipes()
        code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def _last_words(self) -> str:
        """The last line of what the process wrote on standard error, which is let go."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        how = self._end()
        return said[:300] or how


def _shared_file() -> IO[bytes] | None:
    """A file of no name that both processes can map, in memory where the system has such.

    None where files must be small; then all pixels come through the pipe.
    """
    if hasattr(os, "memfd_create"):  # Linux
        file: IO[bytes] = os.fdopen(os.memfd_create("imgsearch-pixels"), "r+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the worker's `close`
    try:
        file.truncate(AREA)
    except OSError:
        file.close()
        return None
    return file
