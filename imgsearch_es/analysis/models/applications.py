"""The classifiers of keras.applications, each with its own input size and preprocessing.

Their weights are downloaded to where Keras keeps them (``~/.keras/models``), under Keras's names,
so both share them. Unlike ``keras.utils.get_file`` this needs no TensorFlow, gives up on a silent
server, prints nothing on standard output, and never leaves part of a file under the final name.
"""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from imgsearch_es.analysis.configuration import fingerprint, given_file, kept_digest
from imgsearch_es.analysis.models.base import JSON, ModelInfo, NetworkModel
from imgsearch_es.analysis.models.networks import with_pooled_features
from imgsearch_es.errors import AnalyzerError, WeightsError, telling
from imgsearch_es.pictures.files import replacing

if TYPE_CHECKING:
    import keras

_BASE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_SUFFIXES = (".h5", ".hdf5", ".keras")
_TIMEOUT = 20.0
"""Seconds without a byte from the server until a download is given up."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Application:
    """One of keras.applications, with its file of ImageNet weights."""

    name: str
    function: str
    module: str
    """The one in keras.applications that holds the function and its ``preprocess_input``."""
    size: int
    """Height and width of its input, in pixels."""
    file: str
    """The path of its weights below Keras's address; the last part is kept as their name."""
    checksum: str
    """As Keras gives it, "md5:<hex>" or "sha256:<hex>"; none for mobilenet_v2."""
    source: str

    @property
    def path(self) -> Path:
        """Where Keras keeps the weights, whether they are there or not."""
        return _keras_cache() / self.file.rpartition("/")[2]

    def fetch(self) -> Path:
        """The file of weights, downloaded and checked where need be, or a WeightsError."""
        if self.path.is_file():
            if self._is_intact(self.path):
                return self.path
            _log.warning("%s is damaged or incomplete; downloading it again", self.path)
        try:
            self._download()
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise WeightsError(
                f"the weights of {self.name} could not be downloaded from {_BASE}{self.file} "
                f"({error}). Put that file into {self.path.parent}, give one with --weights FILE, "
                "or use --model efficientnet-lite0, which needs no download."
            ) from error
        return self.path

    def _is_intact(self, path: Path) -> bool:
        algorithm, _, digest = self.checksum.partition(":")
        return not digest or kept_digest(path, algorithm) == digest

    def _download(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as part:
            with part.open("wb") as file:
                self._copy_to(file)
            if not self._is_intact(part):
                raise OSError("the checksum of the downloaded file is wrong")

    def _copy_to(self, file: IO[bytes]) -> None:
        from rich.console import Console
        from rich.progress import wrap_file

        url = _BASE + self.file
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:  # noqa: S310 - https
            total = int(response.headers.get("Content-Length") or 0)
            _log.warning(
                "downloading the weights of %s (%d MB) to %s", self.name, total >> 20, self.path
            )
            console = Console(stderr=True)
            quiet = not total or not console.is_terminal
            with wrap_file(
                response, total, description="", console=console, disable=quiet
            ) as source:
                shutil.copyfileobj(source, file)
            if total and (done := file.tell()) != total:
                raise OSError(f"the connection ended after {done} of {total} bytes")


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
        yield name, Application(name, function, module, int(size), file, checksum, source)


APPLICATIONS = dict(_read_table())
"""By the name they are registered under. Files and checksums: keras/src/applications/*.py."""


class ApplicationModel(NetworkModel):
    """A classifier of keras.applications.

    Its weights are "imagenet", Keras's own, downloaded on first use; a local file of weights of the
    whole classifier (.h5, .weights.h5, .keras); or "random", without any sense, by a seed, for
    tests and benchmarks.
    """

    def __init__(
        self, name: str, *, weights: str | os.PathLike[str] = "imagenet", seed: int = 0
    ) -> None:
        if name not in APPLICATIONS:
            raise AnalyzerError(f"{name!r} is none of {', '.join(APPLICATIONS)}")
        self._application = APPLICATIONS[name]
        self._seed = seed
        self._file: Path | None = None
        options: dict[str, JSON] = {"weights": str(weights)}
        if weights == "random":
            options["seed"] = seed
        elif weights != "imagenet":
            self._file = given_file(weights, name)
            options["weights"] = str(self._file)
            if self._file.suffix not in _SUFFIXES:
                known = ", ".join(_SUFFIXES)
                raise WeightsError(f"weights of {name} end in {known}, unlike {self._file}")
        super().__init__(name, options, (self._application.size, self._application.size))

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        application = APPLICATIONS[name]
        return ModelInfo(
            name,
            f"{application.function} of keras.applications ({application.source})",
            (application.size, application.size),
            available=application.path.is_file(),
        )

    def fingerprint(self) -> str:
        """The sha256 of the file of weights, which is downloaded if need be."""
        if self.config["weights"] == "random":
            return f"random:{self._seed}"
        return fingerprint(self._path(), self.name)

    def build_network(self) -> keras.Model:
        """Make the application with its preprocessing in front; see `NetworkModel`."""
        import keras

        path = None if self.config["weights"] == "random" else self._path()
        module = import_module(f"keras.applications.{self._application.module}")
        classifier = getattr(keras.applications, self._application.function)(weights=None)
        if path is None:
            _randomize(classifier, self._seed)
        else:
            with telling(f"{path} does not fit {self.name}", WeightsError):
                classifier.load_weights(str(path))
        pixels = keras.Input((*self.size, 3), name="pixels")
        outputs = with_pooled_features(classifier)(module.preprocess_input(pixels))
        return keras.Model(pixels, outputs, name=self.name)

    def _path(self) -> Path:
        return self._file or self._application.fetch()


def _keras_cache() -> Path:
    """Keras's rule: KERAS_HOME, else ~/.keras, else (not writable) a temporary folder."""
    home = Path("/.keras")
    with suppress(RuntimeError):  # of a user without a home
        home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    writable = next(folder for folder in (home, *home.parents) if folder.exists())
    if not os.access(writable, os.W_OK) and not (home / "models").is_dir():
        home = Path(tempfile.gettempdir(), ".keras")
    return home / "models"


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
