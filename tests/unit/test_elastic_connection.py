"""Addresses and credentials of an Elasticsearch server; no server is asked."""

from __future__ import annotations

import base64
import socket
import traceback
from http.server import BaseHTTPRequestHandler

import elasticsearch
import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch.helpers import ScanError

from imgsearch_es import ImageIndex
from imgsearch_es.errors import (
    ConfigurationError,
    IndexNotFoundError,
    SchemaError,
    ServerError,
    UnsupportedServerError,
)
from imgsearch_es.stores import open_store
from imgsearch_es.stores.elastic import connection
from imgsearch_es.stores.elastic.connection import connect, parse_address, translated
from imgsearch_es.stores.elastic.store import ElasticStore
from tests.conftest import python
from tests.serving import answering

SECRET = "hush-hush"  # noqa: S105
NAMES = ("API_KEY", "USERNAME", "PASSWORD", "CA_CERTS")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(f"IMGSEARCH_ES_{name}", raising=False)


@pytest.mark.parametrize(
    ("url", "server", "index"),
    [
        ("http://localhost:9200/pets", "http://localhost:9200", "pets"),
        ("HTTP://localhost:9200/pets/", "http://localhost:9200", "pets"),
        ("http://localhost/pets", "http://localhost:80", "pets"),
        ("https://es.example.org/pets", "https://es.example.org:443", "pets"),
        ("https://example.org:9200/a/b/pets-1.x_y", "https://example.org:9200/a/b", "pets-1.x_y"),
        ("http://[::1]:9200/pets", "http://[::1]:9200", "pets"),
        ("http://me:hush@localhost:9200/pets", "http://localhost:9200", "pets"),
    ],
)
def test_url(url, server, index):
    address = parse_address(url)
    assert (address.server, address.index, str(address)) == (server, index, f"{server}/{index}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"http://me:{SECRET}@localhost:9200", "http://localhost:9200 does not name an index"),
        (f"http://localhost:9200/Pets?api_key={SECRET}", "lower-case"),
        ("http://localhost:9200///pets", "does not name an index"),
        ("http://localhost:9200/_all", "does not name an index"),
        ("http://localhost:9200/a,b", "does not name an index"),
        ("http:///pets", "is not the URL of a server"),
        (f"http://me:{SECRET}@localhost:nine/pets", "port in http://localhost:nine/pets is not"),
        ("http://localhost:99999/pets", "the port in"),
        ("http://[::1/pets", "http://[::1/pets is no URL"),
        ("http://localhost:9200/pets?refresh=1", "no option 'refresh'; it has api_key and"),
        (f"http://localhost:9200/pets?apikey={SECRET}", "no option 'apikey'"),
        (f"http://me:{SECRET}/x@localhost:9200/pets", ""),
        (f"http://me:x?{SECRET}@localhost:9200/pets", ""),
        (f"http://localhost:9200/Pets#{SECRET}", ""),
        (f"http://u:{SECRET}@h/i?api_key={SECRET}", "an API key or a user"),
        (f"http://h/i?api_key={SECRET}%0A{SECRET}", "key for http://h/i has characters that none"),
        (f"http://h/i?api_key=%E2%80%9C{SECRET}", "key for http://h/i has characters that none"),
    ],
)
def test_a_bad_url_says_what_is_wrong_and_no_secret(url, message):
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


PLAIN = {"request_timeout": 60.0}
TLS = {"verify_certs": True, "ssl_show_warn": False}


