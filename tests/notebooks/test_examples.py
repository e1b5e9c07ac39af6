"""Every public name has an example in its docstring, true of the demo's photos."""

from __future__ import annotations

import doctest
import inspect
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pandas
import pytest

import imgsearch_es
from imgsearch_es import Hit, Hits, ImageIndex, Judgements, Run, evaluate
from imgsearch_es.evaluation import Evaluation
from imgsearch_es.pictures.demo import make_photos
from imgsearch_es.search.request import SearchRequest

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
BRIDGES = ("pyterrier", "mteb") if sys.version_info >= (3, 11) else ("pyterrier",)
GIVEN = {name: getattr(imgsearch_es, name) for name in imgsearch_es.__all__}
GIVEN |= {"Path": Path, "pd": pandas}
for bridge in BRIDGES:
    module = import_module(f"imgsearch_es.{bridge}")
    GIVEN |= {name: getattr(module, name) for name in ("Index", "Search") if name in vars(module)}


def is_method(member):
    return inspect.isfunction(member) or inspect.ismethod(member)


def public(holder):
    """Classes of a module, or methods of a class, that are for people and ours."""
    ours = "imgsearch_es" if inspect.isclass(holder) else holder.__name__
    wanted = is_method if inspect.isclass(holder) else inspect.isclass
    for name, member in inspect.getmembers(holder, wanted):
        if name[0] != "_" and member.__module__.startswith(ours):
            yield name, member


def documented():
    found = {name: GIVEN[name] for name in imgsearch_es.__all__ if name != "__version__"}
    found["SearchRequest"] = SearchRequest
    kinds = [ImageIndex, Hits, Hit, Run, Judgements, Evaluation]
    for bridge in BRIDGES:
        for name, member in public(import_module(f"imgsearch_es.interfaces.{bridge}")):
            found[f"{bridge}.{name}"] = member
            kinds.append(member)
    for kind in kinds:
        found |= {f"{kind.__name__}.{name}": member for name, member in public(kind)}
    return found


DOCUMENTED = documented()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the demo's photos, an index of them, and what was found by it."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "kept").mkdir()
    with ImageIndex(folder / "kept" / "photos.duckdb", model="efficientnet-lite0") as index:
        index.add(make_photos(folder / "photos"))
        found = evaluate(index, "name:{label}-*", "auto,sqrt", "P@3,AP", compare="auto")
        yield folder, index.analyzer, found


@pytest.fixture
def given(made, tmp_path, monkeypatch):
    """What examples begin with: ``index``, ``photos`` for PyTerrier, ``hits``, ``found``."""
    folder, analyzer, found = made
    for path in folder.iterdir():
        if path.name not in ("kept", "photos"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (folder / "kept").iterdir():
        shutil.copy(path, folder)
    monkeypatch.chdir(folder)
    photos = GIVEN["Index"]("photos.duckdb", analyzer=analyzer)
    with photos.images, ImageIndex("photos.duckdb", analyzer=analyzer) as index:
        hits = index.search("motorcycle", k=3)
        yield GIVEN | {"index": index, "photos": photos, "hits": hits, "found": found}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_example_does_what_it_says(name, given):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    examples = [each for each in finder.find(DOCUMENTED[name], name, globs=given) if each.examples]
    assert examples, f"{name} has no example"
    assert runner.run(examples[0]).failed == 0
