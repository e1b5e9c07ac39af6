"""A word that an index is taught is a synset like the others: on both stores."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ConfigurationError, QueryError, SchemaError
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.tokens import complete
from imgsearch_es.search import teaching
from imgsearch_es.stores.base import known_settings
from imgsearch_es.stores.elastic import aliased
from imgsearch_es.stores.embedded import schema
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.conftest import ranking
from tests.conformance.reference import Reference

SMALLER = {"model": "fake", "term_filters": [{"name": "top_k", "k": 3}]}


def picture(path: Path, seed: int, *, bright: bool) -> Path:
    """The fake model's deep feature is the first pixels, so light and dark can be told apart."""
    low, high = (150, 256) if bright else (0, 110)
    pixels = np.random.default_rng(seed).integers(low, high, (8, 8, 3), dtype=np.uint8)
    pixels[0, :3] = (255, 20, 10) if bright else (10, 200, 255)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "taught"
    made.mkdir()
    for i in range(16):
        picture(made / f"{'bright' if i < 8 else 'dark'}{i}.png", i, bright=i < 8)
    return made


@pytest.fixture
def index(place, folder, fake_model):
    with ImageIndex(place(), model="fake") as made:
        made.add(folder)
        yield made


def examples(folder: Path, first: int = 0, last: int = 4) -> list[Path]:
    return [folder / f"bright{i}.png" for i in range(first, last)]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def check(index: ImageIndex, key: str) -> None:
    """The index is whole, and ranks by the word as NumPy does, whatever the conditions."""
    report = index.verify(sample=5)
    assert report.is_whole, [harm.what for harm in report.harms]
    documents = list(index.store.documents())
    (word,) = [w for w in known_settings(index.store).taught if w.key == key]
    vectors = np.stack([d.embedding for d in documents])
    for document, score in zip(documents, word.scores(vectors).tolist(), strict=True):
        found = {term.key: term.score for term in document.terms}.get(key, 0.0)
        assert found == pytest.approx(score, rel=1e-6)
    reference = Reference(documents, index.vocabulary.keys)
    for text in (key, f"{key} tabby^0.01", f"tabby^2 -{key}"):
        query: Query = index.query(text=text, k=50)
        assert ranking(index.store.search(query)) == reference.rank(query)[0]


def test_a_taught_word(index, folder, tmp_path):
    word = index.teach("light thing", like=examples(folder))
    assert (word.name, word.synset) == ("light thing", "light_thing")
    assert word.like == tuple(str(path) for path in examples(folder))
    assert word.quality is not None
    assert word.quality > 0.7
    hits = index.search(text="light thing", k=50)
    assert all(hit.filename.startswith("bright") for hit in hits[:8])
    assert hits.ranked == word.pictures
    assert hits[0].score <= 1
    assert "light_thing (taught from 4 pictures)" in str(hits.explain(0))
    assert complete(index.vocabulary, "light th") == ["light thing"]
    assert index.words() == [word]
    counts = index.facets(fields=["synsets"], size=2000)["synsets"]
    assert {c["value"]: c["count"] for c in counts}["light_thing"] == word.pictures
    check(index, "light_thing")

    # A picture that is added later, or searched by, has it too.
    later = picture(tmp_path / "later.png", 100, bright=True)
    seen = {term.key: term.score for term in index.analyze(later).terms}
    assert seen["light_thing"] > 0.05
    assert index.add(later).added == 1
    found = {term.key: term.score for term in index.get(later).terms}
    assert found["light_thing"] == pytest.approx(seen["light_thing"], rel=1e-6)
    index.update(later, labels=["x"])
    check(index, "light_thing")

    # Taught again, it is learnt from other examples; forgotten, nothing is left.
    again = index.teach("Light Thing", like=examples(folder, 0, 6), unlike=[folder / "dark9.png"])
    assert (again.synset, len(again.like), len(again.unlike)) == ("light_thing", 6, 1)
    assert index.words() == [again]
    check(index, "light_thing")
    assert index.forget("light thing") == again.pictures
    assert index.words() == []
    assert index.verify().is_whole
    assert "light_thing" not in index.vocabulary
    with pytest.raises(QueryError, match="was not taught 'light thing'"):
        index.forget("light thing")


