"""Both stores agree with themselves, with documents of every kind, and on older indexes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import DamagedIndexError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.elastic import mapping
from imgsearch_es.stores.inspecting import Inspected, waits
from tests.conformance.collections import extremes, posteriors, ties
from tests.conformance.conftest import SETTINGS, filled

IMPORTED = replace(SETTINGS, analyzer={**SETTINGS.analyzer, "model": {"name": "features"}})


def documents() -> list[Document]:
    made = posteriors(300) + extremes() + ties(100)
    return [replace(d, embedding=None) if i % 7 == 0 else d for i, d in enumerate(made)]


@pytest.mark.parametrize("written", [documents(), []], ids=["documents", "nothing"])
def test_what_was_written_is_whole(place, written):
    location = place()
    with filled(location, written, IMPORTED), ImageIndex(location) as index:
        report = index.verify()
        assert (report.is_whole, report.documents) == (True, len(written)), report.harms[:5]
        assert report.without_checksum == 0


@pytest.mark.node
@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
def test_an_index_of_before_there_were_checksums(place, monkeypatch):
    location = place()
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "LATER", {})
        open_store(location).create(IMPORTED)
    with ImageIndex(location) as index:
        assert index.verify().is_whole
        assert index.store.write(documents()).rejected == []
        index.store.finish()
        assert index.verify().without_checksum == 0


@pytest.mark.scripts
@pytest.mark.node
@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
def test_a_search_that_meets_harm_says_so(place):
    location = place()
    with filled(location, documents()[:5]) as store:
        name = location.rpartition("/")[2]
        store.client.update_by_query(index=name, script="ctx._source.width++", refresh=True)
        with pytest.raises(DamagedIndexError, match="not as it was written"):
            next(iter(store.documents()))  # a copy would be called whole
        harmed = {"id": "x", "posterior": {"tabby": 1.0}, "synsets": ["tabby"]}
        store.client.index(index=name, document=harmed, refresh=True)
        with pytest.raises(DamagedIndexError, match="imgsearch verify"):
            store.search(Query((Term("tabby", 1.0),)))


@pytest.mark.node
@pytest.mark.parametrize("place", ["elasticsearch"], indirect=True)
def test_a_document_that_others_wrote_otherwise_stops_nobody(place):
    """A list of one value is that value to the server, and none is null."""
    location = place()
    with filled(location, documents()[:5]) as store, ImageIndex(location) as index:
        ids = [document.id for document in documents()[:5]]
        kept = ((), (), ("one label",), store.known(ids)[ids[3]].labels)
        changes = {"label": None}, {"label": [5]}, {"label": "one label"}, {"sha256": None}
        for key, change in zip(ids, changes, strict=False):
            store.client.update(index=location.rpartition("/")[2], id=key, doc=change, refresh=True)
        assert tuple(each.labels for each in store.known(ids[:4]).values()) == kept
        with pytest.raises(DamagedIndexError, match="cannot be read"):
            list(store.fingerprints(embeddings=False))
        left = [key for key, _ in index.verify(repair=True).left]
        assert sorted(left) == sorted(ids[:4])
        found = store.get(ids[1:3])
        assert [found[key].labels for key in ids[1:3]] == [(), ("one label",)]
        assert all(map(waits, found.values()))
        assert index.remove([ids[0], ids[3]]) == 2


def test_a_repair_leaves_what_others_write_meanwhile(place, monkeypatch):
    location, url = place(), "https://ann:secret@example.org/a.png"
    made = documents()[:5]
    made[1] = replace(made[1], id=picture_id(url), uri=url)
    changed, leak, gone, *others = (document.id for document in made)
    with filled(location, made) as store, ImageIndex(location) as index:
        inspect, runs = index.store.inspect, iter([True, False])
        terms = {document.id: document.terms for document in made}

        def harmed() -> Iterator[Inspected]:
            is_first = next(runs)
            for item in inspect():
                yield replace(item, harms=[("postings", "lack")])
            if is_first:
                store.change([changed, leak], lambda each: replace(each, labels=("new",)))
                store.remove([gone])
                store.finish()

        monkeypatch.setattr(index.store, "inspect", harmed)
        assert index.verify(repair=True).repaired == len(others)
        found = {document.id: document for document in store.documents()}
        clean = picture_id("https://example.org/a.png")
        terms[clean] = terms[leak]
        assert found.keys() == {changed, clean, *others}
        assert found[changed].labels == found[clean].labels == ("new",)
        assert all(found[key].terms == terms[key] for key in found)
        monkeypatch.undo()
        assert index.verify().is_whole
