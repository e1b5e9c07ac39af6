"""The stores under test: each law is checked on both, Elasticsearch on a real node."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, SearchResult, Store
from imgsearch_es.stores.elastic import fetching
from imgsearch_es.stores.embedded import pruning, snapshot, snapshot_writing
from imgsearch_es.stores.embedded.store import EmbeddedStore
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import DIMENSIONS, KEYS, extremes, posteriors
from tests.conformance.reference import Reference
from tests.unit.conftest import fake_model, photos, stage  # noqa: F401 - for tests of ImageIndex

SETTINGS = IndexSettings(
    analyzer={
        **{"model": {"name": "none"}, "image_filters": [], "term_filters": []},
        "photo": "place",
    },
    weights="sha256:none",
    vocabulary=imagenet(),
    embedding_dimensions=DIMENSIONS,
)
INNER = ("auto", "impact", "script", "script-filtered")
"""The strategies that compute formula (1)."""
STRATEGIES = tuple(os.environ.get("IMGSEARCH_TEST_STRATEGIES", ",".join(INNER)).split(","))
"""Fewer on a server that lacks the module for the others (see tests/integration)."""
if "IMGSEARCH_TEST_STRATEGIES" in os.environ:  # it lacks the one for languages, too
    fetching.FIELDS["words"] = {"type": "text"}
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
def filled(
    location: str,
    documents: Sequence[Document],
    settings: IndexSettings = SETTINGS,
    **options: Any,
) -> Iterator[Store]:
    """A new store with these documents."""
    store = open_store(location, **options)
    store.create(settings)
    for start in range(0, len(documents), 500):
        report = store.write(documents[start : start + 500])
        assert report.rejected == []
    store.finish()
    yield store
    store.close()


@pytest.fixture(autouse=True, scope="package")
def small_blocks() -> Iterator[None]:
    """Snapshots have blocks of a few documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_writing, "_ROWS", 4)
        yield


@pytest.fixture(autouse=True, scope="module")
def passed_over() -> Iterator[None]:
    """Of these most are passed over by each query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_FEW", 0)
        patch.setattr(pruning, "_FIRST", 3)
        yield


def answers(store: Store, queries: Sequence[Query]) -> list[SearchResult]:
    """A store's answers; a file gives the same by its snapshot, by all of it and without it."""

    def ask() -> list[SearchResult]:
        return store.search_many(queries) if len(queries) > 1 else [store.search(queries[0])]

    found = ask()
    ways: list[tuple[object, str, Any]] = []
    if isinstance(store, EmbeddedStore):
        ways = [(store._copy, "of_now", lambda: None), (snapshot, "_FEW", 1 << 40)]
    for way in ways:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*way)
            for one, other in zip(found, ask(), strict=True):
                assert ranking(one) == ranking(other)
                assert one.total == other.total
                assert list(map(repr, one.hits)) == list(map(repr, other.hits))
    return found


def ranking(result: SearchResult | Sequence[Any]) -> list[tuple[float, str]]:
    """The scores and documents of an answer or of hits."""
    hits = result.hits if isinstance(result, SearchResult) else result
    return [(hit.score, hit.document.id) for hit in hits]


@dataclass(frozen=True)
class Case:
    """A store, the documents in it, and what it must answer."""

    store: Store
    documents: Sequence[Document] = field(repr=False)

    @cached_property
    def reference(self) -> Reference:
        return Reference(self.documents, KEYS)

    def check(self, *queries: Query) -> None:
        """By formula (1): NumPy's ranking and total, to the last bit; several are asked at once."""
        for query, result in zip(queries, answers(self.store, queries), strict=True):
            expected, total = self.reference.rank(query)
            assert ranking(result) == expected, query
            assert result.exact
            assert result.total == total or (not result.total_is_exact and result.total <= total)
            assert result.total_is_exact or result.total >= 10_000

    def check_scores(
        self, query: Query, expected: Mapping[str, float], rel: float = 1e-6, least: float = 1e-6
    ) -> Hits:
        """By others: these scores of documents, the best first, equal ones by id, all explained."""
        hits = Hits(query, answers(self.store, [query])[0])
        assert hits.exact
        assert hits.total == len(expected) or not hits.total_is_exact
        best = sorted(expected.values(), reverse=True)[query.offset : query.offset + query.k]
        assert [hit.score for hit in hits] == pytest.approx(best, rel=rel, abs=least)
        for i, hit in enumerate(hits):
            assert hit.score == pytest.approx(expected[hit.id], rel=rel, abs=least)
            assert hits.explain(i).total == hit.score
        assert ranking(hits) == sorted(ranking(hits), key=lambda item: (-item[0], item[1]))
        return hits


@contextmanager
def case_of(
    location: str, documents: Sequence[Document], settings: IndexSettings = SETTINGS
) -> Iterator[Case]:
    """A case of these documents in a new store."""
    with filled(location, documents, settings) as store:
        yield Case(store, documents)


@pytest.fixture(scope="module")
def case(request: pytest.FixtureRequest, place: Callable[[], str]) -> Iterator[Case]:
    """The documents that the test's module makes, in a store with its settings if it has any."""
    settings = getattr(request.module, "OWN_SETTINGS", SETTINGS)
    with case_of(place(), request.module.make_documents(), settings) as made:
        yield made


@pytest.fixture(scope="module")
def extreme(place: Callable[[], str]) -> Iterator[Case]:
    with case_of(place(), extremes() + posteriors(200, seed=2)) as made:
        yield made


@pytest.fixture
def store(place: Callable[[], str]) -> Iterator[Store]:
    """A store that does not exist yet."""
    opened = open_store(place())
    yield opened
    opened.close()
