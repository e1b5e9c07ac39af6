"""Networks that give both outputs: the posterior of a classifier and its pooled deep feature.

And networks in files that Keras saved: what a file says of itself, and loading it safely. One kind
of them stands beside a classifier: of its deep feature and the picture it makes another feature
(``imgsearch train --shallow``). It becomes a part of the classifier's network, so that every
runtime computes both in one forward pass.
"""

from __future__ import annotations

import difflib
import json
import math
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import DeepFeature, LearntFile
from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.errors import AnalyzerError, WeightsError, telling

if TYPE_CHECKING:
    import keras

_OURS = "imgsearch_deep_feature"
"""A layer's name that a classifier will not have: Keras's own choice may be taken in its file."""
_EPSILON = 1e-6
"""Of "gem" and "rmac", as their authors have it: what is not above it counts as it."""


def with_pooled_features(classifier: keras.Model) -> keras.Model:
    """A classifier that gives its deep feature, too."""
    import keras

    outputs = [classifier.outputs[0], _pooled_features(classifier)]
    return keras.Model(classifier.inputs[0], outputs)


def _pooled_features(classifier: keras.Model) -> Any:
    """The global average pool of its last 4-D activation, or the input of its last Dense layer."""
    import keras

    channels = classifier.inputs[0].shape[-1]
    dense = None
    for layer, inputs in _backward(classifier.outputs[0]):
        for tensor in inputs:
            # With the input's own channels it is still a picture: rescaled, flipped, ...
            if len(tensor.shape) == 4 and tensor.shape[-1] != channels:
                return keras.layers.GlobalAveragePooling2D(name=_OURS)(tensor)
        if dense is None and isinstance(layer, keras.Model):
            # A whole classifier inside, such as Sequential([classifier, Softmax()]).
            return keras.Model(layer.inputs[0], _pooled_features(layer), name=_OURS)(inputs[0])
        if dense is None and isinstance(layer, keras.layers.Dense):
            dense = inputs[0]
    if dense is None or len(dense.shape) != 2:
        raise AnalyzerError(
            f"the network {classifier.name!r} has no activation to take a deep feature from"
        )
    return dense


def class_weights(network: keras.Model) -> NDArray[np.float32] | None:
    """How much each class draws from each number of the pooled deep feature.

    The weights of the last Dense layer, shape (dimensions, classes); None of a network that has
    none, or another between it and the last 4-D activation.
    """
    import keras

    found: keras.layers.Dense | None = None
    for layer, inputs in _backward(network.outputs[0]):
        if found is None and isinstance(layer, keras.Model):
            return class_weights(layer)
        if isinstance(layer, keras.layers.Dense):
            if found is not None:
                return None
            found = layer
        if any(len(tensor.shape) == 4 for tensor in inputs):
            break
    return None if found is None else np.asarray(found.kernel, dtype=np.float32)


def with_deep_feature(network: keras.Model, feature: DeepFeature) -> keras.Model:
    """A network with another deep feature; layers and weights are shared, not copied.

    Scales, flips, pooling and what is in parallel are parts of the network, so that every runtime
    computes them. An AnalyzerError where the network cannot give this feature.
    """
    import keras

    pixels = keras.Input(network.inputs[0].shape[1:], name="pixels")
    is_pooled = feature.to_config().keys() - {"parallel"}
    both = _pooled_anew(network, pixels, feature) if is_pooled else network(pixels)
    posterior, vector = both
    if feature.parallel is not None:
        vector = in_parallel(pixels, vector, feature.parallel)
    return keras.Model(pixels, [posterior, vector], name=network.name)


def layer_shapes(network: keras.Model) -> dict[str, tuple[int | None, ...]]:
    """The layers that a deep feature can be taken from, in order, with their outputs' shapes."""
    import keras

    pixels = keras.Input(network.inputs[0].shape[1:])
    *_, activations = _replay(network, pixels)
    return {name: tuple(tensor.shape) for name, tensor in activations.items() if _fits(tensor)}