def test_numbers_stay_when_another_word_is_forgotten_and_are_mended(index, folder):
    index.teach("one", like=examples(folder))
    index.teach("two", like=[folder / "dark10.png", folder / "dark11.png"])
    before = ranking(index.search(text="two", k=50))
    index.forget("one")
    assert ranking(index.search(text="two", k=50)) == before
    index.teach("three", like=examples(folder, 2, 5))
    assert [word.name for word in index.words()] == ["three", "two"]
    check(index, "two")
    settings = known_settings(index.store)
    changed = [replace(word, bias=word.bias + 2) for word in settings.taught]
    index.store.change_taught(lambda now: now.with_taught(changed))
    report = index.verify()  # as when it was interrupted before all documents had them
    assert report.counts["taught words"] > 0
    assert index.verify(repair=True).is_whole
    check(index, "three")


def test_a_synset_of_the_same_name_counts_as_well(index, folder):
    word = index.teach("dog", like=examples(folder))
    assert word.synset == "dog_taught"
    keys = {term.key for term in index.query(text="dog").terms}
    assert {"dog_taught", "beagle"} <= keys
    assert {term.key for term in index.query(text="dogs").terms} == keys
    assert {term.key for term in index.query(text="dog_taught").terms} == {"dog_taught"}
    assert "dog_taught" in {term.key for term in index.query(text="animal").terms}
    index.teach("tabby", like=examples(folder))
    assert [t.key for t in index.query(text="tabby").terms] == ["tabby", "tabby_taught"]
    check(index, "dog_taught")


