"""Fusion: what can be fused, both methods by hand, and explanations that add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from imgsearch_es import Fusion
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.interfaces.gallery import gallery_html
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.queries import Query, fused_terms, part_queries
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.retrieval.strategies import Part, by_ranks
from imgsearch_es.stores.elastic.dense import read_fused
from imgsearch_es.stores.elastic.fetching import NOT_FETCHED
from tests.unit.test_documents import SOURCE

PICTURE = (Term("tabby", 0.5), Term("lynx", 0.25))
WORDS = (Term("sofa", 1.0),)
BOTH = (Term("sofa", 1.0), *PICTURE)
FEATURE = np.array([1, 0], np.float32)


def query(weights, method: str = "sum", pictures=PICTURE, words=WORDS, **options) -> Query:
    fusion = Fusion(weights, method)
    parts = fusion.parts(pictures, words, (*words, *pictures))
    feature = FEATURE if fusion.has_features else None
    options = {"embedding": feature, **options}
    return Query(fused_terms(parts), fusion=fusion, parts=parts, **options)


# -- what can be fused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "a weight for each part"),
        ([("image", 1)], "a weight for each part"),
        ("image", "a weight for each part"),
        ({"picture": 1}, "no part 'picture' to fuse; there are image, words, auto"),
        ({"image": 0}, "weight of image must be a number of 1e-06 to 1e"),
        ({"image": -1}, "weight of image"),
        ({"image": math.nan}, "weight of image"),
        ({"image": math.inf}, "weight of image"),
        ({"image": True}, "weight of image"),
        ({"image": "1"}, "weight of image must be .* not '1'"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(QueryError, match=message):
        Fusion(weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "max"}, "no fusion 'max'; there are sum, rrf"),
        ({"rank_constant": 0}, "rank_constant must be a whole number, at least 1, not 0"),
        ({"rank_constant": 1.5}, "rank_constant must be a whole number"),
        ({"window": 0}, "window must be a whole number, at least 1 and at most 10000"),
        ({"window": 10_001}, "window must be"),
        ({"window": True}, "window must be"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(QueryError, match=message):
        Fusion({"image": 1}, **options)


@pytest.mark.parametrize(
    ("weights", "pictures", "words", "message"),
    [
        ({"image": 1, "words": 1}, PICTURE, (), "no words for the part 'words'"),
        ({"image": 1, "words": 1}, (), WORDS, "no picture for the part 'image'"),
        ({"image": 1, "dense-dot": 1}, PICTURE, WORDS, "no part of the fusion uses the words"),
        ({"words": 1}, PICTURE, WORDS, "no part of the fusion uses the picture"),
    ],
)
def test_parts_without_a_query_and_queries_without_a_part(weights, pictures, words, message):
    with pytest.raises(QueryError, match=message):
        query(weights, pictures=pictures, words=words)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "sqrt"}, "leave out the strategy sqrt"),
        ({"min_score": 0.5}, "min_score"),
        ({"parameters": {"k1": 1.0}}, "no part has a parameter 'k1'; they have none"),
        ({"embedding": None}, "dense-cosine compares the deep features of pictures: give a pict"),
        ({"embedding": np.zeros(2, np.float32)}, "zero or not finite"),
        ({"embedding": np.full(2, 1e19, np.float32)}, r"has the length 1.41e\+19"),
        ({"k": 0}, "k must be at least 1"),
        ({"k": 90, "offset": 11}, "each part ranks 100 pictures, and offset . k is 101: raise wi"),
    ],
)
def test_queries_that_cannot_be_fused(options, message):
    with pytest.raises(QueryError, match=message):
        query({"auto": 1, "dense-cosine": 1}, "rrf", **options)


def test_what_a_part_is():
    parts = Fusion({"image": np.float32(0.1)}).parts(PICTURE, (), PICTURE)
    assert parts == (Part("image", to_score(0.1), "auto", PICTURE),)
    filters = parse_filters({"label": "pets"})
    fused = query(
        {"image": 1, "words": 0.5, "bm25": 2, "dense-cosine": 1},
        filters=filters,
        parameters={"b": 0.5},
        k=7,
        offset=2,
    )
    singles = part_queries(fused)
    assert [single.strategy for single in singles] == ["auto", "auto", "bm25", "dense-cosine"]
    assert [single.terms for single in singles] == [PICTURE, WORDS, (*WORDS, *PICTURE), ()]
    assert [single.parameters for single in singles] == [{}, {}, {"b": 0.5}, {}]
    assert [single.embedding is None for single in singles] == [True, True, True, False]
    assert {(single.filters, single.k, single.offset) for single in singles} == {(filters, 7, 2)}
    assert all(single.fusion is None and not single.parts for single in singles)
    assert "fused: image 1, words 0.5, bm25 2, dense-cosine 1 (sum)" in str(fused)
    singles = part_queries(query({"image": 1, "words": 1}, "rrf", k=5, offset=10))
    assert {(single.k, single.offset) for single in singles} == {(100, 0)}  # a window each


def test_the_terms_are_those_of_the_parts_with_their_weights():
    fused = query({"image": 2, "words": 0.5, "dense-cosine": 1})
    assert fused.terms == (Term("tabby", 1.0), Term("lynx", 0.5), Term("sofa", 0.5))


# -- by hand -------------------------------------------------------------------------------------


def test_ranks_by_hand():
    fusion = Fusion({"image": 1, "words": 0.5}, "rrf", rank_constant=10)
    parts = fusion.parts(PICTURE, WORDS, BOTH)
    ranked = by_ranks(fusion, parts, [{"a": 0.9, "b": 0.8, "c": 0.1}, {"c": 7.0, "a": 6.0}])
    expected = {"a": 1 / 11 + 0.5 / 12, "c": 1 / 13 + 0.5 / 11, "b": 1 / 12}
    assert [(key, score) for key, score, _ in ranked] == [
        (key, np.float32(score)) for key, score in expected.items()
    ]
    assert [(part.score, part.rank) for part in ranked[2][2]] == [(0.8, 2), (None, None)]


# -- Elasticsearch -------------------------------------------------------------------------------


def test_body_of_synsets():
    fused = query({"image": 2, "words": 0.5}, filters=parse_filters({"label": "pets"}))
    clauses = []
    for vector, boost in (({"tabby": 0.5, "lynx": 0.25}, 2.0), ({"sofa": 1.0}, 0.5)):
        sparse = {"field": "posterior", "query_vector": vector, "prune": False}
        clauses.append({"bool": {"must": [{"sparse_vector": sparse}], "boost": boost}})
    assert fused.to_elasticsearch() == {
        "query": {
            "bool": {
                "should": clauses,
                "filter": [{"terms": {"label": ["pets"]}}],
                "minimum_should_match": 1,
            }
        },
        "size": 30,
        "_source": {"excludes": list(NOT_FETCHED)},
    }


def test_body_with_deep_features():
    scored = query({"image": 1, "dense-cosine": 3}, words=()).to_elasticsearch()["query"]
    script = scored["script_score"]["script"]
    assert "cosineSimilarity(params.direction, 'embedding')" in script["source"]
    assert script["params"]["weights"] == [3.0]
    assert script["params"]["q"] == script["params"]["direction"] == [1.0, 0.0]
    selected = scored["script_score"]["query"]["bool"]["filter"][0]["bool"]["should"]
    assert selected == [
        {"exists": {"field": "embedding"}},
        {"terms": {"synsets": ["tabby", "lynx"]}},
    ]
    distance = query({"image": 1, "dense-chi2": 3}, words=()).to_elasticsearch()["query"]
    assert distance["script_score"]["query"]["bool"]["filter"] == [
        {"exists": {"field": "embedding"}}
    ]


def test_one_script_for_all_weights_and_pictures():
    sources = {
        replace(
            query({"image": w, "dense-dot": w}, words=()), embedding=FEATURE * w
        ).to_elasticsearch()["query"]["script_score"]["script"]["source"]
        for w in (1, 2, 3)
    }
    assert len(sources) == 1


def test_bodies_that_cannot_be_given():
    with pytest.raises(QueryError, match="reciprocal rank fusion has no body"):
        query({"image": 1, "words": 1}, "rrf").to_elasticsearch()
    with pytest.raises(QueryError, match="a part of the fusion weights by the collection"):
        query({"bm25": 1}).to_elasticsearch()
    known = Statistics(10, 1.0, {"tabby": 2})
    body = query({"bm25": 0.5}).to_elasticsearch(statistics=known)
    assert body["query"]["bool"]["should"][0]["script_score"]["boost"] == 0.5


def answer(scores: list[float], total: int) -> dict:
    """A server's answer; the documents' own score of "tabby" is the server's."""
    hits = []
    for i, score in enumerate(scores):
        synset = {"tabby": {"score": score}}
        source = {**SOURCE, "id": f"{i:032x}", "synsets": ["tabby"], "synset": synset}
        del source["checksum"]  # which is not that of these terms
        hits.append({"_id": source["id"], "_score": score, "_source": source})
    return {"took": 1, "hits": {"total": {"value": total, "relation": "eq"}, "hits": hits}}


