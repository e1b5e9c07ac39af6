"""Impacts: what formulas make of a document's scores, in inverted indexes of their own.

An index made with ``impacts=["cosine"]`` has a field for each formula that is no inner product of
the stored scores. The best by it come first, as by ``posterior`` for formula (1), and are proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import FORMULAS, Context

IMPACTS = "impacts"
"""The object of the fields."""
OFFERED = tuple(name for name, formula in FORMULAS.items() if not formula.is_linear)
"""The formulas that an index may have impacts of."""
NONE = "none"
_LEAST = 2.0**-126
"""The smallest weight that Elasticsearch takes; a larger one than the true one is a bound, too."""


def wanted_impacts(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The formulas that a person's option names; None where it says nothing."""
    if names is None:
        return None
    given = names.split(",") if isinstance(names, str) else list(names)
    asked = {name.strip() for name in given} - {NONE, ""}
    for name in sorted(asked - {*OFFERED}):
        raise ConfigurationError(
            f"impacts={name!r} names none of the formulas with impacts: "
            f"{', '.join(OFFERED)}, or {NONE}"
        )
    return tuple(name for name in OFFERED if name in asked)


def impacts_in(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The formulas of a mapping's properties, as the server gives them back."""
    return tuple(
        name for name in OFFERED if name in properties.get(IMPACTS, {}).get("properties", ())
    )


def field_of(query: Query) -> str:
    """The inverted index by which a query's formula ranks."""
    formula = query.formula
    return "posterior" if formula.is_linear else f"{IMPACTS}.{formula.name}"


def impacts_of(document: Document, formulas: Sequence[str]) -> dict[str, dict[str, float]]:
    """What is indexed of a document: weights by synsets, for each formula.

    Of colors whose synsets were lost they may be infinite; such a document is never written.
    """
    scores = np.array([term.score for term in document.postings])
    context = Context(document.length, document.norm, 1.0, {})
    found = {}
    for name in formulas:
        with np.errstate(divide="ignore"):
            impact = FORMULAS[name].impact(scores, context)
        weights = np.maximum(impact, _LEAST).astype(np.float32)
        keys = (term.key for term in document.postings)
        found[name] = dict(zip(keys, weights.tolist(), strict=True))
    return found
