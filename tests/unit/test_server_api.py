"""The API answers what the command line prints, and changes nothing without the token."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import anyio
import duckdb
import numpy as np
import pytest
from click.testing import Result
from pydantic import BaseModel, TypeAdapter

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ImageError, IndexLockedError, QueryError, WeightsError
from imgsearch_es.evaluation.clicks import read_interactions
from imgsearch_es.interfaces.server import api, pictures, schemas
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.images import open_image
from imgsearch_es.pictures.photo import Photo
from tests.conftest import PATIENCE, wait_for
from tests.fakes import FakeModel, noise
from tests.serving import BEARER, TOKEN, Client, json_of

Run = Callable[..., Result]
NO_PATHS = ("/a\\u0000b", "/\\ud800", "\\u0000")


@pytest.fixture
def own(start, photos, tmp_path) -> Iterator[Client]:
    """For tests that change the index or count what was asked."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with start(token=TOKEN, roots=(photos,), upload_folder=uploads) as found:
        yield found


def printed(run: Run, *arguments: object) -> object:
    return json.loads(run(*arguments, "--json").output)


def without_time(answer: object) -> object:
    assert isinstance(answer, dict)
    return {name: value for name, value in answer.items() if name != "took_ms"}


def fits(answer: object, model: type[BaseModel]) -> None:
    model.model_validate(answer)


def test_searches_are_what_the_command_prints(client, run, place, photos, word):
    answer = json_of(client.post("/api/v1/search", {"text": word, "k": 5}))
    fits(answer, schemas.SearchAnswer)
    assert answer["hits"]
    expected = printed(run, "search", word, "-i", place, "-k", 5)
    assert without_time(answer) == without_time(expected)
    by_url = json_of(client.get(f"/api/v1/search?text={word}&k=5"))
    assert without_time(by_url) == without_time(expected)
    names = ("cats/cat.0.png", "dogs/dog.1.png", "cats/cat.3.png")
    cat, dog, other = (picture_id(str(photos / name)) for name in names)
    asked = {"image": [cat], "like": [dog], "dislike": [other], "k": 6}
    answer = json_of(client.post("/api/v1/search", asked))
    given = ("--image", cat, "--like", dog, "--dislike", other, "-k", 6)
    assert without_time(answer) == without_time(printed(run, "search", *given, "-i", place))
    fused = {"image": [cat], "text": word, "fuse": {"image": 1, "words": 0.5}}
    fits(json_of(client.post("/api/v1/search", fused)), schemas.SearchAnswer)
    explained = json_of(client.post("/api/v1/explain", fused))
    fits(explained, schemas.ExplainAnswer)
    assert explained["explanations"][0]["parts"]
    alone = json_of(client.post("/api/v1/search", {"text": word, "fusion": "rrf"}), 422)
    assert alone["error"]["message"] == "fusion, rank_constant and window go with fuse"


def test_a_picture_beside_words_is_left_out_as_by_the_command(client, run, place, cat, word):
    """Before words and picture get equal say; a region of it, too."""
    asked = {"image": [picture_id(str(cat))], "text": word, "k": 12}
    command = ("search", "--image", cat, word, "-i", place, "-k", 12)
    for more, options in (
        ({}, ()),
        ({"feedback": 2}, ("--feedback", 2)),
        ({"region": [0, 0, 0.5, 0.5]}, ("--region", "0,0,0.5,0.5")),
        ({"exclude_self": False}, ("--no-exclude-self",)),
    ):
        expected = printed(run, *command, *options)
        assert json_of(client.post("/api/v1/search", asked | more))["hits"] == expected["hits"]