@pytest.mark.parametrize(
    ("scores", "total", "proven"),
    [
        ([0.9, 0.8, 0.5], 100, True),  # nothing outside scores more than 0.5 (1 + 2^-8)
        ([0.9, 0.501, 0.5], 100, False),  # but it may score more than 0.501
        ([0.9, 0.501, 0.5], 3, True),  # unless there is nothing outside
    ],
)
def test_a_window_proves_the_best(scores, total, proven):
    fused = query({"image": 1}, pictures=(Term("tabby", 1.0),), words=(), k=2)
    found = read_fused(fused, NO_STATISTICS, answer(scores, total), 3)
    assert (found is not None) == proven
    if found is not None:
        assert found.exact
        assert [hit.score for hit in found.hits] == [np.float32(score) for score in scores[:2]]


def test_what_no_window_proves_is_not_called_exact():
    fused = query({"image": 1}, pictures=(Term("tabby", 1.0),), words=(), k=2)
    found = read_fused(fused, NO_STATISTICS, answer([0.5, 0.5, 0.5], 20_000), 10_000)
    assert found is not None
    assert not found.exact
    assert "equally near" in found.means


# -- an index ------------------------------------------------------------------------------------


def word(index, picture) -> str:
    return f"synset:{index.get(picture).terms[0].key}"


