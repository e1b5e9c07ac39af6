"""Which analyzer an index is opened with: what a person asks for, and what the index remembers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import (
    DEFAULT_MODEL,
    current_folder,
    is_same_analyzer,
    relative_to,
)
from imgsearch_es.analysis.embedding_filters import EmbeddingFilter
from imgsearch_es.analysis.filters import with_fast_decode
from imgsearch_es.analysis.models import create_model
from imgsearch_es.analysis.models.runtime_choice import check_runtime
from imgsearch_es.analysis.terms import to_word_count
from imgsearch_es.errors import AnalyzerMismatchError, ConfigurationError
from imgsearch_es.pictures.thumbnails import to_side
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.settings import MOST_FIELDS

Ask = TypeVar("Ask", bound=Callable[..., Any])
_NAMED = Parameter.KEYWORD_ONLY


def signed(options: type, *left_out: str) -> Callable[[Ask], Ask]:
    """Decorates a function with ``**options``: its signature, and so completion, names them all.

    ``options`` are a TypedDict, or a dataclass whose fields they are; ``left_out`` is not taken.
    """
    if is_dataclass(options):
        fields = [*signature(options).parameters.values()]
    else:
        hints = {name: hint.__forward_arg__ for name, hint in options.__annotations__.items()}
        fields = [Parameter(name, _NAMED, default=..., annotation=hints[name]) for name in hints]

    def decorate(ask: Ask) -> Ask:
        of = signature(ask)
        own = [p for p in of.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        known = {*of.parameters, *left_out}
        given = [*own, *(p.replace(kind=_NAMED) for p in fields if p.name not in known)]
        ask.__signature__ = of.replace(parameters=given)  # type: ignore[attr-defined]
        return ask

    return decorate


class Seen(TypedDict, total=False):
    """What of its pictures an index keeps; see ``ImageIndex``."""

    words: str | os.PathLike[str] | Sequence[str] | None
    fast_decode: bool
    terms: int | None
    query_terms: int | None
    views: str | None
    visual_words: bool | int | None
    exif: bool | None
    gps: bool | None
    thumbnails: int | None


class IndexOptions(Seen, total=False):
    """What an index is opened or made with; see ``ImageIndex``."""

    api_key: str | None
    username: str | None
    password: str | None
    ca_certs: str | None
    verify_certs: bool
    timeout: float
    shards: int | None
    expected_pictures: int | None
    replicas: int | None
    refresh_interval: str | None
    lifecycle: str | None
    layout: str | None
    vectors: str | None
    similarity: str | None
    impacts: str | Sequence[str] | None
    lexicon: str | os.PathLike[str] | None


@dataclass(frozen=True)
class WantedAnalyzer:
    """What a person asks for; see ``ImageIndex``."""

    model: str | None = None
    analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None
    weights: str | os.PathLike[str] | None = None
    runtime: str | None = None
    words: str | os.PathLike[str] | Sequence[str] | None = None
    fast_decode: bool = False
    terms: int | None = None
    query_terms: int | None = None
    views: str | None = None
    visual_words: bool | int | None = None
    exif: bool | None = None
    gps: bool | None = None
    thumbnails: int | None = None
    folder: Path = field(default_factory=current_folder)
    """Where relative paths begin: the current folder may be another when the analyzer is built."""

    def __post_init__(self) -> None:
        if self.model is not None and self.analyzer is not None:
            raise ConfigurationError("give a model or an analyzer, not both")
        if self.visual_words is not None:
            to_word_count(self.visual_words)
        if self.thumbnails is not None:
            to_side(self.thumbnails)
        said = {
            'resize with decode = "fast"': self.fast_decode or None,
            "terms and query_terms": {self.terms, self.query_terms} != {None} or None,
            f"views = {str(self.views)!r} in its configuration": self.views,
            "visual_words = true": self.visual_words,
            "words of its model": self.words,
            f"photo = {self.photo!r}": self.photo,
            f"thumbnails = {self.thumbnails}": self.thumbnails,
        }
        for what, option in said.items() if self.analyzer is not None else ():
            if option is not None:
                raise ConfigurationError(f"an analyzer says for itself: {what}")
        if self.runtime is not None:
            if isinstance(self.analyzer, Analyzer):
                raise ConfigurationError(
                    "this analyzer has its runtime: Analyzer(..., runtime=...)"
                )
            check_runtime(self.runtime)

    @property
    def photo(self) -> str | None:
        """What to keep of how pictures were taken; None where that is not said."""
        if self.exif is None and self.gps is None:
            return None
        if self.exif is False:
            if self.gps:
                raise ConfigurationError("gps=True keeps the places of EXIF: leave out exif=False")
            return "nothing"
        return "place" if self.gps else "facts"

    @property
    def is_asked_for(self) -> bool:
        """Whether an index that exists may turn out to be of another analyzer."""
        given = (self.model, self.analyzer, self.words, self.terms, self.query_terms, self.views)
        return self.fast_decode or any(each is not None for each in given)

    def build(self, settings: IndexSettings | None) -> Analyzer:
        """The analyzer, for an index that remembers ``settings`` (`check_fits`), or a new one."""
        with relative_to(self.folder):
            return self._build(settings)

    def _build(self, settings: IndexSettings | None) -> Analyzer:
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
                if settings.vocabulary.name == "labels" and "labels" in model:
                    model.setdefault("wordnet", False)  # as it was before labels could be wnids
        if self.weights is not None:
            model["weights"] = os.fspath(self.weights)
        if self.words is not None:
            model["words"] = self.words
        config = {**config, "model": model}
        if self.terms is not None:
            if "term_filters" in config:  # and so does an index say of query_terms, or means all
                del config["term_filters"]
                config.setdefault("query_terms", None)
            config["terms"] = self.terms
        if self.query_terms is not None:
            config["query_terms"] = self.query_terms
        if self.fast_decode:
            filters = config.get("image_filters") or create_model(model).image_filters
            config["image_filters"] = with_fast_decode(filters)
        for name in ("views", "visual_words", "photo", "thumbnails"):
            if (value := getattr(self, name)) is not None:
                config[name] = value
        return Analyzer(config, runtime=self.runtime)

    def build_other(self, stored: IndexSettings) -> Analyzer | None:
        """The analyzer, unless it is the index's own or none is asked for."""
        if not self.is_asked_for and self.weights is None:
            return None
        found = self.build(stored)
        mine = found.config, found.fingerprint()
        is_same = is_same_analyzer(*mine, stored.analyzer, stored.weights)
        return None if is_same and found.visual_words == stored.visual_words else found

    def kept_as(self, stored: IndexSettings) -> WantedAnalyzer:
        """This, with visual words and photos as an index has them where nothing else is said."""
        if self.analyzer is not None:
            return self
        stored_as: dict[str, Any] = {}
        if self.visual_words is None:
            stored_as["visual_words"] = stored.visual_words or None
        if self.thumbnails is None:
            stored_as["thumbnails"] = stored.thumbnails
        if self.photo is None:
            stored_as |= {"exif": stored.photo != "nothing", "gps": stored.photo == "place"}
        return replace(self, **stored_as)

    def check_kept(self, settings: IndexSettings, location: str) -> None:
        """What is asked for of visual words, photos and thumbnails must be what the index has."""
        if self.thumbnails not in (None, settings.thumbnails):
            raise ConfigurationError(
                f"{location} has thumbnails of {settings.thumbnails} pixels (0: none), not "
                f"{self.thumbnails}: leave thumbnails out, or give them to `imgsearch reindex`"
            )
        if self.photo not in (None, settings.photo):
            has = {"facts": "EXIF without places", "place": "EXIF with places"}
            raise ConfigurationError(
                f"{location} keeps {has.get(settings.photo, 'no EXIF')} of its photos: leave exif "
                "and gps out, or give them to `imgsearch reindex`"
            )
        asked = self.visual_words
        if asked is None and isinstance(self.analyzer, Analyzer):
            asked = self.analyzer.visual_words or None
        if asked is True and settings.visual_words:
            return  # how many is not asked
        if asked is not None and to_word_count(asked) != settings.visual_words:
            raise ConfigurationError(
                f"{location} has {settings.visual_words or 'no'} visual words of each picture, not "
                f"{to_word_count(asked) or 'none'}: leave visual_words out, or give it to "
                "`imgsearch reindex`, which reads no picture for it"
            )


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
        and one.vocabulary.with_colors() == other.vocabulary.with_colors()
        and one.embedding_dimensions == other.embedding_dimensions
    )


def settings_of(analyzer: Analyzer) -> IndexSettings:
    """What a new index shall remember."""
    vocabulary = analyzer.vocabulary.with_colors()
    return IndexSettings(
        analyzer=analyzer.config,
        weights=analyzer.fingerprint(),
        vocabulary=vocabulary,
        embedding_dimensions=analyzer.embedding_dimensions,
        synset_fields=len(vocabulary.labels) <= MOST_FIELDS,
    )


def with_more_filters(
    stored: IndexSettings, analyzer: Analyzer, filters: Sequence[EmbeddingFilter]
) -> IndexSettings:
    """What an index shall remember whose analyzer has more embedding filters than before."""
    dimensions = stored.embedding_dimensions
    for part in filters:
        dimensions = part.dimensions(dimensions)
    plain = stored.with_taught(()) if filters else stored  # taught by features without them
    return replace(plain, analyzer=analyzer.config, embedding_dimensions=dimensions)
