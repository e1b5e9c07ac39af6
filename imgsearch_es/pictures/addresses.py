"""URLs: nothing stores or shows their passwords, and none redirects into a private network."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from functools import cache
from typing import Any

_UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is on the internet (RFC 4291 and IANA's registry), ..."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""... but for IPv4 addresses behind a translator."""
_SPECIAL = tuple(
    map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20"))
)
"""Protocols, relays of old, documentation: what `is_global` leaves, or did until lately."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, also where it wraps an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _UNICAST:
            return False
    special = ip.is_multicast or ip.is_reserved or any(ip in network for network in _SPECIAL)
    return ip.is_global and not special


class RedirectedInwardsError(OSError):
    """A server on the internet redirects to this machine or a network that is not public."""


@cache
def careful(scheme: str) -> dict[str, Any]:
    """Arguments of fsspec's file systems for HTTP: what they are redirected to is looked at.

    Who names a URL may name one of their own network; a server elsewhere may not. (Names are
    looked up once more to connect: one that then says something else is not found out.)
    """
    import aiohttp
    from fsspec.config import conf

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_look_at)
    given = conf.get(scheme, {}).get("client_kwargs", {})  # by a person, for all of fsspec
    return {"client_kwargs": {**given, "trace_configs": [*given.get("trace_configs", ()), trace]}}


async def _look_at(session: Any, context: Any, redirected: Any) -> None:
    target = redirected.response.headers.get("Location") or redirected.response.headers.get("URI")
    if target is None or not await _is_public_host(redirected.url):
        return
    if not await _is_public_host(redirected.response.url.join(type(redirected.url)(target))):
        raise RedirectedInwardsError(
            "it redirects to an address that is not on the public internet"
        )


async def _is_public_host(url: Any) -> bool:
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(
            url.host, url.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):  # to connect to it will fail
        return True
    return all(is_public(str(entry[4][0])) for entry in entries)


_SCHEMES = r"\b(?P<scheme>https?|ftps?|sftp|ssh|smb|hdfs|webhdfs)://"
_USER = re.compile(_SCHEMES + r"(?P<user>[^/?#]*)@(?P<host>[^/?#@]*)", re.IGNORECASE)
_PLACE = re.compile(_SCHEMES + r"[^/?#]*", re.IGNORECASE)
_given: dict[str, str] = {}
"""What people wrote, by what is left of it."""


def without_credentials(url: str) -> str:
    """A URL without password, over HTTP also without name, which may be a token.

    This process fetches with them all the same, and nothing stores or shows them.
    """

    def cut(found: re.Match[str]) -> str:
        user, colon, _ = found["user"].partition(":")
        is_web = found["scheme"].lower().startswith("http")
        name = "" if is_web or not user else f"{user}@"
        if not (colon or is_web):
            return found[0]
        left = f"{found['scheme']}://{name}{found['host']}"
        _given[left] = found[0]
        return left

    return _USER.sub(cut, url)


def with_credentials(url: str) -> str:
    """A URL as it was last given to this process."""
    return _PLACE.sub(lambda found: _given.get(found[0], found[0]), url)
