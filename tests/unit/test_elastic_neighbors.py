"""The index of nearest neighbors on Elasticsearch: options, mapping, and requests that use it."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS, direction
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.mapping import KINDS, SIMILARITIES, Neighbors, index_body
from imgsearch_es.vocabulary.synsets import from_labels

URL = "http://localhost:9200/pets"
VECTOR = np.array([3, 0, 4], dtype=np.float32)
STORED = {"type": "dense_vector", "dims": 64, "index": False}


def properties(neighbors: Neighbors, dimensions: int = 64, version: tuple[int, int] = (9, 4)):
    settings = IndexSettings({"model": {"name": "fake"}}, "0", from_labels(["cat"]), dimensions)
    return index_body(settings, version, neighbors=neighbors)["mappings"]["properties"]


def indexed(kind: str, similarity: str) -> dict[str, object]:
    return {
        "type": "dense_vector",
        "dims": 64,
        "index": True,
        "similarity": similarity,
        "index_options": {"type": kind},
    }


def test_the_cosine_has_a_field_of_directions():
    found = properties(Neighbors("int8_hnsw"))
    assert found["embedding"] == STORED
    assert found["direction"] == indexed("int8_hnsw", "max_inner_product")


@pytest.mark.parametrize(
    ("similarity", "server"), [("dot", "max_inner_product"), ("euclidean", "l2_norm")]
)
def test_the_others_index_the_feature_itself(similarity, server):
    found = properties(Neighbors("bbq_hnsw", similarity))
    assert found["embedding"] == indexed("bbq_hnsw", server)
    assert "direction" not in found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_what_a_mapping_says_is_read_back(kind, similarity):
    neighbors = Neighbors(kind, similarity)
    assert Neighbors.of(properties(neighbors)) == neighbors
    assert neighbors.strategies == (f"dense-{similarity}",)


def test_no_neighbors():
    assert Neighbors.of(properties(Neighbors())) == Neighbors()
    assert Neighbors.of({}) == Neighbors()
    assert Neighbors().strategies == ()
    assert properties(Neighbors(), dimensions=5000).get("embedding") is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"vectors": "int8"}, "'int8' is no way to index deep features: there are none, flat, "),
        ({"vectors": "hnsw", "similarity": "l2"}, "'l2' is none of cosine, dot, euclidean"),
        ({"similarity": "dot"}, "also say which, such as vectors='int8_hnsw'"),
        ({"vectors": "none", "similarity": "dot"}, "also say which"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_asked(options, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        open_store(URL, **options)


@pytest.mark.parametrize(
    ("kind", "dimensions", "version", "sentence"),
    [
        ("int8_hnsw", 0, (9, 4), "1 to 4096 dimensions, this analyzer's have 0"),
        ("int8_hnsw", 4097, (9, 4), "this analyzer's have 4097"),
        ("bbq_hnsw", 63, (9, 4), "needs at least 64 dimensions"),
        ("bbq_flat", 64, (8, 17), r"needs Elasticsearch 8\.18, the server has 8\.17"),
    ],
)
def test_what_a_server_cannot_index(kind, dimensions, version, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        properties(Neighbors(kind), dimensions, version)


def test_options_that_say_nothing():
    assert Neighbors.wanted(None, None) is None
    assert Neighbors.wanted("hnsw", None) == Neighbors("hnsw", "cosine")


def test_the_whole_body_of_an_approximate_search():
    query = Query(
        (),
        strategy="dense-cosine",
        embedding=VECTOR,
        k=5,
        offset=2,
        candidates=100,
        filters=parse_filters({"label": "pets"}),
        exclude=("0" * 32,),
    )
    body = query.to_elasticsearch()
    source = COMPARISONS["dense-cosine"].painless
    assert body == {
        "query": {
            "knn": {
                "field": "direction",
                "query_vector": direction(VECTOR).tolist(),
                "k": 100,
                "num_candidates": 100,
                "filter": {
                    "bool": {
                        "filter": [
                            {"exists": {"field": "embedding"}},
                            {"terms": {"label": ["pets"]}},
                        ],
                        "must_not": [{"ids": {"values": ["0" * 32]}}],
                    }
                },
            }
        },
        "rescore": {
            "window_size": 100,
            "query": {
                "rescore_query": {
                    "script_score": {
                        "query": {"match_all": {}},
                        "script": {
                            "source": source,
                            "params": {"direction": direction(VECTOR).tolist()},
                        },
                    }
                },
                "query_weight": 0.0,
                "rescore_query_weight": 1.0,
            },
        },
        "size": 17,
        "track_total_hits": True,
        "_source": {"excludes": ["posterior", "embedding", "direction", "words"]},
        "fields": ["embedding"],
    }


def test_candidates_are_never_fewer_than_the_hits_asked_for():
    query = Query((), strategy="dense-dot", embedding=VECTOR, k=30, offset=30, candidates=10)
    nearest = query.to_elasticsearch()["query"]["knn"]
    assert nearest == {
        "field": "embedding",
        "query_vector": [3.0, 0.0, 4.0],
        "k": 60,
        "num_candidates": 60,
    }


def test_direction():
    np.testing.assert_allclose(direction(VECTOR), [0.6, 0, 0.8], rtol=1e-7)
    np.testing.assert_array_equal(direction(np.zeros(3, np.float32)), np.zeros(3))
    huge = np.full(4, 3e38, np.float32)
    np.testing.assert_allclose(direction(huge), np.full(4, 0.5), rtol=1e-6)
    tiny = np.full(4, 1e-40, np.float32)
    np.testing.assert_allclose(direction(tiny), np.full(4, 0.5), rtol=1e-6)
