"""What belongs to an index goes along when it is built anew: on both stores."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import ConfigurationError, IndexRebuiltError, StoreError
from imgsearch_es.indexing.reindexing import Rebuild
from imgsearch_es.stores.elastic import aliased, waiting

SMALLER = {"model": "fake", "term_filters": [{"name": "top_k", "k": 3}]}
LARGER = {"model": "fake", "term_filters": [{"name": "top_k", "k": 7}]}


@pytest.fixture
def cat(photos: Path) -> Path:
    (photos / "broken.png").write_bytes(b"no picture")
    return photos / "cats" / "cat.0.png"


@pytest.mark.scripts
@pytest.mark.parametrize("analyzer", [None, SMALLER])
def test_ledger_and_neighbors(fake_model, photos, cat, place, analyzer):
    location = place()
    is_server = location.startswith("http")
    options = {"vectors": "int8_hnsw"} if is_server else {}
    with ImageIndex(location, model="fake", **options) as index:
        assert index.add(photos).added == 12
        rejected = index.rejected()
        assert [entry.uri for entry in rejected] == [str(photos / "broken.png")]
        report = index.reindex(analyzer=analyzer)
        assert (report.documents, report.missing) == (12, [])
        assert index.rejected() == rejected
        assert index.store.approximable() == (("dense-cosine",) if is_server else ())
        hits = index.search(image=cat, strategy="dense-cosine", approximate=True, k=3)
        assert hits[0].uri == str(cat)
        again = index.add(photos)
        assert (again.unchanged, again.as_before) == (12, 1)


@pytest.mark.scripts
@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
@pytest.mark.node
def test_another_index_of_neighbors(fake_model, photos, cat, place):
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(photos)
        assert index.store.approximable() == ()
        settings = index.store.settings()
    with ImageIndex(location, vectors="flat") as index:
        index.store.beside().create(settings)
        assert index.store.beside().stored_settings() == settings
    with ImageIndex(location, vectors="hnsw", similarity="dot") as index:
        # What was begun with other options is begun again.
        assert index.store.beside().stored_settings() is None
        with pytest.raises(ConfigurationError, match="imgsearch reindex"):
            index.count()
        assert index.reindex().copied == 12
        assert index.store.approximable() == ("dense-dot",)
        hits = index.search(image=cat, strategy="dense-dot", approximate=True, k=12)
        exact = index.search(image=cat, strategy="dense-dot", k=12)
        assert [hit.uri for hit in hits] == [hit.uri for hit in exact]
    with ImageIndex(location, vectors="none") as index:
        assert index.reindex().copied == 12
        assert index.store.approximable() == ()


def test_who_searches_meanwhile_sees_the_old_index_or_the_new_one(place, photos, fake_model):
    """Whole answers only: all pictures, with as many synsets each as one of the analyzers gives."""
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(photos)
        begun, done = threading.Event(), threading.Event()

        def search() -> set[tuple[int, ...]]:
            seen = set()
            with ImageIndex(location) as other:
                while not done.is_set():
                    hits = other.search(image=photos / "cats" / "cat.0.png", k=100)
                    seen.add(tuple(sorted({len(hit.synsets) for hit in hits})))
                    begun.set()
            return seen

        with ThreadPoolExecutor(1) as threads:
            searching = threads.submit(search)
            try:
                assert begun.wait(60)
                index.reindex(analyzer=SMALLER)
                index.reindex(analyzer=LARGER)
            finally:
                done.set()
            seen = searching.result()
        assert (50,) in seen
        assert seen <= {(50,), (3,), (7,)}
        assert {len(hit.synsets) for hit in index.search(image=photos / "cats" / "cat.0.png")} == {
            7
        }


@pytest.mark.parametrize("analyzer", [None, SMALLER])
def test_what_is_read_and_said_meanwhile_comes_along(
    place, photos, fake_model, monkeypatch, analyzer
):
    """Between the last look and the swap: the text in a picture, and metadata taken away."""
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(photos, metadata={"n": 1})
        one, other = list(index)[:2]
        moments = iter([True, False])
        swap = type(index.store).replace

        def late(self, new, mark, *, keep):
            if next(moments):
                index.store.write([replace(one, text="gate 42"), replace(other, metadata={})])
                index.store.finish()
            return swap(self, new, mark, keep=keep)

        monkeypatch.setattr(type(index.store), "replace", late)
        assert index.reindex(analyzer=analyzer).documents == 12
        assert [hit.uri for hit in index.search("ocr:gate")] == [one.uri]
        assert index.get(other.uri).metadata == {}
        assert index.verify().is_whole


def meanwhile(store, monkeypatch, act) -> None:
    """Act once, when an index that was built anew shall take the place of the old one."""
    swap, acts = type(store).replace, iter([act])

    def late(self, new, mark, *, keep):
        next(acts, lambda: None)()
        return swap(self, new, mark, keep=keep)

    monkeypatch.setattr(type(store), "replace", late)


def test_a_document_that_is_replaced_meanwhile_comes_along(place, photos, fake_model, monkeypatch):
    """Also where only what the classifier said is another, and after an interruption."""
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(photos)
        one, other = list(index)[:2]

        def say(document, key) -> None:
            with ImageIndex(location) as program:
                program.store.write([replace(document, terms=(Term(key, 0.75),))])
                program.store.finish()

        def stop() -> None:
            say(one, "zebra")
            raise KeyboardInterrupt

        meanwhile(index.store, monkeypatch, stop)
        with pytest.raises(KeyboardInterrupt):
            index.reindex(query_terms=5)
        meanwhile(index.store, monkeypatch, lambda: say(other, "tabby"))
        assert index.reindex(query_terms=5).copied == 13
        assert [index.get(d.uri).terms[0].key for d in (one, other)] == ["zebra", "tabby"]
        assert index.verify().is_whole


def test_the_list_of_rejected_pictures_is_that_of_the_end(place, photos, fake_model, monkeypatch):
    broken, whole = photos / "cats" / "broken.png", (photos / "cats" / "cat.0.png").read_bytes()
    broken.write_bytes(whole[:50])
    location = place()
    with ImageIndex(location, model="fake") as index:
        index.add(photos)

        def mend() -> None:
            broken.write_bytes(whole)
            with ImageIndex(location) as program:
                assert program.add(broken, labels="mine").added == 1

        meanwhile(index.store, monkeypatch, mend)
        assert index.reindex(query_terms=5).documents == 13
        assert (index.rejected(), index.get(broken).labels) == ([], ("mine",))


def test_what_is_taught_or_rebuilt_meanwhile_is_no_less_true(
    place, photos, fake_model, monkeypatch
):
    location = place()
    with ImageIndex(location, model="fake") as index, ImageIndex(location) as program:
        index.add(photos)
        likes = sorted(map(str, photos.rglob("*.png")))[:3]
        meanwhile(index.store, monkeypatch, lambda: program.teach("wug", likes))
        with pytest.raises(StoreError, match="was taught a word"):
            index.reindex(query_terms=5)
        assert [word.name for word in index.words()] == ["wug"]

        meanwhile(index.store, monkeypatch, lambda: program.reindex(query_terms=3))
        with pytest.raises(IndexRebuiltError, match="was rebuilt"):
            index.reindex(analyzer=SMALLER)
        with ImageIndex(location) as after:
            assert min(len(document.terms) for document in after) >= 50
            assert after.verify(sample=12).is_whole


def test_a_word_forgotten_after_an_interrupted_rebuild_stays_forgotten(
    place, photos, fake_model, monkeypatch
):
    def stop() -> None:
        raise KeyboardInterrupt

    with ImageIndex(place(), model="fake") as index:
        index.add(photos)
        index.teach("wug", sorted(map(str, photos.rglob("*.png")))[:3])
        meanwhile(index.store, monkeypatch, stop)
        with pytest.raises(KeyboardInterrupt):
            index.reindex(analyzer=SMALLER)
        index.forget("wug")
        assert index.reindex(analyzer=SMALLER).analyzed == 12
        assert index.words() == []
        assert index.verify(sample=3).is_whole


def test_who_builds_an_index_writes_into_no_other_s(place, photos, fake_model, monkeypatch):
    location, take, others = place(), Rebuild._take, []
    with ImageIndex(location, model="fake") as index, ImageIndex(location) as program:
        index.add(photos)

        def late(self, documents) -> None:
            if not others:  # another program begins anew, with other options
                others.append(program.store.beside())
                others[0].delete()
                others[0].create(program.store.settings())
            take(self, documents)

        monkeypatch.setattr(Rebuild, "_take", late)
        with pytest.raises(IndexRebuiltError):
            index.reindex(query_terms=5)
        others[0].finish()
        assert others[0].count() == 0
        assert (index.count(), index.verify().is_whole) == (12, True)
        others[0].delete()


@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
@pytest.mark.node
def test_what_a_killed_rebuild_left_goes_with_the_next_one(place, photos, fake_model, monkeypatch):
    """Killed after the swap; what a person keeps, or a neighbor is called, stays."""
    monkeypatch.setattr(aliased, "_LAST_SEARCHES_SECONDS", 0)
    location = place()
    name = location.rpartition("/")[2]
    with ImageIndex(location, model="fake") as index, ImageIndex(f"{location}-0") as neighbor:
        index.add(photos)
        index.reindex(query_terms=4, keep_old=True)
        with monkeypatch.context() as killed:
            killed.setattr(waiting, "discard", lambda client, old: None)
            index.reindex(query_terms=5)
            index.export(photos / "all.parquet")
            neighbor.import_(photos / "all.parquet")
            neighbor.reindex(query_terms=6)
        indices = index.store.client.indices
        # Of one that was killed before, while the index was blocked.
        indices.put_alias(index=f"{name}-000002", name=f"{name}-000002-blocked-1234")
        assert {f"{name}-000002", f"{name}-0-000001"} <= indices.get(index=f"{name}-*").keys()
        index.reindex(query_terms=7)
        left = {*indices.get(index=f"{name}-*")} - {f"{name}-rejected"}
        try:
            numbers = ("000001", "000004", "0-000001", "0-000002")
            assert left == {f"{name}-{number}" for number in numbers}
        finally:
            indices.delete(index=sorted(left - {f"{name}-000001"}))
