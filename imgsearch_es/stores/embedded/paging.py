"""All hits of a query on the file, page by page, while others write.

The ranking is computed once, and kept in memory as ids and scores (about 100 bytes a hit); the
documents of a page are read when it is asked for. Between pages the file is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from imgsearch_es.retrieval.documents import to_score
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.embedded import ranking
from imgsearch_es.stores.embedded.dense import all_scores


def ranked(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> tuple[Sequence[str], Sequence[float]]:
    """Ids and scores of all documents that a query (weighted already) matches.

    Best first, ties by id; none below the query's threshold.
    """
    documents: NDArray[np.integer[Any]]
    if query.is_dense:
        documents, scores = all_scores(connection, query, term_numbers)
        if query.threshold is not None:
            above = scores >= np.float32(to_score(query.threshold))
            documents, scores = documents[above], scores[above]
    else:
        documents, scores = ranking.all_scores(connection, query, term_numbers, statistics)
        documents, scores = documents[scores > 0], scores[scores > 0]
    connection.register("found", {"document": documents, "score": scores})
    ordered = connection.execute(
        "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
    ).fetchnumpy()
    connection.unregister("found")
    return ordered["id"].tolist(), ordered["score"].tolist()
