"""A token bucket for each client: so many requests at once, and so many a second for long."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

_CLIENTS = 10_000
"""Clients that are remembered; the one that was away longest is forgotten first."""


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
        key, now = client_of(client), self._clock()
        left, then = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        wait = max(0.0, (cost - left) / self._rate)
        self._buckets[key] = (left if wait else left - cost, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return wait


def client_of(address: str) -> str:
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