def test_it_is_moved_and_rebuilt(index, folder, place, tmp_path, monkeypatch):
    word = index.teach("light thing", like=examples(folder))
    before = ranking(index.search(text="light thing", k=50))
    file = tmp_path / "all.jsonl"
    index.export(file)
    with ImageIndex(place()) as other:
        other.import_(file)
        assert other.words() == [word]
        assert ranking(other.search(text="light thing", k=50)) == before
        assert other.verify().is_whole
    with ImageIndex(place(), model="fake") as plain:  # that was not taught it
        plain.add(folder / "dark8.png")
        plain.import_(file)
        assert plain.count() == 16
        assert plain.words() == []
        assert plain.verify().is_whole
    assert index.reindex().copied == 16
    assert ranking(index.search(text="light thing", k=50)) == before
    check(index, "light_thing")
    report = index.reindex(analyzer=SMALLER)
    assert (report.analyzed, report.lost_words) == (16, [])
    assert [again.name for again in index.words()] == ["light thing"]
    check(index, "light_thing")
    before = index.words()
    with monkeypatch.context() as patch:
        patch.setattr(teaching, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index.reindex(analyzer={"model": "fake"})
    assert index.words() == before  # for the new index has not taken this one's place
    assert index.reindex(analyzer={"model": "fake"}).lost_words == []
    assert [again.name for again in index.words()] == ["light thing"]
    (folder / "bright0.png").unlink()
    (folder / "bright1.png").unlink()
    index.remove([folder / "bright0.png", folder / "bright1.png"])
    report = index.reindex(analyzer=SMALLER)
    assert [name for name, _ in report.lost_words] == ["light thing"]


def test_examples_that_moved_are_found_again(index, folder, tmp_path):
    """Another model could not learn the word again: its examples were noted where they were."""
    index.teach("light thing", like=examples(folder), unlike=[folder / "dark9.png"])
    moved = folder.rename(tmp_path / "moved")
    assert index.add(moved).moved == 16
    (word,) = index.words()
    assert word.like == tuple(str(path) for path in examples(moved))
    assert word.unlike == (str(moved / "dark9.png"),)
    again = moved.rename(tmp_path / "again")
    assert index.relocate(moved, again) == 16
    assert index.words()[0].like == tuple(str(path) for path in examples(again))
    copied = Path(shutil.copytree(again, tmp_path / "copied"))
    index.add(copied)
    for path in again.glob("bright*"):
        path.unlink()
    assert index.add(again, prune=True).removed == 8
    (word,) = index.words()
    assert word.like == tuple(str(path) for path in examples(copied))
    assert word.unlike == (str(again / "dark9.png"),)
    check(index, "light_thing")
    assert index.reindex(analyzer=SMALLER).lost_words == []
    check(index, "light_thing")


def test_another_program_teaches_at_the_same_time(index, folder, monkeypatch):
    change = index.store.change_taught
    with ImageIndex(index.location) as other:

        def late(wanted):
            monkeypatch.undo()
            other.teach("dark thing", like=[folder / "dark10.png", folder / "dark11.png"])
            change(wanted)

        monkeypatch.setattr(index.store, "change_taught", late)
        index.teach("light thing", like=examples(folder))
    assert {word.name for word in index.words()} == {"dark thing", "light thing"}
    check(index, "dark_thing")
    check(index, "light_thing")


def test_an_installation_that_knows_no_taught_words_or_colors_refuses_it(
    index, folder, monkeypatch
):
    index.teach("light thing", like=examples(folder))
    for room in (schema, aliased):
        monkeypatch.setattr(room, "COLOR_SCHEMA", 2)
    with ImageIndex(index.location) as old, pytest.raises(SchemaError, match="a newer"):
        old.search(image=folder / "dark9.png")
    taught = index.store.settings().taught
    plain = replace(index.store.settings(), vocabulary=imagenet(), taught=())
    made = [plain, plain.with_taught(taught), plain.with_colors()]
    assert [settings.to_dict()["schema_version"] for settings in made] == [1, 2, 3]


@pytest.mark.scripts
def test_who_searches_and_adds_meanwhile(index, folder, tmp_path):
    location, begun, done = index.location, threading.Event(), threading.Event()

    def search() -> set[int]:
        seen = set()
        with ImageIndex(location) as other:
            while not done.is_set():
                seen.add(other.search(image=folder / "dark9.png", strategy="dense-cosine").total)
                begun.set()
        return seen

    with ThreadPoolExecutor(1) as threads:
        searching = threads.submit(search)
        with ImageIndex(location) as third:
            third.count()
            try:
                assert begun.wait(60)
                word = index.teach("light thing", like=examples(folder))
                third.add(picture(tmp_path / "later.png", 100, bright=True))
                assert third.search(text="light thing", k=50).ranked == word.pictures + 1
                index.forget("light thing")
            finally:
                done.set()
        assert searching.result() <= {16, 17}
    assert index.verify().is_whole


def test_refusals(index, folder, place, fake_model):
    good = examples(folder)
    for like, unlike, what in (
        ([good[0]], [], "at least 2 different pictures"),
        ([good[0], good[0]], [], "at least 2 different pictures"),
        (good, [good[1]], "given as like and as unlike"),
    ):
        with pytest.raises(QueryError, match=what):
            index.teach("word", like=like, unlike=unlike)
    key, none = "is the key of a synset", "is no word"
    for word, what in (
        ("n02123045", key), ("crane_n02012849", key), (" ?", none), ("a\0b", none),
        ("a\ud800", none), ("vw3", "'vw3' is how a visual word is called"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=what):
            index.teach(word, like=good)
    with ImageIndex(place(), analyzer={"model": "fake", "embedding": False}) as plain:
        plain.add(folder)
        with pytest.raises(ConfigurationError, match="no deep features"):
            plain.teach("word", like=good)
    assert index.words() == []


@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
@pytest.mark.node
def test_an_index_made_before_there_were_taught_words(index, folder):
    """Its settings have neither words nor a checksum."""
    client, name = index.store.client, index.location.rpartition("/")[2]
    old = known_settings(index.store).to_dict()
    assert "taught" not in old
    client.indices.put_mapping(index=name, meta={"imgsearch_es": old})
    with ImageIndex(index.location) as opened:
        assert opened.words() == []
        assert opened.search(image=folder / "dark9.png").total == 16
        opened.teach("light thing", like=examples(folder))
        check(opened, "light_thing")
        opened.forget("light thing")
        assert opened.verify().is_whole
