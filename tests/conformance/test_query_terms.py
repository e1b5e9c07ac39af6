"""What a query picture asks with: its best classes, alike on both stores and in NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import AnalyzerMismatchError
from imgsearch_es.retrieval.feedback import ROCCHIO, mean_terms
from imgsearch_es.stores.base import known_settings
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.conftest import ranking
from tests.conformance.reference import Reference
from tests.fakes import register

WIDE = imagenet().with_hypernyms()
ANALYZERS = {
    "plain": {"model": "fake", "terms": 30, "query_terms": 4},
    "hypernyms": {
        "model": "fake",
        "term_filters": [{"name": "top_k", "k": 30}, {"name": "hypernyms"}],
        "query_terms": 4,
    },
}


@pytest.fixture(scope="module", params=ANALYZERS)
def index(request, place, stage) -> Iterator[ImageIndex]:
    with (
        pytest.MonkeyPatch.context() as patch,
        ImageIndex(place(), analyzer=ANALYZERS[request.param]) as made,
    ):
        register(patch)
        made.add(stage / "photos")
        settings = known_settings(made.store)
        weights = np.random.default_rng(5).normal(size=settings.embedding_dimensions)
        word = TaughtWord(
            "thing", "thing", len(settings.vocabulary), (9 * weights).astype("f4"), -5.0, ()
        )
        made.store.change_taught(lambda now: now.with_taught([word]))
        made.store.apply_taught(word, lambda done, total: None)
        made.store.finish()
        yield made


def asked(terms: tuple[Term, ...]) -> dict[str, float]:
    """The rule once more: the four best of the thousand classes, and all that is above these; and
    the taught word from a score of 0.1 on."""
    scores = np.zeros(1000)
    taught = {term.key for term in terms if term.key == "thing" and term.score >= 0.1}
    for term in terms:
        if term.key != "thing" and (index := WIDE[term.key].class_index) is not None:
            scores[index] = term.score
    best = [WIDE.keys[i] for i in np.argsort(-scores, kind="stable")[:4] if scores[i]]
    above = {synset.key for key in best for synset in WIDE.hypernyms(key)}
    return {term.key: term.score for term in terms if term.key in above | set(best) | taught}


def as_terms(weights: dict[str, float]) -> tuple[Term, ...]:
    return tuple(Term(key, score) for key, score in weights.items())


def test_every_picture_of_a_query_asks_with_its_best_classes(index: ImageIndex, photos: Path):
    names = [photos / "cats" / f"cat.{i}.png" for i in range(4)]
    documents = list(index.store.documents())
    reference = Reference(documents, index.vocabulary.keys)
    mine = [as_terms(asked(index.get(name).terms)) for name in names]
    assert all(len(index.get(name).terms) >= 30 for name in names)
    one, region = Image.open(names[0]), (5, 5, 25, 15)
    part = as_terms(asked(index.analyze(one.convert("RGB").crop(region)).terms))
    views = [one.convert("RGB"), one.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    seen = mean_terms([index.analyze(view).terms for view in views])
    wanted = {
        "of the index": ({"image": names[0]}, mean_terms(mine[:1])),
        "in memory": ({"image": one}, mean_terms(mine[:1])),
        "a document": ({"image": index.get(names[0])}, mean_terms(mine[:1])),
        "several": ({"image": names[:3]}, mean_terms(mine[:3])),
        "region": ({"image": names[0], "region": region}, mean_terms([part])),
        "views": ({"image": names[0], "views": "mirror"}, mean_terms([as_terms(asked(seen))])),
        "judged": (
            {"image": names[0], "like": names[1:3], "dislike": names[3]},
            ROCCHIO.terms(mean_terms(mine[:1]), mine[1:3], mine[3:]),
        ),
    }
    for what, (request, terms) in wanted.items():
        hits = index.search(**request, k=5)
        assert hits.query.terms == terms, what
        assert ranking(hits) == reference.rank(hits.query)[0], what
        assert hits[0].synsets == index.get(hits[0].id).terms, "explained with all its terms"


def test_feedback_takes_the_best_classes_of_hits(index: ImageIndex, photos: Path):
    cat = photos / "cats" / "cat.0.png"
    reference = Reference(index.store.documents(), index.vocabulary.keys)
    first = index.search(image=cat, k=3)
    liked = [as_terms(asked(hit.synsets)) for hit in first]
    expected = ROCCHIO.terms(first.query.terms, liked)
    fed, refined = index.search(image=cat, k=3, feedback=3), first.refine(like=[0, 1, 2])
    for hits in (fed, refined):
        assert hits.query.terms == expected
        assert ranking(hits) == reference.rank(hits.query)[0]
    like = index.more_like(cat, k=3)
    assert {term.key: term.score for term in like.query.terms} == asked(index.get(cat).terms)
    assert len(index.query(text="tabby lynx beagle collie pug").terms) == 5, "words are not cut"


def test_a_taught_word_asks_where_a_picture_has_it_well(index: ImageIndex):
    documents = list(index.store.documents())
    reference = Reference(documents, index.vocabulary.keys)
    found = set()
    for document in documents:
        score = {term.key: term.score for term in document.terms}.get("thing", 0.0)
        query = index.query(image=document)
        assert {term.key: term.score for term in query.terms} == asked(document.terms)
        assert ("thing" in {term.key for term in query.terms}) == (score >= 0.1)
        assert ranking(index.store.search(query)) == reference.rank(query)[0]
        found.add((score > 0, score >= 0.1))
    assert {(True, False), (True, True)} <= found


def test_an_index_of_ten_terms_means_what_it_meant(place, fake_model, photos):
    """Its configuration, which older versions wrote, does not name query_terms."""
    old, cat = place(), photos / "cats" / "cat.0.png"
    with ImageIndex(
        old, analyzer={"model": "fake", "term_filters": [{"name": "top_k", "k": 10}]}
    ) as made:
        made.add(photos / "cats")
        assert "query_terms" not in made.stats()["analyzer"]
    for same in ({}, {"model": "fake"}, {"terms": 10}, {"model": "fake", "query_terms": 10}):
        with ImageIndex(old, **same) as index:
            index.add(photos / "dogs")
            assert len(index.query(image=cat).terms) == len(index.get(cat).terms) == 10
            assert index.verify(sample=2).is_whole
    for other in ({"terms": 50}, {"query_terms": 5}):
        with ImageIndex(old, **other) as index, pytest.raises(AnalyzerMismatchError) as caught:
            index.search(image=cat)
        assert "top_k(k=10)" in str(caught.value)
    with ImageIndex(old) as index:
        assert index.reindex(terms=20, query_terms=5).analyzed == 12
        assert len(index.get(cat).terms) == 20
        report = index.reindex(query_terms=7)
        assert (report.analyzed, report.copied) == (0, 12), "no picture is read again"
        assert len(index.query(image=cat).terms) == 7
        assert index.verify().is_whole
