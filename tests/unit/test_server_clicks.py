"""What the page shows and people click, in the log that they asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imgsearch_es.clicks import read_interactions
from imgsearch_es.server.batching import ServedIndex
from imgsearch_es.server.settings import ServerSettings
from tests.serving import Client, serving


def search_of(client: Client, path: str) -> str | None:
    found = re.search(r'data-search="([^"]+)"', client.get(path).data.decode())
    return None if found is None else found[1]


def shown_by(client: Client, path: str) -> list[str]:
    return re.findall(r'data-id="([0-9a-f]{32})"', client.get(path).data.decode())


def settings(tmp_path: Path, log: Path | None) -> ServerSettings:
    return ServerSettings(port=0, cache_folder=tmp_path / "cache", log=log)


def test_searches_and_clicks_are_kept(place: Path, tmp_path: Path, word: str):
    log = tmp_path / "clicks.jsonl"
    with serving(ServedIndex(place), settings(tmp_path, log)) as client:
        search = search_of(client, f"/results?q={word}")
        second = shown_by(client, f"/results?q={word}")[1]
        assert client.post("/clicks", {"search": search, "picture": second}).status == 204
        assert search_of(client, "/results") is None  # all pictures: nobody searched
    found = read_interactions(log)
    (kept,) = [one for one in found.searches if one.search == search]
    assert kept.query == f"words: {word}"
    assert kept.ranks[second] == 2
    assert kept.clicks == [second]
    assert (found.stray, found.broken) == (0, 0)


def test_nothing_is_kept_by_default(
    place: Path, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("IMGSEARCH_LOG", raising=False)
    before = set(tmp_path.rglob("*.jsonl"))
    with serving(ServedIndex(place), settings(tmp_path, None)) as client:
        assert search_of(client, f"/results?q={word}") is None
        (first, *_) = shown_by(client, f"/results?q={word}")
        assert client.post("/clicks", {"search": "any", "picture": first}).status == 204
    assert set(tmp_path.rglob("*.jsonl")) == before


@pytest.mark.parametrize("click", [{}, {"search": "", "picture": "a"}, {"search": "a" * 201}])
def test_what_is_no_click_is_refused(place: Path, tmp_path: Path, click: dict[str, str]):
    with serving(ServedIndex(place), settings(tmp_path, tmp_path / "log")) as client:
        assert client.post("/clicks", click).status in (400, 422)
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_stands_in_nobodys_way(
    place: Path, tmp_path: Path, word: str, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "folder").mkdir()
    with serving(ServedIndex(place), settings(tmp_path, tmp_path / "folder")) as client:
        assert client.get(f"/results?q={word}").status == 200
        assert search_of(client, f"/results?q={word}") is None
        assert client.post("/clicks", {"search": "a", "picture": "b"}).status == 204
    assert "what was shown is not kept" in caplog.text
