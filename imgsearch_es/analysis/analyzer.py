"""Analysis: a picture becomes terms, as Elasticsearch's analyzer turns text into tokens.

Each part has a name and options, so a whole analyzer is one small dictionary (or TOML file):

    {"model": {"name": "vgg16"},
     "image_filters": [{"name": "resize", "height": 224, "width": 224}],
     "terms": 50,
     "query_terms": 10,
     "embedding": {"layer": "block5_conv3", "pooling": "gem", "flip": true},
     "embedding_filters": [{"name": "pca_whiten", "path": "pca.npz"}, {"name": "l2_normalize"}],
     "views": "tiles"}

``terms`` is short for ``"term_filters": [{"name": "top_k", "k": 50}]``. ``query_terms`` is how many
classes a picture in a query asks with; without it, all that it has. ``embedding`` may also be true
(the model's own deep feature, the default) or false (none). Without ``views`` the analyzer looks at
the whole picture only. ``visual_words``, true or a number, has an index keep as many visual words
of each deep feature. ``photo`` is what it keeps of how pictures were taken, see ``photo.KEPT``;
``thumbnails`` the longer side of those that it keeps on Elasticsearch, such as 96.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.configuration import (
    DEFAULT_MODEL,
    DeepFeature,
    describe,
    essence,
    read_config,
    relative_to,
    terms_of,
)
from imgsearch_es.analysis.embedding_filters import (
    EmbeddingFilter,
    create_embedding_filter,
    run_embedding_filters,
)
from imgsearch_es.analysis.filters import (
    Preparation,
    TopK,
    create_image_filter,
    create_term_filter,
    stacked,
    whole_of,
)
from imgsearch_es.analysis.models import Model, create_model
from imgsearch_es.analysis.plugins import full_config
from imgsearch_es.analysis.terms import Analysis as Analysis
from imgsearch_es.analysis.terms import TaughtWord, colors_of, to_word_count, word_name
from imgsearch_es.analysis.terms import Term as Term
from imgsearch_es.errors import AnalyzerError, AnalyzerMismatchError, ConfigurationError
from imgsearch_es.pictures.files import Limits
from imgsearch_es.pictures.images import ImageSource, Picture, open_image
from imgsearch_es.pictures.photo import KEPT, to_kept
from imgsearch_es.pictures.thumbnails import to_side
from imgsearch_es.vocabulary.synsets import Vocabulary

_OPTIONS = {
    "model", "image_filters", "terms", "term_filters", "query_terms", "embedding",
    "embedding_filters", "views", "visual_words", "photo", "thumbnails",
}  # fmt: skip
_SMALLEST_SCORE = float(np.finfo(np.float32).tiny)
"""Lucene's smallest term weight (FeatureField: Float.MIN_NORMAL). Less is no term."""


