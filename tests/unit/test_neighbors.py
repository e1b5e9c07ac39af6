"""The graph of neighbors beside an index file: of its state or not used, and its scores exact."""

from __future__ import annotations

import shutil
import sys
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.errors import ConfigurationError, MissingDependencyError
from imgsearch_es.retrieval.conditions import of_score, parse_filters
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.embedded.open_file import mark_of
from imgsearch_es.stores.embedded.sections import TAIL
from imgsearch_es.stores.embedded.store import EmbeddedStore
from tests.conformance.collections import posteriors
from tests.conformance.conftest import SETTINGS, ranking

DIMENSIONS, COUNT = 24, 1500


def documents(count: int = COUNT, seed: int = 7):
    """Features around centers, of many lengths; some equal, zero or missing."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(30, DIMENSIONS))
    made = []
    for number, document in enumerate(posteriors(count, seed=seed)):
        vector = centers[number % 30] + 0.7 * random.normal(size=DIMENSIONS)
        vector *= random.lognormal(0, 2)
        if number % 50 == 1:
            vector = made[-1].embedding
        if number % 100 == 3:
            vector = np.zeros(DIMENSIONS)
        embedding = None if number % 100 == 7 else np.asarray(vector, np.float32)
        made.append(replace(document, embedding=embedding))
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("neighbors") / "photos.duckdb"
    store = EmbeddedStore(path, vectors="int8_hnsw")
    store.create(replace(SETTINGS, embedding_dimensions=DIMENSIONS))
    store.write(documents())
    store.finish()
    store.close()
    return path


@pytest.fixture
def path(made, tmp_path) -> Path:
    for file in made.parent.iterdir():
        shutil.copy2(file, tmp_path)
    return tmp_path / made.name


def queries(count: int = 40, candidates: int = 60, **options) -> list[Query]:
    vectors = [d.embedding for d in documents(count, seed=8) if d.embedding is not None]
    return [
        Query((), strategy="dense-cosine", embedding=vector, candidates=candidates, **options)
        for vector in vectors
        if vector.any()
    ]


def test_nearly_all_are_found_and_their_scores_are_exact(made):
    with closing(EmbeddedStore(made)) as store:
        assert store.approximable() == ("dense-cosine",)
        asked = queries()
        found = store.search_many(asked)
        exact = store.search_many([replace(query, candidates=0, k=COUNT) for query in asked])
        shared = 0
        for near, every in zip(found, exact, strict=True):
            assert not near.exact
            assert not near.total_is_exact
            assert near.total == 60
            assert "nearer ones may be missing" in near.means
            assert set(ranking(near)) <= set(ranking(every))
            assert ranking(near) == sorted(ranking(near), key=lambda hit: (-hit[0], hit[1]))
            shared += len(set(ranking(near)) & set(ranking(every)[:10]))
        assert shared >= 0.97 * 10 * len(asked)


def test_what_is_left_out_and_a_threshold(made):
    with closing(EmbeddedStore(made)) as store:
        (query,) = queries(1)
        first = ranking(store.search(query))
        out = tuple(key for _, key in first[:4])
        rest = store.search(replace(query, exclude=out))
        assert not rest.exact
        assert ranking(rest)[:6] == first[4:]
        least = first[5][0]
        some = store.search(replace(query, min_score=least))
        assert ranking(some) == first[:6]
        assert some.total == 6


@pytest.mark.parametrize(
    "options",
    [
        {"filters": parse_filters({"label": "pets"})},
        {"filters": (of_score("tench", ["tench"], "gt", 0.0, negated=True),)},
        {"strategy": "dense-dot"},
        {"candidates": COUNT},
        {"k": COUNT},
    ],
)
def test_other_questions_are_answered_exactly(made, options):
    with closing(EmbeddedStore(made)) as store:
        (query,) = (replace(query, **options) for query in queries(1))
        found = store.search(query)
        assert found.exact
        assert "no approximate answer" in found.means
        assert ranking(found) == ranking(store.search(replace(query, candidates=0)))


def test_a_stale_one_is_not_used_and_made_anew_by_the_next_run(path):
    (query,) = queries(1)
    with closing(EmbeddedStore(path)) as store:
        best = store.search(query).hits[0].document.id
        store.remove([best])
        found = store.search(query)
        assert found.exact
        assert best not in [key for _, key in ranking(found)]
        assert store.approximable() == ()
        store.finish()
        again = store.search(query)
        assert not again.exact
        assert ranking(again) == ranking(found)
    with closing(EmbeddedStore(path, vectors="none")) as store:
        store.finish()
    assert not path.with_name("photos.duckdb.neighbors").exists()
    with closing(EmbeddedStore(path)) as store:
        store.finish()
        assert store.search(query).exact


@pytest.mark.parametrize("place", [1000, -40, -3])
def test_a_damaged_one_is_not_used(path, place, caplog):
    (query,) = queries(1)
    graph = path.with_name("photos.duckdb.neighbors")
    data = bytearray(graph.read_bytes())
    data[place] ^= 1
    graph.write_bytes(data)
    with closing(EmbeddedStore(path)) as store:
        assert store.search(query).exact
        assert store.search(query).exact
    assert caplog.text.count("photos.duckdb.neighbors is not used") == 1


def test_one_of_another_index_is_not_used_whatever_its_mark(path, tmp_path):
    other = tmp_path / "other.duckdb"
    with closing(EmbeddedStore(other, vectors="int8_hnsw")) as store:
        store.create(replace(SETTINGS, embedding_dimensions=DIMENSIONS))
        store.write(documents(100))
        store.finish()
        theirs = mark_of(other)
    data = other.with_name("other.duckdb.neighbors").read_bytes()
    _, size, magic = TAIL.unpack(data[-TAIL.size :])
    body, footer = data[: -TAIL.size - size], data[-TAIL.size - size : -TAIL.size]
    footer = footer.replace(theirs.encode(), mark_of(path).encode())
    end = TAIL.pack(zlib.crc32(footer), len(footer), magic)
    path.with_name(f"{path.name}.neighbors").write_bytes(body + footer + end)
    with closing(EmbeddedStore(path)) as store:
        assert store.search(queries(1)[0]).exact


def test_a_file_that_takes_another_ones_place_keeps_its_kind(path):
    with closing(EmbeddedStore(path)) as store:
        new = store.beside()
        new.create(replace(SETTINGS, embedding_dimensions=DIMENSIONS))
        new.write(documents(300))
        new.finish()
        assert new.approximable() == ()
        assert store.replace(new, store.mark(), keep=False)
        assert store.approximable() == ("dense-cosine",)
        assert store.count() == 300
        store.delete()
    assert [file.name for file in path.parent.iterdir()] == []


def test_what_cannot_be_had(tmp_path, path, monkeypatch, caplog):
    location = str(tmp_path / "new.duckdb")
    with pytest.raises(ConfigurationError, match="takes int8_hnsw or none"):
        open_store(location, vectors="bbq_hnsw")
    with pytest.raises(ConfigurationError, match="no option 'shards'"):
        open_store(location, shards=2, vectors="none")
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    with pytest.raises(MissingDependencyError, match=r"needs usearch: pip install '.\[approx"):
        open_store(location, vectors="int8_hnsw")
    with closing(EmbeddedStore(path)) as store:
        assert store.search(queries(1)[0]).exact
    assert "needs usearch" in caplog.text


def test_the_option_of_an_index(index, photos, cat):
    assert index.search(cat, strategy="dense-cosine", approximate=True).exact
    with ImageIndex(index.location, vectors="int8_hnsw") as asking:
        assert asking.add(photos).added == 0
    assert index.store.approximable() == ("dense-cosine",)
    hits = index.search(cat, strategy="dense-cosine", approximate=True, candidates=3, k=3)
    assert not hits.exact
    index.reindex(visual_words=6)
    assert index.store.approximable() == ("dense-cosine",)
    with ImageIndex(index.location, vectors="none") as asking:
        asking.reindex()
    assert index.store.approximable() == ()
