"""Learning a word from a few deep features, and what an index keeps of it; and the commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.terms import FLOOR, TaughtWord, to_inputs
from imgsearch_es.errors import QueryError, SchemaError, ServerError, StoreError
from imgsearch_es.search.teaching import learn
from imgsearch_es.stores.base import IndexSettings, known_settings
from imgsearch_es.stores.settings import read_settings
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, imagenet


def features(count: int, seed: int, *, having: bool) -> np.ndarray:
    """Of 64 numbers, the first four of which are large where the word is shown."""
    values = np.random.default_rng(seed).random((count, 64), dtype=np.float32)
    values[:, :4] += 2 * having
    return values


def word(**changes: object) -> TaughtWord:
    given = {"name": "beach", "key": "beach", "number": 1000, "bias": -0.5, "like": ("/a", "/b")}
    weights = np.random.default_rng(1).standard_normal(64).astype(np.float32)
    return TaughtWord(**{**given, "weights": weights, **changes})


def test_scores_are_probabilities_for_the_real_frequency():
    learnt = learn(features(6, 1, having=True), features(500, 2, having=False), np.empty((0, 64)))
    taught = word(weights=learnt.weights, bias=learnt.bias)
    having = taught.scores(features(50, 3, having=True))
    others = taught.scores(features(500, 4, having=False))
    assert learnt.weights.dtype == np.float32
    assert learnt.quality == pytest.approx(1)
    assert having.mean() > 0.1
    assert others.mean() < 0.01
    assert (others > 0).mean() < 0.2  # a sparse term
    assert having.min() > others.max()


def test_what_is_unliked_counts():
    good, others = features(3, 1, having=True), features(300, 2, having=False)
    bad = features(3, 3, having=True)
    bad[:, 4:8] += 2
    plain = learn(good, others, np.empty((0, 64), np.float32))
    told = learn(good, others, bad)
    scores = [word(weights=m.weights, bias=m.bias).scores(bad).mean() for m in (plain, told)]
    assert scores[1] < scores[0] / 2


@pytest.mark.parametrize("others", [0, 1, 3])
def test_small_collections(others):
    bad = features(1 if others == 0 else 0, 5, having=False)
    learnt = learn(features(2, 1, having=True), features(others, 2, having=False), bad)
    assert np.isfinite(learnt.weights).all()
    assert np.isfinite(learnt.bias)


def test_scores_do_not_depend_on_the_batch():
    taught, rows = word(), features(700, 6, having=True)
    together = taught.scores(rows)
    assert together.tolist() == [taught.scores(row[None])[0] for row in rows]
    assert ((together == 0) | (together >= np.float32(FLOOR))).all()
    assert taught.scores(rows[:0]).shape == (0,)
    assert not taught.forgotten().scores(rows).any()
    signed = np.array([[0, 0], [-4, 9]], dtype=np.float32)
    assert to_inputs(signed).tolist() == [[0, 0], [-2 / 13**0.5, 3 / 13**0.5]]


def test_settings_keep_words_and_old_ones_have_none():
    settings = IndexSettings({"model": {"name": "none"}}, "sha256:none", imagenet(), 64)
    assert "taught" not in settings.to_dict()
    assert "taught" not in settings.to_dict()["vocabulary"]
    taught = settings.with_taught([word(key="b", name="b", number=1002), word()])
    again = IndexSettings.from_dict(json.loads(json.dumps(taught.to_stored())))
    assert again == taught
    assert again.checksum == again.right_checksum()
    assert again.numbers["b"] == 1002
    assert len(again.vocabulary) == 1002
    assert again.with_taught([]) == settings


@pytest.mark.parametrize(
    "change",
    [
        *({"analyzer": None}, {"analyzer": {"model": {"name": "x"}, "visual_words": "x"}}),
        *({"analyzer": {"model": {"name": "x"}, "query_terms": "x"}}, {"taught": [{}]}),
        *({"taught": 5}, {"embedding_dimensions": 63}),
    ],
)
def test_harmed_settings_are_told(change):
    settings = IndexSettings({"model": {"name": "none"}}, "sha256:none", imagenet(), 64)
    stored = settings.with_taught([word()]).to_stored()
    assert read_settings(stored, "pets.duckdb").taught == (word(),)
    with pytest.raises(SchemaError, match="its settings are not those that were written"):
        read_settings(stored | change, "pets.duckdb")


def test_vocabularies():
    known = imagenet().with_taught([("dog_taught", "dog", "taught"), ("beach", "beach", "taught")])
    assert Vocabulary.from_dict(known.to_dict()) == known
    assert known.base == imagenet()
    assert known.resolve("Beach").keys == ("beach",)
    dogs = set(imagenet().resolve("dog").keys)
    for phrase in ("dog", "dogs", "domestic dog"):
        assert set(known.resolve(phrase).keys) == {*dogs, "dog_taught"}
    assert known.resolve("dog_taught").keys == ("dog_taught",)
    assert set(imagenet().resolve("animal").keys) < set(known.resolve("animal").keys)
    assert "domestic animal" in {above.title for above in known.hypernyms("dog_taught")}
    assert imagenet().key_for("dining table") == "dining_table_taught"
    assert imagenet().key_for("my. beach") == "my_beach"
    wide = imagenet().with_hypernyms().with_taught([("dog_taught", "dog", "taught")])
    assert wide.resolve("dog").keys == ("dog", "dog_taught")
    own = from_labels(["cat", "dog"]).with_taught([("dog_taught", "dog", "taught")])
    assert own.resolve("dog").keys == ("dog", "dog_taught")
    assert Vocabulary.from_dict(own.to_dict()) == own


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pictures"
    made.mkdir()
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 90, (8, 8, 3), dtype=np.uint8)
        pixels[0, :3] = (255, 20, 10) if i < 5 else (10, 200, 255)
        Image.fromarray(pixels).save(made / f"{i}.png")
    return made


def test_commands(run, asked, folder, tmp_path):
    place = tmp_path / "a.duckdb"
    run("index", folder, "-i", place, "-m", "fake")
    like = [part for i in range(3) for part in ("--like", folder / f"{i}.png")]
    said = run("teach", "light thing", *like, "-i", place).stdout
    assert "light thing: taught from 3 pictures; " in said
    assert "have it as light_thing" in said
    found = asked("words", "-i", place)
    assert [(w["name"], len(w["like"])) for w in found] == [("light thing", 3)]
    assert "light_thing" in run("words", "-i", place).stdout
    shown = run("explain", "light thing", "--picture", folder / "0.png", "-i", place).stdout
    assert "taught from 3 pictures" in shown
    best = asked("search", "light thing", "-i", place, "-k", "3")
    assert {hit["uri"] for hit in best["hits"]} <= {str(folder / f"{i}.png") for i in range(5)}
    wrong = run("teach", "other", "--like", folder / "0.png", "-i", place, code=1)
    assert "at least 2 different pictures" in wrong.stderr
    assert "pictures had it" in run("forget", "light thing", "-i", place).stdout
    assert "was not taught" in run("forget", "light thing", "-i", place, code=1).stderr
    assert asked("words", "-i", place) == []


def test_a_copy_is_no_further_example(fake_model, folder, tmp_path):
    like = [folder / f"{i}.png" for i in range(3)]
    with ImageIndex(tmp_path / "copies.duckdb", model="fake") as index:
        index.add(folder)
        alone = index.teach("thing", like)
        copies = [Path(shutil.copy(path, folder / f"copy-{path.name}")) for path in like]
        index.add(folder)
        taught = index.teach("thing", [*like, *copies])
        assert (taught.like, taught.quality) == (alone.like, alone.quality)
        with pytest.raises(QueryError, match="2 different pictures that show it, 1 was given"):
            index.teach("thing", [like[0], copies[0]])
        with pytest.raises(QueryError, match="given as like and as unlike"):
            index.teach("thing", like, [copies[1]])


def test_who_may_not_change_words_adds_pictures_that_moved(
    fake_model, folder, tmp_path, monkeypatch
):
    """As with a role of Elasticsearch that may write documents alone."""

    def refused(change: object) -> None:
        raise ServerError("you may not")

    with ImageIndex(tmp_path / "a.duckdb", model="fake") as index:
        index.add(folder)
        before = index.teach("thing", [folder / "0.png", folder / "1.png"])
        monkeypatch.setattr(index.store, "change_taught", refused)
        moved = folder.rename(tmp_path / "moved")
        report = index.add(moved)
        assert report.moved == 12
        assert report.kept == ["examples of taught words stay noted where they were: you may not"]
        with pytest.raises(StoreError, match="documents are moved, but examples of taught words"):
            index.relocate(folder, moved)
        monkeypatch.undo()
        assert index.words()[0].like == before.like
        assert index.relocate(folder, moved) == 0
        assert index.words()[0].like == (str(moved / "0.png"), str(moved / "1.png"))


def test_a_file_made_before_there_were_taught_words(fake_model, folder, tmp_path):
    """Its settings have no words, and its documents no checksums."""
    place = tmp_path / "old.duckdb"
    with ImageIndex(place, model="fake") as index:
        index.add(folder)
        settings = known_settings(index.store)
    old = {name: value for name, value in settings.to_dict().items() if name != "taught"}
    with duckdb.connect(str(place)) as connection:
        connection.execute(
            "UPDATE settings SET value = $1 WHERE name = 'settings'", [json.dumps(old)]
        )
        connection.execute("ALTER TABLE documents DROP COLUMN checksum")
    with ImageIndex(place) as index:
        assert index.words() == []
        assert index.search(image=folder / "0.png").total == 12
        index.teach("light", like=[folder / "0.png", folder / "1.png"])
        assert index.search(text="light", k=2)[0].filename in ("0.png", "1.png", "2.png")
        assert index.verify(repair=True).is_whole
        index.forget("light")
        assert index.verify().is_whole
