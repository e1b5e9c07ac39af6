"""How many terms a document keeps and a query picture asks with: where it is said."""

from __future__ import annotations

import json

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import AnalyzerError, AnalyzerMismatchError, ConfigurationError
from imgsearch_es.evaluation import evaluate
from imgsearch_es.evaluation.manifest import arguments_of
from imgsearch_es.evaluation.sweeps import sweep

TEN = [{"name": "top_k", "k": 10}]
HYPERNYMS = [{"name": "top_k", "k": 10}, {"name": "hypernyms"}]


@pytest.mark.parametrize(
    ("given", "kept", "asked"),
    [
        ({}, [{"name": "top_k", "k": 50}], 10),
        ({"terms": 20}, [{"name": "top_k", "k": 20}], 10),
        ({"terms": 20, "query_terms": 5}, [{"name": "top_k", "k": 20}], 5),
        ({"terms": 20, "query_terms": None}, [{"name": "top_k", "k": 20}], None),
        ({"terms": 10}, TEN, None),  # ten of ten are all, as in indexes that do not name it
        ({"terms": 5, "query_terms": 10}, [{"name": "top_k", "k": 5}], None),
        ({"term_filters": TEN}, TEN, None),
        ({"term_filters": HYPERNYMS, "query_terms": 10}, HYPERNYMS, None),
        ({"term_filters": HYPERNYMS[::-1], "query_terms": 10}, HYPERNYMS[::-1], 10),
        ({"term_filters": [], "query_terms": 7}, [], 7),
    ],
)
def test_what_a_configuration_says(fake_model, given, kept, asked):
    analyzer = Analyzer({"model": "fake", **given})
    assert (analyzer.config["term_filters"], analyzer.query_terms) == (kept, asked)
    assert analyzer.config.get("query_terms", None) == asked
    assert ("query_terms" in analyzer.config) == (asked is not None)
    assert "terms" not in analyzer.config
    assert Analyzer(analyzer.config).config == analyzer.config
    assert ("asks with" in repr(analyzer)) == (asked is not None)


def test_the_papers_setting_has_a_name():
    paper = {"model": "vgg16", "term_filters": TEN}
    assert Analyzer("paper").config == Analyzer(paper).config
    assert "query_terms" not in Analyzer("paper").config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"terms": 3, "term_filters": TEN}, "give one of the two"),
        ({"terms": 0}, "terms is a whole number above 0, not 0"),
        ({"terms": "ten"}, "terms is a whole number above 0, not 'ten'"),
        ({"query_terms": 2.5}, "query_terms is a whole number above 0, not 2.5"),
        ({"term_filters": TEN, "query_terms": -1}, "query_terms is a whole number above 0"),
        ({"terms": True}, "terms is a whole number"),
    ],
)
def test_what_makes_no_sense(fake_model, tmp_path, config, message):
    with pytest.raises((AnalyzerError, ConfigurationError), match=message):
        Analyzer({"model": "fake", **config})
    with pytest.raises(ConfigurationError, match="an analyzer says for itself: terms"):
        ImageIndex(tmp_path / "x.duckdb", analyzer="fake", terms=3)


def test_an_index_that_exists(fake_model, photos, tmp_path):
    place, cat = tmp_path / "x.duckdb", photos / "cats" / "cat.0.png"
    with ImageIndex(place, model="fake", terms=8, query_terms=3) as index:
        index.add(cat)
    for same in (
        {"terms": 8},
        {"query_terms": 3},
        {"model": "fake"},
        {"model": "fake", "terms": 8},
    ):
        with ImageIndex(place, **same) as index:
            assert len(index.query(image=cat).terms) == 3
            assert len(index.search(image=cat)[0].synsets) == 8
    for other in ({"terms": 9}, {"query_terms": 4}, {"model": "fake", "query_terms": 8}):
        with (
            ImageIndex(place, **other) as index,
            pytest.raises(AnalyzerMismatchError, match="asks"),
        ):
            index.count()


def test_the_command(run, asked, fake_model, photos, tmp_path):
    place = tmp_path / "x.duckdb"
    options = ("index", photos / "cats", "--index", place)
    run(*options, "--model", "fake", "--terms", 8, "--query-terms", 3)
    text = run(*options, "--terms", 9, code=1).output
    assert "top_k(k=8); a query picture asks with 3" in " ".join(text.split())
    with ImageIndex(place) as index:
        assert index.stats()["analyzer"]["query_terms"] == 3
    report = asked("reindex", "--index", place, "--query-terms", 4)
    assert (report["copied"], report["analyzed"]) == (6, 0)
    report = asked("reindex", "--index", place, "--terms", 12)
    assert (report["copied"], report["analyzed"]) == (0, 6)
    with ImageIndex(place) as index:
        cat = photos / "cats" / "cat.0.png"
        assert (len(index.get(cat).terms), len(index.query(image=cat).terms)) == (12, 4)


QUICK = {"models": "fake", "top_k": "5,20", "timed": 0, "sample": 4}


def test_a_sweep_over_both(fake_model, photos, tmp_path):
    found = sweep(photos, "folder", "auto", "P@3", query_terms="2,1000", **QUICK)
    assert [point.name for point in found.points] == [
        "auto/plain/5/2", "auto/plain/20/2", "auto/plain/5/1000", "auto/plain/20/1000",
    ]  # fmt: skip
    with ImageIndex(tmp_path / "x.duckdb", model="fake", terms=20, query_terms=2) as index:
        index.add(photos)
        alone = evaluate(index, "folder", "auto", "P@3", sample=4)
        assert found.point("auto/plain/20/2").means["P@3"] == alone.mean("auto", "P@3")
    assert [point.query_terms for point in found.points] == [2, 2, 1000, 1000]
    assert "query_terms" in found.cells()[0]
    assert all(len(row) == len(found.cells()[0]) for row in found.cells()[1])
    assert {answer.query_terms for answer in found.enough(margin=2)} == {2, 1000}
    assert "query_terms" in found.to_csv()
    assert found.plot().axes[0].get_legend_handles_labels()[1][0] == "auto plain query 2"


def test_a_manifest_of_a_sweep_that_does_not_say(fake_model, photos):
    found = sweep(photos, "folder", "auto", "P@3", **QUICK)
    assert [point.name for point in found.points] == ["auto/plain/5", "auto/plain/20"]
    manifest = json.loads(json.dumps(found.manifest()))
    assert "query_terms" not in manifest["models"]["fake"]["analyzer"]
    del manifest["sweep"]["query_terms"]  # as older versions wrote it
    again = sweep(**arguments_of(manifest))
    assert again.manifest()["figures"] == manifest["figures"]
    assert again.manifest()["models"] == manifest["models"]
