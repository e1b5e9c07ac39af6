"""Rankings of plain NumPy features, without an index: for experiments and for training.

rankings = rank_features(features)               # exact, all against all
found = same_group(rankings, groups)             # which of the ranked are of the query's group
nister_stewenius(features, groups).mean()        # UKBench's score, 4 at best

``comparison`` is one of ``imgsearch_es.retrieval.dense.COMPARISONS``; what does not fit is an
EvaluationError.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.measures import GROUP
from imgsearch_es.retrieval.dense import COMPARISONS


def rank_features(
    features: NDArray[np.float32],
    queries: NDArray[np.float32] | None = None,
    *,
    comparison: str = "dense-euclidean",
    depth: int | None = None,
    exclude_self: bool = False,
) -> NDArray[np.intp]:
    """Rank features for each query, exactly, by the formulas of the strategies ``dense-*``.

    Scores are compared as float32 numbers, as an index compares them; equal ones keep the order of
    the features.

    Args:
        features: shape (documents, dimensions).
        queries: shape (queries, dimensions); by default the features themselves.
        comparison: how.
        depth: how many to give for each query; by default all.
        exclude_self: leave out the i-th document for the i-th query.

    Returns:
        Places in ``features``, best first, shape (queries, depth).
    """
    vectors = _matrix(features, "features")
    asked = vectors if queries is None else _matrix(queries, "queries")
    if vectors.shape[1] != asked.shape[1]:
        raise EvaluationError(
            f"queries of {asked.shape[1]} dimensions cannot be compared with features of "
            f"{vectors.shape[1]}"
        )
    if comparison not in COMPARISONS:
        raise EvaluationError(
            f"there is no comparison {comparison!r}; there are {', '.join(COMPARISONS)}"
        )
    if exclude_self and queries is not None:
        raise EvaluationError("exclude_self is for features that are the queries as well")
    compare = COMPARISONS[comparison].scores
    most = len(vectors) - exclude_self
    rows = []
    for i, query in enumerate(asked):
        order = np.argsort(-compare(query, vectors).astype(np.float32), kind="stable")
        if exclude_self:
            order = order[order != i]
        rows.append(order[: most if depth is None else depth])
    return np.stack(rows)


def same_group(
    rankings: NDArray[np.intp], groups: ArrayLike, queries: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Whether each ranked document is of the query's group.

    Args:
        rankings: places of documents, best first, shape (queries, depth).
        groups: of each document, shape (documents,): numbers or names.
        queries: the group of each query; by default the queries are the documents.
    """
    labels = np.asarray(groups)
    own = labels if queries is None else np.asarray(queries)
    if len(own) != len(rankings):
        raise EvaluationError(f"{len(own)} groups do not go with {len(rankings)} rankings")
    return np.asarray(labels[rankings] == own[:, None])


def nister_stewenius(
    features: NDArray[np.float32], groups: ArrayLike, *, comparison: str = "dense-euclidean"
) -> NDArray[np.float64]:
    """UKBench's score of each picture: how many of its group are among the first four.

    The picture itself is in the ranking and counts; 4 is the best. 25 times the mean is the
    percentage of tutorials on triplet networks.

    Args:
        features: shape (pictures, dimensions).
        groups: the object of each picture, shape (pictures,); four pictures show each.
        comparison: how.
    """
    labels = np.asarray(groups)
    if len(labels) != len(features):
        raise EvaluationError(f"{len(labels)} groups do not go with {len(features)} features")
    names, sizes = np.unique(labels, return_counts=True)
    others = sizes != GROUP
    if others.any():
        raise EvaluationError(
            f"UKBench's score is of groups of {GROUP} pictures; {names[others][0]} has "
            f"{sizes[others][0]}"
        )
    ranked = rank_features(features, comparison=comparison, depth=GROUP)
    return np.asarray(same_group(ranked, labels).sum(axis=1), dtype=np.float64)


def _matrix(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.size:
        raise EvaluationError(f"{what} have the shape (rows, dimensions), not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise EvaluationError(f"{what} have a value that is not finite")
    return matrix
