"""Hits and explanations."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import ConfigurationError, QueryError
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Summand
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Scored, SearchResult
from tests.unit.test_documents import DOCUMENT

QUERY = Query((Term("tabby", 0.5), Term("lynx", 0.25)), text="tabby", offset=4, hints=("a hint",))
FIRST = replace(DOCUMENT, id="1" * 32, terms=(Term("tabby", 0.75), Term("lynx", 0.125)))
SECOND = replace(
    DOCUMENT, id="2" * 32, uri="s3://b/c.jpg", filename="c.jpg", terms=(Term("lynx", 0.5),)
)


def result(*scored: Scored, terms: tuple[Term, ...] = QUERY.terms) -> SearchResult:
    return SearchResult(
        hits=scored,
        total=7,
        total_is_exact=True,
        terms=terms,
        average_length=0.0,
        strategy="postings",
        exact=True,
        means="all were added up",
        took_ms=1.23456,
    )


HITS = Hits(QUERY, result(Scored(FIRST, 0.40625), Scored(SECOND, 0.125)))


def test_a_sequence():
    assert len(HITS) == 2
    assert [hit.rank for hit in HITS] == [5, 6]  # the offset counts
    assert HITS[-1] is HITS[1]
    assert list(HITS[:1]) == [HITS[0]]
    assert HITS.uris == ["/photos/cat.jpg", "s3://b/c.jpg"]
    assert HITS.hints == ("a hint",)
    assert [hit.path for hit in HITS] == [Path("/photos/cat.jpg"), None]


def test_json():
    own = {"labels": ["cat", "indoor"], "metadata": {"camera": "X100", "iso": 200}}
    assert json.loads(json.dumps(HITS.to_dict())) == {
        "query": "words: tabby",
        "hints": ["a hint"],
        "left_out": [],
        "total": 7,
        "ranked": 7,
        "total_is_exact": True,
        "strategy": "postings",
        "exact": True,
        "took_ms": 1.235,
        "hits": [
            {
                "rank": 5,
                "id": "1" * 32,
                "uri": "/photos/cat.jpg",
                "score": 0.40625,
                "synsets": [{"synset": "tabby", "score": 0.75}, {"synset": "lynx", "score": 0.125}],
                **own,
            },
            {
                "rank": 6,
                "id": "2" * 32,
                "uri": "s3://b/c.jpg",
                "score": 0.125,
                "synsets": [{"synset": "lynx", "score": 0.5}],
                **own,
            },
        ],
    }


def test_text():
    assert repr(HITS) == (
        "2 of 7 for words: tabby\n   5   0.406  /photos/cat.jpg\n   6   0.125  s3://b/c.jpg"
    )
    assert repr(Hits(QUERY, result())) == "0 of 7 for words: tabby"


def test_explanation():
    explanation = HITS.explain(0)
    assert explanation.rows == (
        Summand("tabby", 0.5, 0.75, 0.375),
        Summand("lynx", 0.25, 0.125, 0.03125),
    )
    assert explanation.total == explanation.hit.score == 0.40625
    assert str(explanation) == (
        "cat.jpg  score 0.40625\n  tabby  0.5 x 0.75 = 0.375\n  lynx   0.25 x 0.125 = 0.03125"
    )
    assert explanation.to_dict() == {
        "id": "1" * 32,
        "uri": "/photos/cat.jpg",
        "score": 0.40625,
        "summands": [
            {"key": "tabby", "query_weight": 0.5, "document_score": 0.75, "product": 0.375},
            {"key": "lynx", "query_weight": 0.25, "document_score": 0.125, "product": 0.03125},
        ],
    }


def test_summands_are_the_largest_first():
    hits = Hits(
        QUERY, result(Scored(replace(FIRST, terms=(Term("tabby", 0.1), Term("lynx", 0.9))), 0.275))
    )
    assert [row.key for row in hits.explain(0).rows] == ["lynx", "tabby"]


@pytest.mark.parametrize("i", [2, -3, 100])
def test_there_is_no_such_hit(i):
    with pytest.raises(QueryError, match=f"no hit {i}: they are 0 to 1"):
        HITS.explain(i)


def test_a_page_takes_the_place_of_pages_only(tmp_path):
    photo, page = tmp_path / "cat.jpg", tmp_path / "page.html"
    photo.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ConfigurationError, match=r"cat.jpg: it is there already and no HTML page"):
        HITS.to_html(photo)
    assert photo.read_bytes() == b"\xff\xd8\xff"
    page.touch()
    assert HITS.to_html(HITS.to_html(page)) == page
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert "cat.jpg" in page.read_text(encoding="utf-8")
    assert "cat.jpg" in HITS._repr_html_()


def test_a_figure_of_distances(index, cat):
    hits = index.search(image=cat, strategy="dense-cosine", k=8)
    assert hits.distances == pytest.approx([1 - hit.score for hit in hits], abs=1e-6)
    title, *titles = [axes.get_title() for axes in hits.plot(columns=4, distances=True).axes]
    assert title == "query"
    assert [float(text) for text in titles] == pytest.approx(hits.distances, rel=0.01, abs=1e-3)


def test_facets_count_all_that_matches(index, cat):
    hits = index.search(cat, k=2)
    assert len(hits) < hits.total
    assert hits.facets() == index.facets(hits.query)
    assert hits.facets(["format"]) == {"format": [{"value": "PNG", "count": hits.total}]}
    with pytest.raises(QueryError, match="no facet of 'uri'"):
        hits.facets(["uri"])
    with pytest.raises(QueryError, match="leave out min_score"):
        index.search(cat, strategy="dense-cosine", min_score=0.5).facets()


def test_galleries_have_facets_where_they_can_be_counted(index, cat, tmp_path):
    hits = index.search(cat, k=2)
    assert 'class="ig-facets"' in hits._repr_html_()
    page = hits.to_html(tmp_path / "page.html", columns=2)
    assert 'class="ig-facets"' in page.read_text(encoding="utf-8")
    page = hits.to_html(page, facets=None)
    assert 'class="ig-facets"' not in page.read_text(encoding="utf-8")
    with_threshold = index.search(cat, strategy="dense-cosine", min_score=0.5)
    assert 'class="ig-facets"' not in with_threshold._repr_html_()


def test_a_gallery_outlives_its_index(index, cat, tmp_path):
    hits = index.search(cat, k=2)
    index.close()
    (tmp_path / "pets.duckdb").unlink()
    assert 'class="ig-facets"' not in hits._repr_html_()


def test_copies_know_their_index_and_pickles_do_not(index, cat):
    hits = index.search(image=cat, k=3)
    for copied in (copy.copy(hits), copy.deepcopy(hits)):
        assert copied.to_dict() == hits.to_dict()
        assert copied.refine(like=0).to_dict()["hits"] == hits.refine(like=0).to_dict()["hits"]
    copy.deepcopy(hits)[0].metadata["changed"] = True
    assert "changed" not in hits[0].metadata
    unpickled = pickle.loads(pickle.dumps(hits))  # noqa: S301
    assert unpickled.to_dict() == hits.to_dict()
    assert str(unpickled.explain(0)) == str(hits.explain(0))
    assert unpickled._repr_html_()
    with pytest.raises(QueryError, match="do not know their index"):
        unpickled.refine(like=0)
