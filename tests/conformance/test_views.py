"""Terms that remember a view rank as others do, and keep it: on both stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.filters import PARTS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic import mapping
from tests.conformance.collections import posteriors, ties
from tests.conformance.conftest import SETTINGS, Case, case_of

VIEWED = replace(SETTINGS, analyzer={**SETTINGS.analyzer, "views": "tiles14"})


def with_views(document: Document) -> Document:
    """A third of the documents has terms without a view among the others."""
    seed = int(document.id, 16)
    views = [(seed + 7 * i) % len(PARTS) for i in range(len(document.terms))]
    terms = [replace(t, view=view) for t, view in zip(document.terms, views, strict=True)]
    if seed % 3 == 0 and terms:
        terms[-1] = replace(terms[-1], view=None)
    return replace(document, terms=tuple(terms))


@pytest.fixture(scope="module")
def viewed(place: Callable[[], str]) -> Iterator[Case]:
    with case_of(place(), list(map(with_views, posteriors(300) + ties(60))), VIEWED) as made:
        yield made


@pytest.mark.parametrize("k", [5, 1000])
def test_ranking_is_numpys(viewed: Case, k: int):
    for document in viewed.documents[::60]:
        viewed.check(Query(terms=document.terms, k=k))
    gone = viewed.documents[0]
    viewed.store.remove([gone.id])
    left = Case(viewed.store, viewed.documents[1:])
    left.check(Query(terms=gone.terms, k=k))
    viewed.store.write([gone])
    viewed.store.finish()


def test_views_come_back_in_every_way(viewed: Case, place: Callable[[], str], tmp_path: Path):
    expected = {document.id: document.terms for document in viewed.documents}
    found = viewed.store.search(Query(terms=viewed.documents[0].terms, k=1000)).hits
    assert {hit.document.id: hit.document.terms for hit in found}.items() <= expected.items()
    assert {k: d.terms for k, d in viewed.store.get(list(expected)).items()} == expected
    with ImageIndex(viewed.store.location) as index, ImageIndex(place()) as other:
        index.export(tmp_path / "x.parquet")
        assert other.import_(tmp_path / "x.parquet").added == len(expected)
        for one in (index, other):
            assert one.verify().is_whole
            assert {d.id: d.terms for d in one.store.documents()} == expected


def without_views(body: Callable[..., dict]) -> Callable[..., dict]:
    def made(settings: IndexSettings, *rest: object) -> dict:
        found = body(settings, *rest)
        del found["mappings"]["properties"]["views"]
        return found

    return made


@pytest.mark.usefixtures("fake_model")
def test_an_index_of_before_there_were_views(place, photos, monkeypatch):
    location = place()
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "index_body", without_views(mapping.index_body))
        with ImageIndex(location, model="fake") as index:
            index.add(photos / "cats")
    if not location.startswith("http"):
        with duckdb.connect(location) as connection:
            connection.execute("ALTER TABLE documents DROP COLUMN views")
    with ImageIndex(location) as index:
        assert index.verify().is_whole
        (before,) = index.search(text="animal", k=1)
        assert before.where("animal") is None
        assert index.add(photos).added > 0
        assert index.verify().is_whole
        assert index.search(text="animal", k=1).ranked == index.count()
        index.reindex(views="tiles")
        assert index.verify(sample=5).is_whole
        assert index.get(before.id).terms[0].view is not None
        assert all(hit.where("animal") for hit in index.search(text="animal", k=20))
