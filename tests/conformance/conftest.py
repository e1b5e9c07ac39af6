"""The stores under test: each law is checked on both, Elasticsearch on a real node."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from imgsearch_es.documents import Document
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store
from imgsearch_es.synsets import imagenet
from tests.conformance.collections import DIMENSIONS
from tests.unit.conftest import fake_model, photos, stage  # noqa: F401 - for tests of ImageIndex

SETTINGS = IndexSettings(
    analyzer={"model": {"name": "none"}, "image_filters": [], "term_filters": []},
    weights="sha256:none",
    vocabulary=imagenet(),
    embedding_dimensions=DIMENSIONS,
)
INNER = ("auto", "impact", "script", "script-filtered")
"""The strategies that compute formula (1)."""
STRATEGIES = tuple(os.environ.get("IMGSEARCH_TEST_STRATEGIES", ",".join(INNER)).split(","))
"""Fewer on a server that lacks the module for the others (see tests/integration)."""
STORES = ("embedded", pytest.param("elasticsearch", marks=pytest.mark.node))


@pytest.fixture(scope="session", params=STORES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], str]]:
    """Gives a new location at each call: a path, or a URL on the node."""
    if request.param == "embedded":
        folder = tmp_path_factory.mktemp("stores")
        yield lambda: str(folder / f"{uuid.uuid4().hex}.duckdb")
        return
    url = request.getfixturevalue("elasticsearch_url")
    made: list[str] = []

    def name() -> str:
        made.append(f"conformance-{uuid.uuid4().hex[:12]}")
        return f"{url}/{made[-1]}"

    yield name
    from elasticsearch import Elasticsearch

    with Elasticsearch(url) as client:
        for index in made:
            names = [f"{index}-{number:06}" for number in range(1, 4)]
            client.indices.delete(index=[*names, f"{index}-rejected"], ignore_unavailable=True)


@contextmanager
def filled(location: str, documents: Sequence[Document]) -> Iterator[Store]:
    """A new store with these documents."""
    store = open_store(location)
    store.create(SETTINGS)
    for start in range(0, len(documents), 500):
        report = store.write(documents[start : start + 500])
        assert report.rejected == []
    store.finish()
    yield store
    store.close()


@dataclass(frozen=True)
class Case:
    """A store, and the documents in it."""

    store: Store
    documents: list[Document]


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, place: Callable[[], str]) -> Iterator[Case]:
    """The documents that the test's module makes, in a store."""
    documents = request.module.make_documents()
    with filled(place(), documents) as store:
        yield Case(store, documents)


@pytest.fixture
def store(place: Callable[[], str]) -> Iterator[Store]:
    """A store that does not exist yet."""
    opened = open_store(place())
    yield opened
    opened.close()
