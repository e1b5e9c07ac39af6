"""Other engines rank our exports as we do: PISA by the terms, BMP by the inverted index (CIFF)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import bmp
import numpy as np
import pandas as pd
import pytest
from pyterrier_pisa import PisaIndex

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.indexing.exchange.documents import export_documents
from imgsearch_es.indexing.exchange.formats import LEVELS
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from tests.conformance.collections import posteriors
from tests.conformance.conftest import Case, case_of, ranking

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
QUERIES = 25
BMP_LEVELS = 32
"""BMP makes the largest weight of a query 32, and the others whole numbers: so they are here."""
BMP_MORE = 20
"""BMP 0.2.8 may leave out the last of the hits that it is asked for, so it is asked for more."""


def make_documents() -> list[Document]:
    return posteriors(600, seed=20)


def quantized(documents: Sequence[Document], levels: int = LEVELS) -> list[Document]:
    """With the whole numbers that `imgsearch export pets.ciff` writes for their scores."""
    steps = levels / max(term.score for one in documents for term in one.terms)
    found = []
    for one in documents:
        weights = {t.key: max(1.0, float(np.rint(t.score * steps))) for t in one.terms}
        ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
        found.append(replace(one, terms=tuple(Term(key, weight) for key, weight in ranked)))
    return found


Engine = Callable[[Mapping[str, float]], dict[str, float]]


@pytest.fixture(scope="module")
def pisa(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """PISA, whose own quantizing takes the terms of the documents as they are."""
    index = PisaIndex(str(tmp_path_factory.mktemp("pisa") / "index"), stemmer="none")
    toks = (
        {"docno": one.id, "toks": {t.key.lower(): t.score for t in one.terms}}
        for one in quantized(make_documents())
    )
    index.toks_indexer(scale=1).index(toks)
    retrieve = index.quantized(num_results=10, toks_scale=1)

    def ask(weights: Mapping[str, float]) -> dict[str, float]:
        found = retrieve(pd.DataFrame({"qid": ["1"], "query_toks": [dict(weights)]}))
        return dict(zip(found.docno, found.score, strict=True))

    return ask


def block_max_pruning(case: Case, folder: Path) -> Engine:
    """BMP, of the inverted index that a store exports."""
    rounding = export_documents(case.store, folder / "all.ciff").rounding
    assert rounding is not None
    bmp.ciff2bmp(str(folder / "all.ciff"), str(folder / "all.bmp"), 32, False)
    searcher = bmp.Searcher(str(folder / "all.bmp"))

    def ask(weights: Mapping[str, float]) -> dict[str, float]:
        found = searcher.search(dict(weights), k=BMP_MORE, alpha=1.0, beta=1.0)
        return dict(list(zip(*found, strict=True))[:10])

    return ask


def test_the_ten_best_are_those_of_numpy_pisa_and_bmp(case, place, pisa, tmp_path):
    bmp_of_export = block_max_pruning(case, tmp_path)
    documents = quantized(case.documents)
    asked = (quantized([one], BMP_LEVELS)[0] for one in case.documents[:QUERIES])
    queries = [Query(terms=one.terms, k=10) for one in asked]
    with case_of(place(), documents) as whole:
        whole.check(*queries)  # NumPy's ranking, to the last bit
        compared = 0
        for query in queries:
            found = whole.store.search(query)
            ours = {key: score for score, key in ranking(found)}
            if found.total <= BMP_MORE:
                continue
            compared += 1
            weights = {term.key.lower(): term.score for term in query.terms}
            for name, ask in (("PISA", pisa), ("BMP", bmp_of_export)):
                theirs = ask(weights)
                assert list(theirs.values()) == pytest.approx(list(ours.values()), rel=1e-6), name
                least = min(ours.values())  # of equal last ones each may name another
                assert {k for k, s in theirs.items() if s > least * (1 + 1e-6)} == {
                    k for k, s in ours.items() if s > least
                }, name
        assert compared > QUERIES / 2
