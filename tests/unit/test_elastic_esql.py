"""Queries as ES|QL; a real node ranks by it in tests/conformance/test_found_in_kibana.py."""

from __future__ import annotations

import numpy as np
import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import parse_filters
from imgsearch_es.retrieval.queries import Query


def test_what_esql_says():
    query = Query(
        (Term("tabby", 0.75), Term("jack-o'-lantern", 0.5)), k=3, offset=2, min_score=0.25,
        filters=parse_filters({"label": 'a "b"', "filename": {"wildcard": "p?*.JPG"}, "-width": 7}),
        exclude=("0" * 32,),
    )  # fmt: skip
    assert query.to_esql("pets").splitlines() == [
        "FROM pets",
        r'| WHERE QSTR("synsets:(\"tabby\" OR \"jack-o\'-lantern\")")'.replace(r"\'", "'"),
        r'| WHERE QSTR("label:(\"a \\\"b\\\"\")")',
        r'| WHERE QSTR("filename:/p..*\\.JPG/")',
        r'| WHERE NOT QSTR("_id:(\"00000000000000000000000000000000\")")',
        r'| WHERE NOT QSTR("width:(\"7\")")',
        "| EVAL score = COALESCE(0.75 * `synset.tabby.score`, 0.0)"
        " + COALESCE(0.5 * `synset.jack-o'-lantern.score`, 0.0)",
        "| WHERE score >= 0.25",
        "| SORT score DESC, id ASC",
        "| LIMIT 5",
        "| KEEP id, score, top_synset, top_score, label, filename, uri",
    ]


def test_esql_selects_pictures_by_colors():
    color = "color:red"
    text = Query((Term("tabby", 0.5), Term(color, 1.0))).to_esql("pets")
    assert r"(synsets:(\"tabby\") OR colors:(\"color:red\"))" in text
    alone = Query((Term(color, 1.0),)).to_esql("pets").splitlines()
    assert alone[1] == r'| WHERE QSTR("colors:(\"color:red\")")'


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (Query((), strategy="dense-cosine", embedding=np.ones(3, np.float32)), "strategies dense-"),
        (Query((Term("tabby", 1.0),), synset_fields=False), "fields of synsets"),
        (Query((Term("tabby", 1.0),), strategy="bm25"), "give its statistics"),
        (Query((), sort="metadata.year"), "sort by another field"),
    ],
)
def test_what_esql_cannot_say(query, sentence):
    with pytest.raises(QueryError, match=sentence):
        query.to_esql("pets")