@pytest.mark.parametrize("method", ["sum", "rrf"])
def test_the_parts_add_up_to_the_score(index, cat, method):
    weights = {"image": 1, "words": 0.5, "bm25": 0.25, "dense-cosine": 2}
    hits = index.search(cat, word(index, cat), fuse=Fusion(weights, method))
    assert hits.strategy == method
    assert len(hits) == 10
    for i, hit in enumerate(hits):
        explanation = hits.explain(i)
        assert explanation.total == hit.score
        assert [row.key for row in explanation.rows] == list(weights)
        assert to_score(math.fsum(row.product for row in explanation.rows)) == hit.score
        assert list(explanation.part_rows) == ["image", "words", "bm25"]
        for part in hit.parts[:3]:
            rows = explanation.part_rows[part.name]
            assert to_score(math.fsum(row.product for row in rows)) == pytest.approx(
                part.score or 0.0, rel=1e-6
            )


def test_an_explanation_in_words_and_as_json(index, cat):
    hits = index.search(cat, fuse=Fusion({"sqrt": 1, "dense-cosine": 2}, "rrf"))
    lines = str(hits.explain(0)).splitlines()
    assert lines[1].split() == ["sqrt", "1", "x", "0.01639", "(rank", "1)", "=", "0.01639"]
    assert lines[2].startswith("    ")  # a synset of the part
    assert lines[-1].split()[0] == "dense-cosine"
    shown = json.loads(json.dumps(hits.explain(0).to_dict()))
    assert [part["part"] for part in shown["parts"]] == ["sqrt", "dense-cosine"]
    assert shown["parts"][0]["rank"] == 1
    assert shown["parts"][0]["summands"]
    assert json.loads(json.dumps(hits.to_dict()))["hits"][0]["parts"][1]["weight"] == 2


def test_the_gallery_shows_the_parts(index, cat):
    hits = index.search(cat, fuse={"image": 1, "dense-euclidean": 0.5})
    page = gallery_html(hits, standalone=True)
    best = hits[0]
    assert f'title="dense-euclidean: weight 0.500, score {best.parts[1].score:g}' in page
    assert f"= image {best.parts[0].contribution:.4g} + dense-euclidean" in page
    assert page.count('class="ig-part"') == 2 * len(hits)
    assert 'class="ig-part"' not in gallery_html(index.search(cat)).partition("</style>")[2]


@pytest.mark.parametrize("method", ["sum", "rrf"])
def test_bars(index, cat, method):
    hits = index.search(cat, fuse=Fusion({"image": 2, "dense-cosine": 1}, method))
    (axes,) = hits.explain(0).plot().axes
    names = [label.get_text().strip() for label in axes.get_yticklabels()]
    assert (names[0], names[-1]) == ("image", "dense-cosine")
    assert len(names) == (2 + 6 if method == "sum" else 2)
    assert [axes.patches[i].get_width() for i in (0, -1)] == pytest.approx(
        [part.contribution for part in hits[0].parts]
    )


def test_liked_pictures_are_parts_too(index, cat, photos):
    dog = photos / "dogs" / "dog.0.png"
    liked = index.query(like=[cat], dislike=[dog], fuse={"image": 1, "dense-cosine": 1})
    same = index.query(like=[cat], dislike=[dog])
    assert liked.parts[0].terms == same.terms
    moved = index.query(like=[cat], dislike=[dog], strategy="dense-cosine").embedding
    assert np.array_equal(liked.embedding, moved)
    hits = index.search(cat, fuse={"sqrt": 1, "dense-cosine": 1})
    assert {hit.id for hit in hits.rerank()} == {hit.id for hit in hits}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda index, cat, fuse: index.search(cat, fuse=fuse).refine(like=0), "several vectors"),
        (lambda index, cat, fuse: index.search(cat, fuse=fuse, feedback=2), "several"),
        (lambda index, cat, fuse: index.remove(query=index.query(cat, fuse=fuse)), "fused query"),
        (lambda index, cat, fuse: index.search_many([{"image": cat, "fuse": {}}]), "query 0"),
    ],
)
def test_what_a_fusion_cannot_do(index, cat, call, message):
    with pytest.raises(QueryError, match=message):
        call(index, cat, {"image": 1, "dense-cosine": 1})
    assert index.count() == 12
