"""Training on the pictures of an index: their stored features, and judgements of who is alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.evaluation import Collection, Judgements, make_task
from imgsearch_es.learning.examples import Examples
from imgsearch_es.learning.history import TrainingReport
from imgsearch_es.learning.options import DEFAULTS, TrainingOptions
from imgsearch_es.learning.pictures import ReadingProgress, read_again
from imgsearch_es.learning.training import Progress, Training, finish, target_of
from imgsearch_es.stores.base import known_settings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from imgsearch_es.analysis.analyzer import Analyzer
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.retrieval.documents import Document


def train(
    index: ImageIndex,
    out: str | os.PathLike[str],
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    options: TrainingOptions = DEFAULTS,
    force: bool = False,
    progress: Progress | None = None,
    reading: ReadingProgress | None = None,
) -> TrainingReport:
    """Train a head on an index: no picture is read, and its model does not run.

    With a shallow network (``options.shallow``) the pictures are read again, as they were for the
    index. Those that are gone or have changed are left out; ``report.unread`` lists them.

    Args:
        index: an index whose documents have deep features.
        out: the head's file, ``.keras``.
        judgements: which pictures show the same object; what ``imgsearch evaluate`` takes.
        options: see `TrainingOptions`.
        force: see `train_head`.
        progress: called after each epoch.
        reading: called with the pictures read so far and all of them, for a shallow network.

    Raises:
        IndexNotFoundError: there is no such index.
        EvaluationError: the judgements do not fit the index.
        ConfigurationError: see `train_head`; or a shallow network cannot be used beside the
            features of this index, or no picture be read.
        AnalyzerError: the index's analyzer cannot be built.
    """
    target = target_of(out, force=force)
    examples, unread = examples_of(index, judgements, shallow=options.shallow, reading=reading)
    training = Training(examples, target, options, unread)
    return finish(training, force=force, progress=progress)


def features_and_groups(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements = "labels"
) -> tuple[NDArray[np.float32], list[str]]:
    """The stored features of judged pictures, in the order of their names, and their objects.

    Pictures that are relevant to each other, be it by way of others, show one object.

    Returns:
        Features of shape (pictures, dimensions), and the object of each: an id of its pictures.
    """
    documents, groups = _judged(index, judgements)
    return _features(documents), groups


def examples_of(
    index: ImageIndex,
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    shallow: bool = False,
    reading: ReadingProgress | None = None,
) -> tuple[Examples, list[tuple[str, str]]]:
    """What `train` learns from.

    Returns:
        The judged pictures, and (uri, reason) of those that a shallow network cannot see.
    """
    documents, groups = _judged(index, judgements)
    features = _features(documents)
    if not shallow:
        return Examples.of(features, groups), []
    found = read_again(_analyzer_beside(index, documents), documents, reading)
    kept = [groups[place] for place in found.kept]
    return Examples.of(features[found.kept], kept, found.pictures), found.unread


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


def _judged(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements
) -> tuple[list[Document], list[str]]:
    """The judged pictures, which all have deep features, and the object of each."""
    index.count()  # raises when there is no index
    documents = {document.id: document for document in index.store.documents()}
    collection = Collection(documents.values())
    groups = objects(make_task(judgements, collection).judgements)
    kept = [item.id for item in collection.items if item.id in groups]
    found = [documents[key] for key in kept]
    without = sum(document.embedding is None for document in found)
    if without or not found:
        raise ConfigurationError(
            f"{index.location}: {without} of {len(found)} judged pictures have "
            "no deep feature to learn from; index them with an analyzer that gives one"
        )
    return found, [groups[key] for key in kept]


def _features(documents: Sequence[Document]) -> NDArray[np.float32]:
    return np.stack([d.embedding for d in documents if d.embedding is not None])


def _analyzer_beside(index: ImageIndex, documents: Sequence[Document]) -> Analyzer:
    """The analyzer of an index, when a network can be put beside its model.

    Raises:
        ConfigurationError: the stored features are not what its network gives.
    """
    settings = known_settings(index.store)
    imported = sum(not document.is_read for document in documents)
    if imported or not settings.has_model:
        raise ConfigurationError(
            f"{index.location}: {imported} of {len(documents)} judged pictures have imported "
            "features, and were never read; a shallow network learns beside the model that made "
            "the features: index the pictures"
        )
    feature = settings.analyzer.get("embedding")
    behind = settings.analyzer.get("embedding_filters")
    if behind or (isinstance(feature, Mapping) and "parallel" in feature):
        by = "embedding_filters" if behind else "a network in parallel"
        raise ConfigurationError(
            f"{index.location}: its deep features have passed through {by}; a shallow network "
            "learns beside what the model gives: use an index made without"
        )
    analyzer = index.analyzer
    if not hasattr(analyzer.model, "use_deep_feature"):
        raise ConfigurationError(
            f"the model {analyzer.model.name} takes no network in parallel: train without a "
            "shallow one"
        )
    return analyzer
