"""Pictures that people search by: uploaded, or fetched from the web, and kept for a while.

None is fetched from a private network: a name is resolved once, every address found must be public,
and the connection goes to the address that was checked, whatever the name says a moment later.
Redirects are followed by the same rules. All of it has one deadline, however little the other side
sends at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import secrets
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.analysis.decoding.process import NoWorkerError, WorkerProcess
from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.pictures.addresses import is_public
from imgsearch_es.pictures.files import Limits

PREFIX = "upload-"
NAME = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{22}}")
"""What the id of an upload looks like; the end of it cannot be guessed."""
KEEP_SECONDS = 3600.0
_TOTAL_BYTES = 256 * 1024**2
LARGEST = 1280
"""The longer side of what a checked picture is shrunk to, in pixels."""
WORKERS = 2
"""Worker processes, so that one picture that takes its time does not stop all others."""
_SMALL = [{"name": "resize", "longer_side": LARGEST, "interpolation": "lanczos", "decode": "fast"}]
_REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_BLOCK = 1 << 16
_LATE = "could not be fetched in time"


class UnknownPictureError(QueryError):
    """There is no picture of this id."""

    def __init__(self, name: str) -> None:
        what = "that upload is no longer kept: upload the picture again"
        if not name.startswith(PREFIX):
            what = f"the index has no picture with the id {name[:40]!r}"
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that was uploaded, and when it is forgotten, by the monotonic clock.

    ``pixels`` are as the model takes them, ``prepared`` so; None where the index had no model.
    """

    id: str
    data: bytes
    width: int
    height: int
    format: str
    until: float
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False)
    prepared: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> int:
        return len(self.data) + (0 if self.pixels is None else self.pixels.nbytes)