def user(name: str, password: str) -> dict[str, str]:
    return {"basic_auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("url", "arguments", "environment", "options"),
    [
        ("http://h/i", {}, {}, {}),
        ("http://h/i", {"api_key": "k"}, {}, {"api_key": "k"}),
        ("http://h/i?api_key=k%3D", {}, {}, {"api_key": "k="}),
        ("http://h/i", {}, {"API_KEY": "k"}, {"api_key": "k"}),
        ("http://h/i", {"username": "u", "password": "p"}, {}, user("u", "p")),
        ("http://u:p%40%2F@h/i", {}, {}, user("u", "p@/")),
        ("http://h/i", {}, {"USERNAME": "u", "PASSWORD": "p"}, user("u", "p")),
        ("http://u@h/i", {}, {"PASSWORD": "p"}, user("u", "p")),
        ("http://u@h/i", {}, {}, user("u", "")),
        ("http://\u00fc@h/i", {"password": "pa\u00dfwort"}, {}, user("\u00fc", "pa\u00dfwort")),
        ("http://h/i", {}, {"API_KEY": "k\n"}, {"api_key": "k"}),
        ("http://h/i", {"timeout": 3}, {}, {"request_timeout": 3}),
        # an argument before the URL, the URL before the environment
        ("http://h/i?api_key=k", {"api_key": "a"}, {"API_KEY": "e"}, {"api_key": "a"}),
        ("http://h/i?api_key=k", {}, {"API_KEY": "e", "USERNAME": "u"}, {"api_key": "k"}),
        ("http://u:p@h/i", {}, {"API_KEY": "e"}, user("u", "p")),
        ("http://u:p@h/i", {"username": "a", "password": "b"}, {}, user("a", "b")),
        ("https://h/i", {}, {}, TLS),
        ("https://h/i", {"verify_certs": False}, {}, {**TLS, "verify_certs": False}),
    ],
)
def test_options_from_arguments_url_and_environment(
    monkeypatch, url, arguments, environment, options
):
    for name, value in environment.items():
        monkeypatch.setenv(f"IMGSEARCH_ES_{name}", value)
    assert parse_address(url, **arguments).options == {**PLAIN, **options}


def test_authority_from_arguments_url_and_environment(monkeypatch, tmp_path):
    ca = tmp_path / "ca.crt"
    ca.touch()
    wanted = {**PLAIN, **TLS, "ca_certs": str(ca)}
    assert parse_address("https://h/i", ca_certs=ca).options == wanted
    assert parse_address(f"https://h/i?ca_certs={ca}").options == wanted
    monkeypatch.setenv("IMGSEARCH_ES_CA_CERTS", str(ca))
    assert parse_address("https://h/i").options == wanted
    assert parse_address("http://h/i").options == PLAIN
    with pytest.raises(ConfigurationError, match=r"no certificate file .*other\.crt"):
        parse_address("https://h/i", ca_certs=tmp_path / "other.crt")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        (f"http://me:{SECRET}@localhost:9/pets", {}),
        (f"http://localhost:9/pets?api_key={SECRET}", {}),
        ("http://localhost:9/pets", {"api_key": SECRET}),
        ("http://localhost:9/pets", {"username": "me", "password": SECRET}),
    ],
)
def test_secrets_are_never_shown(url, options):
    address = parse_address(url, **options)
    index = ImageIndex(url, **options)
    shown = [repr(address), str(address), index.location, repr(index), repr(index.store)]
    with pytest.raises(ServerError, match="cannot reach Elasticsearch at http://localhost:9") as e:
        index.count()
    index.close()
    shown.append("".join(traceback.format_exception(e.value)))
    assert not [text for text in shown if SECRET in text]


# -- errors of the client become ours ---------------------------------------------------------

ADDRESS = parse_address(f"http://me:{SECRET}@localhost:9200/pets")


def failure(kind: type[elasticsearch.ApiError], status: int, error: dict) -> Exception:
    node = NodeConfig("http", "localhost", 9200)
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.1, node)
    return kind(error.get("type", "failed"), meta, {"error": error})


