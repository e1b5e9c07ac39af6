"""A person's own classifier: ``keras:PATH``, with a file of labels that become the vocabulary.

What the model is (its input, whether it holds Python code) is read from the file's own JSON
description, without TensorFlow; the network itself is loaded on first use.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.analysis.configuration import absolute, fingerprint, given_file
from imgsearch_es.analysis.models.applications import APPLICATIONS
from imgsearch_es.analysis.models.base import JSON, ModelInfo, NetworkModel
from imgsearch_es.analysis.models.networks import (
    load_network,
    parts,
    read_description,
    with_pooled_features,
)
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError, telling
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, from_wnids, imagenet
from imgsearch_es.vocabulary.wordnet import noun

if TYPE_CHECKING:
    import keras

_ACTIVATIONS = ("auto", "none", "softmax", "sigmoid")
_RESCALE = ("none", "0..1", "-1..1", *APPLICATIONS)


class KerasFileModel(NetworkModel):
    """A classifier saved by Keras: one RGB picture in, one score per label out.

    Its name is "keras:" and the path of a .keras or .h5 file; docs/how-to/own-model.md has its
    options. One output with two labels is a binary classifier: its score is that of the second.
    """

    def __init__(
        self,
        name: str,
        *,
        labels: str | os.PathLike[str] | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        rescale: str = "none",
        activation: str = "auto",
        wordnet: bool = True,
    ) -> None:
        path = name.partition(":")[2]
        if not path:
            raise AnalyzerError("a classifier of your own is named keras:PATH, with its file")
        if absolute(path).is_dir():
            raise WeightsError(f"{path} is a folder; save the model as one file, model.keras")
        self.path = given_file(path, "the classifier")
        choices = (("rescale", rescale, _RESCALE), ("activation", activation, _ACTIVATIONS))
        for option, value, known in choices:
            if value not in known:
                raise AnalyzerError(f"{option} is one of {', '.join(known)}, not {value!r}")
        size = _input_size(self.path, read_description(self.path), (height, width))
        if labels is None:
            labels = _find_labels(self.path)
        stored: JSON
        if isinstance(labels, (str, os.PathLike)):
            stored = str(absolute(labels))
            self._labels = read_labels(Path(stored))
        else:
            self._labels, stored = list(labels), [*labels]
        options: dict[str, JSON] = {"labels": stored, "height": size[0], "width": size[1]}
        options |= {"rescale": rescale, "activation": activation}
        if any(noun(label.strip()) for label in self._labels):
            options["wordnet"] = wordnet  # of an index made before there was this it says nothing
        self._rescale, self._activation, self._wordnet = rescale, activation, wordnet
        super().__init__(f"keras:{self.path}", options, size)

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        return ModelInfo("keras:PATH", "your own classifier, a .keras or .h5 file with its labels")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The labels; ImageNet's synsets or WordNet's where they are these."""
        return to_vocabulary(self._labels, wordnet=self._wordnet)

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """Bilinear resize to the input's size, by Pillow, which averages."""
        (resize,) = super().image_filters
        return [{**resize, "interpolation": "bilinear"}]

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return fingerprint(self.path, self.name)

    def build_network(self) -> keras.Model:
        """Load the classifier, and put rescaling and activation around it; see `NetworkModel`."""
        import keras

        classifier = self._classifier()
        binary = self._check_outputs(classifier)
        activation = self._activation
        if activation == "auto":
            linear = _output_activation(classifier) == "linear"
            activation = ("sigmoid" if binary else "softmax") if linear else "none"
        both = with_pooled_features(classifier)
        pixels = keras.Input((*self.size, 3), name="pixels")
        scores, embedding = both(_rescaled(pixels, self._rescale))
        if activation != "none":
            scores = keras.layers.Activation(activation)(scores)
        if binary:
            scores = keras.layers.Concatenate()([1.0 - scores, scores])
        return keras.Model(pixels, [scores, embedding])

    def _classifier(self) -> keras.Model:
        import keras

        classifier = load_network(self.path)
        with telling(f"Keras cannot load {self.path}", WeightsError):
            if not classifier.built or not hasattr(classifier, "inputs"):
                classifier(keras.Input((*self.size, 3)))
        ends = [len(getattr(classifier, end, None) or ()) for end in ("inputs", "outputs")]
        if ends != [1, 1]:
            raise AnalyzerError(
                f"{self.path} has {ends[0]} inputs and {ends[1]} outputs; a classifier has one each"
            )
        return classifier

    def _check_outputs(self, classifier: keras.Model) -> bool:
        """Whether the one output stands for two labels."""
        shape = tuple(classifier.outputs[0].shape)
        labels = len(self._labels)
        if len(shape) != 2 or shape[1] not in ((labels, 1) if labels == 2 else (labels,)):
            outputs = shape[1] if len(shape) == 2 else f"shape {shape}"
            raise AnalyzerError(
                f"{self.path} has {outputs} outputs and there are {labels} labels; "
                "give one label per output, in their order"
            )
        return labels == 2 and shape[1] == 1


