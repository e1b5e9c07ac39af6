"""The shallow network: two short paths over the picture, beside the deep feature.

A deep feature says what is seen, and has forgotten much of colors, textures and patterns. These are
seen by paths of one convolution each, on the picture a quarter and an eighth as wide and as high:
windows of 8 x 8 pixels every 4, and the maxima of neighboring windows. So are the two paths of
Wang et al., "Learning fine-grained image similarity with deep ranking", CVPR 2014, figure 3, which
Shankar et al., "Deep learning based large scale visual recommendation and search for e-commerce",
2017, took over. There are fewer filters here, because there are fewer pictures to learn from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.analysis.models.saved_network import FEATURE, PIXELS
from imgsearch_es.learning.pictures import STEP

if TYPE_CHECKING:
    import keras

FILTERS = 32
"""Of each path."""
_WINDOW, _STRIDE = 8, 4
"""Of the convolutions, in pixels."""
_POOLS = {"quarter": (7, 4), "eighth": (3, 2)}
"""Windows and strides of the maxima; of a picture of 224 x 224 pixels, 4 x 4 positions stay."""


def shallow_vector(small: Any, dropout: float, seed: int) -> Any:
    """What the two paths make of small pictures.

    Args:
        small: a Keras tensor of shape (pictures, rows, columns, 3), as `subsample` gives them.
        dropout: share of the numbers that each step of learning leaves out at random.
        seed: of the weights.

    Returns:
        A Keras tensor of shape (pictures, numbers); the part of each path has a mean square of 1.
    """
    keras = import_keras()
    quarter = keras.layers.Rescaling(1 / 127.5, offset=-1, name="centered")(small)
    eighth = keras.layers.AveragePooling2D(2, name="halved")(quarter)
    paths = [_path(quarter, "quarter", seed), _path(eighth, "eighth", seed + 1)]
    both = keras.layers.Concatenate(name="shallow")(paths)
    return keras.layers.Dropout(dropout, seed=seed, name="dropout_shallow")(both)


def on_whole_pictures(head: keras.Model, size: tuple[int, int]) -> keras.Model:
    """A head that takes small pictures becomes one that takes whole ones; weights are shared.

    Args:
        head: takes a feature and small pictures.
        size: (height, width) of the whole ones in pixels.
    """
    keras = import_keras()
    feature = keras.Input(head.inputs[0].shape[1:], name=FEATURE)
    pixels = keras.Input((*size, 3), name=PIXELS)
    small = keras.layers.AveragePooling2D(STEP, name="subsampled")(pixels)
    return keras.Model([feature, pixels], head([feature, small]), name="head_on_pixels")


def _path(picture: Any, name: str, seed: int) -> Any:
    keras = import_keras()
    window, stride = _POOLS[name]
    x = keras.layers.Conv2D(
        FILTERS,
        _WINDOW,
        _STRIDE,
        padding="same",
        activation="relu",
        kernel_initializer=keras.initializers.GlorotUniform(seed=seed),
        name=f"{name}_filters",
    )(picture)
    x = keras.layers.MaxPooling2D(window, stride, padding="same", name=f"{name}_maxima")(x)
    x = keras.layers.Flatten(name=f"{name}_numbers")(x)
    # Divided by its length; a flat gray picture, whose numbers are near 0, has a bounded slope.
    return keras.layers.RMSNormalization(trainable=False, name=f"{name}_unit")(x)
