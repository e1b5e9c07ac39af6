"""The head: a small network from a stored feature to an embedding of length 1.

It is built of Keras's own layers only, so its file holds no code. The same weights give the same
bytes, on one machine, so that two runs of a training can be compared by their files' SHA-256.

A shallow network beside the feature takes the picture as well, by two paths of one convolution
each, on the picture a quarter and an eighth as wide and high: see docs/metric-learning.md.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import given_file
from imgsearch_es.analysis.models.networks import FEATURE, PIXELS, is_parallel, load_network
from imgsearch_es.analysis.models.runtime import import_keras, in_float32
from imgsearch_es.errors import AnalyzerError, ConfigurationError
from imgsearch_es.pictures.files import saving

if TYPE_CHECKING:
    import keras

LAYERS = (512, 512, 256)
"""Those of the head that became popular with triplet networks on stored features."""
DROPOUT = 0.5
STEP = 4
"""Each pixel of a small picture is the mean of so many by so many."""
_FILTERS, _WINDOW, _STRIDE = 32, 8, 4
"""Of each shallow path."""
_POOLS = {"quarter": (7, 4), "eighth": (3, 2)}
"""Windows and strides of the maxima; of a picture of 224 x 224 pixels, 4 x 4 positions stay."""
_PREPARED, _SHORTCUT = "prepared", "shortcut"
"""Names of layers: what the feature is prepared by, and the linear one beside the others."""
_POWER, _SMALLEST = 0.25, 1e-9
"""Of half-whitening; directions with a smaller share of the largest variance are noise, and not
made larger."""
_BATCH, _BATCH_OF_PICTURES = 4096, 256
_SAVED = "1980-01-01@00:00:00"
"""What the file says of when it was saved: the earliest time of a ZIP archive."""
_SHARED = "shared_object_id"
"""By this key the file says which of its parts share an object."""


@in_float32()
def build_head(
    dimensions: int,
    layers: Sequence[int] = LAYERS,
    *,
    shortcut: bool = True,
    dropout: float = DROPOUT,
    small: tuple[int, int] | None = None,
    seed: int = 0,
) -> keras.Model:
    """A head with random weights.

    Of each number of the feature the square root is taken, with its sign (Hellinger's kernel), and
    the result divided by its length and brought to a mean square of 1. Dense layers follow, all but
    the last with ReLU. The sum is divided by its length.

    Args:
        dimensions: of the feature.
        layers: units of the dense layers; the last one is the length of the embedding.
        shortcut: add one linear layer from the feature to the last of them, which then begins at
            zero. A shallow network does not go into it: with one, the head begins as without.
        dropout: share of the feature and of the hidden units that each step of learning leaves out.
        small: rows and columns of the small pictures (see `Pictures`) that a shallow network sees
            and the head takes as its second input; None for no such network.
        seed: of the weights.

    Raises:
        ConfigurationError: a number is not above 0, or dropout not below 1.
    """
    if dimensions < 1 or not layers or min(layers) < 1:
        raise ConfigurationError(
            f"a head has one or more layers of one or more units, not {tuple(layers)}"
        )
    if not 0 <= dropout < 1:
        raise ConfigurationError(f"dropout is from 0 to below 1, not {dropout}")
    keras = import_keras()
    inputs = [keras.Input((dimensions,), name=FEATURE)]
    x = prepared = keras.layers.Dropout(dropout, seed=seed, name="dropout_0")(_prepared(*inputs))
    if small is not None:
        inputs.append(keras.Input((*small, 3), name=PIXELS))
        seen = _shallow_vector(inputs[1], dropout, seed + len(layers) + 1)
        x = keras.layers.Concatenate(name="beside")([prepared, seen])
    for i, units in enumerate(layers[:-1], start=1):
        x = _dense(units, f"dense_{i}", seed + i, activation="relu")(x)
        x = keras.layers.Dropout(dropout, seed=seed, name=f"dropout_{i}")(x)
    start = "zeros" if shortcut else None
    x = _dense(layers[-1], f"dense_{len(layers)}", seed + len(layers), start=start)(x)
    if shortcut:
        x = keras.layers.Add(name="sum")([x, _dense(layers[-1], _SHORTCUT, seed)(prepared)])
    embedding = keras.layers.UnitNormalization(name="embedding")(x)
    head = keras.Model(one_or_more(inputs), embedding, name="head")
    for number, operation in enumerate(head.operations):
        if not isinstance(operation, keras.layers.Layer):  # Keras numbers these as it makes them
            operation.name = f"{type(operation).__name__.lower()}_{number}"
    return head


def _prepared(feature: Any) -> Any:
    keras = import_keras()
    root = keras.ops.sign(feature) * keras.ops.sqrt(keras.ops.abs(feature))
    unit = keras.layers.UnitNormalization(name="unit_feature")(root)
    return keras.layers.Rescaling(math.sqrt(feature.shape[1]), name=_PREPARED)(unit)


def _dense(
    units: int, name: str, seed: int, *, activation: str | None = None, start: str | None = None
) -> keras.layers.Dense:
    """A dense layer with weights by Glorot and Bengio, or as ``start`` names it."""
    keras = import_keras()
    initializer = start or keras.initializers.GlorotUniform(seed=seed)
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer=initializer, name=name
    )


def _shallow_vector(small: Any, dropout: float, seed: int) -> Any:
    """What the two paths make of small pictures; the part of each has a mean square of 1."""
    keras = import_keras()
    quarter = keras.layers.Rescaling(1 / 127.5, offset=-1, name="centered")(small)
    eighth = keras.layers.AveragePooling2D(2, name="halved")(quarter)
    paths = [_path(quarter, "quarter", seed), _path(eighth, "eighth", seed + 1)]
    both = keras.layers.Concatenate(name="shallow")(paths)
    return keras.layers.Dropout(dropout, seed=seed, name="dropout_shallow")(both)


def _path(picture: Any, name: str, seed: int) -> Any:
    keras = import_keras()
    window, stride = _POOLS[name]
    x = keras.layers.Conv2D(
        _FILTERS, _WINDOW, _STRIDE, padding="same", activation="relu", name=f"{name}_filters",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
    )(picture)  # fmt: skip
    x = keras.layers.MaxPooling2D(window, stride, padding="same", name=f"{name}_maxima")(x)
    x = keras.layers.Flatten(name=f"{name}_numbers")(x)
    # Divided by its length; a flat gray picture, whose numbers are near 0, has a bounded slope.
    return keras.layers.RMSNormalization(trainable=False, name=f"{name}_unit")(x)


@in_float32()
def on_whole_pictures(head: keras.Model, size: tuple[int, int]) -> keras.Model:
    """A head of small pictures as one of whole ones of (height, width) pixels, to be saved."""
    keras = import_keras()
    feature = keras.Input(head.inputs[0].shape[1:], name=FEATURE)
    pixels = keras.Input((*size, 3), name=PIXELS)
    small = keras.layers.AveragePooling2D(STEP, name="subsampled")(pixels)
    return keras.Model([feature, pixels], head([feature, small]), name="head_on_pixels")


@in_float32()
def start_shortcut(head: keras.Model, features: NDArray[np.float32]) -> None:
    """Let the shortcut of a new head begin as half-whitening learned from features."""
    layer = head.get_layer(_SHORTCUT)
    prepare = import_keras().Model(head.inputs[0], head.get_layer(_PREPARED).output)
    prepared = apply_head(prepare, features).astype(np.float64)
    layer.set_weights(half_whitening(prepared, layer.units))


def half_whitening(
    features: NDArray[np.float64], units: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of a dense layer: principal components, their variances brought nearer together.

    The direction of the k-th largest variance v_k is scaled by v_k^(-1/4), halfway between
    principal components and whitening, so that the few directions in which all pictures differ do
    not drown the others (Jégou and Chum, ECCV 2012, on why whitening helps). The layer's outputs
    have the mean 0 and a mean square length of 1; units beyond the dimensions, or the pictures but
    one, stay zero.
    """
    mean = features.mean(axis=0)
    centered = features - mean
    values, directions = np.linalg.eigh(centered.T @ centered / len(features))
    count = max(1, min(units, len(features) - 1))  # in others they differ by rounding alone
    values, directions = values[::-1][:count], directions[:, ::-1][:, :count]
    largest = max(float(values[0]), np.finfo(np.float64).tiny)
    scaled = directions / np.maximum(values / largest, _SMALLEST) ** _POWER
    length = float(np.square(centered @ scaled).sum(axis=1).mean()) ** 0.5
    kernel = np.zeros((features.shape[1], units))
    kernel[:, : scaled.shape[1]] = scaled / (length or 1)
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)


