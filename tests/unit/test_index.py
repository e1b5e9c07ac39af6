"""ImageIndex on an index file, with a model without TensorFlow."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import (
    AnalyzerMismatchError,
    ConfigurationError,
    ImageError,
    ImgsearchError,
    IndexNotFoundError,
    QueryError,
    SchemaError,
    StoreError,
    UnknownWordError,
    WeightsError,
)
from imgsearch_es.retrieval.queries import MAX_COSTLY, Query
from imgsearch_es.search import collected_index
from imgsearch_es.stores.embedded import open_file
from tests.unit.test_meanings import GERMAN

# -- opening ------------------------------------------------------------------------------------


def test_location_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("IMGSEARCH_INDEX", str(tmp_path / "a.duckdb"))
    assert ImageIndex().location == str(tmp_path / "a.duckdb")
    assert ImageIndex(tmp_path / "b.duckdb").location == str(tmp_path / "b.duckdb")
    monkeypatch.delenv("IMGSEARCH_INDEX")
    with pytest.raises(ConfigurationError, match=r"which index.*IMGSEARCH_INDEX"):
        ImageIndex()


def test_what_is_no_index(tmp_path):
    with pytest.raises(ConfigurationError, match="is a folder; an index is a file"):
        ImageIndex(tmp_path)
    with pytest.raises(ConfigurationError, match="folder of the index does not exist"):
        ImageIndex(tmp_path / "nowhere" / "a.duckdb")
    with pytest.raises(ConfigurationError, match="not both"):
        ImageIndex(tmp_path / "a.duckdb", model="fake", analyzer={"model": "fake"})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="is a FIFO, socket or device"):
        ImageIndex(tmp_path / "fifo").create()
    assert (tmp_path / "fifo").is_fifo()
    (tmp_path / "a.duckdb").symlink_to("a.duckdb")
    with pytest.raises(IndexNotFoundError, match=r"there is no index at .*a.duckdb"):
        ImageIndex(tmp_path / "a.duckdb").count()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s3://me:secret@bucket/a.duckdb", "begins with http:// or https://, not with s3://$"),
        ("file:///tmp/a.duckdb", "begins with http:// or https://, not with file://$"),
        ("\udcff.duckdb", "is not in UTF-8"),
        ("a\udcff/a.duckdb", "is not in UTF-8"),
        ("a\0b.duckdb", "has a null character, which no path may have"),
        ("C:\\a.duckdb", "has a backslash, which DuckDB takes for a slash"),
        ("a?b.duckdb", "has a question mark, where DuckDB ends its log's name"),
        ("n" * 300, "File name too long$"),
    ],
)
def test_names_that_no_index_has(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\udcff").mkdir()
    with pytest.raises((ConfigurationError, StoreError), match=message):
        ImageIndex(name, model="fake").create()


def test_opening_makes_nothing(tmp_path):
    with ImageIndex(tmp_path / "a.duckdb") as index:
        assert not index.exists
        assert repr(index) == f"ImageIndex('{tmp_path / 'a.duckdb'}')"
    assert list(tmp_path.iterdir()) == []


def test_an_index_that_is_not_there(fake_model, tmp_path):
    nobody = "0" * 32
    with ImageIndex(tmp_path / "a.duckdb", model="fake") as index:
        for verb in (
            *(index.count, index.stats, index.facets, index.duplicates, index.reindex),
            *(lambda: index.search(text="cat"), lambda: index.query(text="cat")),
            *(lambda: index.vocabulary, lambda: index.get(nobody), lambda: index.remove(nobody)),
            lambda: index.update(nobody, labels="x"),
        ):
            with pytest.raises(IndexNotFoundError, match=r"no index at .*a\.duckdb; `imgsearch in"):
                verb()
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_is_no_index(tmp_path):
    (tmp_path / "notes.txt").write_text("no index " * 1000)
    with (
        ImageIndex(tmp_path / "notes.txt") as index,
        pytest.raises(SchemaError, match=r"notes\.txt is not an index of imgsearch"),
    ):
        index.count()
    assert (tmp_path / "notes.txt").read_text() == "no index " * 1000


def test_another_programs_duckdb_file_is_left_alone(fake_model, photos, tmp_path):
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE sales (n INTEGER)")
    with ImageIndex(path, model="fake") as index:
        for verb in (index.count, lambda: index.add(photos), lambda: index.search(text="cat")):
            with pytest.raises(SchemaError, match="is a DuckDB file, but no index of imgsearch"):
                verb()
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("SHOW TABLES").fetchall() == [("sales",)]


def test_creating_twice(index):
    with pytest.raises(StoreError, match="exists already"):
        index.create()


# -- which analyzer -----------------------------------------------------------------------------


def test_an_index_remembers_its_analyzer(index, fake_model):
    config = index.analyzer.config
    with ImageIndex(index.location) as again:
        assert again.analyzer.config == config
        assert again.search(Image.new("RGB", (5, 5))).total > 0


THREE_TERMS = {"model": "fake", "term_filters": [{"name": "top_k", "k": 3}]}


@pytest.mark.parametrize(
    ("options", "both"),
    [
        ({"model": "efficientnet-lite0"}, ["the model fake", "the model efficientnet-lite0"]),
        ({"analyzer": THREE_TERMS}, ["top_k(k=50)", "top_k(k=3)"]),
    ],
)
def test_another_analyzer_is_an_error_that_names_both(index, photos, options, both):
    with ImageIndex(index.location, **options) as other:
        for verb in (lambda: other.search(text="cat"), lambda: other.add(photos), other.count):
            with pytest.raises(AnalyzerMismatchError) as caught:
                verb()
            assert index.location in str(caught.value)
            assert all(name in str(caught.value) for name in both)


def test_other_weights_are_an_error_that_names_both(index, cat, fake_model):
    with ImageIndex(index.location, model="fake", weights="two") as other:
        with pytest.raises(AnalyzerMismatchError) as caught:
            other.search(text="cat")
        stored = index.stats()["weights"]
        wanted = Analyzer({"model": {"name": "fake", "weights": "two"}}).fingerprint()
    assert stored[:19] in str(caught.value)
    assert wanted[:19] in str(caught.value)
    assert stored != wanted


def test_the_same_analyzer_by_any_name_is_fine(index):
    for options in (
        {"model": "fake"},
        {"analyzer": {"model": "fake"}},
        {"analyzer": Analyzer("fake")},
        {"weights": "one"},
    ):
        with ImageIndex(index.location, **options) as same:
            assert same.search(Image.new("RGB", (5, 5))).total > 0


def test_naming_the_model_keeps_the_indexs_filters(fake_model, tmp_path):
    with ImageIndex(tmp_path / "a.duckdb", analyzer=THREE_TERMS) as index:
        index.create()
    with ImageIndex(tmp_path / "a.duckdb", model="fake") as again:
        assert again.analyzer.config["term_filters"] == [{"name": "top_k", "k": 3}]


# -- searching ----------------------------------------------------------------------------------


def test_a_picture_by_every_name_finds_itself_alike(index, cat, fake_model):
    document = index.get(cat)
    stored = [index.search(name) for name in (cat, str(cat), document.id)]
    assert fake_model.calls == 0  # the stored terms are used
    with Image.open(cat) as opened:
        image = opened.convert("RGB")
    analyzed = [index.search(x) for x in (image, np.asarray(image), cat.read_bytes())]
    assert fake_model.calls == 3
    answers = [[(hit.uri, hit.score) for hit in hits] for hits in stored + analyzed]
    assert answers[1:] == answers[:-1]
    assert len(answers[0]) > 1
    best = sum(np.float64(t.score) ** 2 for t in document.terms[:10])
    assert dict(answers[0])[str(cat)] == pytest.approx(best)


def test_a_file_removed_while_it_is_looked_at_is_no_index(index, place, monkeypatch):
    assert index.exists
    identity = index.store._file.opened.on_disk()
    place.unlink()
    monkeypatch.setattr(index.store._file.opened, "on_disk", lambda: identity)
    assert not index.exists


def test_a_pickled_index_opens_anew(index, place, cat, tmp_path, monkeypatch):
    again = pickle.loads(pickle.dumps(index))  # noqa: S301
    assert again is not index
    assert again.search(image=cat).to_dict()["hits"] == index.search(image=cat).to_dict()["hits"]
    (tmp_path / "de.xml").write_text(GERMAN)
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(ImageIndex(place, lexicon="de.xml"))
    monkeypatch.chdir(cat.parent)
    assert pickle.loads(pickled).vocabulary.resolve("Hund").keys  # noqa: S301


def test_a_relative_path_is_the_same_picture(index, cat, monkeypatch, fake_model):
    monkeypatch.chdir(cat.parent)
    assert index.search("cat.0.png").uris == index.search(cat).uris
    assert fake_model.calls == 0


@pytest.fixture
def beside(photos, monkeypatch):
    """The folder of the photos, beside which there is a text by the name of a word."""
    monkeypatch.chdir(photos)
    (photos / "tabby").write_text("no picture")
    return photos


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (("tabby",), "words: tabby"),
        (("cats/cat.0.png",), "image: cat.0.png"),
        ((["cats/cat.0.png", "tabby", "sofa"],), "image: cat.0.png; words: tabby sofa"),
        (("cats/cat.0.png", "tabby"), "image: cat.0.png; words: tabby"),
        ((None, "tabby"), "words: tabby"),
        (("width>=20 label:cats",), "width:>=20; label:cats; sorted by taken_at"),
        (("filename:*.png",), "filename:*.png; sorted by taken_at"),
    ],
)
def test_a_string_that_is_no_picture_is_words(index, beside, given, shown):
    query = index.query(*given)
    assert str(query) == shown
    if len(given) == 1:
        assert str(index.search_many(given)[0].query) == shown
        assert index.facets(*given) == index.facets(query)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("none.jpg",), r"none\.jpg is no file here and no picture of .*by image=, words by text="),
        (("cats/../tabby",), "not a picture of a known format"),
        (("http://127.0.0.1:1/tabby",), "http://127.0.0.1:1/tabby: cannot be opened"),
        (("0" * 32,), "no picture with the id 0000"),
        (("tabby", "sofa"), "'tabby' is no picture: give words once, by text="),
        (({"text": "tabby"},), "a dict is neither pictures nor words: give image=, text= or both"),
        ((5,), "a picture cannot be read from a int"),
        (([],), "Give image=, text="),
    ],
)
def test_what_is_neither_picture_nor_words(index, beside, given, said):
    with pytest.raises(ImgsearchError, match=said):
        index.search(*given)


def test_hits_are_pictures_of_the_index(index, cat):
    hits = index.search(cat, k=3)
    assert index.more_like(hits[0]).uris == index.more_like(cat).uris
    assert hits[0] in index
    assert index.get(hits[1]).id == hits[1].id
    assert hits.refine(like=hits[0], dislike=[hits[2]]).ranking == hits.refine(0, 2).ranking
    assert hits.explain(hits[1]).total == hits[1].score
    assert index.remove(hits[1:]) == 2


@pytest.mark.parametrize("kind", [pd.Series, np.array])
def test_paths_in_a_column(index, photos, kind):
    paths = [str(photos / "cats" / f"cat.{i}.png") for i in range(3)]
    assert index.add(kind(paths)).unchanged == 3
    assert index.search(image=kind(paths)).ranking == index.search(image=paths).ranking


def test_a_changed_file_is_analyzed_again(index, cat, photos, fake_model):
    old = index.search(cat)
    other = photos / "dogs" / "dog.0.png"
    cat.write_bytes(other.read_bytes())
    new = index.search(cat)
    assert fake_model.calls == 1
    assert new.query.terms == index.query(other).terms
    assert new.query.terms != old.query.terms


def test_a_file_that_is_gone_is_still_searched_by_its_terms(index, cat, fake_model):
    before = index.search(cat).uris
    cat.unlink()
    assert index.search(cat).uris == before
    assert fake_model.calls == 0


def test_words_and_picture_are_added(index, cat, word):
    alone = {term.key: term.score for term in index.query(cat).terms}
    query = index.query(cat, word)
    both = {term.key: term.score for term in query.terms}
    assert {**both, word: 0} == {**alone, word: 0}
    best = [
        [hit.score for hit in index.search(picture, text, exclude_self=True)]
        for picture, text in ((cat, None), (None, word))
    ]
    own = index.query(cat, exclude_self=True).exclude
    words = [hit.score for hit in index.search(text=word, k=11) if hit.id not in own][:10]
    weight = np.mean(best[0]) / np.mean(words)
    assert both[word] == pytest.approx(alone[word] + weight)
    assert query.exclude == own  # unless it is asked for
    assert index.query(cat, word, exclude_self=False).exclude == index.query(cat).exclude == ()


def test_a_query_that_cannot_be_understood(index):
    for arguments, kind, message in (
        ({}, QueryError, "what to search for"),
        ({"text": "tabbby"}, UnknownWordError, "Did you mean 'tabby'"),
        ({"text": "cat", "strategy": "best"}, QueryError, "no strategy 'best'"),
        ({"text": "cat", "where": {"color": 1}}, QueryError, "cannot filter by 'color'"),
        ({"image": "0" * 32}, QueryError, "no picture with the id 0000"),
        ({"image": "/nowhere/a.jpg"}, ImageError, "/nowhere/a.jpg: cannot be opened"),
        ({"image": b"no picture"}, ImageError, "not a picture of a known format"),
    ):
        with pytest.raises(kind, match=message):
            index.search(**arguments)


# -- one picture --------------------------------------------------------------------------------


def test_get_by_id_path_and_uri(index, cat):
    document = index.get(cat)
    assert document.uri == str(cat)
    assert document.terms == index.analyze(cat).terms
    assert index.get(document.id).uri == index.get(document.uri).uri == str(cat)
    with pytest.raises(QueryError, match=r"pets\.duckdb has no picture nothing\.jpg"):
        index.get("nothing.jpg")


def test_update(index, cat, fake_model):
    before = index.get(cat)
    index.update(cat, labels="kitten", metadata={"owner": "Ann"})
    after = index.get(cat)
    assert (after.labels, after.metadata) == (("kitten",), {"owner": "Ann"})
    assert after.terms == before.terms
    np.testing.assert_array_equal(after.embedding, before.embedding)
    index.update(before.id, labels=[])
    assert (index.get(cat).labels, index.get(cat).metadata) == ((), {"owner": "Ann"})
    assert index.search(cat, where={"metadata.owner": "Ann"}).uris == [str(cat)]
    assert index.count() == 12
    assert fake_model.calls == 0


def test_remove(index, cat, photos):
    dog = photos / "dogs" / "dog.0.png"
    assert index.remove([cat, index.get(dog).id, cat, "nothing.jpg"]) == 2
    assert index.count() == 10
    assert index.remove(cat) == 0
    assert index.remove([]) == 0
    assert cat.exists()


def test_remove_by_query(index, word):
    query = index.query(text=word, k=1)
    matching = index.search(text=word, k=20).total
    assert matching >= 1
    assert index.remove(query=query) == matching  # whatever k says
    assert index.search(text=word).total == 0
    assert index.count() == 12 - matching


def test_a_total_is_a_number(new, photos, cat):
    """Of Python: JSON has none of NumPy."""
    new.add(photos)
    for strategy in ("auto", "dense-cosine", "dense-chi2"):
        hits = new.search(cat, strategy=strategy, exclude_self=True)
        assert json.loads(json.dumps(hits.to_dict()))["total"] == 11


def test_words_beside_many_conditions(index, word):
    """With as many as there may be all that is ranked counts."""
    where = {f"-metadata.field{number}": "x" for number in range(MAX_COSTLY)}
    hits = index.search(text=word, where=where, k=20)
    assert hits.total == hits.ranked == len(hits)
    assert sum(item["count"] for item in hits.facets("format")["format"]) == len(hits)
    assert index.search(text=word, where=where, sort="uri", k=20).total == len(hits)


def test_a_least_score(index, cat, word):
    hits = index.search(cat)
    best = index.search(cat, min_score=hits[2].score)
    assert best.ranking == hits.ranking[:3]
    assert best.total == 3
    for ask, said in (
        (lambda: index.search(cat, min_score="chance"), "min_score= is a number, not 'chance'"),
        (lambda: index.search(cat, min_score=float("inf")), "no number that a score can be: inf"),
        (lambda: index.search(where="width>1", min_score=1), "leave out min_score"),
        (lambda: index.remove(query=best.query), "remove by a condition such as score"),
    ):
        with pytest.raises(QueryError, match=said):
            ask()


def test_stats(index):
    stats = index.stats()
    assert stats["documents"] == 12
    assert stats["analyzer"] == index.analyzer.config
    assert stats["weights"] == index.analyzer.fingerprint()
    labels = {(item["label"], item["documents"]) for item in stats["labels"]}
    assert labels == {("cats", 6), ("dogs", 6)}
    assert len(stats["synsets"]) == 10


def test_query_builds_without_searching(index, cat, monkeypatch):
    monkeypatch.setattr(index.store, "search", None)
    query = index.query(cat, "tabby", k=3)
    assert isinstance(query, Query)
    assert str(query) == "image: cat.0.png; words: tabby"
    assert query.pictures == (str(cat),)


def test_files_of_the_analyzer_are_those_of_the_folder_in_which_it_was_asked_for(
    tmp_path, monkeypatch, fake_model
):
    (tmp_path / "a.toml").write_text('model = "fake"')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    index = ImageIndex("a.duckdb", analyzer="a.toml")
    weighed = ImageIndex("b.duckdb", model="efficientnet-lite0", weights="a.toml")
    own = ImageIndex("c.duckdb", model="keras:own.keras")
    monkeypatch.chdir("elsewhere")
    with pytest.raises(WeightsError, match=re.escape(f": {tmp_path / 'own.keras'}")):
        own.create()
    index.create()
    assert index.analyzer.model.name == "fake"
    assert weighed.analyzer.fingerprint().startswith("sha256:")  # of the file, wherever we are


def test_options_of_the_wrong_kind(index, photos):
    for asked, said in (
        ({"text": ["tabby", "cat"]}, "words are one text"),
        ({"text": b"cat"}, "words are one text"),
        ({"text": "cat", "k": 1e3}, "whole numbers, not 1000.0 and 0"),
        ({"text": "cat", "k": float("nan")}, "whole numbers, not nan"),
        ({"text": "cat", "k": None}, "whole numbers, not None"),
        ({"text": "cat", "where": ["label:cat"]}, "conditions are a line such as"),
        ({"text": "cat", "where": "label:cat red"}, "'red' is no condition"),
        ({"text": "cat", "parameters": "k1=1"}, "parameters= is a dictionary, .*, not 'k1=1'"),
        ({"text": "cat", "rocchio": "1,1,1"}, "rocchio= is a Rocchio, such as"),
        ({"text": "cat", "feedback": "3"}, "feedback= is a number of hits, not '3'"),
    ):
        with pytest.raises(QueryError, match=said):
            index.search(**asked)
    for many in ("cat", {"text": "cat"}):
        with pytest.raises(QueryError, match="search_many takes a list of queries, such as"):
            index.search_many(many)
    with pytest.raises(TypeError, match="there is no 'stategy' to give; there is strategy"):
        index.search("cat", stategy="sqrt")
    for options, said in (
        ({"workers": -1}, "workers is a whole number from 1 on, not -1"),
        ({"batch_size": 0}, "batch_size is a whole number from 1 on, not 0"),
        ({"batch_size": "32"}, "batch_size is a whole number from 1 on, not '32'"),
        ({"labels": 5}, "labels are a text or several, not 5"),
        ({"labels": {"a.png": "x"}}, "by URI they are a function of it"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            index.add(photos, **options)


def test_labels_of_all_kinds_are_whole(new, photos):
    """A text was taken for its letters, and what gives labels once for none."""
    new.add(photos, labels=(label for label in ("b", "a")))
    assert {document.labels for document in new} == {("b", "a")}
    new.add(photos, labels={"b", "a"})
    assert {document.labels for document in new} == {("a", "b")}
    one = next(iter(new))
    new.label(one, add="cats at home", drop="b, c")
    assert new.get(one).labels == ("a", "b", "cats at home")
    new.label([one], add=(label for label in "c"), drop=iter("ab"))
    assert new.get(one).labels == ("cats at home", "c")
    assert new.update(one, labels=iter("xy")).labels == ("x", "y")


def test_a_label_is_one_however_its_accents_are_written(new, photos):
    """A folder's name on a Mac and what one types were two labels of the same look."""
    new.add(photos, labels="cafe\u0301")
    assert {document.labels for document in new} == {("caf\u00e9",)}
    assert new.label(next(iter(new)), drop="cafe\u0301") == 1
    apart = replace(new.get(next(iter(new))), labels=("cafe\u0301",))  # as earlier versions kept it
    new.store.change([apart.id], lambda _: apart)
    assert new.label(apart, drop="caf\u00e9") == 1
    assert new.get(apart).labels == ()


def test_pictures_of_a_large_index_are_changed_and_removed(new, photos, monkeypatch):
    """DuckDB keeps 16 kB of each 2,048 postings among which it deletes one."""
    monkeypatch.setattr(open_file, "_WRITERS_MEMORY", 20_000_000)
    monkeypatch.setattr(open_file, "_FOR_WRITERS", ("SET memory_limit = '20MB'", "SET threads = 1"))
    new.add(photos)
    new.close()
    with duckdb.connect(new.location) as connection:
        connection.execute(
            "INSERT INTO postings SELECT 1, CASE WHEN i % 2048 < 12 THEN i % 2048 ELSE -1 END, 0.5 "
            "FROM range(3_000_000) AS all_of_them(i)"
        )
    ids = [document.id for document in new]
    monkeypatch.setattr(collected_index, "_TOGETHER", 5)
    assert new.label([*ids, *ids], add=["mine"]) == len(ids) == 12
    assert {document.labels for document in new} == {("mine",)}
    assert new.remove(ids) == 12
