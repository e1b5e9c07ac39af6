"""Networks that give both outputs: the posterior of a classifier and its pooled deep feature."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.models.deep_feature import DeepFeature
from imgsearch_es.analysis.models.parallel import in_parallel
from imgsearch_es.analysis.models.pooling import pool, resized
from imgsearch_es.errors import AnalyzerError

if TYPE_CHECKING:
    import keras

_OURS = "imgsearch_deep_feature"
"""A layer's name that a classifier will not have: Keras's own choice may be taken in its file."""


def pooled_features(classifier: keras.Model) -> Any:
    """The deep feature of a classifier, of shape (pictures, dimensions).

    That is the global average pool of its last 4-D activation. A classifier without convolutions
    has none: then it is the input of its last Dense layer.

    Raises:
        AnalyzerError: the classifier has neither.
    """
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
            return keras.Model(layer.inputs[0], pooled_features(layer), name=_OURS)(inputs[0])
        if dense is None and isinstance(layer, keras.layers.Dense):
            dense = inputs[0]
    if dense is None or len(dense.shape) != 2:
        raise AnalyzerError(
            f"the network {classifier.name!r} has no activation to take a deep feature from: "
            "neither a convolution nor a Dense layer is found behind its output"
        )
    return dense


def with_deep_feature(network: keras.Model, feature: DeepFeature) -> keras.Model:
    """A network with another deep feature; layers and weights are shared, not copied.

    Scales, flips, pooling and what is in parallel are parts of the network, so that every runtime
    computes them.

    Args:
        network: pixels -> [posterior, embedding].
        feature: what takes the embedding's place.

    Raises:
        AnalyzerError: there is no such layer, it has no positions to pool, or the network does
            not run at another size, or what is in parallel does not fit.
        WeightsError: the file of what is in parallel cannot be used.
    """
    import keras

    pixels = keras.Input(network.inputs[0].shape[1:], name="pixels")
    both = _pooled_anew(network, pixels, feature) if feature.is_pooled else network(pixels)
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


def output_activation(classifier: keras.Model) -> str | None:
    """The name of the last layer's activation, such as "softmax" or "linear", where it has one."""
    import keras

    layer = classifier.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return output_activation(layer)
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _pooled_anew(network: keras.Model, pixels: Any, feature: DeepFeature) -> Any:
    """The posterior and another deep feature."""
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

    Returns:
        Its outputs, and the outputs of all layers by name; of one called twice the last.
    """
    import keras

    activations: dict[str, Any] = {}

    def run(part: keras.Model, tensor: Any) -> Any:
        graph = keras.Model(part.inputs[0], part.outputs)  # of a Sequential as well
        return graph._run_through_graph(tensor, operation_fn=lambda layer: layer, call_fn=call)

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        inside = isinstance(layer, keras.Model) and getattr(layer, "inputs", None)
        found = run(layer, args[0]) if inside else layer(*args, **options)
        if inside:
            found = found[0] if len(layer.outputs) == 1 else found
        elif not isinstance(found, list | tuple | dict):
            activations[layer.name] = found
        return found

    return (*run(network, pixels), activations)


def _chosen(posterior: Any, activations: dict[str, Any], feature: DeepFeature) -> Any:
    """The activation of the layer that is named, or the last one with positions."""
    if feature.layer is None:
        channels = 3
        for _, inputs in _backward(posterior):
            for tensor in inputs:
                if len(tensor.shape) == 4 and tensor.shape[-1] != channels:
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
            same = size == (height, width)
            yield side if same else resized(side, *size)


def _see(body: keras.Model, pixels: Any, name: str) -> Any:
    """The activation for pictures of any size."""
    try:
        return _replay(body, pixels)[0]
    except ValueError as error:  # Keras's word for shapes that do not fit
        _, height, width, _ = pixels.shape
        raise AnalyzerError(
            f"embedding: {name} does not run on pictures of {width} x {height} up to this layer "
            "(a layer with a fixed number of inputs comes before it?); leave out scales"
        ) from error


def _pooled(activation: Any, feature: DeepFeature) -> Any:
    shape = tuple(activation.shape)
    if len(shape) == 4:
        return pool(activation, feature)
    if len(shape) != 2:
        raise AnalyzerError(
            f"embedding: the layer {feature.layer!r} gives shape {shape}, neither positions "
            "(pictures, height, width, channels) nor one vector (pictures, dimensions)"
        )
    if feature.pooling != "avg":
        raise AnalyzerError(
            f"embedding: the layer {feature.layer!r} gives one vector, without positions for "
            f'pooling = "{feature.pooling}"; leave out pooling'
        )
    return activation


def _fits(tensor: Any) -> bool:
    return len(tensor.shape) in (2, 4) and None not in tensor.shape[1:]
