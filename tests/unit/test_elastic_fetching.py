"""What people find a picture by in Kibana: kinds, words and typed metadata."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.stores.elastic.fetching import MADE, shown_by
from imgsearch_es.vocabulary.synsets import from_labels, imagenet
from tests.unit.test_documents import DOCUMENT

TERMS = (Term("tabby", 0.5), Term("pug", 0.3), Term("beagle", 0.2), Term("Siamese_cat", 0.01))
SHOWN = replace(DOCUMENT, terms=TERMS)


def test_kinds_are_what_it_shows_more_than_a_trace_of_and_what_is_above():
    kinds = shown_by(imagenet()).fields(SHOWN, lean=False)["kinds"]
    assert {"tabby", "cat", "domestic_cat", "feline", "pug", "beagle", "dog", "animal"} <= {*kinds}
    assert {"siamese_cat", "entity", "object", "whole"}.isdisjoint(kinds)
    assert len(kinds) == len(set(kinds))
    faint = replace(DOCUMENT, terms=(Term("pug", 0.2), Term("beagle", 0.2)))
    kinds = shown_by(imagenet()).fields(faint, lean=False)["kinds"]
    assert "dog" not in kinds  # 0.4, and 0.43 is a trace
    own = from_labels(["Oak leaf", "ash_leaf"])
    leaf = replace(DOCUMENT, terms=(Term("Oak_leaf", 0.9),))
    assert shown_by(own).fields(leaf, lean=False)["kinds"] == ["oak_leaf"]


def test_kinds_stay_when_a_word_is_taught_that_the_picture_lacks():
    """Only pictures that have the word are written again, then and when it is forgotten."""
    faint = replace(DOCUMENT, terms=(Term("tabby", 0.05), Term("Siamese_cat", 0.06)))
    taught = imagenet().with_taught([("tabby_taught", "tabby", ""), ("cat_taught", "cat", "")])
    kinds = shown_by(imagenet()).fields(faint, lean=False)["kinds"]
    assert {"tabby", "siamese_cat", "cat"} <= {*kinds}
    assert shown_by(taught).fields(faint, lean=False)["kinds"] == kinds
    own = replace(DOCUMENT, terms=(Term("tabby_taught", 0.05),))
    assert "tabby" in shown_by(taught).fields(own, lean=False)["kinds"]


def test_sums_of_hypernyms_do_not_count_twice():
    terms = (Term("dog", 0.4), Term("pug", 0.2), Term("beagle", 0.2))
    kinds = shown_by(imagenet().with_hypernyms()).fields(
        replace(DOCUMENT, terms=terms), lean=False
    )["kinds"]
    assert "dog" not in kinds


def test_words_are_names_and_hypernyms_each_once_and_none_that_says_nothing():
    words = shown_by(imagenet()).fields(SHOWN, lean=False)["words"].split(", ")
    assert words[:3] == ["tabby", "tabby cat", "domestic cat"]
    assert {"dog", "domestic dog", "Canis familiaris", "pug-dog", "Siamese"} <= {*words}
    assert {"entity", "object", "whole"}.isdisjoint(words)
    assert len(words) == len(set(words))
    assert shown_by(imagenet()).fields(SHOWN, lean=True).keys().isdisjoint(MADE)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"iso": 200, "f": "2.80"}, {"numbers": {"iso": [200], "f": [2.8]}}),
        ({"day": "2024-02-03"}, {"dates": {"day": ["2024-02-03T00:00:00"]}}),
        (
            {"by": "Ada", "n": [1, "x"]},
            {"texts": {"by": ["Ada"], "n": ["x"]}, "numbers": {"n": [1]}},
        ),
        ({"a": {"b": 1}, "a.b": 2}, {"numbers": {"a.b": [1, 2]}}),
        ({"": 1, ".": 2, "x.": 3, "a*": 4, " ": 5, "none": None, "empty": ""}, {}),
        ({"raw": True}, {"texts": {"raw": ["true"]}}),
        ({"huge": "1e999"}, {"texts": {"huge": ["1e999"]}}),
    ],
)
def test_metadata_by_type(metadata, expected):
    found = shown_by(imagenet()).fields(replace(DOCUMENT, metadata=metadata), lean=False)
    assert {name: value for name, value in found.items() if name not in MADE} == expected
