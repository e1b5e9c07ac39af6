"""The containers' steps as plain processes: secrets, a secured node, its users, our commands."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import elasticsearch_node as nodes
import pytest
import yaml
from elasticsearch import AuthorizationException, Elasticsearch

from imgsearch_es import ImageIndex
from tests.conftest import ROOT
from tests.fakes import noise, register

DOCKER = ROOT / "docker"

pytestmark = [pytest.mark.node, pytest.mark.model]


@dataclass
class Secured:
    """A node that asks for a password over TLS, with what setup has made."""

    url: str
    secrets: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**os.environ, "IMGSEARCH_ES_SERVER": self.url, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    def make_users(self) -> subprocess.CompletedProcess[str]:
        script = str(DOCKER / "make_users.py")
        # The image sets the password of "elastic" by a keystore, which the test's node lacks.
        return self.run(
            sys.executable, script, str(self.secrets), IMGSEARCH_ES_SUPERUSER="superuser"
        )

    def imgsearch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command as the service "imgsearch" runs it."""
        return self.run(
            "sh", str(DOCKER / "entrypoint.sh"), sys.executable, "-m", "imgsearch_es", *arguments,
            IMGSEARCH_INDEX=f"{self.url}/pictures",
            IMGSEARCH_ES_USERNAME="imgsearch",
            IMGSEARCH_ES_PASSWORD_FILE=str(self.secrets / "imgsearch/imgsearch.password"),
            IMGSEARCH_ES_CA_CERTS=str(self.secrets / "ca/ca.crt"),
            PYTHONPATH=str(ROOT),
        )  # fmt: skip


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    secrets = tmp_path_factory.mktemp("run")
    subprocess.run(["sh", str(DOCKER / "make_secrets.sh"), str(secrets)], check=True)
    home = nodes.fetch("9")
    run = nodes._prepare(home, "512m", None)
    secure(run, secrets)
    process = nodes._launch("9", home, run)
    try:
        yield Secured(wait_for(run, process), secrets)
    finally:
        nodes.stop(str(run), process)


def secure(run: Path, secrets: Path) -> None:
    """The settings of compose.yaml, and a superuser with the password that setup has made."""
    config = run / "config"
    shutil.copytree(secrets / "elasticsearch", config / "secrets")
    settings = (config / "elasticsearch.yml").read_text(encoding="utf-8")
    secured = {
        "xpack.security.enabled": True,
        "xpack.security.http.ssl.enabled": True,
        "xpack.security.http.ssl.key": "secrets/http.key",
        "xpack.security.http.ssl.certificate": "secrets/http.crt",
        "xpack.security.transport.ssl.enabled": False,
    }
    kept = [line for line in settings.splitlines() if not line.startswith("xpack.security")]
    kept += [f"{name}: {json.dumps(value)}" for name, value in secured.items()]
    (config / "elasticsearch.yml").write_text("\n".join(kept) + "\n", encoding="utf-8")
    password = (secrets / "elasticsearch/elastic.password").read_bytes().strip()
    (config / "users").write_text(f"superuser:{pbkdf2(password)}\n", encoding="ascii")
    (config / "users_roles").write_text("superuser:superuser\n", encoding="ascii")
    if user := nodes.account():
        for path in config.rglob("*"):
            os.chown(path, user[1], user[2])


def pbkdf2(password: bytes) -> str:
    """A password's hash as Elasticsearch's file realm keeps it."""
    salt, rounds = os.urandom(32), 10_000
    key = hashlib.pbkdf2_hmac("sha512", password, salt, rounds, 32)
    return f"{{PBKDF2}}{rounds}${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def wait_for(run: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + nodes.START_LIMIT_S
    while (url := nodes._provisioned_url(process, run)) is None:
        assert time.monotonic() < end, (run / "node.log").read_text(errors="replace")[-3000:]
        time.sleep(0.2)
    return url.replace("http", "https")


def test_from_secrets_to_an_index(secured, tmp_path, monkeypatch):
    register(monkeypatch)
    before = secured.imgsearch("stats")
    assert before.returncode == 1
    assert "refuses us (401)" in before.stderr

    for _ in range(2):  # the containers run it at every start
        made = secured.make_users()
        assert (made.returncode, made.stderr) == (0, "")
    written = [
        path for path in secured.secrets.rglob("*") if path.suffix in (".password", ".token")
    ]
    for path in written:
        assert path.read_text(encoding="ascii").strip() not in made.stdout

    file = tmp_path / "documents.jsonl"
    answer = secured.imgsearch("stats")
    assert "there is no index" in answer.stderr
    for seed in range(3):
        noise(seed).save(tmp_path / f"{seed}.png")
    with ImageIndex(tmp_path / "pets.duckdb", model="fake") as index:
        assert index.add(tmp_path).added == 3
        exported = index.export(file).documents
    imported = secured.imgsearch("import", str(file), "--json")
    assert (imported.returncode, imported.stderr) == (0, "")
    stats = secured.imgsearch("stats", "--json")
    assert json.loads(stats.stdout)["documents"] == exported

    # The service "index": its own entry point, with the model that the image has.
    photos = tmp_path / "photos"
    photos.mkdir()
    noise(5).save(photos / "5.png")
    service = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]["index"]
    options = service["entrypoint"][2:]
    new = f"{secured.url}/photos"
    indexed = secured.imgsearch(*options, str(photos), "--index", new, "--json")
    assert (indexed.returncode, json.loads(indexed.stdout)["added"]) == (0, 1), indexed.stderr
    found = secured.imgsearch("stats", "--index", new, "--json")
    assert json.loads(found.stdout)["documents"] == 1

    # Our user may not look at the users.
    password = (secured.secrets / "imgsearch/imgsearch.password").read_text().strip()
    client = Elasticsearch(
        secured.url,
        basic_auth=("imgsearch", password),
        ca_certs=str(secured.secrets / "ca/ca.crt"),
    )
    with client, pytest.raises(AuthorizationException):
        client.security.get_user()