def start_dropout(head: keras.Model, rng: np.random.Generator) -> None:
    """Let what is left out from now on follow from ``rng`` alone."""
    keras = import_keras()
    for layer in head.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            state = rng.integers(0, 2**32, 2, dtype=np.uint32)
            layer.seed_generator.state.assign(state)


def apply_head(
    head: keras.Model, features: NDArray[np.float32], pixels: NDArray[Any] | None = None
) -> NDArray[np.float32]:
    """Embeddings, shape (pictures, units of the last layer).

    Args:
        head: the network.
        features: shape (pictures, dimensions).
        pixels: of the same pictures, where the head has a shallow network: uint8 or float32 of
            shape (pictures, height, width, 3), 0 to 255.

    Raises:
        ConfigurationError: pixels are missing, or the head takes none.
    """
    inputs = [features] if pixels is None else [features, pixels]
    if len(head.inputs) != len(inputs):
        takes = "takes pixels as well" if pixels is None else "has no shallow network for pixels"
        raise ConfigurationError(f"this head {takes}")
    size = _BATCH if pixels is None else _BATCH_OF_PICTURES
    parts = []
    for i in range(0, len(features), size):
        batch = [np.asarray(given[i : i + size], dtype=np.float32) for given in inputs]
        parts.append(np.asarray(head(one_or_more(batch), training=False), dtype=np.float32))
    return np.concatenate(parts)


