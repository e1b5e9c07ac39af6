"""Colors are terms: both stores rank, select, count and keep them as NumPy does, beside synsets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from imgsearch_es import ImageIndex
from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.indexing.reindexing import Rebuild
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.search.hits import Hits
from imgsearch_es.vocabulary.colors import COLOR, COLORS
from imgsearch_es.vocabulary.synsets import imagenet
from tests.conformance.collections import posteriors
from tests.conformance.conftest import Case, answers, filled, ranking
from tests.conformance.reference import Reference
from tests.conformance.test_verify import IMPORTED

VOCABULARY = imagenet().with_colors()
OWN_SETTINGS = replace(IMPORTED, vocabulary=VOCABULARY)
LARGE = {"impacts": ["cosine", "sqrt", "bm25"]}
"""Of an index without a field for each synset."""
_NODE = {"marks": pytest.mark.node}
pytestmark = pytest.mark.parametrize(
    ("place", "options"),
    [
        pytest.param("embedded", {}, id="file"),
        pytest.param("elasticsearch", {}, **_NODE, id="full"),
        pytest.param("elasticsearch", {"layout": "lean"}, **_NODE, id="lean"),
        pytest.param("elasticsearch", LARGE, **_NODE, id="impacts"),
    ],
    indirect=True,
)


def make_documents() -> list[Document]:
    """Up to six colors each; a few have none."""
    random, made = np.random.default_rng(8), []
    for document in posteriors(320, seed=2):
        some = random.choice(len(COLORS), random.integers(0, 7), replace=False)
        shares = np.sort(random.dirichlet(np.ones(len(some)))).astype(np.float32)[::-1]
        colors = (
            Term(COLOR + COLORS[i], float(share)) for i, share in zip(some, shares, strict=True)
        )
        made.append(replace(document, colors=tuple(colors)))
    return made


@pytest.fixture(scope="module")
def options(request) -> dict[str, object]:
    return request.param


@pytest.fixture(scope="module")
def case(place, options) -> Iterator[Case]:
    documents = make_documents()
    settings = replace(OWN_SETTINGS, synset_fields=options is not LARGE)
    with filled(place(), documents, settings, **options) as store:
        yield Case(store, documents)


@pytest.fixture(scope="module")
def reference(case) -> Reference:
    return Reference(case.documents, VOCABULARY.keys)


def asked(line: str, case: Case, **options: object) -> Query:
    words = parse_words(line, VOCABULARY, trace=0.04 if case.store.settings().has_posteriors else 0)
    return Query(words.terms, filters=words.signs + words.filters, text=words.text, **options)


@pytest.mark.parametrize(
    "line",
    ["red", "black cat", "black^0.3 red dog", "+red -black dog", "red AND dog", "red OR dog",
     "color:orange orange bird", "dog -pink", "grey^20 dog"],
)  # fmt: skip
def test_colors_rank_as_numpy_ranks_and_are_explained(case, reference, line):
    for query in (asked(line, case, k=5, offset=7), asked(line, case, k=12)):
        (found,) = answers(case.store, [query])
        expected, total = reference.rank(query)
        assert ranking(found) == expected
        assert found.total == total
        assert found.exact
        hits = Hits(query, found)
        assert [hits.explain(i).total for i in range(len(hits))] == [hit.score for hit in hits]
    shown = {row.key for i in range(len(hits)) for row in hits.explain(i).rows}
    assert any(key.startswith(COLOR) for key in shown) == (line != "dog -pink")


@pytest.mark.parametrize("strategy", ["tfidf", "cosine", "sqrt", "bm25"])
def test_other_formulas_sum_colors_but_their_lengths_do_not(case, reference, strategy):
    if case.store.settings().synset_fields or strategy in ("cosine", "sqrt", "bm25"):
        several = [{}, {"k1": 9.0, "b": 0.1}, {"k1": 0.3, "b": 1.0}]
        for parameters in several if strategy == "bm25" else [{}]:
            if parameters and not case.store.settings().synset_fields:
                continue  # impacts prove too little, and there are no fields for a script
            query = asked("red^0.7 black OR dog", case, strategy=strategy, k=9)
            query = replace(query, parameters=parameters)
            expected = reference.score(query)
            hits = Hits(query, answers(case.store, [query])[0])
            best = sorted(expected.values(), reverse=True)[:9]
            assert [hit.score for hit in hits] == pytest.approx(best, rel=1e-6)
            assert all(hits.explain(i).total == hit.score for i, hit in enumerate(hits))


def test_a_query_of_synsets_knows_no_colors(case):
    """Rankings, lengths, frequencies and facets are those of an index without colors."""
    plain = [replace(document, colors=()) for document in case.documents]
    bare = Reference(plain, imagenet().keys)
    query = Query(plain[3].terms, k=320)
    (found,) = answers(case.store, [query])
    assert ranking(found) == bare.rank(query)[0]
    keys = [term.key for term in plain[3].terms]
    known, wanted = case.store.statistics(keys), bare.statistics(keys)
    assert (known.documents, known.frequencies) == (wanted.documents, wanted.frequencies)
    assert known.average_length == pytest.approx(wanted.average_length)
    counted = case.store.facets(Selection(), ["synsets", "top_synset"], 1000)
    assert not [row for rows in counted.values() for row in rows if COLOR in row["value"]]
    assert not [row for row in case.store.stats()["synsets"] if COLOR in row["synset"]]


def test_a_condition_looks_at_a_share(case):
    if not case.store.settings().synset_fields:
        return
    query = asked("score(red)>0.3 -score(color:black)>=0.2", case, k=320, sort="filename")
    found = {hit.document.id for hit in case.store.search(query).hits}
    shares = {d.id: {term.key: term.score for term in d.colors} for d in case.documents}
    assert found == {
        key
        for key, own in shares.items()
        if own.get("color:red", 0) > np.float32(0.3) and own.get("color:black", 0) < np.float32(0.2)
    }
    assert found


def test_colors_are_kept_verified_exported_and_rebuilt(case, place, tmp_path):
    location, file = place(), tmp_path / "x.jsonl"
    with ImageIndex(case.store.location) as index:
        report = index.verify()
        assert report.is_whole, report.harms[:5]
        index.export(file)
    with ImageIndex(location) as other:
        other.import_(file)
        settings = other.store.settings()
        Rebuild(other.store, other.store.beside(), settings, None).run((), keep=False)
        kept = {document.id: document for document in other.store.documents()}
    assert {d.id: (d.terms, d.colors) for d in case.documents} == {
        key: (d.terms, d.colors) for key, d in kept.items()
    }
    assert all(a.score >= b.score for d in kept.values() for a, b in pairwise(d.colors))
