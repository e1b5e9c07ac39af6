"""The text in pictures: both stores find what a loop over the words of all texts finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PIL import Image, ImageDraw

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ConfigurationError, UnknownWordError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.spans import marked
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import posteriors
from tests.conformance.conftest import answers
from tests.conformance.test_verify import IMPORTED
from tests.fakes import register

OWN_SETTINGS = IMPORTED
LINES = ("Flight 42\nGATE B-7", "gate flight, 42!", "Straße №7 ﬂight", "日本 東京", "a" * 250)
TEXTS = (None, "", *LINES)


def make_documents() -> list[Document]:
    return [replace(d, text=TEXTS[i % len(TEXTS)]) for i, d in enumerate(posteriors(140, seed=6))]


CONDITIONS: dict[str, Any] = {
    'ocr:"flight 42"': {"Flight 42\nGATE B-7", "gate flight, 42!"},
    "ocr:b-7": {"Flight 42\nGATE B-7"},
    'ocr:"42 gate"': {"Flight 42\nGATE B-7"},
    "ocr:FLIGHT": {"Flight 42\nGATE B-7", "gate flight, 42!", "Straße №7 ﬂight"},
    "ocr:flig*": {"Flight 42\nGATE B-7", "gate flight, 42!", "Straße №7 ﬂight"},
    "ocr:?2": {"Flight 42\nGATE B-7", "gate flight, 42!"},
    "ocr:STRASSE,東京": {"Straße №7 ﬂight", "日本 東京"},
    "ocr:東*": {"日本 東京"},
    "ocr:light": set(),
    f"ocr:{'a' * 250}": {"a" * 250},
    f"ocr:{'a' * 101}": set(),
    "ocr:*": {text for text in TEXTS if text},
    "-ocr:flight": {None, "", "日本 東京", "a" * 250},
}


@pytest.mark.parametrize("line", CONDITIONS)
def test_conditions(case, line):
    words = parse_words(line, imagenet())
    wanted = sorted(d.id for d in case.documents if d.text in CONDITIONS[line])
    (found,) = answers(case.store, [Query((), filters=words.filters, k=1000, sort="uri")])
    assert sorted(hit.document.id for hit in found.hits) == wanted
    assert parse_words(" ".join(map(str, words.filters)), imagenet()).filters == words.filters


def test_what_was_asked_is_marked():
    pieces = marked("Flight 42\nGATE B-7", 'dog ocr:"flight 42"')
    assert pieces == [("Flight", True), (" ", False), ("42", True), ("\nGATE B-7", False)]
    assert marked("Gate", "") == [("Gate", False)]


def test_it_is_whole_and_comes_through_files(case, place, tmp_path):
    with ImageIndex(case.store.location) as index:
        assert index.verify().is_whole
        for name in ("all.jsonl", "all.parquet"):
            index.export(tmp_path / name)
            with ImageIndex(place()) as other:
                assert other.import_(tmp_path / name).rejected == 0
                assert {d.id: d.text for d in other} == {d.id: d.text for d in case.documents}
                assert other.verify().is_whole


def test_texts_are_read_once_and_found(place, tmp_path):
    """By RapidOCR itself; one picture has changed since it was indexed, one is gone."""
    register()
    texts = {"a": "Kefalotyri", "b": "Gate 42", "c": "", "d": "x", "e": "y"}
    for name, text in texts.items():
        picture = Image.new("RGB", (300, 80), "white")
        ImageDraw.Draw(picture).text((20, 20), text, fill="black", font_size=32)
        picture.save(tmp_path / f"{name}.png")
    Image.new("RGB", (1, 1200), "white").save(tmp_path / "thin.png")
    with ImageIndex(place(), model="fake") as index:
        index.add(tmp_path, metadata={"n": 1})
        (tmp_path / "d.png").unlink()
        Image.new("RGB", (9, 9)).save(tmp_path / "e.png")
        before = {d.uri: d for d in index}
        assert index.read_text("filename:b.png").to_dict() == {
            "with_text": 1,
            "without_text": 0,
            "rejected": [],
        }
        report = index.read_text()
        assert (report.with_text, report.without_text) == (1, 2)
        reasons = {uri.rpartition("/")[2]: reason for uri, reason in report.rejected}
        assert "no such file" in reasons["d.png"]
        assert "index it again" in reasons["e.png"]
        for document in index:
            old = before[document.uri]
            assert (document.terms, document.metadata) == (old.terms, old.metadata)
        assert [hit.text for hit in index.search("ocr:kefalotyri")] == ["Kefalotyri"]
        hits = index.search("kefalotyri")
        assert hits[0].to_dict()["text"] == "Kefalotyri"
        assert hits.hints == ("'kefalotyri': looked for in the text of pictures",)
        assert (
            "ocr:kefalotyri finds pictures in which it stands"
            in index.search("cat kefalotyri").hints
        )
        others = {document.uri for document in index} - {*hits.uris}
        for line in ("-kefalotyri", "NOT kefalotyri"):  # what is excluded is not found
            assert {*index.search(line).uris} == others
        for line in ("kefalotyri 42", "-fortytwo"):
            with pytest.raises(UnknownWordError):
                index.search(line)
        assert index.verify().is_whole
        index.reindex(model="fake", terms=5, allow_missing=True)
        assert [hit.filename for hit in index.search("ocr:gate")] == ["b.png"]


def test_an_index_of_before_there_were_texts(place, make_old, monkeypatch):
    documents = [replace(d, text=None) for d in make_documents()[:5]]
    location = place()
    make_old(location, documents)
    with ImageIndex(location) as index:
        assert not index.search("ocr:flight")
        with monkeypatch.context() as patch:
            patch.setattr(IndexSettings, "has_model", True)
            with pytest.raises(ConfigurationError, match="`imgsearch reindex` brings it up to d"):
                index.read_text()
        index.store.write([replace(documents[0], text="flight")])
        index.store.finish()
        assert [hit.text for hit in index.search("ocr:flight")] == ["flight"]
        assert index.verify().is_whole


@pytest.fixture
def make_old(monkeypatch):
    """Gives what makes an index as versions without texts did."""

    def make(location: str, documents: list[Document]) -> None:
        from tests.conformance.conftest import filled

        if location.startswith("http"):
            from imgsearch_es.stores.elastic import mapping

            kept = {k: v for k, v in mapping.LATER.items() if k not in ("text", "ocr")}
            with monkeypatch.context() as patch:
                patch.setattr(mapping, "LATER", kept)
                with filled(location, documents, IMPORTED):
                    return
        import duckdb

        with filled(location, documents, IMPORTED):
            pass
        with duckdb.connect(location) as connection:
            for column in ("text", "ocr"):
                connection.execute(f"ALTER TABLE documents DROP COLUMN {column}")

    return make
