"""docs/scoring.md: its example is right."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.retrieval.scoring import FORMULAS, Context, Statistics

PAGE = Path(__file__).resolve().parents[2] / "docs" / "scoring.md"
KEYS = ("tabby", "tiger_cat")


def score(name: str, query: tuple[float, ...], document: tuple[float, ...]) -> float:
    formula = FORMULAS[name]
    terms = tuple(Term(key, weight) for key, weight in zip(KEYS, query, strict=True))
    scores = dict(zip(KEYS, document, strict=True))
    context = Context(math.fsum(document), math.hypot(*document), 1.0, {})
    weighted = formula.query_weights(terms, Statistics(2, 1.0, {}))
    return math.fsum(formula.summand(term.score, scores[term.key], context) for term in weighted)


def test_the_example():
    text = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \*([qd])\* \| (.+) \|$", text, re.MULTILINE))
    numbers = {name: tuple(map(float, row.split(" | "))) for name, row in rows.items()}
    query = numbers["q"][:2]
    for first, second, length, product, cosine in numbers.values():
        document = (first, second)
        assert math.hypot(*document) == pytest.approx(length, abs=5e-4)
        assert score("inner", query, document) == pytest.approx(product, abs=5e-4)
        assert score("cosine", query, document) == pytest.approx(cosine, abs=5e-4)
    assert numbers["d"][3] > numbers["q"][3]
    assert numbers["d"][2] > numbers["q"][2]  # as Cauchy and Schwarz demand
    assert numbers["d"][4] < numbers["q"][4] == 1
    assert f"*d* scores {numbers['d'][3]:.3f}" in text
    assert f"*q* itself with {numbers['q'][3]:.3f}" in text
