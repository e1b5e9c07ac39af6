"""Analysis: a picture becomes terms, as Elasticsearch's analyzer turns text into tokens.

Each part has a name and options, so a whole analyzer is one small dictionary (or TOML file):

    {"model": {"name": "vgg16"},
     "image_filters": [{"name": "resize", "height": 224, "width": 224}],
     "term_filters": [{"name": "top_k", "k": 10}],
     "embedding": {"layer": "block5_conv3", "pooling": "gem", "flip": true},
     "embedding_filters": [{"name": "pca_whiten", "path": "pca.npz"}, {"name": "l2_normalize"}]}

``embedding`` may also be true (the model's own deep feature, the default) or false (none).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.embedding_filters import (
    EmbeddingFilter,
    create_embedding_filter,
    run_embedding_filters,
)
from imgsearch_es.analysis.filters import (
    create_image_filter,
    create_term_filter,
    decode_size,
    full_config,
    run_image_filters,
)
from imgsearch_es.analysis.models import Model, create_model
from imgsearch_es.analysis.models.deep_feature import DeepFeature, describe_feature
from imgsearch_es.analysis.models.weights import relative_to, without_paths
from imgsearch_es.analysis.taught import TaughtWord
from imgsearch_es.errors import AnalyzerError, AnalyzerMismatchError, ConfigurationError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import ImageSource, Picture, open_image
from imgsearch_es.vocabulary.synsets import Vocabulary

DEFAULT_MODEL = "vgg16"
"""The paper's model."""
DEFAULT_TERM_FILTERS: tuple[dict[str, Any], ...] = ({"name": "top_k", "k": 10},)
"""The paper keeps each picture's ten best synsets."""

_OPTIONS = {"model", "image_filters", "term_filters", "embedding", "embedding_filters"}
_SMALLEST_SCORE = float(np.finfo(np.float32).tiny)
"""Lucene's smallest term weight (FeatureField: Float.MIN_NORMAL). Less is no term."""


@dataclass(frozen=True, slots=True)
class Term:
    """One synset of a picture (or of a query) with its weight."""

    key: str
    """The synset's unique key in the vocabulary."""
    score: float
    """Finite and above zero; a float32 number, so both stores hold the same value."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What an analyzer says of one picture."""

    terms: tuple[Term, ...]
    """Best first; equal scores in the order of the vocabulary."""
    embedding: NDArray[np.float32] | None
    """The deep feature, of shape (dimensions,), or None."""


