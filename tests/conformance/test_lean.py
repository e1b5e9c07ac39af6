"""Documents of either layout on Elasticsearch: what a lean index answers, keeps and refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace

import elasticsearch
import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.interfaces.cli import serve
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import STRATEGIES, Fusion, Part
from imgsearch_es.search.hits import pages
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import Store, known_settings
from imgsearch_es.stores.elastic import aliased, fetching, mapping
from tests.conformance.collections import DIMENSIONS, extremes, posteriors, rectified, ties
from tests.conformance.conftest import SETTINGS, Case, filled, ranking

pytestmark = [
    pytest.mark.node,
    pytest.mark.parametrize("place", ["elasticsearch"], indirect=True),
]
DOCUMENTS = rectified(posteriors(300) + extremes() + ties(100), seed=5)
IMPORTED = replace(
    SETTINGS, analyzer={**SETTINGS.analyzer, "model": {"name": "features"}}
).with_visual_words(4)
TERMS = DOCUMENTS[5].terms


@pytest.fixture(scope="module")
def full_and_lean(place: Callable[[], str]) -> Iterator[list[Store]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(filled(place(), DOCUMENTS, IMPORTED, layout=layout))
            for layout in ("full", "lean")
        ]


@pytest.mark.scripts
def test_a_lean_index_ranks_as_numpy_and_explains(full_and_lean):
    """Formula (1) by NumPy; the others, which tests hold against NumPy, by the full index."""
    full, lean = full_and_lean
    case = Case(lean, DOCUMENTS)
    case.check(*(Query(TERMS, strategy=s, k=20) for s in ("impact", "script", "script-filtered")))
    case.check(Query(TERMS, k=7, offset=5, filters=parse_filters({"width": {"gte": 120}})))
    vector = DOCUMENTS[6].embedding
    fusion = Fusion({"image": 1, "dense-cosine": 2})
    parts = (Part("image", 1, "auto", TERMS), Part("dense-cosine", 2, "dense-cosine", ()))
    queries = [
        *(
            Query(TERMS, strategy=name, k=9, embedding=vector, visual_words=4)
            for name in STRATEGIES
        ),
        Query(TERMS, fusion=fusion, parts=parts, embedding=vector),
        *(
            Query(TERMS, filters=parse_filters(where))
            for where in (
                {"score(tabby)": {"gt": 0.01}},
                {"filename": {"wildcard": "p1*"}, "id": [d.id for d in DOCUMENTS[:60]]},
                {"sha256": DOCUMENTS[4].sha256},
                {"indexed_at": {"lt": "2026-01-03"}, "bytes": {"gte": 1010}, "label": "pets"},
            )
        ),
    ]
    for query, one, other in zip(
        queries, full.search_many(queries), lean.search_many(queries), strict=True
    ):
        assert ranking(one) == ranking(other), query
        assert (one.total, one.exact) == (other.total, other.exact)
    read = [[ranking(p) for p in pages(s, Query(TERMS, k=90))] for s in full_and_lean]
    assert read[0] == read[1]
    known = [d.id for d in DOCUMENTS]
    assert full.known(known) == lean.known(known)
    assert full.by_content([DOCUMENTS[4].sha256]) == lean.by_content([DOCUMENTS[4].sha256])
    assert full.below("/photos/3/") == lean.below("/photos/3/") != []
    # The server adds scores up in the order of its segments.
    for one, other in zip(*(s.stats()["synsets"] for s in full_and_lean), strict=True):
        assert one == {**other, "mean_score": pytest.approx(other["mean_score"])}


@pytest.mark.scripts
@pytest.mark.parametrize("as_bytes", [True, False])
def test_documents_come_back_with_their_deep_features(full_and_lean, monkeypatch, as_bytes):
    if not as_bytes:  # as servers before 9.4 send them
        monkeypatch.setattr(fetching, "AS_BYTES", (99, 0))
    for store in full_and_lean:
        found = {d.id: d.checksum for d in store.documents()}
        assert found == {d.id: d.checksum for d in DOCUMENTS}
        vectors = {item.id: item.embedding for item in store.fingerprints(embeddings=True)}
        for document in DOCUMENTS[:60]:
            np.testing.assert_array_equal(vectors[document.id], document.embedding)


WORD = TaughtWord("bright", "bright_taught", 1000, np.ones(DIMENSIONS, np.float32), 0.1, ("/a",))


@pytest.mark.scripts
@pytest.mark.parametrize("layout", ["full", "lean"])
def test_no_update_loses_a_deep_feature(place, layout):
    """Neither one of ours nor the server's own, which copies what it has of a document."""
    location, documents = place(), DOCUMENTS[:40]
    with filled(location, documents, IMPORTED, layout=layout) as store:
        first, second = documents[0].id, documents[1].id
        changed = replace(store.get([first])[first], labels=("new",), metadata={"a": [1]})
        assert store.write([changed]).rejected == []
        assert store.known([first])[first].labels == ("new",)  # before a refresh
        store.change_taught(lambda settings: settings.with_taught([WORD]))
        assert store.apply_taught(WORD, lambda done, total: None) > 0
        name = location.rpartition("/")[2]
        asked = {"index": name, "id": second, "script": {"source": "ctx._source.width++"}}
        if layout == "lean":
            with pytest.raises(elasticsearch.BadRequestError, match="source"):
                store.client.update(**asked)
        else:
            store.client.update(**asked, refresh=True)
        kept = {item.id: item.embedding for item in store.fingerprints(embeddings=True)}
        for document in documents:
            np.testing.assert_array_equal(kept[document.id], document.embedding)
        store.write(documents[1:2])
        store.finish()
    with ImageIndex(location) as index:
        assert index.verify().is_whole
        assert any(term.key == WORD.key for term in index.store.get([second])[second].terms)


