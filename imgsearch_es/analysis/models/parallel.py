"""A network beside the classifier: of its deep feature and the picture it makes another feature.

Such a network is learnt (``imgsearch train --shallow``). It becomes a part of the classifier's
network, so that every runtime computes both in one forward pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.models.learnt_file import LearntFile
from imgsearch_es.analysis.models.saved_network import load_network
from imgsearch_es.errors import AnalyzerError

if TYPE_CHECKING:
    import keras

FEATURE, PIXELS = "feature", "pixels"
"""The names of its inputs: a deep feature, and RGB pixels from 0 to 255."""


def is_parallel(network: keras.Model) -> bool:
    """Whether a network takes a deep feature and pixels, and gives one vector."""
    wanted = {FEATURE: 2, PIXELS: 4}
    given = {tensor.name: len(tensor.shape) for tensor in getattr(network, "inputs", None) or ()}
    ends = [len(tensor.shape) for tensor in getattr(network, "outputs", None) or ()]
    return (given, ends) == (wanted, [2])


def in_parallel(pixels: Any, feature: Any, learnt: LearntFile) -> Any:
    """The feature that a learnt network makes.

    Args:
        pixels: a Keras tensor of shape (pictures, height, width, 3), 0 to 255.
        feature: the deep feature of the same pictures, shape (pictures, dimensions).
        learnt: the network's file.

    Returns:
        A Keras tensor of shape (pictures, other dimensions).

    Raises:
        WeightsError: the file is gone, another one, unreadable, or holds Python code.
        AnalyzerError: it is no such network, or one for other features or pictures.
    """
    learnt.check()
    network = load_network(Path(learnt.path))
    if not is_parallel(network):
        raise AnalyzerError(
            f"embedding: {learnt.path} takes no deep feature with a picture, so it cannot be "
            "parallel; a head without a shallow network is an embedding filter "
            '([[embedding_filters]] with name = "head")'
        )
    wanted = {tensor.name: tuple(tensor.shape[1:]) for tensor in network.inputs}
    if wanted[FEATURE] != tuple(feature.shape[1:]):
        raise AnalyzerError(
            f"embedding: {learnt.path} takes deep features of {wanted[FEATURE][0]} dimensions, not "
            f"{feature.shape[1]}; it was trained on those of another analyzer"
        )
    if wanted[PIXELS] != tuple(pixels.shape[1:]):
        mine, (height, width, _) = wanted[PIXELS], pixels.shape[1:]
        raise AnalyzerError(
            f"embedding: {learnt.path} takes pictures of {mine[1]} x {mine[0]} pixels, not {width} "
            f"x {height}; it was trained on those of another analyzer"
        )
    return network({FEATURE: feature, PIXELS: pixels})