def _output_activation(classifier: keras.Model) -> str | None:
    """The name of the last layer's activation, such as "softmax" or "linear", where it has one."""
    import keras

    layer = classifier.outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return _output_activation(layer)
    return getattr(getattr(layer, "activation", None), "__name__", None)


def _rescaled(pixels: Any, rescale: str) -> Any:
    if rescale in APPLICATIONS:
        module = import_module(f"keras.applications.{APPLICATIONS[rescale].module}")
        return module.preprocess_input(pixels)
    if rescale == "0..1":
        return pixels / 255.0
    return pixels / 127.5 - 1.0 if rescale == "-1..1" else pixels


def _input_size(
    path: Path, description: dict[str, Any], given: tuple[int | None, int | None]
) -> tuple[int, int]:
    """Height and width of the input: the file's own, or where it takes any, the options'."""
    keys = ("batch_shape", "batch_input_shape")
    shapes = [part[key] for part in parts(description) for key in keys if part.get(key)]
    shape = shapes[0] if shapes else [None, None, None, 3]
    if len(shape) != 4 or shape[3] not in (3, None):
        raise AnalyzerError(
            f"{path} takes input of shape {tuple(shape)}, not RGB pictures (None, height, width, 3)"
        )
    size: list[int] = []
    for side, fixed, option in zip(("height", "width"), shape[1:3], given, strict=True):
        if fixed and option and fixed != option:
            raise AnalyzerError(f"{path} takes pictures of {side} {fixed}, not {option}")
        if not (fixed or option):
            raise ConfigurationError(f"{path} takes any {side}: give the options height and width")
        size.append(fixed or option or 0)
    return size[0], size[1]


def _find_labels(model: Path) -> Path:
    """The file of labels beside a model: <stem>.labels.txt, labels.txt or labels.json."""
    names = (f"{model.name.partition('.')[0]}.labels.txt", "labels.txt", "labels.json")
    for name in dict.fromkeys((f"{model.stem}.labels.txt", *names)):
        if model.with_name(name).is_file():
            return model.with_name(name)
    raise ConfigurationError(
        f"the labels of {model} are not known: give them with labels=FILE, or put "
        f"{model.stem}.labels.txt, labels.txt or labels.json beside it"
    )


def read_labels(path: Path) -> list[str]:
    """Read labels: one per line, or (.json) a list, or an object {"0": label, "1": label, ...}."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix != ".json":
            return [line.strip() for line in text.strip().splitlines()]
        found = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"cannot read the labels in {path}: {error}") from error
    if isinstance(found, dict):
        found = [found.get(str(i)) for i in range(len(found))]
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise ConfigurationError(f"{path} must hold a list of labels, or an object by number")
    return found


def to_vocabulary(labels: Sequence[str], *, wordnet: bool = True) -> Vocabulary:
    """The vocabulary of the labels.

    ImageNet's, where they are its 1,000 classes in order; WordNet's, where one is a wnid, unless
    ``wordnet`` is false.
    """
    known = imagenet()
    if len(labels) == len(known) and all(
        label in (synset.key, synset.name, synset.wnid)
        for label, synset in zip(labels, known, strict=True)
    ):
        return known
    is_wordnet = wordnet and any(noun(label.strip()) for label in labels)
    return from_wnids(labels) if is_wordnet else from_labels(labels)
