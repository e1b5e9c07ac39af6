"""Training on the pictures of an index: their stored features, and judgements of who is alike."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import whole_of
from imgsearch_es.analysis.models.runtime import cores
from imgsearch_es.errors import ConfigurationError, ImageError
from imgsearch_es.evaluation import Collection, Judgements, make_task
from imgsearch_es.index import ImageIndex
from imgsearch_es.learning.examples import Examples, Pictures
from imgsearch_es.learning.learner import DEFAULTS, TrainingOptions
from imgsearch_es.learning.report import TrainingReport
from imgsearch_es.learning.training import Progress, Training, target_of
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import known_settings

ReadingProgress = Callable[[int, int], None]
"""Called after each picture with those read so far and all of them."""


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

    The judgements are what ``imgsearch evaluate`` takes, and say which pictures show the same
    object; the other arguments are those of `train_head`.

    Raises:
        IndexNotFoundError: there is no such index.
        EvaluationError: the judgements do not fit the index.
        ConfigurationError: see `train_head`; or a shallow network cannot be used beside the
            features of this index, or no picture be read.
        AnalyzerError: the index's analyzer cannot be built.
    """
    target = target_of(out, ".keras", force=force)
    examples, unread = examples_of(index, judgements, shallow=options.shallow, reading=reading)
    training = Training(examples, target, options, unread)
    return training.run(force=force, progress=progress)


def features_and_groups(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements = "labels"
) -> tuple[NDArray[np.float32], list[str]]:
    """The stored features of judged pictures, in the order of their names, and their objects.

    Pictures that are relevant to each other, be it by way of others, show one object.

    Returns:
        Features of shape (pictures, dimensions), and the object of each: an id of its pictures.
    """
    return _judged(index, judgements)[1:]


def examples_of(
    index: ImageIndex,
    judgements: str | os.PathLike[str] | Judgements = "labels",
    *,
    shallow: bool = False,
    reading: ReadingProgress | None = None,
) -> tuple[Examples, list[tuple[str, str]]]:
    """The judged pictures, and (uri, reason) of those that a shallow network cannot see."""
    documents, features, groups = _judged(index, judgements)
    if not shallow:
        return Examples.of(features, groups), []
    pictures, kept, unread = read_again(_analyzer_beside(index, documents), documents, reading)
    return Examples.of(features[kept], [groups[place] for place in kept], pictures), unread


def objects(judgements: Judgements) -> dict[str, str]:
    """The object of each judged picture: the smallest id of those that belong together."""
    from scipy.cluster.hierarchy import DisjointSet  # takes a moment to import

    together, done = DisjointSet(judgements.queries), set[int]()
    for query in judgements.queries:
        shared = id(judgements.grades[query])
        if shared not in done:  # queries of one object share their judgements
            done.add(shared)
            for other in judgements.relevant(query):
                together.add(other)
                together.merge(query, other)
    return {key: min(group) for group in together.subsets() for key in group}


def _judged(
    index: ImageIndex, judgements: str | os.PathLike[str] | Judgements
) -> tuple[list[Document], NDArray[np.float32], list[str]]:
    """The judged pictures, their deep features, and the object of each."""
    index.count()  # raises when there is no index
    documents = {document.id: document for document in index.store.documents()}
    collection = Collection(documents.values())
    groups = objects(make_task(judgements, collection).judgements)
    kept = [item.id for item in collection.items if item.id in groups]
    found = [documents[key] for key in kept]
    vectors = [document.embedding for document in found if document.embedding is not None]
    without = len(found) - len(vectors)
    if without or not found:
        raise ConfigurationError(
            f"{index.location}: {without} of {len(found)} judged pictures have "
            "no deep feature to learn from; index them with an analyzer that gives one"
        )
    return found, np.stack(vectors), [groups[key] for key in kept]


def _analyzer_beside(index: ImageIndex, documents: Sequence[Document]) -> Analyzer:
    """The analyzer of an index, when a network can be put beside its model."""
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


def read_again(
    analyzer: Analyzer, documents: Sequence[Document], reading: ReadingProgress | None = None
) -> tuple[Pictures, list[int], list[tuple[str, str]]]:
    """Read the pictures of documents as they were read for the index, in threads.

    Returns:
        The pictures that could be read, the places of their documents, and (uri, reason) of others.

    Raises:
        ConfigurationError: none can be read, or they are too small.
    """
    kept: list[int] = []
    unread: list[tuple[str, str]] = []
    pictures: Pictures | None = None
    threads = ThreadPoolExecutor(cores() + 1, "imgsearch-train")
    try:
        for place, found in enumerate(threads.map(partial(_read, analyzer), documents)):
            if isinstance(found, str):
                unread.append((documents[place].uri, found))
            else:
                if pictures is None:
                    empty = np.empty((len(documents), *found.small.shape[1:]), np.float32)
                    pictures = Pictures(empty, found.size)
                pictures.small[len(kept)] = found.small[0]
                kept.append(place)
            if reading is not None:
                reading(place + 1, len(documents))
    finally:
        threads.shutdown(cancel_futures=True)  # so that Ctrl-C does not read to the end
    if pictures is None:
        uri, reason = unread[0]
        raise ConfigurationError(
            f"a shallow network learns from pictures, and none of the {len(documents)} judged ones "
            f"can be read again, such as {uri}: {reason}"
        )
    return Pictures(pictures.small[: len(kept)], pictures.size), kept, unread


def _read(analyzer: Analyzer, document: Document) -> Pictures | str:
    """The picture of a document, or why there is none."""
    if in_memory(document.uri):
        return "came from memory and cannot be read again"
    try:
        picture = analyzer.open(document.uri)
    except ImageError as error:
        return error.reason
    if picture.sha256 != document.sha256:
        return "has changed since it was indexed"
    return Pictures.of(whole_of(analyzer.prepare(picture.image))[np.newaxis])
