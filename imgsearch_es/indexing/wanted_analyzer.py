"""Which analyzer an index is opened with: what a person asks for, and what the index remembers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.analyzer import DEFAULT_MODEL, Analyzer, is_same_analyzer
from imgsearch_es.analysis.embedding_filters import EmbeddingFilter
from imgsearch_es.analysis.filters import with_fast_decode
from imgsearch_es.analysis.models import create_model
from imgsearch_es.analysis.models.runtime import check_runtime
from imgsearch_es.analysis.models.weights import absolute
from imgsearch_es.errors import AnalyzerMismatchError, ConfigurationError
from imgsearch_es.stores.base import IndexSettings


@dataclass(frozen=True)
class WantedAnalyzer:
    """What a person asks for; see ``ImageIndex``."""

    model: str | None = None
    analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None
    weights: str | os.PathLike[str] | None = None
    runtime: str | None = None
    fast_decode: bool = False

    def __post_init__(self) -> None:
        if self.model is not None and self.analyzer is not None:
            raise ConfigurationError("give a model or an analyzer, not both")
        if self.fast_decode and self.analyzer is not None:
            raise ConfigurationError('an analyzer says for itself: resize with decode = "fast"')
        if self.runtime is not None:
            if isinstance(self.analyzer, Analyzer):
                raise ConfigurationError(
                    "this analyzer has its runtime: Analyzer(..., runtime=...)"
                )
            check_runtime(self.runtime)
        for name in ("analyzer", "weights"):  # the current folder may be another when it is read
            given = getattr(self, name)
            is_place = isinstance(given, str | Path) and Path(given).suffix  # no name of a model
            if is_place and absolute(given).is_file():
                object.__setattr__(self, name, absolute(given))

    @property
    def is_asked_for(self) -> bool:
        """Whether an index that exists may turn out to be of another analyzer."""
        return self.model is not None or self.analyzer is not None or self.fast_decode

    def build(self, settings: IndexSettings | None) -> Analyzer:
        """The analyzer, for an index that remembers ``settings`` (`check_fits`), or a new one."""
        if settings is not None and not settings.has_model:
            if not self.is_asked_for:
                raise ConfigurationError(
                    "this index was made from a file of features, so it has no model to analyze a "
                    "picture: search by a picture that it has or by vector= (--vector), or name "
                    "the model that made the features by model= or analyzer= (--model)"
                )
            settings = None
        if isinstance(self.analyzer, Analyzer):
            return self.analyzer
        if self.analyzer is not None:
            return Analyzer(self.analyzer, runtime=self.runtime)
        if settings is None or self.model is not None:
            model: dict[str, Any] = {"name": self.model or DEFAULT_MODEL}
            config: dict[str, Any] = {"model": model}
        if settings is not None:
            stored = dict(settings.analyzer)
            if self.model in (None, stored["model"]["name"]):
                config, model = stored, dict(stored["model"])
        if self.weights is not None:
            model["weights"] = os.fspath(self.weights)
        config = {**config, "model": model}
        if self.fast_decode:
            filters = config.get("image_filters") or create_model(model).image_filters
            config["image_filters"] = with_fast_decode(filters)
        return Analyzer(config, runtime=self.runtime)

    def build_other(self, stored: IndexSettings) -> Analyzer | None:
        """The analyzer, unless it is the index's own or none is asked for."""
        if not self.is_asked_for and self.weights is None:
            return None
        found = self.build(stored)
        mine = found.config, found.fingerprint()
        return None if is_same_analyzer(*mine, stored.analyzer, stored.weights) else found


def check_fits(analyzer: Analyzer, settings: IndexSettings, location: str) -> None:
    """An analyzer must be that of the index; of an index without one, its dimensions count."""
    if settings.has_model:
        analyzer.check_is(settings.analyzer, settings.weights, location)
    elif analyzer.embedding_dimensions != settings.embedding_dimensions:
        raise AnalyzerMismatchError(
            f"{location} was made from a file of features of {settings.embedding_dimensions} "
            f"dimensions; those of {analyzer.model.name} have {analyzer.embedding_dimensions}: "
            "name the model or analyzer that made the file"
        )


def are_alike(one: IndexSettings, other: IndexSettings) -> bool:
    """Whether an index of one may hold documents of the other."""
    return (
        is_same_analyzer(one.analyzer, one.weights, other.analyzer, other.weights)
        and one.vocabulary.base == other.vocabulary.base
        and one.embedding_dimensions == other.embedding_dimensions
    )


def settings_of(analyzer: Analyzer) -> IndexSettings:
    """What a new index shall remember."""
    return IndexSettings(
        analyzer=analyzer.config,
        weights=analyzer.fingerprint(),
        vocabulary=analyzer.vocabulary.base,
        embedding_dimensions=analyzer.embedding_dimensions,
    )


def with_more_filters(
    stored: IndexSettings, analyzer: Analyzer, filters: Sequence[EmbeddingFilter]
) -> IndexSettings:
    """What an index shall remember whose analyzer has more embedding filters than before.

    Taught words are of the features without them.
    """
    dimensions = stored.embedding_dimensions
    for part in filters:
        dimensions = part.dimensions(dimensions)
    plain = stored.with_taught(())
    return replace(plain, analyzer=analyzer.config, embedding_dimensions=dimensions)