@pytest.mark.scripts
def test_a_lean_index_is_verified_and_repaired(place):
    location = place()
    with filled(location, DOCUMENTS, IMPORTED, layout="lean", impacts="cosine") as store:
        found = posting_lists(store, DOCUMENTS[:9])
        store.finish()
        with ImageIndex(location) as index:
            report = index.verify()
            assert report.documents == len(DOCUMENTS)
            assert any("a lean index" in what for what in report.unchecked)
            assert found <= {harm.part for harm in report.harms}
            repaired = index.verify(repair=True)
            assert repaired.left == [(DOCUMENTS[2].id, DOCUMENTS[2].uri)]  # it had one form
            index.store.write(DOCUMENTS[2:3])
            index.store.finish()
            assert index.verify().is_whole
            assert {d.id: d.checksum for d in index.store.documents()} == {
                d.id: d.checksum for d in DOCUMENTS
            }


def posting_lists(store, documents) -> set[str]:
    """Harm documents where searches read them; gives the parts."""
    vocabulary = known_settings(store).vocabulary
    sources = [d.to_source(vocabulary, lean=True) for d in documents]
    sources[0]["posterior"] = {k: v * 1.5 for k, v in sources[0]["posterior"].items()}
    sources[1]["width"] += 1
    sources[2]["hit"] = sources[2]["hit"][:40]
    for source in (sources[0], *sources[2:]):
        source["impacts"] = {"cosine": source["posterior"]}  # document 1 has none
    sources[3]["indexed_at"] = "2025-01-01T00:00:00"
    sources[4]["taken_at"] = "2025-01-01T00:00:00"
    sources[5]["metadata"] = {**sources[5]["metadata"], "camera": "other"}
    sources[6]["ordered"] = {"year": ["n0"]}
    sources[7]["place"] = {"lat": 1, "lon": 2}
    del sources[8]["indexed_at"]
    for document, source in zip(documents, sources, strict=True):
        store.client.index(index=store._name, id=document.id, document=source)
    changed = {"indexed_at", "taken_at", "metadata", "ordered", "place"}
    return {"posterior", "width", "document", "impacts.cosine", *changed}


@pytest.mark.scripts
def test_from_layout_to_layout(place, tmp_path, monkeypatch):
    """By reindexing, and by a file; an index of another layout than asked for says so."""
    monkeypatch.setattr(aliased, "_LAST_SEARCHES_SECONDS", 0.0)
    location = place()
    with filled(location, DOCUMENTS, IMPORTED):
        pass
    sums = {d.id: d.checksum for d in DOCUMENTS}
    for layout in ("lean", "full"):
        with ImageIndex(location, layout=layout) as index:
            with pytest.raises(ConfigurationError, match=f"not with '{layout}'.*reindex"):
                index.count()
            assert index.reindex().copied == len(DOCUMENTS)
            assert index.stats()["layout"] == layout
            assert {d.id: d.checksum for d in index.store.documents()} == sums
            assert index.verify().is_whole
            index.export(tmp_path / f"{layout}.parquet")
    lean = place()
    with ImageIndex(lean, layout="lean") as other:
        assert other.import_(tmp_path / "lean.parquet").added == len(DOCUMENTS)
        assert other.verify().is_whole
    with pytest.raises(ConfigurationError, match="lean index: the panel of visual words"):
        serve.export(file=tmp_path / "x.ndjson", index=lean, visual_words=True)


def test_an_index_of_before_stays_as_it_was_made(place, monkeypatch):
    """Its vectors are in its sources, and its checksums and names of synsets have doc values."""

    made = mapping.index_body

    def before(*given: object) -> dict:
        body = deepcopy(made(*given))
        fields = body["mappings"]["properties"]
        body["mappings"]["_source"] = {"excludes": ["hit"]}
        del body["settings"]["index.codec"]
        fields["embedding"] = {"type": "dense_vector", "dims": DIMENSIONS, "index": False}
        for name in ("id", "length", "norm"):
            del fields[name]["index"]
        for field in (
            fields["checksum"],
            fields["synset"]["properties"]["tabby"]["properties"]["wind"],
        ):
            del field["doc_values"]
        return body

    location = place()
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "index_body", before)
        open_store(location).create(IMPORTED)
    with ImageIndex(location) as index:
        assert index.store.write(DOCUMENTS).rejected == []
        index.store.finish()
        Case(index.store, DOCUMENTS).check(Query(TERMS, k=20))
        assert index.verify().is_whole
        assert {d.id: d.checksum for d in index.store.documents()} == {
            d.id: d.checksum for d in DOCUMENTS
        }
