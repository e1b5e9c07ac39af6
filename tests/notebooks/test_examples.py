"""The examples in docstrings, run on an index of the demo's photos."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

from imgsearch_es import ImageIndex, evaluate
from imgsearch_es.pictures.demo import make_photos

pytestmark = pytest.mark.model
MODULES = (
    *("evaluation.collection", "evaluation.judgements", "evaluation.runs"),
    *("retrieval.fusion", "search.leaving", "search.request"),
)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    with ImageIndex(folder / "photos.duckdb", model="efficientnet-lite0") as made:
        made.add(make_photos(folder / "photos"))
        yield made


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_as_printed(name, index, monkeypatch):
    (photo,) = (d.uri for d in index.store.documents() if d.filename == "chelsea.jpg")
    monkeypatch.chdir(photo.rpartition("/")[0])
    module = import_module(f"imgsearch_es.{name}")
    found = doctest.testmod(module, extraglobs={"index": index, "evaluate": evaluate})
    assert found.attempted
    assert found.failed == 0