NO_BODY = ApiResponseMeta(503, "1.1", HttpHeaders(), 0.1, NodeConfig("http", "localhost", 9200))
NOT_FOUND, REFUSED = elasticsearch.NotFoundError, elasticsearch.AuthorizationException
UNKNOWN = elasticsearch.AuthenticationException
BAD_REQUEST, TOO_OLD = elasticsearch.BadRequestError, {"type": "media_type_header_exception"}
NO_INDEX = {"type": "index_not_found_exception"}
DENIED = {"type": "security_exception", "reason": "action [x] is unauthorized"}
BLOCKED = {"type": "cluster_block_exception", "reason": "index read-only"}
PAGE = f"<html>{SECRET}</html>"
CLOSED = {"type": "index_closed_exception", "reason": "closed"}
FORGOTTEN = {"root_cause": [{"type": "search_context_missing_exception", "reason": "No search"}]}
FULL = {"type": "outer", "root_cause": [], "reason": "", "caused_by": {"reason": "many buckets"}}
PLAIN_HTTP = "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)"
CAUSES = {"reason": "outer", "root_cause": [{"reason": "too many clauses"}]}


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (failure(NOT_FOUND, 404, NO_INDEX), IndexNotFoundError, "there is no index at http://loc"),
        (
            failure(NOT_FOUND, 404, {"type": "x", "reason": "y"}),
            ServerError,
            "pets: y (status 404)",
        ),
        (failure(NOT_FOUND, 404, FORGOTTEN), ServerError, "restarted while it was read, or that"),
        (failure(UNKNOWN, 401, {}), ServerError, "refuses us (401): give credentials by IMGSEARCH"),
        (failure(REFUSED, 403, {}), ServerError, "refuses us (403): give credentials by"),
        (failure(elasticsearch.ApiError, 429, FULL), ServerError, "too much to do just now: try"),
        (failure(BAD_REQUEST, 400, CLOSED), ServerError, "pets: open the index, which is closed"),
        (failure(BAD_REQUEST, 400, FULL), ServerError, "pets: many buckets (status 400)"),
        (failure(BAD_REQUEST, 400, CAUSES), ServerError, "pets: too many clauses"),
        (failure(REFUSED, 403, DENIED), ServerError, "pets: action [x] is unauthorized (status 40"),
        (failure(REFUSED, 403, BLOCKED), ServerError, "pets: index read-only (status 403): take"),
        (elasticsearch.ApiError("None", NO_BODY, None), ServerError, "pets: status 503"),
        (
            elasticsearch.ApiError(PAGE, NO_BODY, PAGE),
            ServerError,
            "it, such as a proxy, answers (sta",
        ),
        (ScanError("id", "1 of 2 shards"), ServerError, "pets: a part of the index does not"),
        (elasticsearch.SSLError("bad"), ServerError, "is not trusted: give its authority by ca_c"),
        (elasticsearch.SSLError(PLAIN_HTTP), ServerError, "9200 does not answer in TLS: is it htt"),
        (elasticsearch.ConnectionTimeout("late"), ServerError, "http://localhost:9200: late"),
    ],
)
def test_errors_are_translated(error, kind, message):
    with pytest.raises(kind) as caught, translated(ADDRESS):
        raise error
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"a": {"mappings": {"_meta": {"imgsearch_es": 5}}}}, "imgsearch did not make it"),
        ({"a": {"mappings": {"_meta": {"imgsearch_es": {}}}}}, "imgsearch did not make it"),
        ({"a": {}, "b": {}}, "leads to 2 indices, a and b: take the alias off"),
    ],
)
def test_indices_of_others(found, message):
    with pytest.raises(SchemaError, match=message):
        ElasticStore("http://localhost:9200/pets")._remember(found)


class Server:
    """A client whose server has one version, or fails."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def info(self):
        if isinstance(self._answer, Exception):
            raise self._answer
        return {"version": {"number": self._answer}}


@pytest.mark.parametrize(
    ("answer", "version"), [("8.15.0", (8, 15)), ("9.4.3", (9, 4)), ("10.0.0-SNAPSHOT", (10, 0))]
)
def test_a_server_that_is_new_enough(monkeypatch, answer, version):
    monkeypatch.setattr(connection, "Elasticsearch", lambda *args, **kwargs: Server(answer))
    assert connect(ADDRESS)[1] == version


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("8.14.9", "is Elasticsearch 8.14; imgsearch needs 8.15 or newer"),
        ("7.17.0", "is Elasticsearch 7.17"),
        (failure(elasticsearch.UnsupportedProductError, 200, {}), "is not Elasticsearch (OpenSear"),
        (failure(BAD_REQUEST, 400, TOO_OLD), "is older than the installed Elasticsearch client"),
    ],
)
def test_another_server_is_refused(monkeypatch, answer, message):
    monkeypatch.setattr(connection, "Elasticsearch", lambda *args, **kwargs: Server(answer))
    with pytest.raises(UnsupportedServerError) as caught:
        connect(ADDRESS)
    assert message in str(caught.value)


def test_a_server_that_hangs_is_asked_once():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = parse_address(f"http://127.0.0.1:{server.getsockname()[1]}/pets", timeout=0.2)
        with pytest.raises(ServerError, match="time"):
            connect(address)
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()


FORKING = """
import os, sys
from imgsearch_es.stores.elastic.connection import connect, parse_address
client, _ = connect(parse_address(sys.argv[1]))
if not os.fork():
    client.info()
    os._exit(0)
os.wait()
client.info()
"""


def test_a_forked_process_reads_no_answer_of_its_parent():
    asked_by = []

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked_by.append(self.client_address)
            self.send_response(200)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "30")
            self.end_headers()
            self.wfile.write(b'{"version": {"number": "9.0"}}')

    with answering(Server) as server:
        url = f"http://127.0.0.1:{server.server_port}/pets"
        run = python("-c", FORKING, url)
    assert run.returncode == 0, run.stderr
    first, forked, last = asked_by
    assert first == last != forked
