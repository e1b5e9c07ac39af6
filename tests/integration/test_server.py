"""The server on Elasticsearch shows what it shows on an index file, and many at once."""

from __future__ import annotations

import json
import re

import pytest

from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.guard import ServerSettings
from imgsearch_es.pictures.files import picture_id
from tests.conftest import python
from tests.fakes import pictures, register
from tests.serving import BEARER, TOKEN, Client, json_of, serving


def shown(client: Client, path: str) -> list[str]:
    page = client.get(path)
    assert page.status == 200, page.data[-2000:]
    return re.findall(r'data-id="([0-9a-f]{32})"', page.data.decode())


@pytest.mark.node
@pytest.mark.scripts
def test_both_stores_show_the_same(elasticsearch_url, fresh_index_name, tmp_path, monkeypatch):
    register(monkeypatch)
    photos = pictures(tmp_path / "photos", 30)
    first, second, third = (picture_id(str(photos / f"{i:02}.png")) for i in range(3))
    answers = []
    for location in (tmp_path / "a.duckdb", f"{elasticsearch_url}/{fresh_index_name}"):
        index = ServedIndex(location, model="fake")
        index.add(photos, labels="noise")
        settings = ServerSettings(port=0, token=TOKEN, cache_folder=tmp_path / "cache")
        with serving(index, settings) as client:
            upload = json_of(client.upload("/api/v1/uploads", photos / "07.png"), 201)["id"]
            pages = [
                shown(client, path)
                for path in (
                    "/", "/?page=2", "/?where=label%3Dnoise", f"/?image={first}",
                    f"/?image={first}&like={second}&dislike={third}", "/?q=dog",
                    f"/?image={first}&by=dense-cosine", f"/?image={upload}",
                )
            ]  # fmt: skip
            why = client.get(f"/why?image={first}&picture={second}").data
            facets = json_of(client.post("/api/v1/facets", {"image": [first]}))
            client.headers = dict(BEARER)
            assert json_of(client("DELETE", f"/api/v1/documents/{first}")) == {"removed": 1}
            rest = json_of(client.get("/health"))["pictures"]
        answers.append((pages[:-1], pages[-1], why, facets, rest))
    assert answers[0] == answers[1]
    assert [len(page) for page in answers[0][0][:3]] == [24, 6, 24]
    assert answers[0][-1] == 29


@pytest.mark.long
@pytest.mark.model
def test_fifty_users_at_once_meet_no_error(tmp_path):
    """For some seconds; benchmarks/server.py measures a minute."""
    found = tmp_path / "server.json"
    command = ["benchmarks/server.py", "--users", 50, "--seconds", 8, "--json", found]
    run = python(*command)
    assert run.returncode == 0, run.stdout + run.stderr
    told = json.loads(found.read_text())
    assert told["errors"] == 0
    assert told["rows"]["all"]["count"] >= told["users"]
    assert told["rows"]["words"]["count"] > 0
