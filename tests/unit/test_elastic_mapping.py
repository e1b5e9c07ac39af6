"""The mapping of an Elasticsearch index, and the index of nearest neighbors in it."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.dense import COMPARISONS, direction
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.elastic.aliased import next_name
from imgsearch_es.stores.elastic.fetching import MOST_NAMES
from imgsearch_es.stores.elastic.mapping import (
    KINDS,
    MAX_DIMENSIONS,
    SIMILARITIES,
    Layout,
    Neighbors,
    harmful_action,
    index_body,
    shards_for,
)
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, imagenet

ANALYZER = {"model": {"name": "fake"}, "image_filters": [], "term_filters": []}
KEYWORD = {"type": "keyword"}
SHOWN = {**KEYWORD, "index": False, "doc_values": False}
LENIENT = {"ignore_malformed": True}
TYPED = {"type": "object", "dynamic": True, "subobjects": False}
TERM = {"properties": {"wind": SHOWN, "words": SHOWN, "score": {"type": "float"}}}
LEAN_TERM = {"properties": {"score": {"type": "float", "index": False}}}
FLAT = {"index": True, "similarity": "l2_norm", "index_options": {"type": "flat"}}
FLAT["meta"] = {"imgsearch_es": "not for neighbors"}


def settings(vocabulary: Vocabulary | None = None, dimensions: int = 3) -> IndexSettings:
    vocabulary = vocabulary or from_labels(["cat", "jack-o'-lantern"])
    return IndexSettings(ANALYZER, "sha256:0", vocabulary, dimensions)


def count_fields(properties: dict[str, dict]) -> int:
    """As Elasticsearch counts against the limit: every field and every object."""
    return sum(1 + count_fields(item.get("properties", {})) for item in properties.values())


def test_the_whole_body():
    assert index_body(settings(), (9, 4), Layout(shards=2, replicas=1)) == {
        "settings": {
            "index.codec": "best_compression",
            "index.number_of_shards": 2,
            "index.number_of_replicas": 1,
            "index.default_pipeline": "_none",
            "index.final_pipeline": "_none",
            "index.mapping.ignore_above": 2**31 - 1,
            "index.mapping.total_fields.limit": 4 * 2 + 56 + MOST_NAMES,
            "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
        },
        "mappings": {
            "dynamic": "strict",
            "dynamic_templates": [
                {"numbers": {"path_match": "numbers.*", "mapping": {"type": "double", **LENIENT}}},
                {"dates": {"path_match": "dates.*", "mapping": {"type": "date", **LENIENT}}},
                {"texts": {"path_match": "texts.*", "mapping": {**KEYWORD, "ignore_above": 1024}}},
            ],
            "_routing": {"required": False},
            "_source": {"enabled": True, "excludes": ["hit", "kinds", "words"]},
            "_meta": {
                "imgsearch_es": {
                    "analyzer": ANALYZER,
                    "weights": "sha256:0",
                    "vocabulary": {"name": "labels", "labels": ["cat", "jack-o'-lantern"]},
                    "embedding_dimensions": 3,
                    "schema_version": 1,
                    "checksum": settings().right_checksum(),
                }
            },
            "properties": {
                **dict.fromkeys(("filename", "uri", "sha256", "format", "label"), KEYWORD),
                "id": {**KEYWORD, "index": False},
                **dict.fromkeys(("synsets", "top_synset"), KEYWORD),
                "width": {"type": "integer"},
                "height": {"type": "integer"},
                "bytes": {"type": "long"},
                "indexed_at": {"type": "date"},
                "metadata": {"type": "flattened"},
                "synset": {"properties": {"cat": TERM, "jack-o'-lantern": TERM}},
                "posterior": {"type": "sparse_vector", "index_options": {"prune": False}},
                "top_score": {"type": "float"},
                **{key: {"type": "double", "index": False} for key in ("length", "norm")},
                "words": {"type": "text", "analyzer": "english"},
                "kinds": {**KEYWORD, "normalizer": "lowercase"},
                **dict.fromkeys(("numbers", "dates", "texts"), TYPED),
                "hit": {"type": "binary", "doc_values": True},
                **dict.fromkeys(("checksum", "thumbnail"), SHOWN),
                "taken_at": {"type": "date"},
                **dict.fromkeys(("camera", "lens", "caption", "keywords"), KEYWORD),
                "place": {"type": "geo_point"},
                "ordered": {"type": "flattened"},
                "text": {"type": "keyword", "index": False, "doc_values": False},
                "ocr": {"type": "text", "analyzer": "whitespace", "search_analyzer": "standard"},
                "views": {"type": "byte", "index": False, "doc_values": False},
                "embedding": {"type": "dense_vector", "dims": 3, **FLAT},
            },
        },
    }


@pytest.mark.parametrize(
    ("version", "dimensions", "restores"),
    [((9, 4), 3, None), ((9, 4), 0, False), ((8, 15), 0, None), ((8, 15), 3, None)],
)
def test_the_body_of_a_lean_index(version, dimensions, restores):
    body = index_body(settings(dimensions=dimensions), version, Layout(layout="lean"))
    assert body["settings"].get("index.mapping.exclude_source_vectors") is restores
    assert body["mappings"]["_source"] == {"enabled": False}
    fields = body["mappings"]["properties"]
    assert fields["synset"] == {"properties": {"cat": LEAN_TERM, "jack-o'-lantern": LEAN_TERM}}
    whole = index_body(settings(dimensions=dimensions), version)["mappings"]["properties"]
    assert whole.keys() - fields.keys() == {
        *("words", "kinds", "checksum", "views", "text", "thumbnail"),
    }
    stored = {"type": "dense_vector", "dims": 3}
    wanted = {**stored, **(FLAT if version >= (9, 2) else {"index": False})}
    assert fields.get("embedding") == (wanted if dimensions else None)
    scanned = {name for name, field in fields.items() if field.get("index") is False}
    assert scanned - {"embedding"} == {
        *("id", "sha256", "width", "height", "bytes", "indexed_at", "top_score", "length", "norm")
    }


@pytest.mark.parametrize(
    ("version", "prunes"),
    [((8, 15), False), ((8, 18), False), ((8, 19), True), ((9, 0), False), ((9, 1), True)],
)
def test_pruning_is_turned_off_where_the_server_knows_it(version, prunes):
    posterior = index_body(settings(), version)["mappings"]["properties"]["posterior"]
    assert ("index_options" in posterior) is prunes


@pytest.mark.parametrize(
    "vocabulary", [from_labels(["one"]), imagenet(), imagenet().with_hypernyms()]
)
def test_the_field_limit_is_just_large_enough(vocabulary):
    body = index_body(settings(vocabulary), (9, 4))
    limit = body["settings"]["index.mapping.total_fields.limit"]
    fields = count_fields(body["mappings"]["properties"])
    assert fields <= limit - MOST_NAMES <= fields + 40


@pytest.mark.parametrize(
    ("dimensions", "kept"),
    [(0, False), (1, True), (MAX_DIMENSIONS, True), (MAX_DIMENSIONS + 1, False)],
)
def test_an_embedding_that_elasticsearch_cannot_hold_is_left_out(dimensions, kept):
    body = index_body(settings(dimensions=dimensions), (9, 4))
    assert ("embedding" in body["mappings"]["properties"]) is kept


@pytest.mark.parametrize(
    ("pictures", "dimensions", "shards"),
    [
        (1_000_000, 1280, 1),
        (10_000_001, 0, 4),
        (10_000_000, 1280, 8),
        (100_000_000, 0, 34),
        (10**12, 1280, 1024),
    ],
)
def test_shards_follow_from_the_expected_size(pictures, dimensions, shards):
    assert shards_for(pictures, dimensions) == shards
    layout = Layout(expected_pictures=pictures)
    assert layout.settings(dimensions)["index.number_of_shards"] == shards


def test_a_layout_is_checked_and_written_as_settings():
    codec = {"index.codec": "best_compression"}
    assert Layout().settings(0) == {
        **codec,
        "index.number_of_shards": 1,
        "index.number_of_replicas": 0,
    }
    layout = Layout(3, 1, refresh_interval="30s", lifecycle="photos")
    assert layout.settings(0) == {
        **codec,
        "index.number_of_shards": 3,
        "index.number_of_replicas": 1,
        "index.refresh_interval": "30s",
        "index.lifecycle.name": "photos",
    }
    assert layout.changed_by(Layout(shards=5)).shards == 5
    assert layout.changed_by(Layout(expected_pictures=20_000_000)).settings(0) == {
        **layout.settings(0),
        "index.number_of_shards": 7,
    }
    for wrong in ({"shards": 0}, {"replicas": -1}, {"shards": "3"}, {"layout": "flat"}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Layout(**wrong)
    with pytest.raises(ConfigurationError, match="not both"):
        Layout(shards=2, expected_pictures=3)


def test_a_lifecycle_must_not_split_or_delete():
    merge = {"min_age": "1d", "actions": {"forcemerge": {"max_num_segments": 1}}}
    assert harmful_action({"phases": {"warm": merge}}) is None
    assert harmful_action({}) is None
    hot = {"actions": {"rollover": {"max_age": "7d"}}}
    assert harmful_action({"phases": {"warm": merge, "hot": hot}}) == "rollover"
    assert harmful_action({"phases": {"delete": {"actions": {"delete": {}}}}}) == "delete"


def test_the_name_of_the_next_index():
    assert next_name("pets-000009", "x") == "pets-000010"
    assert next_name("a-000001-000001", "x") == "a-000001-000002"


# -- neighbors ----------------------------------------------------------------------------------

VECTOR = np.array([3, 0, 4], dtype=np.float32)
VECTORS = {"type": "dense_vector", "dims": 64}


def properties(neighbors: Neighbors, dimensions: int = 64, version: tuple[int, int] = (9, 4)):
    body = index_body(settings(dimensions=dimensions), version, neighbors=neighbors)
    return body["mappings"]["properties"]


def indexed(kind: str, similarity: str) -> dict[str, object]:
    return {**VECTORS, "index": True, "similarity": similarity, "index_options": {"type": kind}}


@pytest.mark.parametrize(
    ("similarity", "server"),
    [("cosine", "max_inner_product"), ("dot", "max_inner_product"), ("euclidean", "l2_norm")],
)
def test_the_cosine_has_a_field_of_directions_and_others_index_the_feature(similarity, server):
    found, wanted = properties(Neighbors("bbq_hnsw", similarity)), indexed("bbq_hnsw", server)
    is_cosine = similarity == "cosine"
    assert found["embedding"] == ({**VECTORS, **FLAT} if is_cosine else wanted)
    assert found.get("direction") == (wanted if is_cosine else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_what_a_mapping_says_is_read_back(kind, similarity):
    neighbors = Neighbors(kind, similarity)
    assert Neighbors.of(properties(neighbors)) == neighbors
    assert neighbors.strategies == (f"dense-{similarity}",)


def test_no_neighbors():
    for version in ((9, 4), (8, 15)):
        assert Neighbors.of(properties(Neighbors(), version=version)) == Neighbors()
    assert Neighbors.of({}) == Neighbors()
    assert Neighbors().strategies == ()


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
        open_store("http://localhost:9200/pets", **options)


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


def test_the_whole_body_of_an_approximate_search():
    query = Query(
        (), strategy="dense-cosine", embedding=VECTOR, k=5, offset=2, candidates=100,
        filters=parse_filters({"label": "pets"}), exclude=("0" * 32,),
    )  # fmt: skip
    body = query.to_elasticsearch()
    conditions = {
        "filter": [{"exists": {"field": "embedding"}}, {"terms": {"label": ["pets"]}}],
        "must_not": [{"ids": {"values": ["0" * 32]}}],
    }
    vector = direction(VECTOR).tolist()
    source = COMPARISONS["dense-cosine"].painless
    assert body == {
        "query": {
            "knn": {
                "field": "direction",
                "query_vector": vector,
                "k": 100,
                "num_candidates": 100,
                "filter": {"bool": conditions},
            }
        },
        "rescore": {
            "window_size": 100,
            "query": {
                "rescore_query": {
                    "script_score": {
                        "query": {"match_all": {}},
                        "script": {"source": source, "params": {"direction": vector}},
                    }
                },
                "query_weight": 0.0,
                "rescore_query_weight": 1.0,
            },
        },
        "size": 17,
        "track_total_hits": True,
        "_source": {
            "excludes": [
                "posterior",
                "embedding",
                "direction",
                "words",
                "kinds",
                "visual_words",
                "impacts",
            ]
        },
        "fields": ["embedding"],
    }


def test_candidates_are_never_fewer_than_the_hits_asked_for():
    query = Query((), strategy="dense-dot", embedding=VECTOR, k=30, offset=30, candidates=10)
    nearest = query.to_elasticsearch()["query"]["knn"]
    wanted = {"field": "embedding", "query_vector": [3.0, 0.0, 4.0]}
    assert nearest == {**wanted, "k": 60, "num_candidates": 60}


def test_direction():
    np.testing.assert_allclose(direction(VECTOR), [0.6, 0, 0.8], rtol=1e-7)
    np.testing.assert_array_equal(direction(np.zeros(3, np.float32)), np.zeros(3))
    huge = np.full(4, 3e38, np.float32)
    np.testing.assert_allclose(direction(huge), np.full(4, 0.5), rtol=1e-6)
    tiny = np.full(4, 1e-40, np.float32)
    np.testing.assert_allclose(direction(tiny), np.full(4, 0.5), rtol=1e-6)