class Analyzer:
    """Image filters, a model and term filters in a row.

    Args:
        config: the dictionary above; a path of a TOML file that holds it; or a model's name, for
            that model with its own image filters and the paper's term filters.
        runtime: what runs the model: "tensorflow", "openvino", or "auto" for OpenVINO where both
            agree; by default IMGSEARCH_RUNTIME, else "auto". It is no part of the configuration.

    Raises:
        ConfigurationError: an option is unknown, or the TOML file is missing or malformed.
        AnalyzerError: a part is unknown, or its options are wrong.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | Path = DEFAULT_MODEL,
        *,
        runtime: str | None = None,
    ) -> None:
        options, folder = _read_config(config)
        with relative_to(folder):
            self._build(options, runtime)
        self.taught: tuple[TaughtWord, ...] = ()

    def _build(self, options: Mapping[str, Any], runtime: str | None) -> None:
        for option in set(options) - _OPTIONS:
            known = ", ".join(sorted(_OPTIONS))
            raise ConfigurationError(f"unknown analyzer option {option!r}; known are {known}")
        self.model = create_model(options.get("model", DEFAULT_MODEL))
        if runtime is not None:
            _tell(self.model, "use_runtime", runtime, f"runs in its own way, not on {runtime}")
        before = options.get("image_filters", self.model.image_filters)
        after = options.get("term_filters", DEFAULT_TERM_FILTERS)
        self.image_filters = tuple(map(create_image_filter, before))
        self.term_filters = tuple(map(create_term_filter, after))
        self.decode_size = decode_size(self.image_filters)
        """What `open` does not go below, (width, height); None without fast decoding."""
        wanted = options.get("embedding", True)
        self.embedding = wanted is not False
        feature = _deep_feature(self.model, wanted)
        behind = options.get("embedding_filters", ())
        if behind and not self.embedding:
            raise AnalyzerError("embedding_filters change a deep feature, and embedding is false")
        self.embedding_filters = tuple(map(create_embedding_filter, behind))
        self.config: dict[str, Any] = {
            "model": self.model.config,
            "image_filters": list(map(full_config, before, self.image_filters)),
            "term_filters": list(map(full_config, after, self.term_filters)),
            "embedding": feature.to_config() or True if self.embedding else False,
        }
        if behind:  # left out otherwise, as in indexes made before there were any
            parts = map(full_config, behind, self.embedding_filters)
            self.config["embedding_filters"] = list(parts)
        """Everything needed to build this analyzer again, as JSON values."""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The terms that this analyzer can give: the model's classes after the term filters."""
        vocabulary = self.model.vocabulary
        for part in self.term_filters:
            vocabulary = part.vocabulary(vocabulary)
        return vocabulary.with_taught((w.key, w.name, w.described) for w in self.taught)

    def with_taught(self, words: tuple[TaughtWord, ...]) -> Analyzer:
        """This analyzer, which also gives the words that an index was taught."""
        other = copy(self)
        other.__dict__.pop("vocabulary", None)
        other.taught = words
        return other

    @cached_property
    def embedding_dimensions(self) -> int:
        """Length of the deep feature, 0 without one; found by analyzing a blank picture."""
        if not self.embedding:
            return 0
        # Two pictures, as a batch will follow: OpenVINO compiles a network for one on its own.
        embedding = self.analyze_batch([Image.new("RGB", (64, 64))] * 2)[0].embedding
        return 0 if embedding is None else len(embedding)

    def fingerprint(self) -> str:
        """The fingerprint of the model's weights; does not load the model."""
        return self.model.fingerprint()

    def open(
        self,
        source: ImageSource,
        *,
        uri: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        admit: Callable[[int], None] = lambda pixels: None,
    ) -> Picture:
        """Open a picture as this analyzer wants it decoded; takes what ``open_image`` takes."""
        return open_image(source, uri=uri, limits=limits, at_least=self.decode_size, admit=admit)

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Run the image filters on an RGB picture: pixels of shape (height, width, 3), 0 to 255."""
        return run_image_filters(self.image_filters, image)

    def analyze_prepared(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Analysis]:
        """Analyze a batch of pictures of one size, as ``prepare`` gives them, in one pass."""
        sizes = {pixels.shape for pixels in pictures}
        if len(sizes) > 1:
            raise AnalyzerError(
                "the image filters give pictures of different sizes; end them with center_crop, or "
                "with resize with height and width"
            )
        prediction = self.model.predict(np.stack(pictures))
        terms = self.to_terms(prediction.posterior)
        if not self.embedding:
            return [Analysis(each, None) for each in terms]
        vectors = run_embedding_filters(self.embedding_filters, prediction.embedding)
        return list(map(Analysis, add_taught(terms, vectors, self.taught), vectors))

    def to_terms(self, posterior: NDArray[np.float32]) -> list[tuple[Term, ...]]:
        """Run the term filters on posteriors, and give each picture's terms, best first.

        Scores that are no term before the filters count as 0, so a posterior of shape (pictures,
        classes) that was kept as terms gives the same terms again.
        """
        scores = _without_noise(posterior)
        vocabulary = self.model.vocabulary
        for part in self.term_filters:
            scores = part(scores, vocabulary)
            vocabulary = part.vocabulary(vocabulary)
        return [_terms(row, vocabulary.keys) for row in _without_noise(scores)]

    def analyze(self, image: Image.Image) -> Analysis:
        """Analyze one RGB picture."""
        return self.analyze_batch([image])[0]

    def analyze_batch(self, images: Sequence[Image.Image]) -> list[Analysis]:
        """Analyze RGB pictures of any size, together."""
        return self.analyze_prepared(list(map(self.prepare, images))) if images else []

    def filters_added_to(
        self, config: Mapping[str, Any], weights: str
    ) -> tuple[EmbeddingFilter, ...]:
        """The embedding filters with which this analyzer goes on where another one ends.

        Stored deep features of the other, which its configuration and the fingerprint of its
        weights describe, then need no model to become this one's. There are none when they differ
        in anything else or in nothing.
        """
        old, new = _essence(config), _essence(self.config)
        before = old.pop("embedding_filters")
        if before != new.pop("embedding_filters")[: len(before)] or not self.embedding:
            return ()
        if old != new or weights != self.fingerprint():
            return ()
        return self.embedding_filters[len(before) :]

    def check_is(self, config: Mapping[str, Any], weights: str, location: str) -> None:
        """An index is searched and extended with the analyzer that built it, or not at all."""
        built = f"{location} was built with the model {config['model']['name']}"
        built = f"{built} ({describe(config)})"
        if _essence(config) != _essence(self.config):
            raise AnalyzerMismatchError(
                f"{built}, not with the model {self.model.name} ({describe(self.config)}): open it "
                "without naming a model or analyzer, or index the pictures again under another name"
            )
        mine = self.fingerprint()
        if weights != mine:
            raise AnalyzerMismatchError(
                f"{built} and the weights {weights[:19]}, not {mine[:19]}: give the right file by "
                "weights= (--weights), or index the pictures again under another name"
            )

    def __repr__(self) -> str:
        return f"Analyzer({describe(self.config)})"


def is_same_analyzer(
    config: Mapping[str, Any], weights: str, other: Mapping[str, Any], other_weights: str
) -> bool:
    """Whether two configurations, with the fingerprints of their weights, give the same terms."""
    return weights == other_weights and _essence(config) == _essence(other)


def describe(config: Mapping[str, Any]) -> str:
    """An analyzer's full configuration on one line: its parts and their options, in order."""
    parts = [*config["image_filters"], config["model"], *config["term_filters"]]
    said = " -> ".join(map(_described, parts))
    feature, behind = config.get("embedding", True), config.get("embedding_filters", ())
    if isinstance(feature, bool):
        if not behind:
            return said
        feature = {}
    return " -> ".join(
        [f"{said}; deep feature: {describe_feature(feature)}", *map(_described, behind)]
    )


