"""Chance: which limit a query has, when it is looked up, and how hits show it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from imgsearch_es import background
from imgsearch_es.analysis import Term
from imgsearch_es.background import Background, Chance, refresh
from imgsearch_es.cli import app
from imgsearch_es.errors import IndexLockedError
from imgsearch_es.feedback import Rocchio
from imgsearch_es.queries import Query
from imgsearch_es.scoring import FORMULAS, Context, Statistics

KNOWN = Background(
    documents=10,
    heaviest=0.5,
    pictures={name: {"0.99": 0.125} for name in (*FORMULAS, "dense-chi2")},
    words={name: {"0.99": 0.25} for name in FORMULAS},
)
PICTURE = Query((Term("tabby", 0.25), Term("lynx", 0.125)), pictures=("/cat.jpg",))
WORDS = Query((Term("tabby", 1.0), Term("lynx", 1.0)), text="tabby lynx")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (PICTURE, 0.125),
        (replace(PICTURE, terms=(Term("tabby", 1.0),)), 0.25),  # twice the heaviest picture
        (replace(PICTURE, terms=(Term("tabby", 2.0),), strategy="sqrt"), 0.25),
        (replace(PICTURE, terms=(Term("tabby", 2.0),), strategy="cosine"), 0.125),
        (replace(PICTURE, text="label:pets"), 0.125),  # no words, a condition
        (WORDS, 0.25),
        (replace(WORDS, pictures=("/cat.jpg",)), 0.25),
        (replace(WORDS, terms=(Term("tabby", 4.0),)), 1.0),
        (replace(WORDS, terms=(Term("tabby", 4.0),), strategy="bm25"), 1.0),
        (replace(WORDS, terms=(Term("tabby", 4.0),), strategy="sqrt"), 0.5),
        (replace(WORDS, terms=(Term("tabby", 4.0), Term("lynx", 3.0)), strategy="cosine"), 0.2),
        (replace(WORDS, strategy="bm25", parameters={"k1": 1.2}), 0.25),
        (replace(WORDS, strategy="bm25", parameters={"k1": 1.0}), None),
        (Query((), strategy="dense-chi2", embedding=np.ones(3, np.float32)), 0.125),
        (Query((), strategy="dense-dot", embedding=np.ones(3, np.float32)), None),
    ],
)
def test_the_limit_of_a_query(query, expected):
    found = KNOWN.chance_score(query)
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=lambda formula: formula.name)
def test_scores_grow_with_weights_as_limits_do(formula):
    """The powers by which limits are multiplied, against the formulas themselves."""
    known = Statistics(100, 0.8, {"tabby": 3})
    context = Context(0.9, 0.7, 0.8, formula.parameters)
    score = [
        formula.summand(formula.query_weights((Term("tabby", w),), known)[0].score, 0.5, context)
        for w in (1.0, 16.0)
    ]
    assert score[1] == pytest.approx(score[0] * 16 ** background._SCALES[formula.name], rel=1e-6)


def test_it_is_looked_up_when_asked_for(index, photos, monkeypatch):
    asked = []
    monkeypatch.setattr(background, "background_of", lambda store: asked.append(store) or KNOWN)
    hits = index.search(photos / "cats" / "cat.0.png")
    assert (len(hits), asked) == (10, [])
    limit = hits.chance_score
    assert [hit.is_chance for hit in hits] == [hit.score < limit for hit in hits]
    assert asked == [index.store]
    assert repr(hits).count("(chance)") == sum(hit.is_chance for hit in hits)
    answer = hits.to_dict()
    assert answer["chance_score"] == limit
    assert [hit["is_chance"] for hit in answer["hits"]] == [hit.is_chance for hit in hits]


def test_hits_can_be_shown_when_the_index_is_gone(index, photos):
    hits = index.search(photos / "cats" / "cat.0.png")
    index.close()
    Path(index.location).unlink()
    background._cache.clear()
    assert hits.chance_score is None
    assert Chance(hits.query, None).score is None
    assert "10 of 12" in repr(hits)


def test_indexing_keeps_it(index, photos):
    assert index.store.read_note(background.NOTE) is not None
    index.store.write_note(background.NOTE, '{"documents": 1}')
    index.add(photos, labels="new")
    assert '"documents": 12' in index.store.read_note(background.NOTE)


def test_who_may_not_keep_it_can_index(index, monkeypatch):
    def refused(name: str, text: str) -> None:
        raise IndexLockedError("in use")

    monkeypatch.setattr(index.store, "write_note", refused)
    refresh(index.store, 12)
    assert background.background_of(index.store).documents == 12


def test_a_query_of_rocchio_is_as_heavy_as_a_picture(index, photos):
    cat, dog = photos / "cats" / "cat.0.png", photos / "dogs" / "dog.0.png"
    plain, moved = index.query(cat), index.query(cat, like=dog, rocchio=Rocchio(2, 3, 0))
    length = max(document.length for document in index.store.sample(12))
    known = replace(KNOWN, heaviest=length)
    assert known.chance_score(plain) == 0.125
    total = sum(term.score for term in moved.terms)
    assert known.chance_score(moved) == pytest.approx(0.125 * total / length)


def test_the_command_line_marks_and_says_why(index, photos, monkeypatch):
    limit = index.search(photos / "cats" / "cat.0.png")[4].score
    known = replace(KNOWN, heaviest=1.0, pictures={"inner": {"0.99": limit}})
    monkeypatch.setattr(background, "background_of", lambda store: known)
    options = ["--image", str(photos / "cats" / "cat.0.png"), "-i", index.location]
    out = CliRunner().invoke(app, ["search", *options]).stdout
    assert len(re.findall(r"\d\? ", out)) == 5
    assert "? may be chance: unrelated pictures of this index, too, score up to" in out
    out = CliRunner().invoke(app, ["search", *options, "--all"]).stdout
    assert [("?" in line) for line in out.splitlines()] == [False] * 5 + [True] * 7
