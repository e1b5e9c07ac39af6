"""One search request: Python, the command line and the API take the same options."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from imgsearch_es import Fusion, ImageIndex
from imgsearch_es.interfaces.cli.search import Asked, Refined
from imgsearch_es.interfaces.server.schemas import SearchRequest as Posted
from imgsearch_es.interfaces.server.schemas import What
from imgsearch_es.interfaces.server.services import Searching
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.search.query_building import QueryBuilder
from imgsearch_es.search.query_pictures import PictureReader
from imgsearch_es.search.request import OPTIONS, SearchRequest
from tests.serving import json_of

DEFAULTS = {field.name: field.default for field in fields(SearchRequest)}
OF_FUSION = {"fusion": "sum", "rank_constant": 60, "window": 100}


@pytest.fixture
def asked(monkeypatch) -> dict[str, Any]:
    """The options with which a query was asked for last, in words alone."""
    options: dict[str, Any] = {}

    def remember(index: ImageIndex, /, *args: Any, **given: Any) -> Any:
        options.clear()
        options.update(dict(zip(OPTIONS, args, strict=False)), **given)
        reader = PictureReader(index.store, lambda: index.analyzer)
        builder = QueryBuilder(index.store, index.vocabulary, reader)
        return builder.build(SearchRequest(*args, **given))

    def search(index: ImageIndex, /, *args: Any, **given: Any) -> Any:
        return index.search_many([remember(index, *args, **given)])[0]

    monkeypatch.setattr(ImageIndex, "query", remember)
    monkeypatch.setattr(ImageIndex, "search", search)
    return options


def none(value: Any) -> Any:
    """An option without its emptiness: no list, an empty one and None ask for the same."""
    return value or None


def test_methods_and_their_help_show_every_option():
    assert tuple(DEFAULTS) == OPTIONS
    for method in (ImageIndex.search, ImageIndex.query):
        _, *taken = inspect.signature(method).parameters.values()
        assert {one.name: one.default for one in taken} == DEFAULTS
        described = re.findall(r"^    (\w+): ", method.__doc__ or "", re.MULTILINE)
        assert tuple(described[: len(OPTIONS)]) == OPTIONS


def test_methods_refuse_an_option_that_does_not_exist(index, cat):
    for ask in (index.search, index.query, lambda **given: list(index.pages(**given))):
        with pytest.raises(TypeError, match="'limit'"):
            ask(text="cats", limit=3)
    with pytest.raises(TypeError, match="'limit'"):
        index.more_like(cat, limit=3)


@pytest.mark.parametrize("all_hits", [(), ("--all",)])
def test_the_command_line_passes_every_option(asked, place, run, word, all_hits):
    declared = {one.name for group in (Asked, Refined) for one in fields(group)}
    others = {"words", "parameter", "fusion", "rank_constant", "window", "lexicon"}
    assert declared - others == {*OPTIONS} - {"parameters", "k"}
    run("search", word, "-i", place, *all_hits)
    assert asked.pop("text") == word
    assert all_hits or asked.get("k", DEFAULTS["k"]) == DEFAULTS["k"]
    assert all(none(asked[name]) == none(DEFAULTS[name]) for name in asked.keys() - {"k"})


def test_the_api_passes_every_option(asked, index, word):
    Searching(index, pictures=None).query(What(text=word))  # type: ignore[arg-type]
    assert asked.pop("text") == word
    assert asked.keys() == {*OPTIONS} - {"text"}
    assert all(none(asked[name]) == none(DEFAULTS[name]) for name in asked)
    posted = {name: field.get_default() for name, field in Posted.model_fields.items()}
    assert posted.keys() == {*OPTIONS, *OF_FUSION}
    assert all(none(posted[name]) == none(DEFAULTS[name]) for name in OPTIONS if name != "rocchio")
    assert {name: posted[name] for name in OF_FUSION} == OF_FUSION
    assert Fusion({"image": 1}) == Fusion({"image": 1}, *OF_FUSION.values())


def test_the_api_answers_options_as_the_command_line(start, run, place, photos, tmp_path):
    cat, dog = (picture_id(str(photos / name)) for name in ("cats/cat.0.png", "dogs/dog.1.png"))
    with ImageIndex(place) as index:
        (vector,) = (index.store.get([dog])[dog].embedding,)
    assert vector is not None
    np.save(tmp_path / "dog.npy", vector)
    fused = {"fuse": {"image": 1, "bm25": 2}, "fusion": "rrf", "rank_constant": 5, "window": 11}
    given_fused = ("--fuse", "image=1,bm25=2", "--fusion", "rrf", "--rank-constant", 5)
    dense = {"vector": vector.tolist(), "strategy": "dense-cosine"}
    moved = {"image": [cat], "like": [dog], "rocchio": [0.1, 3, 0]}
    with start() as client:
        for posted, given in (
            (dense, ("--vector", tmp_path / "dog.npy", "--strategy", "dense-cosine")),
            (moved, ("--image", cat, "--like", dog, "--rocchio", "0.1,3,0")),
            ({"image": [cat], **fused}, ("--image", cat, *given_fused, "--window", 11)),
        ):
            answer = json_of(client.post("/api/v1/search", posted))
            printed = json.loads(run("search", *given, "-i", place, "--json").stdout)
            assert answer["hits"] == printed["hits"]


def test_the_api_bounds_options(start, word):
    fused = {"fuse": {"words": 1}}
    with start() as client:
        for more in (
            {"vector": []},
            {"vector": [0.5] * 10_001},
            {"rocchio": [1, 1]},
            {"rocchio": [1, 1, -1]},
            {"rocchio": [1, 1, 1e7]},
            {**fused, "window": 0},
            {**fused, "window": 1001},
            {**fused, "rank_constant": 0},
            {**fused, "rank_constant": 10**7},
        ):
            answer = client.post("/api/v1/search", {"text": word, **more})
            assert answer.status == 422, (more, answer.data)
