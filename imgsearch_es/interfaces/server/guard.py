"""The door: what a server may do, and what a request must be before anything looks at it.

Every check is a function of the request's head that gives a problem or None. Then the body is
counted as it comes, and the answer must begin in time.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.server.answers import RETRY_SOON, ProblemError, unexpected
from imgsearch_es.interfaces.server.connections import Bodies, Body, RateLimit, owner_of
from imgsearch_es.pictures.files import Limits

_UPLOAD_LIMITS = Limits(max_pixels=50_000_000, max_bytes=20 * 1024**2, max_seconds=10.0)
_TOKEN_CHARACTERS = 16
_TOKEN = re.compile(rf"[!-~]{{{_TOKEN_CHARACTERS},}}")
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
IS_HEAD = "imgsearch.head"
"""In a request's scope, where nobody takes the body of its answer."""
_OPEN_PATHS = ("/", "/health")
"""What needs no token anywhere: the page without content, and whether the server lives."""
_OPEN_FOLDER = "/static/"
_CHANGING = ("/api/v1/documents", "/api/v1/words")
"""What may take long: pictures are added, words are taught and forgotten."""
_CHANGING_SECONDS = 3600.0
_THUMBNAIL_COST = 0.05
_MULTIPART_BYTES = 64 * 1024
"""What a form has besides its file."""
_JSON_BYTES = 2 * 1024**2
"""Of a body that is no form, twice what metadata may have: it is kept in memory whole."""
_REASONS = {400: "host", 401: "token", 403: "origin", 413: "size", 429: "rate", 504: "time"}
_CLOSE = {"Connection": "close"}
"""With what costs a client nothing: many requests sent at once end with the first such answer."""
_PICTURES = (1, 2, 4, 8, 16, 32)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


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
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = field(default=None, repr=False)
    host_names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    roots: tuple[Path, ...] = ()
    upload_folder: Path | None = None
    allow_urls: bool = False
    upload_limits: Limits = _UPLOAD_LIMITS
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
        if self.token is not None and not _TOKEN.fullmatch(self.token):
            raise ConfigurationError(
                f"a token has at least {_TOKEN_CHARACTERS} ASCII characters, and no space or line "
                "end; `openssl rand -hex 24` makes one"
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
        networks = list(map(ipaddress.ip_network, self.proxies))
        mapped = [
            f"::ffff:{one.network_address}/{96 + one.prefixlen}"
            for one in networks
            if one.version == 4
        ]
        return [*map(str, networks), *mapped]

    @property
    def known_hosts(self) -> frozenset[str]:
        """The names that a Host header may have; addresses are accepted besides."""
        own = ("localhost", "127.0.0.1", "::1", self.host, socket.gethostname())
        return frozenset(name.lower() for name in (*own, *self.host_names))


class Metrics:
    """The figures of one server for Prometheus, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        counter, gauge = partial(Counter, registry=own), partial(Gauge, registry=own)
        histogram = partial(Histogram, registry=own)
        self.requests = counter("imgsearch_requests", "Requests answered.", ["route", "status"])
        seconds = "Seconds until an answer begins."
        self.seconds = histogram("imgsearch_request_seconds", seconds, ["route"], buckets=_SECONDS)
        self.in_progress = gauge("imgsearch_requests_in_progress", "Requests being answered.")
        self.refused = counter("imgsearch_refused", "Requests refused at the door.", ["reason"])
        pictures = "Pictures of a forward pass."
        self.batches = histogram("imgsearch_model_batch_pictures", pictures, buckets=_PICTURES)
        given = "Thumbnails given, from the cache (hit) or made (miss)."
        self.thumbnails = counter("imgsearch_thumbnails", given, ["cache"])
        self.pictures = gauge("imgsearch_pictures", "Pictures in the index, when last asked.")

    def text(self) -> bytes:
        return generate_latest(self._registry)


class Guard:
    """An ASGI application around another one; its answers are counted."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, metrics: Metrics) -> None:
        self._app = app
        self.settings = settings
        self._metrics = metrics
        self._rate = RateLimit(settings.rate, settings.burst)
        self._hosts = settings.known_hosts
        self._max_upload = settings.upload_limits.max_bytes + _MULTIPART_BYTES
        self._bodies = Bodies(self._max_upload)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["method"] == "HEAD":  # whoever sends the answer leaves the body out
            scope = {**scope, "method": "GET", IS_HEAD: True}
        body, began = Body(scope, receive), time.perf_counter()
        answer = _Answer(send, body)
        with self._metrics.in_progress.track_inprogress():
            try:
                problem = self._refusal(scope) or await self._let_in(scope, body.receive, answer)
            except asyncio.CancelledError:  # the server ends, and has waited long enough
                stopped = ProblemError(503, "Stopped", "the server was stopped before it was done")
                problem = stopped if answer.began is None else None
            if problem is not None:
                reason = _REASONS.get(problem.status, "other")
                self._metrics.refused.labels(reason).inc()
                await problem.answer(Headers(scope=scope))(scope, receive, answer.send)
        # The path with its parameters' names, so that there are few different ones.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, str(answer.status)).inc()
        self._metrics.seconds.labels(route).observe((answer.began or time.perf_counter()) - began)

    def _refusal(self, scope: Scope) -> ProblemError | None:
        """Why a request must not get in, by its head; None where it may."""
        headers = Headers(scope=scope)
        return (
            self._check_host(headers)
            or _check_origin(scope["method"], headers)
            or self._check_rate(scope)
            or self._check_token(scope["path"], headers)
            or self._check_length(headers)
        )

    def _check_host(self, headers: Headers) -> ProblemError | None:
        """Against DNS rebinding: a foreign name that leads here is not ours."""
        host = headers.get("host", "").lower()
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if name in self._hosts or _is_address(name):
            return None
        message = "this server is not known by that name: start it with --host-name NAME"
        return ProblemError(400, "UnknownHost", message, _CLOSE)

    def _check_rate(self, scope: Scope) -> ProblemError | None:
        cheap = scope["path"].startswith(("/thumbnails/", _OPEN_FOLDER))
        wait = self._rate.wait_seconds(_client_of(scope), _THUMBNAIL_COST if cheap else 1.0)
        if not wait:
            return None
        seconds = str(max(1, round(wait + 0.5)))
        message = f"too many requests: wait {seconds} s"
        headers = {**_CLOSE, "Retry-After": seconds}
        return ProblemError(429, "TooManyRequests", message, headers)

    def _check_token(self, path: str, headers: Headers) -> ProblemError | None:
        """Where other machines reach the server, reading needs the token, too."""
        is_open = path in _OPEN_PATHS or path.startswith(_OPEN_FOLDER)
        return None if is_open or self.settings.may_read(headers) else unauthorized()

    def _check_length(self, headers: Headers) -> ProblemError | None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return ProblemError(400, "BadRequest", "Content-Length is no number")
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may go by the one and we by the other: what follows is perhaps no request.
            message = "a body has a Content-Length or a Transfer-Encoding, not both"
            return ProblemError(400, "BadRequest", message, _CLOSE)
        most = self._most_bytes(headers)
        return _too_large(most) if int(length) > most else None

    def _most_bytes(self, headers: Headers) -> int:
        """The largest body that a request may have."""
        form = headers.get("content-type", "").startswith("multipart/form-data")
        return self._max_upload if form else min(_JSON_BYTES, self._max_upload)

    async def _let_in(self, scope: Scope, receive: Receive, answer: _Answer) -> ProblemError | None:
        """Have a request answered; a problem where it was too large, too slow, or our mistake.

        The body must be there in the time that an answer may take; a change of the index may take
        long after that.
        """
        most, limit = self._most_bytes(Headers(scope=scope)), self.settings.request_seconds
        changing = scope["method"] != "GET" and scope["path"].startswith(_CHANGING)
        if changing and scope["method"] == "DELETE":  # nobody asks for its body
            limit = _CHANGING_SECONDS
        taken = 0

        async def counted() -> Message:
            nonlocal taken, limit
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                answer.refusal = _too_large(most)
            elif not held(taken):
                busy = "too much is being uploaded at once: try again"
                answer.refusal = ProblemError(503, "Busy", busy, RETRY_SOON)
            if answer.refusal is not None:
                raise answer.refusal  # whatever the application makes of it
            if changing and not message.get("more_body", False):
                limit = _CHANGING_SECONDS
                in_time.deadline = anyio.current_time() + limit
            return message

        problem: ProblemError | None = None
        with (
            self._bodies.of(owner_of(_client_of(scope))) as held,
            anyio.move_on_after(limit) as in_time,
        ):
            answer.deadline = in_time
            try:
                await self._app(scope, counted, answer.send)
            except Exception as error:  # noqa: BLE001  (nobody else answers then)
                if answer.began is None and answer.refusal is None:
                    problem = unexpected(error)
        if answer.refusal is not None:
            answer.refusal, problem = None, answer.refusal
        if in_time.cancelled_caught:
            message = f"the answer took longer than {limit:g} seconds"
            message += "; the change goes on" if changing and limit == _CHANGING_SECONDS else ""
            problem = ProblemError(504, "TooSlow", message)
        return problem if answer.began is None else None


class _Answer:
    """Sends an answer with our headers, and knows whether and when it began."""

    def __init__(self, send: Send, body: Body) -> None:
        self._send, self._body = send, body
        self.began: float | None = None
        self.status = 0
        self.refusal: ProblemError | None = None
        self.deadline: anyio.CancelScope | None = None

    async def send(self, message: Message) -> None:
        if self.refusal is not None:
            return
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            if message["status"] < 500:
                await self._body.take_rest(closes="connection" in headers)
            self.began, self.status = time.perf_counter(), message["status"]
            if self.deadline is not None:
                self.deadline.deadline = float("inf")
            for name, value in {**SECURITY_HEADERS, "Cache-Control": "no-store"}.items():
                headers.setdefault(name, value)
            message = {**message, "headers": headers.raw}
        await self._send(message)


def unauthorized() -> ProblemError:
    """The token is missing or wrong."""
    message = "a token is needed: send the header `Authorization: Bearer TOKEN`"
    return ProblemError(401, "TokenNeeded", message, {"WWW-Authenticate": "Bearer"})


def _check_origin(method: str, headers: Headers) -> ProblemError | None:
    """Against requests that other pages make a person's browser send."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return None
    origin, host = headers.get("origin"), headers.get("host", "")
    foreign = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if foreign or (origin is not None and origin.partition("://")[2] != host):
        return ProblemError(403, "ForeignOrigin", "requests of other web pages are refused", _CLOSE)
    return None


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, "TooLarge", f"larger than the limit of {limit:,} bytes")


def _client_of(scope: Scope) -> str:
    """The address that a request came from; what a proxy passed on and is none is one client."""
    client: tuple[str, int] = scope.get("client") or ("", 0)
    return client[0] if _is_address(client[0]) else "unknown"


def _is_address(name: str) -> bool:
    """Whether a name is an IP address: no foreign name, whatever it leads to."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