def test_search_by_an_upload_finds_what_the_file_finds(client, run, place, cat, monkeypatch):
    """And the server itself decodes none: views are of a smaller copy where a picture is large."""
    expected = printed(run, "search", "--image", cat, "-i", place, "-k", 4)
    opened = mock.Mock(wraps=open_image)
    monkeypatch.setattr("imgsearch_es.search.query_pictures.open_image", opened)
    monkeypatch.setattr("imgsearch_es.interfaces.server.pictures.LARGE", 0)
    answer = json_of(client.upload("/api/v1/search/upload", cat, query='{"k": 4}'))
    assert isinstance(expected, dict)
    assert answer["hits"] == expected["hits"]
    kept = json_of(client.upload("/api/v1/uploads", cat), 201)
    fits(kept, schemas.UploadAnswer)
    assert (kept["width"], kept["height"], kept["format"]) == (30, 20, "PNG")
    again = json_of(client.post("/api/v1/search", {"image": [kept["id"]], "k": 4}))
    assert again["hits"] == expected["hits"]
    part = {"image": [kept["id"]], "region": [0, 0, 0.5, 0.5], "k": 4}
    assert json_of(client.post("/api/v1/search", part))["hits"] != expected["hits"]
    assert [type(call.args[0]) for call in opened.call_args_list] == [np.ndarray]


def test_uploads_are_prepared_as_the_index_is_now(own, run, place, cat, monkeypatch):
    """Those kept from before, once, and new ones, without a restart."""

    def best(name: str) -> object:
        found = json_of(own.post("/api/v1/search", {"image": [name], "k": 1}))["hits"][0]
        return found["uri"], found["score"]

    kept = json_of(own.upload("/api/v1/uploads", cat), 201)["id"]
    assert best(kept) == best(picture_id(str(cat)))
    small = place.with_name("small.toml")
    small.write_text('model = "fake"\nimage_filters = [{name = "resize", height = 4, width = 4}]')
    run("reindex", "--analyzer", small, "--index", place)
    new = json_of(own.upload("/api/v1/uploads", cat), 201)["id"]
    check = mock.Mock(wraps=own.services.checker.check)
    monkeypatch.setattr(own.services.checker, "check", check)
    assert best(kept) == best(kept) == best(new) == best(picture_id(str(cat)))
    check.assert_called_once()


def test_explanations_facets_and_figures_are_what_the_command_prints(own, run, place, word, cat):
    answer = json_of(own.post("/api/v1/explain", {"text": word, "k": 2}))
    fits(answer, schemas.ExplainAnswer)
    assert answer == printed(run, "explain", word, "-i", place, "-k", 2)
    one = json_of(own.post("/api/v1/explain", {"text": word, "picture": picture_id(str(cat))}))
    assert one == printed(run, "explain", word, "-i", place, "--picture", cat)
    facets = json_of(own.post("/api/v1/facets", {}))
    TypeAdapter(schemas.FacetsAnswer).validate_python(facets)
    assert facets == printed(run, "facets", "-i", place)
    some = json_of(own.post("/api/v1/facets", {"text": word, "fields": ["label"]}))
    assert some == printed(run, "facets", word, "-i", place, "--field", "label")
    assert json_of(own.get("/api/v1/stats")) == printed(run, "stats", "-i", place)


def test_documents_thumbnails_and_originals(own, cat):
    name = picture_id(str(cat))
    document = json_of(own.get(f"/api/v1/documents/{name}"))
    fits(document, schemas.DocumentAnswer)
    assert document["filename"] == "cat.0.png"
    original = own.get(f"/api/v1/documents/{name}/picture")
    assert (original.data, original.headers["content-type"]) == (cat.read_bytes(), "image/png")
    first = own.get(f"/thumbnails/{name}/240?v={document['sha256'][:12]}")
    assert first.headers["content-type"] == "image/jpeg"
    assert first.data[:3] == b"\xff\xd8\xff"
    assert "immutable" in first.headers["cache-control"]
    other = own.get(f"/thumbnails/{name}/240?v=1")  # as of a page from before a change
    assert (other.data, other.headers["cache-control"]) == (first.data, "private, no-cache")
    same = own.get(f"/thumbnails/{name}/240", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status, same.data) == (304, b"")
    text = own.get("/metrics").data.decode()
    assert 'imgsearch_thumbnails_total{cache="miss"} 1.0' in text
    assert 'imgsearch_thumbnails_total{cache="hit"} 2.0' in text
    assert own.get(f"/thumbnails/{name}/241").status == 404