def _pooled_anew(network: keras.Model, pixels: Any, feature: DeepFeature) -> Any:
    import keras

    posterior, _, activations = _replay(network, pixels)
    activation = _chosen(posterior, activations, feature)
    body = keras.Model(pixels, activation)
    vectors = [
        _pooled(activation if seen is pixels else _see(body, seen, network.name), feature)
        for seen in _views(pixels, feature)
    ]
    return posterior, vectors[0] if len(vectors) == 1 else keras.layers.Average()(vectors)


def _backward(tensor: Any) -> Any:
    """Each operation with its inputs, from the output backward, breadth first."""
    pending, seen = [tensor], set()
    while pending:
        tensor = pending.pop(0)
        operation, node, _ = tensor._keras_history
        if (id(operation), node) not in seen:
            seen.add((id(operation), node))
            inputs = operation._inbound_nodes[node].input_tensors
            yield operation, inputs
            pending.extend(inputs)


def _replay(network: keras.Model, pixels: Any) -> tuple[Any, ...]:
    """Call a network's layers again, those of networks inside it one by one.

    Gives its outputs, and the outputs of all layers by name; of one called twice the last.
    """
    import keras

    activations: dict[str, Any] = {}

    def run(part: keras.Model, tensor: Any) -> Any:
        graph = keras.Model(part.inputs[0], part.outputs)  # of a Sequential as well
        return graph._run_through_graph(tensor, operation_fn=lambda layer: layer, call_fn=call)

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            found = run(layer, args[0])
            return found[0] if len(layer.outputs) == 1 else found
        found = layer(*args, **options)
        if not isinstance(found, list | tuple | dict):
            activations[layer.name] = found
        return found

    return (*run(network, pixels), activations)


def _chosen(posterior: Any, activations: dict[str, Any], feature: DeepFeature) -> Any:
    """The activation of the layer that is named, or the last one with positions."""
    if feature.layer is None:
        for tensor in chain.from_iterable(inputs for _, inputs in _backward(posterior)):
            if len(tensor.shape) == 4 and tensor.shape[-1] != 3:
                return tensor
        raise AnalyzerError("embedding: this network has no convolution; name a layer")
    if feature.layer not in activations:
        near = difflib.get_close_matches(feature.layer, activations, n=3)
        names = near or [name for name, tensor in activations.items() if _fits(tensor)][-5:]
        raise AnalyzerError(
            f"embedding: the network has no layer {feature.layer!r}; it has {', '.join(names)}, ..."
        )
    return activations[feature.layer]


def _views(pixels: Any, feature: DeepFeature) -> Iterable[Any]:
    """The pictures as they are seen: at each scale, from one side or both."""
    import keras

    _, height, width, _ = pixels.shape
    for side in (pixels, keras.ops.flip(pixels, axis=2)) if feature.flip else (pixels,):
        for scale in feature.scales:
            size = max(1, round(height * scale)), max(1, round(width * scale))
            yield side if size == (height, width) else _resized(side, *size)


def _see(body: keras.Model, pixels: Any, name: str) -> Any:
    try:
        return _replay(body, pixels)[0]
    except ValueError as error:  # Keras's word for shapes that do not fit
        _, height, width, _ = pixels.shape
        raise AnalyzerError(
            f"embedding: {name} does not run on pictures of {width} x {height}: leave out scales"
        ) from error


def _fits(tensor: Any) -> bool:
    return len(tensor.shape) in (2, 4) and None not in tensor.shape[1:]


def _pooled(activation: Any, feature: DeepFeature) -> Any:
    """One vector of an activation with positions, of shape (pictures, channels)."""
    from keras import ops

    shape = tuple(activation.shape)
    if len(shape) == 2 and feature.pooling == "avg":
        return activation
    if len(shape) != 4:
        raise AnalyzerError(
            f"embedding: the layer {feature.layer!r} gives shape {shape}, without positions for "
            f'pooling = "{feature.pooling}"'
        )
    if feature.pooling == "max":
        return ops.max(activation, axis=(1, 2))
    if feature.pooling == "gem":
        powers = ops.power(ops.maximum(activation, _EPSILON), feature.p)
        return ops.power(ops.mean(powers, axis=(1, 2)), 1 / feature.p)
    if feature.pooling == "rmac":
        return _regional_maxima(activation, feature.levels)
    if feature.pooling == "spoc":
        return ops.sum(activation * center_weights(*shape[1:3]), axis=(1, 2))
    return ops.mean(activation, axis=(1, 2))


