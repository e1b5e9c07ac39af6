"""What each client may have: requests a second, bytes at a time, connections, lines in the log.

Who does not send or take what is due loses its own connection, and nobody else waits.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import anyio
import h11
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgsearch_es.interfaces.server.answers import RETRY_SOON, ProblemError, log

HEAD_SECONDS = 15
"""The longest that a connection may be open without a whole request's head, at first and after
each answer; and that a client may take nothing of an answer."""
MOST = 2048
"""Connections at once; half of the files that this process may open, if that is less."""
ACCEPTED_AT_ONCE = 16
"""Connections that the event loop accepts before it reads what came on the last ones: whoever sends
a request at once is not pushed out by a crowd that comes after."""
_CLOSED_AT_ONCE = 32
_REST_SECONDS = 5
_LINES, _LINES_A_SECOND = 20, 0.2
_CLIENTS = 10_000
"""Clients that are remembered; the one that was away longest is forgotten first."""
_BODIES_BYTES = 256 * 1024**2
"""Of all bodies that requests in progress have sent; one client may have a quarter of them."""
_SMALL_BODY = 64 * 1024
"""That there is room for anyway: searches are not to wait for uploads."""


class RateLimit:
    """Buckets that hold ``burst`` requests and are filled with ``rate`` a second, 0 for any."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, client: str, cost: float) -> float:
        """Take ``cost`` requests; 0 when they are there, else the seconds until they will be."""
        if not self._rate:
            return 0.0
        key, now = owner_of(client), self._clock()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        wait = max(0.0, (cost - left) / self._rate)
        self._buckets[key] = (left if wait else left - cost, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return wait


class Bodies:
    """How many bytes there are of the bodies of requests in progress, which memory must hold.

    Each client may send one of the largest, whatever the limits; and what is alone has room. The
    same is kept of answers that are not taken yet.
    """

    def __init__(self, largest: int = 0) -> None:
        self._most = max(_BODIES_BYTES, 2 * largest)
        self._most_of_one = max(self._most // 4, largest)
        self._held: Counter[str] = Counter()

    @contextmanager
    def of(self, client: str) -> Iterator[Callable[[int], bool]]:
        """While a request lasts: whether it may have so many bytes in all."""
        mine = 0

        def held(size: int) -> bool:
            nonlocal mine
            others, theirs = self._held.total() - mine, self._held[client] - mine
            if size > _SMALL_BODY and (
                (theirs and theirs + size > self._most_of_one)
                or (others and others + size > self._most)
            ):
                return False
            self._held[client] += size - mine
            mine = size
            return True

        try:
            yield held
        finally:
            self._held[client] -= mine
            if not self._held[client]:
                del self._held[client]

    def room(self, client: str, size: int) -> ExitStack:
        """Room for an answer of so many bytes, until what is returned is closed."""
        room = ExitStack()
        if not room.enter_context(self.of(client))(size):
            room.close()
            busy = "too much is being downloaded at once: try again"
            raise ProblemError(503, "Busy", busy, RETRY_SOON)
        return room


class Body:
    """What comes with a request; what nobody reads is read before the connection ends.

    A proxy that still sends takes one that is closed for broken, and answers 502 in our place.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        asked = Headers(scope=scope)
        self._ends = (
            scope["http_version"] == "1.0" or "close" in asked.get("connection", "").lower()
        )
        self._is_done = "expect" in asked  # who waits to be asked for it does not send it

    async def receive(self) -> Message:
        """As of ASGI."""
        message = await self._receive()
        self._is_done |= not message.get("more_body", False)
        return message

    async def take_rest(self, *, closes: bool) -> None:
        """Read it and keep nothing, for as long as a client may take.

        Of a connection that neither client nor answer closes it is read anyway.
        """
        with anyio.move_on_after(_REST_SECONDS):
            while (closes or self._ends) and not self._is_done:
                await self.receive()


def owner_of(address: str) -> str:
    """Whom an address belongs to: of IPv6 a whole /64 network is one client's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)


def allow_connections() -> None:
    """Let this process open as many files as it may, as far as connections need them."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST if most == resource.RLIM_INFINITY else min(2 * MOST, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on a connection whose client has so much time and room, and no more.

    uvicorn knows no limit for either: its own refuses requests when they are whole.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.owner = ""
        self.heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._untaken = 0

    @property
    def waits_for_client(self) -> bool:
        """Whether the rest of a request is to come, or the client to take an answer."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) or self.flow.write_paused

    @property
    def is_between(self) -> bool:
        """Whether a request was answered, and perhaps another one is to come."""
        return self.cycle is not None and self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, and make room if there are too many."""
        super().connection_made(transport)
        self.owner = owner_of(self.client[0]) if self.client else "unknown"
        self.heard = time.monotonic()
        self._wait()
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MOST if files == resource.RLIM_INFINITY else min(MOST, max(1, files // 2))
        if len(self.connections) > most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; once it has a head, the application has its own time."""
        self.heard = time.monotonic()
        super().data_received(data)
        if not self.flow.write_paused:
            self._stop_if_answering()

    def on_response_complete(self) -> None:
        """Begin to wait for the next head, unless it is there already."""
        self._wait()
        super().on_response_complete()
        self._stop_if_answering()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what was written."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_if_answering()

    def _wait(self) -> None:
        self._stop_waiting()
        self._untaken = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._waited)

    def _stop_if_answering(self) -> None:
        """A request's head came and its answer is not complete: nobody waits for the client."""
        if self.cycle is not None and not self.is_between:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited(self) -> None:
        if 0 < self.transport.get_write_buffer_size() < self._untaken:
            self._wait()  # it takes a large answer slowly
        else:
            self.transport.abort()

    def _make_room(self) -> None:
        """Close connections of the client that has the most; some at once, as looking takes time.

        Rather those with half a request than those between two, and those not heard of for longest.
        If all are being answered, this one goes, or the last one of the client that has the most.
        """
        peers = [one for one in self.connections if isinstance(one, BoundedProtocol)]
        owned = Counter(one.owner for one in peers)
        owner, most = owned.most_common(1)[0]
        owner = self.owner if owned[self.owner] == most else owner
        theirs = [one for one in peers if one.owner == owner and one is not self]
        closed = [one for one in theirs if one.waits_for_client]
        closed.sort(key=lambda one: (one.is_between, one.heard))
        if not closed:
            closed = [max(theirs, key=lambda one: one.heard) if owner != self.owner else self]
        del closed[_CLOSED_AT_ONCE:]
        log.warning("too many connections: %d of %s were closed", len(closed), owner)
        for one in closed:
            self.connections.discard(one)  # it is not to be found again before it is lost
            one.transport.abort()


def few_lines(clock: Callable[[], float] = time.monotonic) -> Callable[[logging.LogRecord], bool]:
    """A filter that lets twenty log lines of a kind through at once, one in five seconds for long.

    The next one that comes through says how many did not.
    """
    rate, held = RateLimit(_LINES_A_SECOND, _LINES, clock), Counter[str]()

    def is_let_through(record: logging.LogRecord) -> bool:
        kind = f"{record.name} {str(record.msg).partition(chr(10))[0]}"
        if rate.wait_seconds(kind, 1.0):
            held[kind] += 1
            return False
        if many := held.pop(kind, 0):
            record.msg = f"{record.msg} (and {many} times more since the last such line)"
        return True

    return is_let_through


def limit_log_lines() -> None:
    """Bound what clients can make this process write to its log."""
    few = few_lines()
    parser = "python_multipart.multipart"
    for name in ("imgsearch_es.interfaces.server", "uvicorn.error", "asyncio", parser):
        logging.getLogger(name).addFilter(few)
