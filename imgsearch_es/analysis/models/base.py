"""What a model is: pixels in, a posterior over the vocabulary and a deep feature out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import DeepFeature
from imgsearch_es.analysis.models.networks import class_weights, layer_shapes, with_deep_feature
from imgsearch_es.analysis.models.runtime import Runtime, in_float32
from imgsearch_es.analysis.models.runtime_choice import Choice, check_runtime, open_runtime
from imgsearch_es.errors import AnalyzerError, telling
from imgsearch_es.vocabulary.synsets import Vocabulary, imagenet

if TYPE_CHECKING:
    import keras

JSON: TypeAlias = "str | int | float | bool | list[JSON] | dict[str, JSON] | None"

_MAX_BATCH = 32
"""More pictures than this go through the network in turns, so that memory stays bounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a model says of a batch of pictures."""

    posterior: NDArray[np.float32]
    """Of shape (pictures, classes), in the order of the model's vocabulary."""
    embedding: NDArray[np.float32]
    """Of shape (pictures, dimensions): the deep feature, which is the global average pool of the
    last convolutional activation, unless the model was told otherwise."""


class Model(Protocol):
    """A classifier. Making one is cheap; its network is built on the first ``predict``.

    One with a true attribute ``is_safe_in_threads`` gets several batches at once, from threads.
    """

    @property
    def name(self) -> str:
        """The name it is registered under, such as "vgg16" (or "keras:/path/of/a/file")."""

    @property
    def config(self) -> dict[str, JSON]:
        """Its name and options: ``create_model(model.config)`` makes it again."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Its classes, in the order of the posterior's columns."""

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """The image filters that give its input, unless the analyzer names others."""

    def fingerprint(self) -> str:
        """Identify the weights, as "sha256:<hex>" of their file; a WeightsError without one."""

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Classify pictures: uint8 of shape (pictures, height, width, 3), RGB, 0 to 255.

        An AnalyzerError where they have another shape or type, or the network does not run.
        """


class WrappedModel(ABC):
    """A `Model` around another one: all is the other's, but how it predicts."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.config = model.name, model.config
        self.vocabulary, self.image_filters = model.vocabulary, model.image_filters
        self.fingerprint = model.fingerprint
        self.class_weights = getattr(model, "class_weights", lambda: None)

    @abstractmethod
    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """As of `Model`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of the list of models."""

    name: str
    description: str
    input_size: tuple[int, int] | None = None
    """(height, width) in pixels, or None where that depends on a file."""
    available: bool | None = None
    """Whether its weights are on this machine; None where that is not known."""
    distribution: str = ""
    """The installed package that provides it."""
    error: str | None = None
    """Why it cannot be used (a broken plug-in)."""


def check_pixels(pixels: NDArray[np.uint8], size: tuple[int, int], name: str) -> None:
    """An AnalyzerError unless a model of this input size, (height, width), takes these pixels."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8:
        kind = getattr(pixels, "dtype", type(pixels).__name__)
        raise AnalyzerError(f"{name} takes uint8 pixels (0 to 255), not {kind}")
    if pixels.shape[1:] != (*size, 3):
        raise AnalyzerError(
            f"{name} takes pixels of shape (pictures, {size[0]}, {size[1]}, 3), not "
            f"{pixels.shape}; do the image filters fit the model?"
        )


class RunModel(ABC):
    """A `Model` that is one network; its input has (height, width), and its runtime opens late."""

    is_safe_in_threads = True

    def __init__(self, name: str, options: dict[str, JSON], size: tuple[int, int]) -> None:
        self.name = name
        self.config: dict[str, JSON] = {"name": name, **options}
        self.size = size
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None

    @abstractmethod
    def open_runtime(self) -> Runtime:
        """What runs the network; asked for on the first ``predict``."""

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        """Classify pictures of shape (pictures, height, width, 3), uint8; see `Model`."""
        check_pixels(pixels, self.size, self.name)
        with self._lock:
            if self._runtime is None:
                self._runtime = self.open_runtime()
            runtime = self._runtime
        if len(pixels) == 0:
            none = runtime(np.zeros((1, *pixels.shape[1:]), np.uint8))
            return Prediction(*(part[:0] for part in none))
        parts = [runtime(pixels[i : i + _MAX_BATCH]) for i in range(0, len(pixels), _MAX_BATCH)]
        return Prediction(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class NetworkModel(RunModel):
    """A `Model` that is one Keras network, built on first use; its input has (height, width)."""

    def __init__(self, name: str, options: dict[str, JSON], size: tuple[int, int]) -> None:
        super().__init__(name, options, size)
        self.deep_feature = DeepFeature()
        self._wanted: str | None = None
        self.choice: Choice | None = None
        """Which runtime it runs on and why; None until the first ``predict``."""

    def open_runtime(self) -> Runtime:
        """The runtime that was asked for, or chosen."""
        runtime, self.choice = open_runtime(self, self._wanted)
        return runtime

    @property
    def vocabulary(self) -> Vocabulary:
        """The 1,000 ImageNet classes."""
        return imagenet()

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """The paper's path: ``keras.utils.load_img(path, target_size=(height, width))``."""
        height, width = self.size
        return [
            {"name": "resize", "height": height, "width": width, "interpolation": "nearest"},
        ]

    @abstractmethod
    def fingerprint(self) -> str:
        """Identify the weights; does not import TensorFlow."""

    @abstractmethod
    def build_network(self) -> keras.Model:
        """Make the network: RGB pixels 0 to 255, float32 -> [posterior, embedding]."""

    def __repr__(self) -> str:
        options = {key: value for key, value in self.config.items() if key != "name"}
        return f"{type(self).__name__}({self.name!r}, **{options!r})"

    def checked_network(self) -> keras.Model:
        """What `build_network` gives with the deep feature wanted, and errors of ours."""
        with in_float32(), telling(f"the network of {self.name} cannot be built", kind=ValueError):
            network = self.build_network()
            if self.deep_feature.is_default:
                return network
            return with_deep_feature(network, self.deep_feature)

    def use_deep_feature(self, feature: DeepFeature) -> None:
        """Give another deep feature; a layer that does not exist is found out on first use."""
        with self._lock:
            self.deep_feature, self._runtime = feature, None

    def layers(self) -> dict[str, tuple[int | None, ...]]:
        """The layers that a deep feature can be taken from, with their outputs' shapes."""
        with in_float32():
            return layer_shapes(self.build_network())

    def class_weights(self) -> NDArray[np.float32] | None:
        """Of each number of its own deep feature in each class, (dimensions, classes); or None."""
        with in_float32():
            return class_weights(self.build_network()) if self.deep_feature.is_default else None

    def use_runtime(self, name: str) -> None:
        """Run on one of `RUNTIMES`, whatever IMGSEARCH_RUNTIME says."""
        with self._lock:
            self._wanted, self._runtime = check_runtime(name), None
