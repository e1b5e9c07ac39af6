"""Training on the pictures of an index: their stored features, and judgements of who is alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.evaluation import Collection, Judgements, make_task
from imgsearch_es.metric_learning.history import TrainingReport
from imgsearch_es.metric_learning.training import DEFAULTS, Progress, TrainingOptions, train_head

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch_es.index import ImageIndex


def train(
    index: ImageIndex,
    out: str | os.PathLike[str],
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    options: TrainingOptions = DEFAULTS,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainingReport:
    """Train a head on an index: no picture is read, and its model does not run.

    Args:
        index: an index whose documents have deep features.
        out: the head's file, ``.keras``.
        judgements: which pictures show the same object; what ``imgsearch evaluate`` takes.
        options: see `TrainingOptions`.
        force: see `train_head`.
        progress: called after each epoch.

    Raises:
        IndexNotFoundError: there is no such index.
        EvaluationError: the judgements do not fit the index.
        ConfigurationError: see `train_head`.
    """
    features, groups = features_and_groups(index, judgements)
    return train_head(features, groups, out, options=options, force=force, progress=progress)


def features_and_groups(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements = "labels"
) -> tuple[NDArray[np.float32], list[str]]:
    """The stored features of judged pictures, in the order of their names, and their objects.

    Pictures that are relevant to each other, be it by way of others, show one object.

    Returns:
        Features of shape (pictures, dimensions), and the object of each: an id of its pictures.
    """
    index.count()  # raises when there is no index
    documents = {document.id: document for document in index.store.documents()}
    collection = Collection(documents.values())
    groups = objects(make_task(judgements, collection).judgements)
    kept = [item.id for item in collection.items if item.id in groups]
    found = [documents[key].embedding for key in kept]
    vectors = [vector for vector in found if vector is not None]
    if not vectors or len(vectors) < len(found):
        raise ConfigurationError(
            f"{index.location}: {len(found) - len(vectors)} of {len(found)} judged pictures have "
            "no deep feature to learn from; index them with an analyzer that gives one"
        )
    return np.stack(vectors), [groups[key] for key in kept]


def objects(judgements: Judgements) -> dict[str, str]:
    """The object of each judged picture: the smallest id of those that belong together."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        leader.setdefault(key, key)
        while leader[key] != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    done: set[int] = set()
    for query in judgements.queries:
        shared: Mapping[str, int] = judgements.grades[query]
        if id(shared) not in done:  # queries of one object share their judgements
            done.add(id(shared))
            for other in judgements.relevant(query):
                one, two = sorted((find(query), find(other)))
                leader[two] = one
        find(query)
    return {key: find(key) for key in leader}