def _deep_feature(model: Model, wanted: object) -> DeepFeature:
    """The deep feature that ``embedding`` asks for; the model is told."""
    if not isinstance(wanted, bool | Mapping):
        raise ConfigurationError(f"embedding is true, false, or options, not {wanted!r}")
    feature = DeepFeature.from_config(wanted if isinstance(wanted, Mapping) else {})
    if not feature.is_default:
        _tell(
            model, "use_deep_feature", feature, "gives one deep feature only: leave out embedding"
        )
    return feature


def _tell(model: Model, method: str, value: object, problem: str) -> None:
    """Call a method that only the built-in models have."""
    use = getattr(model, method, None)
    if use is None:
        raise ConfigurationError(f"the model {model.name} {problem}")
    use(value)


def _essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says where its files are on this machine.

    Which they are is in the model's fingerprint, and in the option sha256 of the other parts.
    """
    model = {k: v for k, v in config["model"].items() if k not in ("weights", "path", "labels")}
    kind, is_file, _ = str(model["name"]).partition(":")
    if is_file and kind in ("keras", "quantized"):
        model["name"] = kind
    feature = without_paths({"embedding": config.get("embedding", True)})
    filters = [*map(without_paths, config.get("embedding_filters", ()))]
    return {**config, "model": model, **feature, "embedding_filters": filters}


def _described(part: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key}={value}" for key, value in part.items() if key != "name")
    return f"{part['name']}({options})" if options else str(part["name"])


def _without_noise(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores that are no term, as they are not finite or too small, become 0."""
    is_term = np.isfinite(scores) & (scores >= _SMALLEST_SCORE)
    return np.where(is_term, scores, np.float32(0))


def add_taught(
    terms: Sequence[tuple[Term, ...]], vectors: NDArray[np.float32], words: Sequence[TaughtWord]
) -> list[tuple[Term, ...]]:
    """Terms of pictures with those of taught words by their deep features, best first."""
    added: list[list[Term]] = [[] for _ in terms]
    for word in words:
        for i, score in enumerate(word.scores(vectors).tolist()):
            if score:
                added[i].append(Term(word.key, score))
    return [
        tuple(sorted((*own, *more), key=lambda term: -term.score)) if more else own
        for own, more in zip(terms, added, strict=True)
    ]


def _terms(scores: NDArray[np.float32], keys: Sequence[str]) -> tuple[Term, ...]:
    found = np.flatnonzero(scores)
    best_first = found[np.argsort(-scores[found], kind="stable")]
    return tuple(Term(keys[i], float(scores[i])) for i in best_first)


def _read_config(config: Mapping[str, Any] | str | Path) -> tuple[Mapping[str, Any], Path]:
    """The configuration, and the folder in which its relative paths begin."""
    if isinstance(config, str) and not config.endswith(".toml"):
        config = {"model": config}
    if isinstance(config, Mapping):
        return config, Path()
    path = Path(config).expanduser()
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as file:
            return tomllib.load(file), path.parent
    except OSError as error:
        raise ConfigurationError(f"cannot read the analyzer {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
