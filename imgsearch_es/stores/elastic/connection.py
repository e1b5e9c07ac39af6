"""Reaching a server: its address, who we are, and whether it is one we can work with."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import elasticsearch
from elastic_transport import NodeConfig, Urllib3HttpNode
from elasticsearch import Elasticsearch, helpers

from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    ServerError,
    UnsupportedServerError,
)
from imgsearch_es.stores.elastic.waiting import TOO_LARGE, PatientTransport, last_cause

Version = tuple[int, int]
"""Of a server: major and minor."""
OLDEST: Version = (8, 15)
"""The first with the sparse_vector query."""
_INDEX_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,200}")


@dataclass(frozen=True)
class Address:
    """Where an index is and how to get in; ``options`` are the client's, with all secrets."""

    server: str
    index: str
    options: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def __str__(self) -> str:
        return f"{self.server}/{self.index}"


def parse_address(url: str, *, timeout: float = 60.0, **credentials: Any) -> Address:
    """Take apart ``https://user:password@host:9200/index``; for credentials see `client_options`.

    Raises:
        ConfigurationError: the URL names no index or a forbidden one, or the options conflict.
    """
    parts, server = split_url(url)
    prefix, _, index = parts.path.rstrip("/").rpartition("/")
    if not _INDEX_NAME.fullmatch(index) or "//" in parts.path:
        raise ConfigurationError(
            f"{_shown(url)} does not name an index; write for example http://localhost:9200/pets "
            "(lower-case letters, digits, '.', '_', '-')"
        )
    options = {"request_timeout": timeout, **client_options(url, **credentials)}
    return Address(f"{server}{prefix}", index, options)


def split_url(url: str) -> tuple[SplitResult, str]:
    """The parts of a URL, and its scheme, host and port, written in one way."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"{_shown(url)} is no URL: {error}") from error
    try:
        host, port = parts.hostname, parts.port
    except ValueError:  # it may quote a password
        raise ConfigurationError(f"the port in {_shown(url)} is not a number") from None
    if not host or parts.scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"{_shown(url)} is not the URL of a server: write for example http://localhost:9200"
        )
    port = port or (443 if parts.scheme.lower() == "https" else 80)
    netloc = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return parts, f"{parts.scheme.lower()}://{netloc}"


def client_options(
    url: str,
    *,
    api_key: str | None = None,
    username: str | None = None,
    password: str | None = None,
    ca_certs: str | os.PathLike[str] | None = None,
    verify_certs: bool = True,
) -> dict[str, Any]:
    """Who we are, and whom we trust, as options of the client.

    What is not given may stand in the URL (``?api_key=...&ca_certs=...``), and else comes from
    IMGSEARCH_ES_API_KEY, IMGSEARCH_ES_USERNAME, IMGSEARCH_ES_PASSWORD and IMGSEARCH_ES_CA_CERTS.

    Raises:
        ConfigurationError: they conflict, or there is no such certificate file.
    """
    parts = urlsplit(url)
    environment = os.environ.get
    given = dict(parse_qsl(parts.query))
    for name in given.keys() - {"api_key", "ca_certs"}:
        raise ConfigurationError(f"a URL has no option {name!r}; it has api_key and ca_certs")
    api_key = api_key or given.get("api_key")
    username = username or unquote(parts.username or "")
    if api_key and username:
        raise ConfigurationError(f"give an API key or a user for {_shown(url)}, not both")
    if not username:
        api_key = api_key or environment("IMGSEARCH_ES_API_KEY")
    username = username or environment("IMGSEARCH_ES_USERNAME")
    password = password or unquote(parts.password or "") or environment("IMGSEARCH_ES_PASSWORD")
    ca_certs = ca_certs or given.get("ca_certs") or environment("IMGSEARCH_ES_CA_CERTS")
    api_key = (api_key or "").strip()  # what is read from a file ends with a line end
    if not (api_key.isascii() and api_key.isprintable()):  # else errors of the client show it
        raise ConfigurationError(f"the API key for {_shown(url)} has characters that none has")
    options: dict[str, Any] = {"api_key": api_key} if api_key else {}
    if username and not api_key:  # the client itself takes ASCII alone
        pair = f"{username}:{password or ''}".encode()
        options["basic_auth"] = base64.b64encode(pair).decode("ascii")
    if parts.scheme.lower() == "https":
        options |= {"verify_certs": verify_certs, "ssl_show_warn": False}
        if ca_certs:
            if not Path(ca_certs).expanduser().is_file():
                raise ConfigurationError(f"there is no certificate file {ca_certs} (ca_certs)")
            options["ca_certs"] = str(Path(ca_certs).expanduser())
    return options


class _Node(Urllib3HttpNode):
    """A server, reached anew by who had the client before it was closed, and by a forked process.

    For that one would read from its parent's connections, also what its parent asked for.
    """

    _of_parent: object = None
    """Kept, as it would be closed by a lock that a thread of the parent may have."""

    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._process = os.getpid()

    def perform_request(self, *request: Any, **options: Any) -> Any:
        if self._process != os.getpid():
            self._of_parent, self._process = self._anew(), os.getpid()
        return super().perform_request(*request, **options)

    def close(self) -> None:
        self._anew().close()

    def _anew(self) -> Any:
        old, self.pool = self.pool, _Node(self.config).pool
        return old


def connect(address: Address) -> tuple[Elasticsearch, Version]:
    """A client, and the server's version; UnsupportedServerError where we cannot work with it."""
    client = Elasticsearch(
        address.server,
        node_class=_Node,
        transport_class=PatientTransport,
        retry_on_timeout=False,  # who searches is told after one time-out, not after four
        max_retries=3,
        **address.options,
    )
    with translated(address):
        version = _version(client, address)
    if version < OLDEST:
        raise UnsupportedServerError(
            f"{address.server} is Elasticsearch {version[0]}.{version[1]}; imgsearch needs "
            f"{OLDEST[0]}.{OLDEST[1]} or newer"
        )
    return client, version


