"""Installing into a Kibana: a server that answers as Kibana's import API does."""

from __future__ import annotations

import email
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import trustme

from imgsearch_es.errors import ConfigurationError, ServerError
from imgsearch_es.interfaces.kibana import install as install_module
from imgsearch_es.interfaces.kibana import saved_objects
from imgsearch_es.interfaces.kibana.install import Kibana
from tests.serving import answering

INDEX = "http://localhost:9200/pets"
OBJECTS = saved_objects("pets")
MISSING = {"type": "missing_references", "references": [{"type": "index-pattern", "id": "b"}]}
REFUSED = [{"type": "lens", "id": "a", "error": MISSING}] + [
    {"type": "lens", "id": f"x{i}", "error": {"type": "conflict"}} for i in range(4)
]


@dataclass
class FakeKibana:
    """Keeps what it was sent; ``answers`` come first, then success."""

    answers: list[tuple[int, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    stored: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    url: str = ""

    def take(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        self.requests.append((path, headers))
        if self.answers:
            return self.answers.pop(0)
        if "kbn-xsrf" not in headers:
            return 400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."}
        kind = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
        (part,) = email.message_from_bytes(kind + body).get_payload()
        assert part.get_filename().endswith(".ndjson")  # Kibana refuses other names
        lines = part.get_payload(decode=True).decode().splitlines()
        for item in map(json.loads, lines):
            self.stored[item["type"], item["id"]] = item
        return 200, {"success": True, "successCount": len(lines)}


@contextmanager
def serving(kibana: FakeKibana, tls: ssl.SSLContext | None = None) -> Iterator[FakeKibana]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answer = kibana.take(self.path, headers, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with answering(Handler, tls) as server:
        scheme = "http" if tls is None else "https"
        kibana.url = f"{scheme}://127.0.0.1:{server.server_port}"
        yield kibana


@pytest.fixture
def kibana(monkeypatch) -> Iterator[FakeKibana]:
    for name in ("API_KEY", "USERNAME", "PASSWORD", "CA_CERTS"):
        monkeypatch.delenv(f"IMGSEARCH_ES_{name}", raising=False)
    monkeypatch.setattr(install_module, "_PAUSE_SECONDS", 0.01)
    with serving(FakeKibana()) as running:
        yield running


def test_installing_twice_replaces(kibana):
    target = Kibana.at(kibana.url)
    assert target.install(OBJECTS) == target.install(OBJECTS) == len(OBJECTS)
    assert len(kibana.stored) == len(OBJECTS)
    paths = {path for path, _ in kibana.requests}
    assert paths == {"/api/saved_objects/_import?overwrite=true"}


def test_a_space_and_a_base_path(kibana):
    target = Kibana.at(f"{kibana.url}/base/", "research")
    target.install(OBJECTS)
    ((path, _),) = kibana.requests
    assert path == "/base/s/research/api/saved_objects/_import?overwrite=true"
    url = target.dashboard_url("imgsearch~pets~dashboard")
    assert url == (f"{kibana.url}/base/s/research/app/dashboards#/view/imgsearch~pets~dashboard")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"API_KEY": "key=="}, "ApiKey key=="),
        ({"USERNAME": "ada", "PASSWORD": "söcret"}, "Basic YWRhOnPDtmNyZXQ="),
    ],
)
def test_credentials_are_those_of_elasticsearch(kibana, monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(f"IMGSEARCH_ES_{name}", value)
    target = Kibana.at(kibana.url)
    target.install(OBJECTS)
    ((_, headers),) = kibana.requests
    assert headers.get("authorization") == expected
    for secret in variables.values():
        assert secret not in repr(target)


def test_credentials_in_the_url_are_never_shown(kibana):
    url = kibana.url.replace("//", "//ada:hidden@")
    kibana.answers = [(401, {"statusCode": 401, "message": "no"})]
    with pytest.raises(ServerError, match="refuses us \\(401\\)") as caught:
        Kibana.at(url).install(OBJECTS)
    assert "hidden" not in str(caught.value)
    assert kibana.requests[0][1]["authorization"].startswith("Basic ")


def test_waits_while_kibana_starts_but_not_for_ever(kibana):
    kibana.answers = [(503, b"Kibana server is not ready yet"), (503, {}), (429, {})]
    assert Kibana.at(kibana.url).install(OBJECTS) == len(OBJECTS)
    assert len(kibana.requests) == 4
    with pytest.raises(ServerError, match="not answer after 0 seconds: Connection refused"):
        Kibana.at("http://127.0.0.1:9").install(OBJECTS, seconds=0)
    kibana.answers = [(503, b"Kibana server is not ready yet")] * 10_000
    with pytest.raises(ServerError, match=r"does not answer after 0\.1 seconds: status 503, Kib"):
        Kibana.at(kibana.url).install(OBJECTS, seconds=0.1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, {"message": "Forbidden"}), r"refuses us \(403\): give credentials"),
        ((404, {"message": "Not Found"}), "is not a Kibana"),
        ((200, b"<html>"), r"the answer is not that of a Kibana \(status 200\)"),
        ((302, b""), r"the answer is not that of a Kibana \(status 302\)"),
        ((413, {"message": "Payload content length greater"}), "Payload content length greater"),
        (
            (200, {"success": False, "successCount": 0, "errors": REFUSED}),
            r"refuses 5 objects: lens a \(missing: index-pattern b\), lens x0 \(conflict\), "
            r"lens x1 \(conflict\) and 2 more",
        ),
    ],
)
def test_says_what_kibana_says(kibana, answer, said):
    kibana.answers = [answer]
    with pytest.raises(ServerError, match=said):
        Kibana.at(kibana.url).install(OBJECTS)
    assert len(kibana.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"success": True, "successCount": "11"},
        {"success": False, "successCount": 0},
        {"success": False, "successCount": 0, "errors": None},
        {"success": False, "successCount": 0, "errors": [{"type": "lens", "id": "a"}]},
        {"success": False, "successCount": 0, "errors": [REFUSED[0] | {"error": "conflict"}]},
        b"[" * 100_000,
    ],
)
def test_an_answer_that_is_not_as_kibana_s_are(kibana, answer):
    kibana.answers = [(200, answer)]
    with pytest.raises(
        ServerError, match=r"not that of a Kibana|without a reason that can be read"
    ):
        Kibana.at(kibana.url).install(OBJECTS)