def one_or_more(inputs: Sequence[Any]) -> Any:
    """The inputs of a network as Keras wants them: one alone, several as a list."""
    return inputs[0] if len(inputs) == 1 else list(inputs)


def save_head(head: keras.Model, path: Path) -> None:
    """Write a head, whole or not at all, or raise a ConfigurationError."""
    with saving(path) as draft, tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "head.keras")
        head.save(saved)
        _copy_reproducibly(saved, draft)


def load_head(path: str | os.PathLike[str]) -> keras.Model:
    """Load a head, or another network that turns a vector into a vector; no code in it is run.

    Raises:
        WeightsError: the file is missing, unreadable, or holds Python code (a Lambda layer).
        AnalyzerError: the network does not turn one vector, or one and a picture, into a vector.
    """
    file = given_file(path, "the head")
    head = load_network(file)
    if is_parallel(head):
        return head
    ends = [getattr(head, end, None) or () for end in ("inputs", "outputs")]
    shapes = [tuple(tensor.shape) for end in ends for tensor in end]
    if [len(end) for end in ends] != [1, 1] or [len(shape) for shape in shapes] != [2, 2]:
        raise AnalyzerError(
            f"{file} takes and gives {shapes}; a head takes one vector of fixed length, and gives "
            "one"
        )
    return head


def _copy_reproducibly(source: Path, target: Path) -> None:
    """Copy a .keras file, which is a ZIP archive, without what differs from one save to the next.

    That is the time, and the addresses in memory by which Keras says that parts share an object:
    these are numbered as they come.
    """
    numbers: dict[int, int] = {}

    def numbered(part: dict[str, Any]) -> dict[str, Any]:
        if _SHARED in part:
            part[_SHARED] = numbers.setdefault(part[_SHARED], len(numbers) + 1)
        return part

    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in sorted(old.namelist()):
            data = old.read(name)
            if name == "metadata.json":
                data = json.dumps({**json.loads(data), "date_saved": _SAVED}).encode()
            elif name == "config.json":
                data = json.dumps(json.loads(data, object_hook=numbered)).encode()
            new.writestr(zipfile.ZipInfo(name), data)
