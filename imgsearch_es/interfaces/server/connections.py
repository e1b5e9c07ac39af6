"""Connections: who does not send or take what is due loses its own, and nobody else waits."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.interfaces.server.rate_limit import RateLimit, owner_of

HEAD_SECONDS = 15
"""The longest that a connection may be open without a whole request's head, at first and after
each answer; and that a client may take nothing of an answer. (A body that does not come is answered
by the guard.)"""
MOST = 2048
"""Connections at once; half of the files that this process may open, if that is less. Waiting costs
little, but whoever is pushed out comes back, and coming costs."""
ACCEPTED_AT_ONCE = 16
"""Connections that the event loop accepts before it reads what came on the last ones: whoever sends
a request at once is not pushed out by a crowd that comes after."""
_CLOSED_AT_ONCE = 32
_LINES, _LINES_A_SECOND = 20, 0.2


def allow_connections() -> None:
    """Let this process open as many files as it may, as far as connections need them."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST if most == resource.RLIM_INFINITY else min(2 * MOST, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def most_connections() -> int:
    """How many connections there may be at once."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if files == resource.RLIM_INFINITY else min(MOST, max(1, files // 2))


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
    def is_answering(self) -> bool:
        """Whether a request's head came and its answer is not complete."""
        return self.cycle is not None and not self.is_between

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
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came; once it has a head, the application has its own time."""
        self.heard = time.monotonic()
        super().data_received(data)
        if self.is_answering and not self.flow.write_paused:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Begin to wait for the next head, unless it is there already."""
        self._wait()
        super().on_response_complete()
        if self.is_answering:
            self._stop_waiting()

    def pause_writing(self) -> None:
        """Begin to wait for the client to take what was written."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """It did."""
        super().resume_writing()
        if self.is_answering:
            self._stop_waiting()

    def _wait(self) -> None:
        self._stop_waiting()
        self._untaken = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._waited)

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

        Those are ones that wait for their client: rather with half a request than between two,
        and those that were not heard of for longest. If none waits, all are being answered: then
        this one goes, or, if another client has the most, the last one of that client.
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


class FewLines(logging.Filter):
    """Lets twenty log lines of a kind through at once and one in five seconds for long.

    The next one that comes through says how many did not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._rate = RateLimit(_LINES_A_SECOND, _LINES, clock)
        self._held: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write a line."""
        kind = f"{record.name} {str(record.msg).partition(chr(10))[0]}"
        if self._rate.wait_seconds(kind, 1.0):
            self._held[kind] += 1
            return False
        if held := self._held.pop(kind, 0):
            record.msg = f"{record.msg} (and {held} times more since the last such line)"
        return True


def limit_log_lines() -> None:
    """Bound what clients can make this process write to its log."""
    few = FewLines()
    parser = "python_multipart.multipart"
    for name in ("imgsearch_es.interfaces.server", "uvicorn.error", "asyncio", parser):
        logging.getLogger(name).addFilter(few)