def test_https_where_kibana_has_http(kibana):
    with pytest.raises(ServerError, match=r"does not answer in TLS: is it http:// and not https:/"):
        Kibana.at(kibana.url.replace("http:", "https:")).install(OBJECTS)


def test_what_cannot_be_a_space_or_a_url(kibana):
    for space in ("Research", "a/b", "", "a b"):
        with pytest.raises(ConfigurationError, match="a space has lower-case letters"):
            Kibana.at("http://localhost:5601", space)
    for url in ("localhost:5601", "ftp://localhost", "", "http://"):
        with pytest.raises(ConfigurationError, match="is not the URL of a server"):
            Kibana.at(url)
    kibana.answers = [(404, {"message": "Not Found"})]
    with pytest.raises(ServerError, match="no space 'research'"):
        Kibana.at(kibana.url, "research").install(OBJECTS)


def test_an_authority_of_our_own(monkeypatch, tmp_path):
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    monkeypatch.delenv("IMGSEARCH_ES_CA_CERTS", raising=False)
    with serving(FakeKibana(), tls) as kibana:
        with pytest.raises(ServerError, match="is not trusted: give its authority by IMGSEARCH_ES"):
            Kibana.at(kibana.url).install(OBJECTS)
        monkeypatch.setenv("IMGSEARCH_ES_CA_CERTS", str(tmp_path / "ca.crt"))
        assert Kibana.at(kibana.url).install(OBJECTS) == len(OBJECTS)
    monkeypatch.setenv("IMGSEARCH_ES_CA_CERTS", "/none.crt")
    with pytest.raises(ConfigurationError, match=r"no certificate file /none\.crt"):
        Kibana.at("https://localhost:5601")


def test_the_command(kibana, run):
    answer = run(
        "kibana", "install", "--kibana", kibana.url, "--index", INDEX, "--json", "--page",
        "http://localhost:8000",
    )  # fmt: skip
    shown = json.loads(answer.output)
    assert shown["dashboard"] == (f"{kibana.url}/app/dashboards#/view/imgsearch~pets~dashboard")
    assert {(item["type"], item["id"]) for item in shown["objects"]} == set(kibana.stored)
    text = run("kibana", "install", "--kibana", kibana.url, "--index", INDEX).output
    assert shown["dashboard"] in text
