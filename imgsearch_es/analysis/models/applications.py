"""The classifiers of keras.applications, each with its own input size and preprocessing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsearch_es.analysis.models.base import JSON, ModelInfo, NetworkModel
from imgsearch_es.analysis.models.weights import Published, fingerprint, given_file
from imgsearch_es.errors import AnalyzerError, WeightsError

if TYPE_CHECKING:
    import keras

_BASE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_SUFFIXES = (".h5", ".hdf5", ".keras")


@dataclass(frozen=True, slots=True)
class Application:
    """One of keras.applications.

    Attributes:
        function: the name of its function in keras.applications.
        module: the module there that holds it and its ``preprocess_input``. (That of
            efficientnet_v2 and convnext changes nothing: these preprocess inside the network.)
        size: height and width of its input, in pixels.
        file: the path of its ImageNet weights below Keras's address.
        checksum: of that file, as Keras gives it; Keras gives none for mobilenet_v2.
        source: who published it.
    """

    function: str
    module: str
    size: int
    file: str
    checksum: str
    source: str


_TABLE = """
vgg16 | VGG16 | vgg16 | 224 | vgg16/vgg16_{TF}.h5 | md5:64373286793e3c8b2b4e3219cbf3544b | Simonyan and Zisserman 2014; the paper's model
vgg19 | VGG19 | vgg19 | 224 | vgg19/vgg19_{TF}.h5 | md5:cbe5617147190e668d6c5d5026f83318 | Simonyan and Zisserman 2014
resnet50 | ResNet50 | resnet50 | 224 | resnet/resnet50_{TF}.h5 | md5:2cb95161c43110f7111970584f804107 | He et al. 2015
inception_v3 | InceptionV3 | inception_v3 | 299 | inception_v3/inception_v3_{TF}.h5 | md5:9a0d58056eeedaa3f26cb7ebd46da564 | Szegedy et al. 2015
xception | Xception | xception | 299 | xception/xception_{TF}.h5 | md5:0a58e3b7378bc2990ea3b43d5981f1f6 | Chollet 2016
densenet121 | DenseNet121 | densenet | 224 | densenet/densenet121_{TF}.h5 | md5:9d60b8095a5708f2dcce2bca79d332c7 | Huang et al. 2016
mobilenet_v2 | MobileNetV2 | mobilenet_v2 | 224 | mobilenet_v2/mobilenet_v2_{TF}_1.0_224.h5 |  | Sandler et al. 2018
efficientnet_v2_b0 | EfficientNetV2B0 | efficientnet_v2 | 224 | efficientnet_v2/efficientnetv2-b0.h5 | md5:21ecbf6da12460d5c40bb2f29ceb2188 | Tan and Le 2021
convnext_tiny | ConvNeXtTiny | convnext | 224 | convnext/convnext_tiny.h5 | sha256:8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff | Liu et al. 2022
"""  # noqa: E501


def _read_table() -> Iterator[tuple[str, Application]]:
    for line in _TABLE.strip().splitlines():
        name, function, module, size, file, checksum, source = map(str.strip, line.split("|"))
        file = file.format(TF="weights_tf_dim_ordering_tf_kernels")
        yield name, Application(function, module, int(size), file, checksum, source)


APPLICATIONS = dict(_read_table())
"""By the name they are registered under. Files and checksums: keras/src/applications/*.py."""


class ApplicationModel(NetworkModel):
    """A classifier of keras.applications.

    Args:
        name: one of `APPLICATIONS`.
        weights: "imagenet" for Keras's own, downloaded on first use; or a local file of weights
            of the whole classifier (.h5, .weights.h5, .keras); or "random" for weights without
            any sense, for tests and benchmarks.
        seed: makes "random" weights always the same.

    Raises:
        AnalyzerError: Keras has no such application here.
        WeightsError: ``weights`` names a file that does not exist or is of another kind.
    """

    def __init__(
        self, name: str, *, weights: str | os.PathLike[str] = "imagenet", seed: int = 0
    ) -> None:
        self._application = _application(name)
        self._seed = seed
        self._file: Path | None = None
        options: dict[str, JSON] = {"weights": str(weights)}
        if weights == "random":
            options["seed"] = seed
        elif weights != "imagenet":
            self._file = given_file(weights, name)
            options["weights"] = str(self._file)
            if self._file.suffix not in _SUFFIXES:
                raise WeightsError(
                    f"weights of {name} are files that end in {', '.join(_SUFFIXES)}, "
                    f"unlike {self._file}"
                )
        super().__init__(name, options, (self._application.size, self._application.size))

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        application = _application(name)
        return ModelInfo(
            name,
            f"{application.function} of keras.applications ({application.source})",
            (application.size, application.size),
            available=_published(name).is_here(),
        )

    def fingerprint(self) -> str:
        """The sha256 of the file of weights, which is downloaded if need be."""
        if self.config["weights"] == "random":
            return f"random:{self._seed}"
        return fingerprint(self._path(), self.name)

    def build_network(self) -> keras.Model:
        """Make the application with its preprocessing in front; see `NetworkModel`."""
        import keras

        from imgsearch_es.analysis.models.networks import pooled_features

        path = None if self.config["weights"] == "random" else self._path()
        module = import_module(f"keras.applications.{self._application.module}")
        classifier = getattr(keras.applications, self._application.function)(weights=None)
        if path is None:
            _randomize(classifier, self._seed)
        else:
            self._fill(classifier, path)
        both = keras.Model(
            classifier.inputs[0], [classifier.outputs[0], pooled_features(classifier)]
        )
        pixels = keras.Input((*self.size, 3), name="pixels")
        return keras.Model(pixels, both(module.preprocess_input(pixels)), name=self.name)

    def _path(self) -> Path:
        return self._file or _published(self.name).fetch()

    def _fill(self, classifier: keras.Model, path: Path) -> None:
        from imgsearch_es.analysis.models.runtime import reason

        try:
            classifier.load_weights(str(path))
        except Exception as error:  # a foreign file raises anything
            hint = "" if self._file else "; delete the file, and it is downloaded again"
            raise WeightsError(f"{path} does not fit {self.name}: {reason(error)}{hint}") from error


def _application(name: str) -> Application:
    if name not in APPLICATIONS:
        raise AnalyzerError(f"{name!r} is none of {', '.join(APPLICATIONS)}")
    return APPLICATIONS[name]


def _published(name: str) -> Published:
    application = APPLICATIONS[name]
    return Published(name, _BASE + application.file, application.checksum)


def _randomize(classifier: keras.Model, seed: int) -> None:
    """Give each kernel Glorot's uniform distribution, Keras's global random state untouched."""
    random = np.random.default_rng(seed)
    for weight in classifier.trainable_weights:
        if len(weight.shape) < 2:
            continue  # biases, scales and offsets start as zeros and ones
        *window, inputs, outputs = weight.shape
        limit = np.float32(np.sqrt(6 / (np.prod(window, initial=1.0) * (inputs + outputs))))
        values: Any = random.random(tuple(weight.shape), dtype=np.float32)
        values *= 2 * limit
        values -= limit
        weight.assign(values)