def test_a_photo_with_text_is_described(own, cat):
    """How it was taken, and what was read in it."""
    name, seen = picture_id(str(cat)), {"photo": {"camera": "X100"}, "text": "Flight 42"}
    changed = partial(replace, photo=Photo(camera="X100"), text="Flight 42")
    with ImageIndex(own.services.index.location) as index:
        index.store.change([name], changed)
        index.store.finish()
    answer = json_of(own.get("/api/v1/search?text=ocr:flight"))
    fits(answer, schemas.SearchAnswer)
    document = json_of(own.get(f"/api/v1/documents/{name}"))
    fits(document, schemas.DocumentAnswer)
    for found in (*answer["hits"], document):
        assert {key: found[key] for key in seen} == seen


def test_an_upload_is_drawn_once_and_nobody_waits(own, cat, monkeypatch):
    name, other = json_of(own.upload("/api/v1/uploads", cat), 201)["id"], picture_id(str(cat))
    drawn, release, drawer = [], threading.Event(), own.services.pictures._drawer
    before = own.get(f"/thumbnails/{other}/240").data
    decode = drawer.decode

    def slow(data: bytes, of: str) -> object:
        drawn.append(of)
        assert release.wait(2 * PATIENCE)
        return decode(data, of)

    monkeypatch.setattr(drawer, "decode", slow)
    with ThreadPoolExecutor(8) as crowd:
        answers = [crowd.submit(own.get, f"/thumbnails/{name}/240") for _ in range(8)]
        try:
            wait_for(lambda: drawn)
            assert own.get(f"/thumbnails/{other}/240").data == before
        finally:
            release.set()
        assert [one.result().data for one in answers] == [before] * 8
    assert len(drawn) == 1
    text = own.get("/metrics").data.decode()
    assert 'imgsearch_thumbnails_total{cache="miss"} 2.0' in text


def test_suggestions_and_errors_help(client):
    found = json_of(client.get("/api/v1/suggest?word=tabbi"))
    assert {"text": "tabby", "kind": "word"}.items() <= found[0].items()
    assert found[0].keys() == schemas.SuggestAnswer.model_fields.keys()
    problem = json_of(client.get("/api/v1/search?text=tabbi"), 400)
    fits(problem, schemas.ErrorAnswer)
    assert problem["error"]["suggestions"] == ["tabby"]
    found = json_of(client.get("/api/v1/search?text=fluffy+cow"))
    assert found["left_out"] == ["fluffy"]
    assert "searched for what is near: ox 0.74" in found["hints"][0]
    page = client.get("/?q=fluffy+dog").data.decode()
    assert (
        page.count("is not in this index's vocabulary and was left out".replace("'", "&#39;")) == 1
    )
    gone = json_of(client.get(f"/api/v1/documents/{'0' * 32}"), 404)
    assert gone["error"]["kind"] == "UnknownPictureError"
    unknown = json_of(client.post("/api/v1/search", {"text": "dog", "kk": 3}), 422)
    assert unknown["error"]["message"].startswith("kk: ")
    nothing = json_of(client.post("/api/v1/search", {}), 400)
    assert "what to search for?" in nothing["error"]["message"]
    problem = json_of(client.upload("/api/v1/uploads", b"no picture at all"), 422)
    assert "not a picture" in problem["error"]["message"]


def test_a_region_in_a_url_is_numbers_and_of_few_pictures(client, cat):
    name = picture_id(str(cat))
    path = f"/api/v1/search?image={name}&region="
    assert client.get(f"{path}0,0.5,1,1").status == 200
    for wrong in ("1..2,0,1,1", ".,.,.,.", "0,0,1", "1.,0,1,1"):
        assert "region" in json_of(client.get(path + wrong), 422)["error"]["message"]
    assert client.get(f"{path}0,0,1,1{8 * f'&image={name}'}").status == 422


