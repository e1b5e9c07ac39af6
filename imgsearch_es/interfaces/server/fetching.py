"""Fetches a picture from the web for a person, and never from a private network.

A name is resolved once, every address found must be public, and the connection goes to the address
that was checked, whatever the name says a moment later. Redirects are followed by the same rules.
All of it has one deadline, however little the other side sends at a time.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from imgsearch_es.errors import ImageError
from imgsearch_es.pictures.addresses import is_public
from imgsearch_es.pictures.files import Limits

REDIRECTS = 3
_PORTS = {"http": 80, "https": 443}
_BLOCK = 1 << 16
_LATE = "could not be fetched in time"


def fetch(url: str, limits: Limits) -> bytes:
    """The bytes at a URL; ImageError where it cannot be fetched or is not on the internet."""
    deadline = time.monotonic() + limits.max_seconds
    for _ in range(REDIRECTS + 1):
        parts = _checked(url)
        connection = _connect(url, parts, deadline)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                "GET", target, headers={"User-Agent": "imgsearch-es", "Accept": "image/*"}
            )
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308):
                url = urljoin(url, response.headers.get("Location", ""))
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
            return bytes(found)
        except (OSError, http.client.HTTPException) as error:
            late = time.monotonic() > deadline
            why = _LATE if late else f"cannot be fetched: {type(error).__name__}"
            raise ImageError(url, why) from error
        finally:
            connection.end()
    raise ImageError(url, f"more than {REDIRECTS} redirects")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ImageError(url, "is no URL") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ImageError(url, "only http:// and https:// URLs are fetched")
    if port not in (None, *_PORTS.values()):
        raise ImageError(url, "only the ports 80 and 443 are fetched from")
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
        """Connect to the address that was checked."""
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
