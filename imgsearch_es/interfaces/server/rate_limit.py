"""What each client may ask for: so many requests at once and a second, so many bytes at a time."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CLIENTS = 10_000
"""Clients that are remembered; the one that was away longest is forgotten first."""
_BODIES_BYTES = 256 * 1024**2
"""Of all bodies that requests in progress have sent; one client may have a quarter of them."""
_SMALL_BODY = 64 * 1024
"""That there is room for anyway: searches are not to wait for uploads."""


class RateLimit:
    """Buckets that hold ``burst`` requests and are filled with ``rate`` a second.

    Args:
        rate: requests a second; 0 for any number.
        burst: requests at once.
        clock: seconds that only grow.
    """

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

    Args:
        largest: bytes of the largest body; each client may send one, whatever the limits.
    """

    def __init__(self, largest: int) -> None:
        self._most = max(_BODIES_BYTES, 2 * largest)
        self._most_of_one = max(self._most // 4, largest)
        self._held: Counter[str] = Counter()

    @contextmanager
    def of(self, client: str) -> Iterator[Callable[[int], bool]]:
        """While a request lasts: whether it may have so many bytes in all."""
        mine = 0

        def held(size: int) -> bool:
            nonlocal mine
            more = size - mine
            if size > _SMALL_BODY and (
                self._held[client] + more > self._most_of_one
                or self._held.total() + more > self._most
            ):
                return False
            self._held[client] += more
            mine = size
            return True

        try:
            yield held
        finally:
            self._held[client] -= mine
            if not self._held[client]:
                del self._held[client]


def owner_of(address: str) -> str:
    """Whom an address belongs to: of IPv6 a whole /64 network is one client's."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return str(ip)
