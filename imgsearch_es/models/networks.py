"""Networks that give both outputs: the posterior of a classifier and its pooled deep feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def output_activation(classifier: keras.Model) -> str | None:
    """The name of the last layer's activation, such as "softmax" or "linear", where it has one."""
    import keras

    layer = classifier.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return output_activation(layer)
    return getattr(getattr(layer, "activation", None), "__name__", None)


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
