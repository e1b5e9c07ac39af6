"""Time per query of many indexes: in rounds, so that a busy machine slows all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from imgsearch_es.errors import EmptyQueryError
from imgsearch_es.evaluation.benchmarking import percentiles, timed_search
from imgsearch_es.evaluation.systems import System
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.queries import Query

ROUNDS = 5
_HITS = 10
Times = tuple[float, float]
"""Median and 95th percentile, in milliseconds."""


def measure_times(
    indexes: Mapping[str, tuple[ImageIndex, Sequence[System]]],
    pictures: Sequence[str],
    progress: Callable[[int, int], None],
) -> dict[tuple[str, str], Times]:
    """Search for pictures in every index by its systems; what is timed is the store's search.

    A file stays open for a short while only, so each round takes some of the queries, and begins in
    each index with a search that is not timed.

    Args:
        indexes: with the systems to ask, by name.
        pictures: ids of pictures that all indexes have.
        progress: told of the rounds.

    Returns:
        The times by index and system; nothing without pictures.
    """
    times: dict[tuple[str, str], list[float]] = {}
    rounds = [some for start in range(ROUNDS) if (some := pictures[start::ROUNDS])]
    for done, some in enumerate(rounds, start=1):
        for name, (index, systems) in indexes.items():
            built = [(s, query) for p in some for s in systems if (query := _query(index, p, s))]
            for _, query in built[:1]:
                index.store.search(query)
            for system, query in built:
                taken, _ = timed_search(index.store, query)
                times.setdefault((name, system.name), []).append(taken)
        progress(done, len(rounds))
    return {key: percentiles(found) for key, found in times.items()}


def _query(index: ImageIndex, picture: str, system: System) -> Query | None:
    """None where the term filters left nothing of the picture."""
    try:
        return index.query(image=picture, k=_HITS, exclude_self=True, **system.options)
    except EmptyQueryError:
        return None
