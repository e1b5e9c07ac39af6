"""Visual words: both stores rank by them as NumPy does, and find candidates by them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.indexing.exchange.documents import export_documents, import_documents
from imgsearch_es.indexing.reindexing import Rebuild
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import Fusion
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores import open_store
from tests.conformance.collections import posteriors
from tests.conformance.conftest import SETTINGS, Case, filled, ranking
from tests.conformance.reference import _is_wanted
from tests.conformance.test_dense import expected_score
from tests.conformance.test_ranking import LAW

pytestmark = pytest.mark.scripts

DIMENSIONS, WORDS = 24, 6
WITHOUT_WORDS = replace(SETTINGS, embedding_dimensions=DIMENSIONS)
WITH_WORDS = WITHOUT_WORDS.with_visual_words(WORDS)


def words(vector: np.ndarray, count: int = WORDS) -> dict[int, np.float32]:
    """The definition once more: the largest, ties by place, divided by their length."""
    order = sorted(range(len(vector)), key=lambda i: (-abs(float(vector[i])), i))[:count]
    length = np.sqrt(sum(float(vector[i]) ** 2 for i in order))
    found = {}
    for i in order:
        weight = np.float32(abs(float(vector[i])) / length) if length else np.float32(0)
        if weight >= np.float32(2.0**-20):
            found[i + len(vector) * bool(vector[i] < 0)] = weight
    return found


def score(query: np.ndarray, vector: np.ndarray, count: int = WORDS) -> float:
    """Products added in double precision, the query's heaviest word first, rounded once."""
    theirs, total = words(vector, count), 0.0
    for word, weight in sorted(words(query, count).items(), key=lambda item: (-item[1], item[0])):
        total += float(weight) * float(theirs.get(word, 0))
    return float(np.float32(total))


def make_documents(count: int = 700, seed: int = 3) -> list[Document]:
    """Sparse features of any sign: equal ones, equal numbers, hundreds of ties, zero, missing."""
    random = np.random.default_rng(seed)
    made: list[Document] = []
    for number, one in enumerate(posteriors(count, seed=seed)):
        vector = random.normal(size=DIMENSIONS) * (random.random(DIMENSIONS) < 0.5)
        if number % 3 == 1:
            vector = np.round(vector)
        if number % 3 == 2:  # apart by what the index cannot tell
            vector = np.eye(DIMENSIONS)[0] + np.eye(DIMENSIONS)[1] * (1 + number % 7 * 2.0**-13)
        if number % 50 == 3:
            vector = np.zeros(DIMENSIONS)
        embedding = None if number % 50 == 7 else np.asarray(vector, np.float32)
        made.append(replace(one, embedding=embedding))
    return made


class WordCase(Case):
    """What it must answer by visual words."""

    def expected(self, query: Query) -> list[tuple[float, str]]:
        found = [
            (score(query.embedding, d.embedding), d.id)
            for d in self.documents
            if d.embedding is not None and _is_wanted(d, query)
        ]
        least = query.min_score or 0
        hits = [item for item in found if item[0] > 0 and item[0] >= least]
        return sorted(hits, key=lambda item: (-item[0], item[1]))

    def check(self, query: Query) -> None:
        expected, result = self.expected(query), self.store.search(query)
        assert ranking(result) == expected[query.offset : query.offset + query.k]
        assert result.exact
        if query.min_score is None or result.total_is_exact:
            assert result.total == len(expected)


@pytest.fixture(scope="module")
def case(place) -> Iterator[WordCase]:
    """Some documents are written twice, and some are removed again."""
    documents = make_documents()
    others = [replace(d, embedding=-d.embedding) for d in documents if d.embedding is not None]
    with filled(place(), [*others, *documents], WITH_WORDS) as store:
        gone = [d.id for d in documents[::9]]
        assert store.remove(gone) == len(gone)
        yield WordCase(store, [d for d in documents if d.id not in gone])


def query(vector: Sequence[float] | np.ndarray, **options: object) -> Query:
    embedding = np.asarray(vector, np.float32)
    options = {"strategy": "visual-words", "visual_words": WORDS, **options}
    return Query((), embedding=embedding, **options)


def about(value: object) -> object:
    return pytest.approx(value, rel=1e-5, abs=1e-5)


