"""What every store does to queries first: their lengths are checked, their terms weighted."""

from __future__ import annotations

from collections.abc import Sequence

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.queries import Query, needs_statistics, with_weights
from imgsearch_es.retrieval.scoring import NO_STATISTICS, Statistics
from imgsearch_es.stores.base import IndexSettings, Store


def check_dimensions(settings: IndexSettings, query: Query) -> None:
    """A query's deep feature must be as long as the stored ones.

    Raises:
        QueryError: it is not.
    """
    given = 0 if query.embedding is None else len(query.embedding)
    if given != settings.embedding_dimensions:
        raise QueryError(
            f"the index's deep features have {settings.embedding_dimensions} dimensions, the "
            f"query's has {given}"
        )


def weighted_all(store: Store, queries: Sequence[Query]) -> list[tuple[Query, Statistics]]:
    """Each query with its synsets weighted by its strategy's formula, and what that was based on.

    The store is asked once; dense queries stay as they are.
    """
    needing = [query for query in queries if needs_statistics(query)]
    keys = dict.fromkeys(term.key for query in needing for term in query.terms)
    known = store.statistics(list(keys)) if needing else NO_STATISTICS
    return [_weighted(query, known) for query in queries]


def _weighted(query: Query, known: Statistics) -> tuple[Query, Statistics]:
    statistics = known if needs_statistics(query) else NO_STATISTICS
    return with_weights(query, statistics), statistics