def center_weights(height: int, width: int) -> NDArray[np.float32]:
    """How much a position counts for "spoc", shape (1, height, width, 1): a Gaussian, at most 1.

    Its sigma is a third of the way from the middle to the nearest border (Babenko and Lempitsky
    2015, section 3.2).
    """
    sigma = min(height, width) / 2 / 3
    y, x = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    squares = np.square(y)[:, np.newaxis] + np.square(x)
    weights = np.exp(-squares / (2 * sigma**2))
    return np.asarray(weights[np.newaxis, :, :, np.newaxis], dtype=np.float32)


def _regional_maxima(activation: Any, levels: int) -> Any:
    from keras import ops

    _, height, width, _ = activation.shape
    total = 0
    for top, left, side in regions(height, width, levels):
        region = activation[:, top : top + side, left : left + side, :]
        maxima = ops.max(region, axis=(1, 2))
        length = ops.sqrt(ops.sum(ops.square(maxima), axis=1, keepdims=True))
        total = total + maxima / ops.maximum(length, _EPSILON)
    return total


def regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """The square regions of "rmac", (top, left, side), each once.

    On level l, regions have the side 2 min(height, width) / (l + 1), l of them along the shorter
    side and as many along the longer one that neighbors overlap by 40 percent or a little more
    (Tolias, Sicre and Jégou 2016, section 3.2).
    """
    shorter, longer = sorted((height, width))
    more = 0
    if shorter < longer:
        step = {more: (longer - shorter) / more for more in range(1, 7)}
        more = min(step, key=lambda more: abs((shorter - step[more]) / shorter - 0.4))
    found: dict[tuple[int, int, int], None] = {}
    for level in range(1, levels + 1):
        side = max(1, 2 * shorter // (level + 1))
        along = (level + more, level) if height > width else (level, level + more)
        for top in _starts(height, side, along[0]):
            for left in _starts(width, side, along[1]):
                found[top, left, side] = None
    return list(found)


def _starts(length: int, side: int, count: int) -> list[int]:
    """Where so many regions begin along a side, evenly."""
    step = (length - side) / max(count - 1, 1)
    return [math.floor(i * step) for i in range(count)]


def _resized(pixels: Any, height: int, width: int) -> Any:
    """Scale pictures by bilinear interpolation: products with matrices, alike on every runtime."""
    from keras import ops

    _, rows, columns, channels = pixels.shape
    flat = ops.reshape(pixels, (-1, rows, columns * channels))
    flat = ops.matmul(interpolation(rows, height)[np.newaxis], flat)
    high = ops.reshape(flat, (-1, height, columns, channels))
    return ops.matmul(interpolation(columns, width)[np.newaxis, np.newaxis], high)


def interpolation(before: int, after: int) -> NDArray[np.float32]:
    """How much of each of ``before`` places is in each of ``after``: rows that sum to 1."""
    step = before / after
    reach = max(step, 1.0)
    middles = (np.arange(after) + 0.5) * step - 0.5
    apart = np.abs(np.arange(before) - middles[:, np.newaxis]) / reach
    weights = np.maximum(1 - apart, 0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


FEATURE, PIXELS = "feature", "pixels"
"""The inputs of a network in parallel: a deep feature, and RGB pixels from 0 to 255."""


def read_description(path: Path) -> dict[str, Any]:
    """The JSON that Keras keeps of a model's layers; needs no TensorFlow.

    A WeightsError where the file is no such model, or holds Python code (a Lambda layer).
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
    replace(learnt)  # a WeightsError where the file is another one by now
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