def test_a_form_with_what_would_be_passed_over_is_refused(client):
    client.headers = dict(BEARER)
    for path, fields, message in (
        ("uploads", {"other": "x"}, "the form has a field 'other': it takes 'picture' only"),
        ("uploads", {"picture": "x"}, "the form field 'picture' takes a file"),
        ("uploads", {}, "no picture was uploaded: send it as the form field 'picture'"),
        ("search/upload", {"k": "3"}, "a field 'k': it takes 'picture' and 'query'"),
        ("documents", {"label": "a", "labels": "b"}, "'labels': it takes 'picture' and 'label'"),
        ("documents", {"metadata": "{}"}, "'metadata': it takes 'picture' and 'label'"),
        ("documents", {"label": ("a", b"b")}, "the form field 'label' takes a text"),
    ):
        answer = json_of(client("POST", f"/api/v1/{path}", fields=list(fields.items())), 400)
        assert message in answer["error"]["message"]


def test_adding_labeling_and_removing_with_the_token(own, photos, tmp_path, monkeypatch):
    own.headers = dict(BEARER)
    noise(9).save(photos / "new.png")
    report = json_of(own.post("/api/v1/documents", {"sources": [str(photos)]}), 201)
    assert (report["added"], report["unchanged"]) == (1, 12)
    name = picture_id(str(photos / "new.png"))
    changed = json_of(own("PATCH", f"/api/v1/documents/{name}", json={"labels": ["fresh"]}))
    assert changed["labels"] == ["fresh"]
    assert json_of(own("DELETE", f"/api/v1/documents/{name}")) == {"removed": 1}
    assert (photos / "new.png").exists()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    added = own.upload("/api/v1/documents", photos / "new.png", label="mine")
    assert json_of(added, 201)["added"] == 1
    (kept,) = (tmp_path / "uploads").iterdir()
    assert synced == [kept.stat().st_size]  # a power cut does not leave an empty file
    document = json_of(own.get(f"/api/v1/documents/{picture_id(str(kept))}"))
    assert document["labels"] == ["mine"]
    assert own.get(f"/thumbnails/{document['id']}/240").status == 200
    body = {"pictures": [document["id"], "0" * 32]}
    assert json_of(own.post("/api/v1/documents/remove", body)) == {"removed": 1}


def test_a_word_is_taught_listed_found_and_forgotten(run, own, photos):
    own.headers = dict(BEARER)
    like = [picture_id(str(photos / "cats" / f"cat.{i}.png")) for i in range(3)]
    unlike = [picture_id(str(photos / "dogs" / "dog.0.png"))]
    body = {"word": "sea/side /", "like": like, "unlike": unlike}
    taught = json_of(own.post("/api/v1/words", body), 201)
    fits(taught, schemas.WordAnswer)
    assert [uri.rpartition("/")[2] for uri in taught["like"]] == [f"cat.{i}.png" for i in range(3)]
    listed = json_of(own.get("/api/v1/words"))
    assert listed == [taught] == printed(run, "words", "--index", own.services.index.location)
    found = json_of(own.get("/api/v1/search?text=%22sea/side+/%22"))
    assert found["ranked"] == taught["pictures"] > 0
    gone = json_of(own("DELETE", "/api/v1/words/sea%2Fside%20%2F"))
    fits(gone, schemas.ForgottenAnswer)
    assert gone == {"word": "sea/side /", "pictures": taught["pictures"]}
    assert json_of(own.get("/api/v1/words")) == []


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"like": []}, 400, "at least 2 different pictures"),
        ({"like": ["0" * 32] * 2}, 404, "no picture"),
        ({"word": " ?"}, 400, "is no word"),
        ({"word": ""}, 422, "word: "),
        ({"unlike": "the first liked"}, 400, "as like and as unlike"),
    ],
)
def test_what_cannot_be_taught(own, photos, changes, status, message):
    own.headers = dict(BEARER)
    like = [picture_id(str(photos / "cats" / f"cat.{i}.png")) for i in range(2)]
    changed = {"unlike": like[:1]} if "unlike" in changes else changes
    answer = own.post("/api/v1/words", {"word": "beach", "like": like, **changed})
    assert message in json_of(answer, status)["error"]["message"]
    assert json_of(own("DELETE", "/api/v1/words/beach"), 400)["error"]["kind"] == "QueryError"