class Analyzer:
    """Image filters, a model and term filters in a row.

    >>> Analyzer("efficientnet-lite0").config["term_filters"]
    [{'name': 'top_k', 'k': 50}]

    Args:
        config: the dictionary above; a path of a TOML file that holds it; a model's name, for that
            model with its own image filters, 50 terms and 10 of a query; or "paper", for VGG16
            with ten and ten.
        runtime: what runs the model: "tensorflow", "openvino", or "auto" for OpenVINO where both
            agree; by default IMGSEARCH_RUNTIME, else "auto". It is no part of the configuration.
        words: of a model "zeroshot:...": its classes, or a file with one a line.

    Raises:
        ConfigurationError: an option is unknown, or the TOML file is missing or malformed.
        AnalyzerError: a part is unknown, or its options are wrong.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | str | Path = DEFAULT_MODEL,
        *,
        runtime: str | None = None,
        words: str | Path | Sequence[str] | None = None,
    ) -> None:
        options, folder = read_config(config, words)
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
        after, asked = terms_of(options)
        self.image_filters = tuple(map(create_image_filter, before))
        self.preparation = Preparation(self.image_filters, options.get("views"))
        self.term_filters = tuple(map(create_term_filter, after))
        first = self.term_filters[0] if self.term_filters else None
        is_all = asked is not None and isinstance(first, TopK) and first.k <= asked
        self.query_terms = None if is_all else asked
        """How many of its classes a query picture asks with; None for all that it has."""
        self.decode_size = self.preparation.decode_size
        """What `open` does not go below, (width, height); None without fast decoding."""
        wanted = options.get("embedding", True)
        self.embedding = wanted is not False
        feature = _deep_feature(self.model, wanted)
        behind = options.get("embedding_filters", ())
        if behind and not self.embedding:
            raise AnalyzerError("embedding_filters change a deep feature, and embedding is false")
        self.embedding_filters = tuple(map(create_embedding_filter, behind))
        self.visual_words = to_word_count(options.get("visual_words", False))
        """How many visual words of each picture are indexed; 0 for none."""
        if self.visual_words and not self.embedding:
            raise AnalyzerError("visual words are made from a deep feature, and embedding is false")
        self.photo = to_kept(options.get("photo", KEPT[0]))
        self.thumbnails = to_side(options.get("thumbnails", 0))
        self.config: dict[str, Any] = {
            "model": self.model.config,
            "image_filters": list(map(full_config, before, self.image_filters)),
            "term_filters": list(map(full_config, after, self.term_filters)),
            "embedding": feature.to_config() or True if self.embedding else False,
        }
        """Everything needed to build this analyzer again, as JSON values."""
        more = {
            "query_terms": self.query_terms,
            "embedding_filters": list(map(full_config, behind, self.embedding_filters)),
            "views": self.preparation.views,
            "visual_words": self.visual_words,
            "photo": self.photo if self.photo != KEPT[0] else None,
            "thumbnails": self.thumbnails,
        }
        # Left out where it says nothing, as in indexes made before there was any.
        self.config |= {name: value for name, value in more.items() if value}

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

    @cached_property
    def _class_weights(self) -> NDArray[np.float32] | None:
        weights = getattr(self.model, "class_weights", None)
        return None if weights is None or self.embedding_filters else weights()

    def word_name(self, key: str) -> str:
        """A visual word for people, as `terms.word_name` names it; slow when first asked."""
        return word_name(key, self._class_weights, self.model.vocabulary)

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
        """Cut an RGB picture into views, and run the image filters: pixels, 0 to 255.

        Their shape is (height, width, 3), and (views, height, width, 3) where the analyzer has
        ``views``.
        """
        return self.preparation(image)

    def analyze_prepared(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Analysis]:
        """Analyze a batch of pictures of one size, as ``prepare`` gives them, together.

        Of several views a picture has the mean posterior, and the deep feature of the whole.
        """
        batch, count = stacked(list(pictures)), self.preparation.count
        posterior, embedding = self._predicted(batch)
        views = None
        if count > 1:
            views = _without_noise(posterior).reshape(len(pictures), count, -1)
            posterior = views.mean(axis=1, dtype=np.float64).astype(np.float32)
        terms = self.to_terms(posterior)
        if views is not None:
            terms = self._with_views(terms, views)
        colors = [colors_of(whole_of(each)) for each in pictures]
        if not self.embedding:
            return list(map(Analysis, terms, [None] * len(terms), colors))
        vectors = run_embedding_filters(self.embedding_filters, embedding[::count])
        return list(map(Analysis, add_taught(terms, vectors, self.taught), vectors, colors))

    def _predicted(
        self, batch: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posteriors and deep features of all pictures; with views, of all their views."""
        size = len(batch)
        if self.preparation.count > 1:
            batch, size = batch.reshape(-1, *batch.shape[2:]), 32  # so that memory stays bounded
        starts = range(0, len(batch), size)
        parts = [self.model.predict(batch[start : start + size]) for start in starts]
        return (
            np.concatenate([part.posterior for part in parts]),
            np.concatenate([part.embedding for part in parts]),
        )

    def _with_views(
        self, terms: Sequence[tuple[Term, ...]], views: NDArray[np.float32]
    ) -> list[tuple[Term, ...]]:
        """The terms of pictures with the view in which each scores best; of equal ones the first.

        Posteriors have the shape (pictures, views, classes).
        """
        scores, column = self._by_view(views)
        best = scores.argmax(axis=1)
        return [
            tuple(replace(term, view=int(row[column[term.key]])) for term in kept)
            for kept, row in zip(terms, best, strict=True)
        ]

    def _by_view(self, views: NDArray[np.float32]) -> tuple[NDArray[np.float32], dict[str, int]]:
        """Scores of shape (pictures, views, terms) of posteriors, and the columns of the terms.

        Hypernyms are added to them; the other term filters do not matter, for they say how a
        picture's terms compare.
        """
        pictures, count, _ = views.shape
        scores, vocabulary = views.reshape(pictures * count, -1), self.model.vocabulary
        for part in self.term_filters:
            wider = part.vocabulary(vocabulary)
            if wider.keys != vocabulary.keys:
                scores = part(scores, vocabulary)
            vocabulary = wider
        column = {key: i for i, key in enumerate(vocabulary.keys)}
        return scores.reshape(pictures, count, -1), column

    def view_scores(self, image: Image.Image) -> dict[str, NDArray[np.float32]]:
        """What each term scores in each view of an RGB picture: shape (views,), by its key."""
        posterior, _ = self._predicted(self.prepare(image)[np.newaxis])
        scores, column = self._by_view(_without_noise(posterior).reshape(1, -1, posterior.shape[1]))
        return {key: scores[0, :, i] for key, i in column.items()}

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
    ) -> tuple[EmbeddingFilter, ...] | None:
        """The embedding filters with which this analyzer goes on where another one ends.

        Stored documents of the other, which its configuration and the fingerprint of its weights
        describe, then need no model to become this one's: their deep features pass through these
        filters. None when the two differ in more; what queries ask with, and visual words, are no
        such difference.
        """
        old, new = essence(config), essence(self.config)
        for each in (old, new):
            each.pop("query_terms", None)
        before, after = old.pop("embedding_filters"), new.pop("embedding_filters")
        if before != after[: len(before)] or old != new or weights != self.fingerprint():
            return None
        return self.embedding_filters[len(before) :]

    def check_is(self, config: Mapping[str, Any], weights: str, location: str) -> None:
        """An index is searched and extended with the analyzer that built it, or not at all."""
        built = f"{location} was built with the model {config['model']['name']}"
        built = f"{built} ({describe(config)})"
        if essence(config) != essence(self.config):
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


def _deep_feature(model: Model, wanted: object) -> DeepFeature:
    """The deep feature that ``embedding`` asks for; the model is told."""
    if not isinstance(wanted, bool | Mapping):
        raise ConfigurationError(f"embedding is true, false, or options, not {wanted!r}")
    feature = DeepFeature.from_config(wanted if isinstance(wanted, Mapping) else {})
    if not feature.is_default:
        problem = "gives one deep feature only: leave out embedding"
        _tell(model, "use_deep_feature", feature, problem)
    return feature


def _tell(model: Model, method: str, value: object, problem: str) -> None:
    """Call a method that only the built-in models have."""
    use = getattr(model, method, None)
    if use is None:
        raise ConfigurationError(f"the model {model.name} {problem}")
    use(value)


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
