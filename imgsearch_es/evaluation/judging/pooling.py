"""Pooling: what the first ranks of several systems hold is judged, in an order that tells nothing.

A person who sees which system found a picture, or how high it ranked, judges it with that in mind.
So the pool of a query has each document once, in an order that follows from the seed and the
document's name alone: neither rank nor system shows. (Sparck Jones and van Rijsbergen, "Report on
the need for and provision of an 'ideal' information retrieval test collection", 1975; so TREC makes
its judgements.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.runs import Run

Pool = Mapping[str, Sequence[str]]
"""The documents to judge for each query, in the order in which they are shown."""


def pool_runs(
    runs: Iterable[Run],
    depth: int,
    *,
    queries: Sequence[str],
    junk: Mapping[str, frozenset[str]] | None = None,
    seed: int = 0,
    name: Callable[[str], str] = str,
) -> dict[str, tuple[str, ...]]:
    """The first documents of all runs, for each query; ``name`` is the same on other machines.

    The order of two documents does not depend on which others there are, so a pool that grows (a
    further system, a greater depth) keeps the order that it had.

    Raises:
        EvaluationError: the depth is below 1.
    """
    if depth < 1:
        raise EvaluationError(f"a pool is at least 1 deep, not {depth}")
    given = list(runs)
    left_out = junk or {}

    def place(query: str, document: str) -> bytes:
        return hashlib.sha256(repr((seed, query, name(document))).encode()).digest()

    pool: dict[str, tuple[str, ...]] = {}
    for query in queries:
        without = left_out.get(query, frozenset())
        found: set[str] = set()
        for run in given:
            found.update([d for d in run.documents(query) if d not in without][:depth])
        pool[query] = tuple(sorted(found, key=lambda document: place(query, document)))
    return pool