def test_nothing_changes_without_the_token(client):
    for method, path in (
        ("POST", "documents"), ("POST", "documents/remove"), ("PATCH", f"documents/{'0' * 32}"),
        ("DELETE", f"documents/{'0' * 32}"), ("POST", "words"), ("DELETE", "words/beach"),
    ):  # fmt: skip
        for headers in ({}, {"Authorization": "Bearer wrong-token-wrong-token"}):
            answer = client(method, f"/api/v1/{path}", headers=headers, json={})
            assert json_of(answer, 401)["error"]["kind"] == "TokenNeeded"


def test_what_no_index_holds_is_refused_in_a_sentence(client, cat, photos):
    client.headers = {**BEARER, "Content-Type": "application/json"}
    nested = '{"a":' * 5000 + "1" + "}" * 5000
    bodies = [
        '{"metadata": {"a": NaN}}', '{"metadata": {"a": [1e999]}}', '{"labels": ["\\ud800"]}',
        '{"metadata": {"\\ud800": 1}}', '{"metadata": {"a": "\\ud800"}}', "\xff", nested,
        f'{{"metadata": {nested}}}', '{"labels": ["%s"]}' % ("x" * 40_000), "1" * 5000,
    ]  # fmt: skip
    named = f"/api/v1/documents/{picture_id(str(cat))}"
    source = f'{{"sources": ["{photos}"], '
    asked = [("PATCH", named, body) for body in bodies]
    asked += [("POST", "/api/v1/documents", body.replace("{", source, 1)) for body in bodies]
    asked += [("POST", "/api/v1/documents", f'{{"sources": ["{photos}{x}"]}}') for x in NO_PATHS]
    for method, path, body in asked:
        problem = client(method, path, body=body.encode("latin-1"))
        assert 400 <= problem.status < 500, (path, body[:80], problem.data)
        assert len(json_of(problem, problem.status)["error"]["message"]) < 300
    assert json_of(client.get(named))["metadata"] == {}


def test_a_number_that_is_none_of_json_is_read_as_null(own, place, word):
    with duckdb.connect(str(place)) as database:  # as an earlier version left it
        database.execute('UPDATE documents SET metadata = \'{"a": [1, NaN], "b": -Infinity}\'')
    hits = json_of(own.get(f"/api/v1/search?text={word}"))["hits"]
    assert [hit["metadata"] for hit in hits] == [{"a": [1, None], "b": None}] * len(hits) != []


def test_no_message_names_a_place_of_the_server(own, place, cat, monkeypatch):
    unknown = {"image": [picture_id(str(cat))], "picture": "0" * 32}
    problems = [json_of(own.post("/api/v1/explain", unknown), 404)]
    for error in (
        IndexLockedError(f"{place} has been in use by python"),
        WeightsError("cannot read /home/ann/weights.h5"),
        QueryError(f"{place} has no deep features"),
        ImageError(f"tar://a.png::{cat.parent}/x.tar", "is damaged"),
        ImageError(str(cat), "is damaged"),
    ):
        monkeypatch.setattr(own.services.index, "stats", mock.Mock(side_effect=error))
        answer = own.get("/api/v1/stats")
        problems.append(json_of(answer, answer.status))
        assert problems[-1]["error"]["kind"] == type(error).__name__
    told = [problem["error"]["message"] for problem in problems]
    assert not [message for message in told if "/" in message or place.name in message]
    assert told[-3:] == [
        "the index has no deep features", "a.png: is damaged", "cat.0.png: is damaged"
    ]  # fmt: skip


def test_files_are_added_from_the_roots_only(client, photos, tmp_path):
    client.headers = dict(BEARER)
    (photos / "link").symlink_to(tmp_path)
    for source in (str(tmp_path), f"{photos}/../..", "photos", "/etc", str(photos / "link")):
        problem = json_of(client.post("/api/v1/documents", {"sources": [source]}), 400)
        assert "below the server's roots" in problem["error"]["message"]


