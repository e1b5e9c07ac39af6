"""What a server may do: where it listens, who gets in, and how much it takes."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.files import Limits

UPLOAD_LIMITS = Limits(max_pixels=50_000_000, max_bytes=20 * 1024**2, max_seconds=10.0)
_TOKEN_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of a server; the defaults are for one person on this machine.

    Attributes:
        token: what a request must carry to change the index, and on any other address than
            loopback to read it. Without one nobody changes it.
        host_names: names under which the server is reached, besides localhost and this machine's.
        proxies: addresses or networks of proxies, through which other machines reach the server;
            only they are believed whom they forward for (``X-Forwarded-For``).
        roots: folders; only pictures in them are served, and only from them pictures are added.
            Without any, a picture is served if its file is where the index says, and not a link
            that leads out of its folder.
        upload_folder: where pictures that are added by upload are kept; None refuses them.
        rate, burst: requests that one client may make a second for long (0 for any number), and
            at once.
        cache_folder, cache_bytes: of thumbnails.
        threads: how many searches run at once.
        processes: how many others search as well; 0 for none.
        log: a file that keeps what was shown and clicked; None keeps nothing.

    Raises:
        ConfigurationError: they make no sense, or are not safe together.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    host_names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    upload_folder: Path | None = None
    allow_urls: bool = False
    upload_limits: Limits = UPLOAD_LIMITS
    request_seconds: float = 30.0
    rate: float = 20.0
    burst: int = 120
    cache_folder: Path | None = None
    cache_bytes: int = 2 * 1024**3
    threads: int = 32
    processes: int = 0
    log: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigurationError(f"a port is 0 to 65535, not {self.port}")
        if self.token is not None and (
            len(self.token) < _TOKEN_CHARACTERS or not self.token.isascii() or " " in self.token
        ):
            raise ConfigurationError(
                f"a token has at least {_TOKEN_CHARACTERS} ASCII characters and no space; "
                "`openssl rand -hex 24` makes one"
            )
        try:
            list(map(ipaddress.ip_network, self.proxies))
        except ValueError as error:
            raise ConfigurationError(
                f"a proxy is an address or a network such as 10.0.0.0/8: {error}"
            ) from error
        if not self.readable_without_token and self.token is None:
            reached = f"{', '.join(self.proxies) or self.host} can be reached from other machines"
            raise ConfigurationError(
                f"{reached}, so a token is needed: put one into IMGSEARCH_TOKEN (`openssl rand "
                "-hex 24` makes one), or serve on 127.0.0.1 without a proxy"
            )
        for name in ("request_seconds", "burst", "threads", "cache_bytes"):
            if not getattr(self, name) > 0:  # which no NaN is
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)}")
        if not self.rate >= 0:
            raise ConfigurationError(f"rate must be 0 or more, not {self.rate:g}")
        for root in (*self.roots, *filter(None, [self.upload_folder])):
            if not root.is_dir():
                raise ConfigurationError(f"there is no folder {root}")

    @property
    def readable_without_token(self) -> bool:
        """Whether searching needs no token: only this machine reaches the server."""
        try:
            loopback = (
                self.host.lower() == "localhost" or ipaddress.ip_address(self.host).is_loopback
            )
        except ValueError:
            loopback = False
        return loopback and not self.proxies

    def carries_token(self, headers: Mapping[str, str]) -> bool:
        """Whether ``Authorization: Bearer <token>`` is there; takes as long whatever is wrong."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), (self.token or "").encode())
        return scheme.lower() == "bearer" and same and self.token is not None

    def may_read(self, headers: Mapping[str, str]) -> bool:
        """Whether a request may see what the index has."""
        return self.readable_without_token or self.carries_token(headers)

    @property
    def believed(self) -> list[str]:
        """The proxies, those of IPv4 also as a socket of IPv6 names them."""
        found = list(map(ipaddress.ip_network, self.proxies))
        mapped = [
            f"::ffff:{one.network_address}/{96 + one.prefixlen}"
            for one in found
            if isinstance(one, ipaddress.IPv4Network)
        ]
        return [*map(str, found), *mapped]

    @property
    def known_hosts(self) -> frozenset[str]:
        """The names that a Host header may have; addresses are accepted besides."""
        own = ("localhost", "127.0.0.1", "::1", self.host, socket.gethostname())
        return frozenset(name.lower() for name in (*own, *self.host_names))