class Checker:
    """Decodes files in worker processes, within limits of memory and time; safe in many threads.

    No large picture is decoded by the server itself: its process would take the memory of all of
    them at once. ``analyzer`` gives the configuration of the index's, empty where it has no model:
    after `reindex` another one, and then the workers are others, too.
    """

    def __init__(self, limits: Limits, analyzer: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._limits = limits
        self._analyzer = analyzer
        self._room = threading.Semaphore(WORKERS)
        self._idle: list[tuple[Mapping[str, Any], WorkerProcess]] = []

    def preparation(self) -> dict[str, Any]:
        """What of the analyzer makes a picture's pixels; empty where the index has no model."""
        analyzer = self._analyzer()
        return {name: analyzer[name] for name in ("image_filters", "views") if analyzer.get(name)}

    def check(self, data: bytes) -> Decoded:
        """``decode`` an upload, if it has not too many bytes."""
        if len(data) > self._limits.max_bytes:
            limit = f"larger than the limit of {self._limits.max_bytes:,} bytes"
            raise ImageError("the upload", limit)
        return self.decode(data, "the upload")

    def decode(self, data: bytes, name: str) -> Decoded:
        """The size and format of a picture, and what the filters make of it, else a small copy."""
        with self._room:
            preparation = self.preparation()
            worker = self._worker(preparation)
            try:
                found = worker.decode(data, name)
            except NoWorkerError:
                _end(worker)
                raise
            except ImageError:
                self._idle.append((preparation, worker))
                raise
            self._idle.append((preparation, worker))
            return found

    def _worker(self, preparation: Mapping[str, Any]) -> WorkerProcess:
        with contextlib.suppress(IndexError):
            while True:
                given, worker = self._idle.pop()
                if given == preparation:
                    return worker
                _end(worker)
        filters, views = preparation.get("image_filters", _SMALL), preparation.get("views")
        return WorkerProcess(filters, self._limits, views=views)

    def close(self) -> None:
        while self._idle:
            _end(self._idle.pop()[1])


def _end(worker: WorkerProcess) -> None:
    worker.kill()
    worker.close()


class Uploads:
    """Uploaded pictures by id: for an hour, at most 256 MB, the oldest are forgotten first."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._bytes = 0

    def add(self, data: bytes) -> Upload:
        """Check a picture and keep it; those kept long enough, or too many, are forgotten."""
        prepared = self._checker.preparation()
        found = self._checker.check(data)
        pixels = found.pixels if prepared else None
        size = (found.width, found.height, found.format)
        until = time.monotonic() + KEEP_SECONDS
        upload = Upload(PREFIX + secrets.token_urlsafe(16), data, *size, until, pixels, prepared)
        with self._lock:
            self._kept[upload.id] = upload
            self._bytes += upload.size
            now = time.monotonic()
            for name, one in list(self._kept.items())[:-1]:  # the oldest first, never this one
                if self._bytes <= _TOTAL_BYTES and one.until >= now:
                    break
                del self._kept[name]
                self._bytes -= one.size
        return upload

    def get(self, name: str) -> Upload:
        with self._lock:
            found = self._kept.get(name)
        if found is None or found.until < time.monotonic():
            raise UnknownPictureError(name)
        return found

    def pixels(self, upload: Upload) -> NDArray[np.uint8] | None:
        """As the index's model takes them now; None where it has none."""
        preparation = self._checker.preparation()
        if preparation == upload.prepared:
            return upload.pixels
        if not preparation:
            return None
        found = replace(
            upload, pixels=self._checker.check(upload.data).pixels, prepared=preparation
        )
        with self._lock:
            if self._kept.get(upload.id) is upload:
                self._kept[upload.id] = found
                self._bytes += found.size - upload.size
        return found.pixels


def fetch(url: str, limits: Limits) -> bytes:
    """The bytes at a URL; ImageError where it cannot be fetched or is not on the internet."""
    deadline = time.monotonic() + limits.max_seconds
    for _ in range(_REDIRECTS + 1):
        parts = _checked(url)
        connection = _connect(url, parts, deadline)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET", target, headers={"User-Agent": "imgsearch-es", "Accept": "image/*"}
            )
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                url = _redirected(url, response.headers.get("Location", ""))
                continue
            if response.status != 200:
                raise ImageError(url, f"the web server answers {response.status}")
            found = bytearray()
            while block := response.read1(_BLOCK):
                found += block
                if len(found) > limits.max_bytes:
                    raise ImageError(url, f"larger than the limit of {limits.max_bytes:,} bytes")
            if time.monotonic() > deadline:
                raise ImageError(url, _LATE)  # and perhaps only the beginning came
            if response.length:
                raise ImageError(url, "was cut off by the web server")
            return bytes(found)
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() > deadline
            why = _LATE if late else f"cannot be fetched: {type(error).__name__}"
            raise ImageError(url, why) from error
        finally:
            connection.end()
    raise ImageError(url, f"more than {_REDIRECTS} redirects")


def _redirected(url: str, place: str) -> str:
    try:
        return urljoin(url, place)
    except ValueError as error:
        raise ImageError(url, "redirects to what is no URL") from error


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ImageError(url, "is no URL") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ImageError(url, "only http:// and https:// URLs are fetched")
    if port not in (None, _PORTS[parts.scheme]):
        raise ImageError(url, "only port 80 of http:// and 443 of https:// are fetched from")
    if parts.username or parts.password or not url.isascii() or not url.isprintable():
        raise ImageError(url, "a URL with a password or with special characters is not fetched")
    return parts


def _connect(url: str, parts: SplitResult, deadline: float) -> _PinnedConnection:
    """A connection to a checked address; the wait for a name server has the same deadline."""
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    found: queue.SimpleQueue[list[str]] = queue.SimpleQueue()

    def resolve() -> None:
        answers: list[str] = []
        with contextlib.suppress(OSError, UnicodeError):
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers = [str(entry[4][0]) for entry in entries]
        found.put(answers)

    threading.Thread(target=resolve, name="imgsearch-resolve", daemon=True).start()
    try:
        addresses = found.get(timeout=_left(deadline))
    except queue.Empty:
        raise ImageError(url, _LATE) from None
    if not addresses:
        raise ImageError(url, "there is no such host")
    if not all(map(is_public, addresses)):
        raise ImageError(url, "is not on the public internet, so it is not fetched")
    return _PinnedConnection(host, port, addresses[0], parts.scheme == "https", deadline)


class _PinnedConnection(http.client.HTTPConnection):
    """HTTP or HTTPS to one address; host name and certificate are those of the URL.

    At the deadline the socket is shut down, which ends whatever waits for it: its own timeout
    begins anew with every byte that comes.
    """

    def __init__(self, host: str, port: int, address: str, secure: bool, deadline: float) -> None:
        super().__init__(host, port, timeout=_left(deadline))
        self._address = address
        self._secure = secure
        self._deadline = deadline
        self._alarm: threading.Timer | None = None
        if secure:
            self.default_port = _PORTS["https"]  # so that the Host header has no port

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self.host, do_handshake_on_connect=False
            )
        self._alarm = threading.Timer(_left(self._deadline), _shut_down, [self.sock])
        self._alarm.daemon = True
        self._alarm.start()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def end(self) -> None:
        """Close the connection for good (an answer may go on with its socket after ``close``)."""
        if self._alarm is not None:
            self._alarm.cancel()
        self.close()


def _shut_down(connected: socket.socket) -> None:
    """End reading and writing of a socket that another thread uses; of TLS without a farewell."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