def test_health_and_metrics(own, word):
    health = json_of(own.get("/health"))
    fits(health, schemas.HealthAnswer)
    assert health == {"status": "ok", "pictures": 12, "model": "not loaded"}
    own.get(f"/api/v1/search?text={word}")
    text = own.get("/metrics").data.decode()
    assert 'imgsearch_requests_total{route="/api/v1/search",status="200"} 1.0' in text
    assert "imgsearch_pictures 12.0" in text


def test_the_description_names_every_route_and_the_token(client):
    description = json_of(client.get("/openapi.json"))
    assert {
        "/api/v1/search", "/api/v1/search/upload", "/api/v1/uploads", "/api/v1/explain",
        "/api/v1/facets", "/api/v1/documents/{name}", "/thumbnails/{name}/{size}", "/health",
        "/metrics", "/api/v1/documents", "/api/v1/words", "/api/v1/words/{word}",
    } <= set(description["paths"])  # fmt: skip
    adding = description["paths"]["/api/v1/documents"]["post"]
    assert adding["security"] == [{"HTTPBearer": []}]
    for path, method, status, kind in (
        ("/api/v1/uploads", "post", "201", "application/json"),
        ("/api/v1/uploads/url", "post", "201", "application/json"),
        ("/api/v1/documents", "post", "201", "application/json"),
        ("/api/v1/words", "post", "201", "application/json"),
        ("/api/v1/documents/{name}/picture", "get", "200", "image/*"),
        ("/thumbnails/{name}/{size}", "get", "200", "image/jpeg"),
        ("/api/v1/download", "get", "200", "application/zip"),
        ("/metrics", "get", "200", "text/plain"),
    ):
        (first, answer), *_ = description["paths"][path][method]["responses"].items()
        assert (first, list(answer["content"])) == (status, [kind])
    assert client.get("/docs").status == 404  # it would load scripts from elsewhere


@pytest.mark.parametrize("asked", ["", "q=dog&", "where=label%3Ddogs&", "by=taken_at&q=dog&"])
def test_a_page_past_the_last_one_leads_back(client, asked):
    page = client.get(f"/?{asked}page=50").data.decode()
    assert "This page is past the last one" in page
    back = re.search(r'Go to the <a href="([^"]+)"', page)
    assert shown_by(client, back[1].replace("&amp;", "&"))
    nothing = client.get("/?q=label:none&page=50").data
    assert b"No picture matches" in nothing


def test_a_path_is_copied_as_it_is(own, photos, cat):
    """What shows other than it is, such as a mark of direction, is replaced for the eye alone."""
    odd = photos / "a\u2068b\u2069.png"
    shutil.copy(cat, odd)
    assert json_of(own.post("/api/v1/documents", {"sources": [str(odd)]}, headers=BEARER), 201)
    page = own.get("/results").data.decode()
    assert f'data-uri="{odd}"' in page
    assert "a\ufffdb\ufffd.png</bdi>" in page


def test_an_uploaded_picture_is_shared_as_words(client, cat, word):
    FakeModel.calls = 0
    client.get(f"/?q={word}")
    client.get(f"/?image={picture_id(str(cat))}")
    assert FakeModel.calls == 0  # words and indexed pictures need no model
    name = json_of(client.upload("/api/v1/uploads", cat), 201)["id"]
    page = client.get(f"/?image={name}").data.decode()
    found = re.search(r'data-share="([^"]+)"', page)
    assert found
    shared = client.get(found[1].replace("&amp;", "&")).data.decode()
    ids = r'data-id="([0-9a-f]{32})"'
    assert re.findall(ids, shared) == re.findall(ids, page) != []


# -- the log of what is shown and clicked --


def search_of(client: Client, path: str) -> str | None:
    found = re.search(r'data-search="([^"]+)"', client.get(path).data.decode())
    return None if found is None else found[1]


