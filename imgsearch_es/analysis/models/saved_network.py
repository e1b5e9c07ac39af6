"""A network in a file that Keras saved: what the file says of itself, and loading it safely.

One kind of them stands beside a classifier: of its deep feature and the picture it makes another
feature (``imgsearch train --shallow``). It becomes a part of the classifier's network, so that
every runtime computes both in one forward pass.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.configuration import LearntFile
from imgsearch_es.analysis.models.runtime import import_keras, telling
from imgsearch_es.errors import AnalyzerError, WeightsError

if TYPE_CHECKING:
    import keras

FEATURE, PIXELS = "feature", "pixels"
"""The inputs of a network in parallel: a deep feature, and RGB pixels from 0 to 255."""


def read_description(path: Path) -> dict[str, Any]:
    """The JSON that Keras keeps of a model's layers; needs no TensorFlow.

    Raises:
        WeightsError: the file is no such model, or holds Python code (a Lambda layer).
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text: str | bytes = archive.read("config.json")
        else:
            import h5py

            with h5py.File(path, "r") as file:
                text = file.attrs["model_config"]
        found = json.loads(text)
    except Exception as error:  # a foreign file raises anything
        raise WeightsError(
            f"{path} is not a model saved by Keras with its layers (a .keras or .h5 file from "
            "model.save; a file of weights alone is not enough)"
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is not a model saved by Keras: its description is malformed")
    if any(part.get("class_name") == "Lambda" for part in parts(found)):
        raise WeightsError(
            f"{path} holds a Lambda layer, which is Python code inside a file, and is not run; "
            "replace it by layers (such as keras.layers.Rescaling) and save it again"
        )
    return found


def parts(value: object) -> Iterator[dict[str, Any]]:
    """Every dictionary in a JSON value, outermost first."""
    pending = [value]
    while pending:
        item = pending.pop(0)
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def load_network(path: Path) -> keras.Model:
    """Load a network that Keras saved; no code in its file is run. Raises as `read_description`."""
    read_description(path)
    keras = import_keras()
    with telling(f"Keras cannot load {path}", WeightsError):
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)


def is_parallel(network: keras.Model) -> bool:
    """Whether a network takes a deep feature and pixels, and gives one vector."""
    wanted = {FEATURE: 2, PIXELS: 4}
    given = {tensor.name: len(tensor.shape) for tensor in getattr(network, "inputs", None) or ()}
    ends = [len(tensor.shape) for tensor in getattr(network, "outputs", None) or ()]
    return (given, ends) == (wanted, [2])


def in_parallel(pixels: Any, feature: Any, learnt: LearntFile) -> Any:
    """The feature that a learnt network makes of pixels, 0 to 255, and their deep feature.

    All are Keras tensors. An AnalyzerError if the network is for others, or its file another one.
    """
    learnt.check()
    network = load_network(Path(learnt.path))
    if not is_parallel(network):
        raise AnalyzerError(
            f"embedding: {learnt.path} cannot be parallel: a head without a shallow network is an "
            'embedding filter ([[embedding_filters]] with name = "head")'
        )
    given = {FEATURE: feature, PIXELS: pixels}
    for tensor in network.inputs:
        wanted, found = tuple(tensor.shape[1:]), tuple(given[tensor.name].shape[1:])
        if wanted != found:
            raise AnalyzerError(
                f"embedding: {learnt.path} takes {tensor.name} of shape {wanted}, not {found}"
            )
    return network(given)
