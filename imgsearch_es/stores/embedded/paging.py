"""All hits of a query on the file, page by page, while others write.

The ranking is computed once, and kept in memory as ids and scores (about 100 bytes a hit); the
documents of a page are read when it is asked for. Between pages the file is free.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np

from imgsearch_es.documents import to_score
from imgsearch_es.queries import Query
from imgsearch_es.scoring import Statistics
from imgsearch_es.stores.embedded.dense import all_scores
from imgsearch_es.stores.embedded.ranking import EVERY_SCORE, ranking


def ranked(
    connection: duckdb.DuckDBPyConnection,
    query: Query,
    term_numbers: dict[str, int],
    statistics: Statistics,
) -> tuple[Sequence[str], Sequence[float]]:
    """Ids and scores of all documents that a query (weighted already) matches.

    Best first, ties by id; none below the query's threshold.
    """
    if query.is_dense:
        documents, scores = all_scores(connection, query, term_numbers)
        if query.threshold is not None:
            above = scores >= np.float32(to_score(query.threshold))
            documents, scores = documents[above], scores[above]
        found = {"document": documents, "score": scores}
    else:
        sql, parameters = ranking(EVERY_SCORE, query, term_numbers, statistics)
        found = connection.execute(sql, parameters).fetchnumpy()
    connection.register("found", {name: np.asarray(column) for name, column in found.items()})
    ordered = connection.execute(
        "SELECT id, score FROM found JOIN documents USING (document) ORDER BY score DESC, id"
    ).fetchnumpy()
    connection.unregister("found")
    return ordered["id"].tolist(), ordered["score"].tolist()