def shown_by(client: Client, path: str) -> list[str]:
    return re.findall(r'data-id="([0-9a-f]{32})"', client.get(path).data.decode())


def test_searches_and_clicks_are_kept(start, tmp_path, word):
    log = tmp_path / "clicks.jsonl"
    with start(log=log) as client:
        search = search_of(client, f"/results?q={word}")
        second = shown_by(client, f"/results?q={word}")[1]
        assert client.post("/clicks", {"search": search, "picture": second}).status == 204
        more = client.get(f"/results?q={word}", headers={"Imgsearch-Goes-On": search})
        assert f'data-search="{search}"'.encode() in more.data  # of one who scrolls: the same
        looks = client.get(f"/results?q={word}", headers={"Imgsearch-Looks-Again": search})
        assert f'data-search="{search}"'.encode() in looks.data
        assert b'id="facets"' in looks.data
        assert b'id="facets"' not in more.data
        assert search_of(client, "/results") is None  # all pictures: nobody searched
    found = read_interactions(log)
    kept, _ = found.searches  # the other is of `shown_by`
    assert kept.search == search
    assert kept.query == f"words: {word}"
    assert kept.ranks[second] == 2
    assert kept.clicks == [second]
    assert (found.stray, found.broken) == (0, 0)


def test_nothing_is_kept_by_default(start, tmp_path, word, monkeypatch):
    monkeypatch.delenv("IMGSEARCH_LOG", raising=False)
    before = set(tmp_path.rglob("*.jsonl"))
    with start(log=None) as client:
        assert search_of(client, f"/results?q={word}") is None
        (first, *_) = shown_by(client, f"/results?q={word}")
        assert client.post("/clicks", {"search": "any", "picture": first}).status == 204
    assert set(tmp_path.rglob("*.jsonl")) == before


def test_what_is_no_click_is_refused(start, tmp_path):
    with start(log=tmp_path / "log") as client:
        for click in ({}, {"search": "", "picture": "a"}, {"search": "a" * 201}):
            assert client.post("/clicks", click).status in (400, 422)
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_stands_in_nobodys_way(start, tmp_path, word, caplog):
    (tmp_path / "folder").mkdir()
    with start(log=tmp_path / "folder") as client:
        assert client.get(f"/results?q={word}").status == 200
        assert search_of(client, f"/results?q={word}") is None
        assert client.post("/clicks", {"search": "a", "picture": "b"}).status == 204
    assert "what was shown is not kept" in caplog.text