def _version(client: Elasticsearch, address: Address) -> Version:
    try:
        number = client.info()["version"]["number"]
    except elasticsearch.UnsupportedProductError as error:
        raise UnsupportedServerError(
            f"{address.server} answers, but is not Elasticsearch (OpenSearch and other servers "
            "are not supported)"
        ) from error
    except elasticsearch.ApiError as error:
        if error.meta.status == 405:  # a server without the root page, as Elastic's test build
            nodes = client.nodes.info(filter_path="nodes.*.version")["nodes"]
            number = next(iter(nodes.values()))["version"]
        elif "media_type_header" in str(error) or "compatible-with" in str(error):
            major = elasticsearch.__version__[0]
            raise UnsupportedServerError(
                f"{address.server} is older than the installed Elasticsearch client {major}: "
                f"install the client of its version, pip install 'elasticsearch<{major}'"
            ) from error
        else:
            raise
    first, second = str(number).split(".")[:2]
    return int(first), int(second)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the client's exceptions into ours, without credentials."""
    try:
        yield
    except (elasticsearch.AuthenticationException, elasticsearch.AuthorizationException) as error:
        if _error(error.body).get("type") == "cluster_block_exception":  # a 403 as well
            raise ServerError(
                f"{address}: {reason_of(error)}: take the block off (index.blocks, or "
                "the cluster's, cluster.blocks), or make room on the server's disk"
            ) from error
        if error.meta.status == 403 and "reason" in _error(error.body):  # it knows who we are
            raise ServerError(f"{address}: {reason_of(error)}") from error
        raise ServerError(
            f"{address.server} refuses us ({error.meta.status}): give credentials by "
            "IMGSEARCH_ES_API_KEY, or IMGSEARCH_ES_USERNAME and IMGSEARCH_ES_PASSWORD"
        ) from error
    except elasticsearch.ApiError as error:
        if is_missing_index(error.body):
            raise IndexNotFoundError.at(address) from error
        limits = " (http.max_content_length; of a proxy before it, such as client_max_body_size)"
        too_large = f"the request is larger than the server takes{limits}: "
        means = too_large if error.meta.status == TOO_LARGE else ""
        if "search_context_missing" in str(error.body):
            means = "the server was restarted while it was read, or that took too long: try again; "
        if error.meta.status == 429:
            means = "the server has too much to do just now: try again; "
        if _error(error.body).get("type") == "index_closed_exception":
            means = "open the index, which is "
        raise ServerError(f"{address}: {means}{reason_of(error)}") from error
    except helpers.ScanError as error:
        raise ServerError(f"{address}: a part of the index does not answer ({error})") from error
    except elasticsearch.SSLError as error:
        by = "ca_certs or IMGSEARCH_ES_CA_CERTS"
        raise ServerError(not_trusted(address.server, error.message, by)) from error
    except elasticsearch.TransportError as error:
        raise ServerError(
            f"cannot reach Elasticsearch at {address.server}: {last_cause(error.message)}"
        ) from error


def not_trusted(server: str, said: str, by: str) -> str:
    """What went wrong with TLS, of which the library said this."""
    if "WRONG_VERSION_NUMBER" in said or "record layer failure" in said:
        return f"{server} does not answer in TLS: is it http:// and not https://?"
    return f"the certificate of {server} is not trusted: give its authority by {by}"


def is_missing_index(answer: object) -> bool:
    """Whether a request, or one document of a bulk request, was refused for want of its index."""
    return _error(answer).get("type") == "index_not_found_exception"


def _error(answer: object) -> Mapping[str, Any]:
    error = answer.get("error") if isinstance(answer, Mapping) else None
    return error if isinstance(error, Mapping) else {}


def reason_of(error: elasticsearch.ApiError) -> str:
    """The server's own words, from the deepest cause it names."""
    said = _error(error.body)
    if error.body and isinstance(error.body, str):  # a page
        return f"something before it, such as a proxy, answers (status {error.meta.status})"
    if not said:
        return str(error.message) if error.body else f"status {error.meta.status}"
    cause = (said.get("root_cause") or [said.get("caused_by") or said])[0]
    return f"{cause.get('reason') or cause.get('type')} (status {error.meta.status})"


def _shown(url: str) -> str:
    """A URL without user, password and options."""
    return re.sub(r"//.*@|[?#].*", lambda found: found[0][:2] if found[0][0] == "/" else "", url)
