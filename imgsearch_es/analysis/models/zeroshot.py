"""Any words: ``zeroshot:PRESET``, a CLIP or SigLIP of keras-hub whose classes are a list of words.

A picture's posterior is the softmax of its similarities to the texts of the words, with the
temperature that the network learnt; its deep feature is the normalized vector that these compare,
so free text is a vector, too (Radford et al. 2021; Zhai et al. 2023).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import DeepFeature, absolute, fingerprint
from imgsearch_es.analysis.models.base import JSON, ModelInfo, NetworkModel
from imgsearch_es.analysis.models.keras_file import read_labels, to_vocabulary
from imgsearch_es.analysis.models.runtime import import_keras
from imgsearch_es.analysis.models.runtime_choice import check_runtime
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError, needed, telling
from imgsearch_es.vocabulary.synsets import Vocabulary, imagenet

if TYPE_CHECKING:
    import keras

_WEIGHTS = "model.weights.h5"
_TEXTS = 64
"""Texts in a forward pass."""


class ZeroShotModel(NetworkModel):
    """A network of pictures and texts; "zeroshot:" and a preset of keras-hub, or a folder of one.

    A preset is downloaded on first use. The classes are words, phrases or wnids, or a file with one
    a line; by default the 1,000 synsets of ImageNet with scenes, colors and common things. In the
    text of a word it takes the place of ``{}``. The preset says how many pixels wide its input is.
    """

    def __init__(
        self,
        name: str,
        *,
        words: str | os.PathLike[str] | Sequence[str] | None = None,
        template: str = "a photo of a {}",
        size: int | None = None,
    ) -> None:
        preset = name.partition(":")[2]
        if not preset:
            raise AnalyzerError(
                "name a preset of keras-hub, such as zeroshot:clip_vit_base_patch32"
            )
        if template.count("{}") != 1:
            raise AnalyzerError(f"template is a text with one {{}} for the word, not {template!r}")
        self.preset = str(absolute(preset)) if absolute(preset).is_dir() else preset
        options: dict[str, JSON] = {"template": template}
        if isinstance(words, str | os.PathLike):
            words = read_labels(absolute(words))
        self._words = _default_words() if words is None else [word.strip() for word in words]
        if words is not None:
            options["words"] = [*self._words]
        options["size"] = side = size or self._converter.image_size[0]
        self._template = template
        super().__init__(f"zeroshot:{self.preset}", options, (side, side))
        self._wanted = "tensorflow"

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        return ModelInfo("zeroshot:PRESET", "any words, by a CLIP or SigLIP of keras-hub (--words)")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words; wnids among them are synsets of WordNet."""
        return to_vocabulary(self._words)

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """Bicubic resize: of the shorter side, then the middle, or of both, as the preset says."""
        side = self.size[0]
        if not self._converter.crop_to_aspect_ratio:
            return [{"name": "resize", "height": side, "width": side, "interpolation": "bicubic"}]
        return [
            {"name": "resize", "shorter_side": side, "interpolation": "bicubic"},
            {"name": "center_crop", "height": side, "width": side},
        ]

    def fingerprint(self) -> str:
        """The sha256 of the file of weights."""
        return fingerprint(self._file, self.name)

    def build_network(self) -> keras.Model:
        """Pixels to similarities to the words; see `NetworkModel`."""
        import keras

        backbone, converter = self._backbone, self._converter
        pixels = keras.Input((*self.size, 3), name="pixels")
        scale = 1.0 if converter.scale is None else np.asarray(converter.scale, np.float32)
        offset = 0.0 if converter.offset is None else np.asarray(converter.offset, np.float32)
        found = backbone.get_vision_embeddings(pixels * scale + offset)
        embedding = keras.layers.UnitNormalization(name="embedding")(found)
        head = getattr(backbone, "clip_head", None) or backbone.siglip_head
        layer = keras.layers.Dense(len(self._words), activation="softmax", use_bias=False)
        posterior = layer(embedding)
        layer.set_weights([self.class_weights() * np.exp(np.asarray(head.logit_scale))])
        return keras.Model(pixels, [posterior, embedding], name="zeroshot")

    def class_weights(self) -> NDArray[np.float32]:
        """The vectors of the words' texts, (dimensions, words)."""
        names = (synset.name.replace("_", " ") for synset in self.vocabulary)
        vectors = self.text_features([self._template.format(name) for name in names])
        return np.ascontiguousarray(vectors.T)

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Free texts as deep features of length 1, (texts, dimensions)."""
        import_keras()
        found = []
        with telling(f"the texts of {self.name} cannot be read"):
            for start in range(0, len(texts), _TEXTS):
                part = {"prompts": list(texts[start : start + _TEXTS]), "images": None}
                tokens = self._preprocessor(part)["token_ids"]
                found.append(np.asarray(self._backbone.get_text_embeddings(tokens), np.float32))
        vectors = np.concatenate(found)
        normed: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return normed

    def use_deep_feature(self, feature: DeepFeature) -> None:
        """Refuse: texts are compared with the network's own."""
        raise ConfigurationError(f"{self.name} gives one deep feature only: leave out embedding")

    def use_runtime(self, name: str) -> None:
        """Stay on TensorFlow: OpenVINO 2026.4 crashes on such a network."""
        if check_runtime(name) == "openvino":
            raise ConfigurationError(f"{self.name} runs on TensorFlow alone: leave out --runtime")

    @property
    def _file(self) -> Path:
        if Path(self.preset).is_dir():
            return Path(self.preset, _WEIGHTS)
        _keras_hub()
        from keras_hub.src.utils.preset_utils import get_file

        with self._telling():
            return Path(get_file(self.preset, _WEIGHTS))

    @cached_property
    def _converter(self) -> Any:
        return self._loaded(_keras_hub().layers.ImageConverter)

    @cached_property
    def _preprocessor(self) -> Any:
        models = _keras_hub().models
        is_clip = hasattr(self._backbone, "clip_head")
        kind = models.CLIPPreprocessor if is_clip else models.SigLIPPreprocessor
        return self._loaded(kind, image_converter=None)

    @cached_property
    def _backbone(self) -> Any:
        found = self._loaded(_keras_hub().models.Backbone)
        if not hasattr(found, "get_text_embeddings"):
            raise AnalyzerError(f"{self.preset} is no CLIP or SigLIP: it reads no texts")
        return found

    def _loaded(self, kind: Any, **options: Any) -> Any:
        with self._telling():
            return kind.from_preset(self.preset, **options)

    def _telling(self) -> Any:
        return telling(f"the preset {self.preset} cannot be had by keras-hub", WeightsError)


def _default_words() -> list[str]:
    path = Path(__file__).parents[2] / "vocabulary" / "words.txt"
    listed = path.read_text(encoding="utf-8").splitlines()
    more = [line.partition(" ")[0] for line in listed if not line.startswith("#")]
    return list(dict.fromkeys([*imagenet().labels, *more]))


def _keras_hub() -> Any:
    import_keras()
    return needed("keras_hub", "zeroshot needs keras-hub, which is not installed", "zeroshot")