def test_several_are_labeled_and_downloaded(own, photos, monkeypatch):
    names = ("cats/cat.0.png", "dogs/dog.1.png", "cats/cat.3.png")
    ids = [picture_id(str(photos / name)) for name in names]
    body = {"pictures": [*ids, "0" * 32], "add": ["one", "two"], "drop": ["cats"]}
    assert own.post("/api/v1/documents/label", body).status == 401
    changed = json_of(own.post("/api/v1/documents/label", body, headers=BEARER))
    fits(changed, schemas.LabeledAnswer)
    assert changed == {"changed": 3}
    assert json_of(own.post("/api/v1/documents/label", body, headers=BEARER)) == {"changed": 0}
    labels = json_of(own.get(f"/api/v1/documents/{ids[0]}"))["labels"]
    assert "cats" not in labels
    assert labels[-2:] == ["one", "two"]
    (photos / names[1]).rename(photos / "aside.png")
    try:
        asked = "&".join(f"picture={name}" for name in ids)
        answer = own.get(f"/api/v1/download?{asked}&picture={'0' * 32}")
        monkeypatch.setattr(api, "zipped", lambda *given: pytest.fail("a ZIP is made"))
        head = own("HEAD", f"/api/v1/download?{asked}")
    finally:
        (photos / "aside.png").rename(photos / names[1])
        monkeypatch.undo()
    assert (head.status, head.data, own.services.downloading) == (200, b"", set())
    for name in ("content-type", "content-disposition"):
        assert head.headers[name] == answer.headers[name]
    assert own("HEAD", f"/api/v1/download?picture={'0' * 32}").status == 404
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["cat.0.png", "cat.3.png", "left out.txt"]
        assert found.read("cat.0.png") == (photos / names[0]).read_bytes()
        said = found.read("left out.txt").decode()
        assert "dog.1.png" in said
        assert f"{'0' * 32}: is not in the index" in said
    assert own.get(f"/api/v1/download?picture={'0' * 32}").status == 404
    full = {"pictures": ids[:1], "add": [f"{i}{'x' * 30_000}" for i in range(33)]}
    assert json_of(own.post("/api/v1/documents/label", full, headers=BEARER)) == {"changed": 1}
    more = {"pictures": ids[::-1], "add": ["y" * 30_000]}
    assert own.post("/api/v1/documents/label", more, headers=BEARER).status == 400
    assert json_of(own.get(f"/api/v1/documents/{ids[2]}"))["labels"][-1] == "two"
    with mock.patch("imgsearch_es.interfaces.server.api._MOST_BYTES", 10):
        assert own.get(f"/api/v1/download?{asked}").status == 413
    place = Path(own.services.index.location)
    shutil.copy(place, place.with_suffix(".new"))
    place.with_suffix(".new").replace(place)  # as a rebuilt index
    assert own.get(f"/api/v1/download?{asked}").status == 200
    place.unlink()
    assert own.get(f"/api/v1/download?{asked}").status == 503
    own.services.downloading.add("127.0.0.1")
    assert own.get(f"/api/v1/download?{asked}").status == 503


@pytest.mark.parametrize("year", [1970, 2108])
def test_files_are_downloaded_whatever_the_clock_says(own, cat, monkeypatch, year):
    now = SimpleNamespace(**vars(time) | {"localtime": lambda: (year, 1, 2, 3, 4, 5, 4, 2, 0)})
    monkeypatch.setattr(pictures, "time", now)
    answer = own.get(f"/api/v1/download?picture={picture_id(str(cat))}&picture={'0' * 32}")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as found:
        assert found.testzip() is None
        assert found.namelist() == ["cat.0.png", "left out.txt"]


def test_who_takes_a_download_too_slowly_loses_its_place(own, monkeypatch):
    monkeypatch.setattr(pictures, "_BLOCK_SECONDS", 0.5)
    own.services.downloading.add("slow")
    files = pictures.zipped([], ["0" * 32], mock.Mock())
    download = pictures.Download(files, lambda: own.services.downloading.discard("slow"))
    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    send = mock.Mock(side_effect=lambda message: anyio.sleep(0 if "status" in message else 60))

    async def answered() -> bool:
        await download(scope, anyio.sleep_forever, send)
        return files.ag_frame is None

    assert anyio.run(answered)  # else the garbage collector complains of a ZIP that is open
    assert send.call_count == 2  # nothing after the first block
    assert own.services.downloading == set()


def test_the_page_says_what_is_under_way(own, monkeypatch, tmp_path):
    monkeypatch.setattr("imgsearch_es.interfaces.server.readiness.LOOK_SECONDS", 0.0)
    own.services.model = "downloading"
    assert b"The classifier is being downloaded" in own.get("/results").data
    own.services.model = "ready"
    assert b"notice-line" not in own.get("/results").data
    noise(77).save(tmp_path / "new.png")
    own.headers = dict(BEARER)
    json_of(own.upload("/api/v1/documents", tmp_path / "new.png"), 201)
    assert b"Pictures are being added: " in own.get("/results").data


def test_pictures_outside_are_no_longer_told_of_when_they_are_removed(start, photos, monkeypatch):
    monkeypatch.setattr("imgsearch_es.interfaces.server.readiness.LOOK_SECONDS", 0.0)
    with start(roots=(photos / "cats",)) as client:
        assert b"6 of 12 pictures lie outside" in client.get("/results").data
        assert client.services.index.remove(photos / "dogs") == 6
        assert b"notice-line" not in client.get("/results").data