vectors = st.lists(st.floats(-4, 4, width=32), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(
    lambda values: sum(map(abs, values)) > 1e-3
)


@LAW
@given(vector=vectors, k=st.integers(1, 60), offset=st.integers(0, 30))
def test_ranks_as_numpy(case, vector, k, offset):
    case.check(query(vector, k=k, offset=offset))


def test_stored_pictures_and_hundreds_of_ties(case):
    for document in case.documents[:12]:
        if document.embedding is not None and document.embedding.any():
            for k in (1, 10, 300):
                asked = query(document.embedding, k=k)
                case.check(asked)
            hits = Hits(asked, case.store.search(asked), case.store)
            explained = hits.explain(2)
            assert explained.total == hits[2].score
            assert {row.key[:2] for row in explained.rows} == {"vw"}


@pytest.mark.parametrize("min_score", [0.05, 0.5, 0.7071, 0.99])
def test_min_score(case, min_score):
    min_score = float(np.float32(min_score))
    for place in (0, 1, 4, 5):
        case.check(query(case.documents[place].embedding, k=600, min_score=min_score))


def test_pages_join(case):
    asked = query(case.documents[1].embedding, k=37, offset=5)
    pages = list(case.store.pages(asked))
    assert [item for page in pages for item in ranking(page)] == case.expected(asked)[5:]
    assert all(page.total == len(case.expected(asked)) for page in pages)


def test_matching_and_facets(case):
    asked = query(np.eye(DIMENSIONS)[5])
    ids = sorted(key for _, key in case.expected(replace(asked, k=1000)))
    assert case.store.matching(asked) == ids
    counted = case.store.facets(asked, ["format"], 10)["format"]
    assert sum(item["count"] for item in counted) == len(ids)


def test_a_part_of_a_fusion_is_explained_by_words(case):
    fusion = Fusion({"visual-words": 2, "dense-cosine": 0.5})
    vector, parts = case.documents[4].embedding, fusion.parts((), (), ())
    asked = Query((), embedding=vector, visual_words=WORDS, fusion=fusion, parts=parts)
    hits = Hits(asked, case.store.search(asked), case.store)
    for i, hit in enumerate(hits):
        rows = hits.explain(i).part_rows["visual-words"]
        assert sum(row.product for row in rows) == about(hit.parts[0].score)


@pytest.mark.parametrize("strategy", ["dense-cosine", "dense-dot", "dense-euclidean"])
@pytest.mark.parametrize("count", [20, 1000])
def test_candidates(case, strategy, count):
    """The best by words, compared exactly; all that share a word, where so many may be.

    A file compares all.
    """
    is_server = case.store.location.startswith("http")
    assert (strategy in case.store.approximable()) is is_server
    by_id = {d.id: d for d in case.documents}
    for document in case.documents[:6]:
        vector = document.embedding
        if vector is None or not vector.any():
            continue
        asked = query(vector, strategy=strategy, candidates=count, k=10, exclude=(document.id,))
        shared = case.expected(replace(asked, candidates=0))
        least = shared[count - 1][0] * (1 - 2.0**-7) if len(shared) > count else 0
        possible = [
            expected_score(strategy, vector, by_id[key].embedding)
            for value, key in shared
            if value >= least
        ]
        result = case.store.search(asked)
        if not is_server:
            assert result.exact
            assert ranking(result) == ranking(case.store.search(replace(asked, candidates=0)))
            continue
        assert not result.exact
        assert result.total >= len(result.hits) == 10
        found = [value for value, _ in ranking(result)]
        for value, key in ranking(result):
            assert value == about(expected_score(strategy, vector, by_id[key].embedding))
        assert set(found) <= set(np.float32(possible).tolist()) or found == about(found)
        if count == 1000:
            assert found == about(sorted(possible)[::-1][:10])


def test_verify_finds_nothing(case):
    assert case.store.glance() == []
    assert [item.harms for item in case.store.inspect() if item.harms] == []


def test_an_index_without_words_says_how_to_get_them(place):
    documents = make_documents(60)
    asked = query(documents[0].embedding)
    with filled(place(), documents, WITHOUT_WORDS) as store:
        asks = store.search, lambda q: store.search_many([q]), lambda q: list(store.pages(q))
        for ask in asks:
            with pytest.raises(QueryError, match="reindex --visual-words"):
                ask(asked)
        assert store.approximable() == ()
        Rebuild(store, store.beside(), WITH_WORDS, None).run((), keep=False)
        store.renew()
        WordCase(store, documents).check(asked)
        with pytest.raises(QueryError, match="build it again"):
            store.search(replace(asked, visual_words=WORDS + 1))
        Rebuild(store, store.beside(), WITHOUT_WORDS, None).run((), keep=False)


def test_exchanged_between_indexes_with_and_without(place, tmp_path):
    documents, path = make_documents(60), tmp_path / "all.jsonl"
    asked = query(documents[0].embedding)
    with filled(place(), documents, WITH_WORDS) as store, closing(open_store(place())) as copy:
        export_documents(store, path)
        import_documents(copy, path)
        WordCase(copy, documents).check(asked)
        with filled(place(), [], WITHOUT_WORDS) as plain:
            assert not import_documents(plain, path).rejected
            export_documents(plain, path, force=True)
        assert not import_documents(store, path).rejected
        WordCase(store, documents).check(asked)


def test_words_of_an_index_without_features():
    with pytest.raises(ConfigurationError, match="deep feature"):
        replace(SETTINGS, embedding_dimensions=0).with_visual_words(8)
