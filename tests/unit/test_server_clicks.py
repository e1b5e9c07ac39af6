"""What the page shows and people click, in the log that they asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imgsearch_es.evaluation.clicks import read_interactions
from tests.serving import Client, Start


def search_of(client: Client, path: str) -> str | None:
    found = re.search(r'data-search="([^"]+)"', client.get(path).data.decode())
    return None if found is None else found[1]


def shown_by(client: Client, path: str) -> list[str]:
    return re.findall(r'data-id="([0-9a-f]{32})"', client.get(path).data.decode())


def test_searches_and_clicks_are_kept(start: Start, tmp_path: Path, word: str):
    log = tmp_path / "clicks.jsonl"
    with start(log=log) as client:
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
    start: Start, tmp_path: Path, word: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("IMGSEARCH_LOG", raising=False)
    before = set(tmp_path.rglob("*.jsonl"))
    with start(log=None) as client:
        assert search_of(client, f"/results?q={word}") is None
        (first, *_) = shown_by(client, f"/results?q={word}")
        assert client.post("/clicks", {"search": "any", "picture": first}).status == 204
    assert set(tmp_path.rglob("*.jsonl")) == before


@pytest.mark.parametrize("click", [{}, {"search": "", "picture": "a"}, {"search": "a" * 201}])
def test_what_is_no_click_is_refused(start: Start, tmp_path: Path, click: dict[str, str]):
    with start(log=tmp_path / "log") as client:
        assert client.post("/clicks", click).status in (400, 422)
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_stands_in_nobodys_way(
    start: Start, tmp_path: Path, word: str, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "folder").mkdir()
    with start(log=tmp_path / "folder") as client:
        assert client.get(f"/results?q={word}").status == 200
        assert search_of(client, f"/results?q={word}") is None
        assert client.post("/clicks", {"search": "a", "picture": "b"}).status == 204
    assert "what was shown is not kept" in caplog.text
