"""The configuration of an analyzer: read, completed, compared, and described on one line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.models.deep_feature import describe_feature
from imgsearch_es.analysis.models.weights import absolute, current_folder, without_paths
from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.files import check_finite

DEFAULT_MODEL = "vgg16"
"""The paper's model."""
_LISTED = 12
"""Labels or words that a description has one by one; of more it has the number."""
TERMS, QUERY_TERMS = 50, 10
"""Classes that a document keeps, and that a query picture asks with, where nobody says."""
PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": {"model": "vgg16", "terms": 10}}
"""Whole analyzers by name. The paper keeps, and asks with, each picture's ten best synsets."""


def is_same_analyzer(
    config: Mapping[str, Any], weights: str, other: Mapping[str, Any], other_weights: str
) -> bool:
    """Whether two configurations, with the fingerprints of their weights, give the same terms."""
    return weights == other_weights and essence(config) == essence(other)


def describe(config: Mapping[str, Any]) -> str:
    """An analyzer's full configuration on one line: its parts and their options, in order."""
    parts = [*config["image_filters"], config["model"], *config["term_filters"]]
    said = " -> ".join(map(_described, parts))
    if (asked := config.get("query_terms")) is not None:
        said += f"; a query picture asks with {asked}"
    if "views" in config:
        said = f"views={config['views']} -> {said}"
    feature, behind = config.get("embedding", True), config.get("embedding_filters", ())
    if behind or not isinstance(feature, bool):
        feature = {} if isinstance(feature, bool) else feature
        described = [f"deep feature: {describe_feature(feature)}", *map(_described, behind)]
        said = f"{said}; {' -> '.join(described)}"
    words = config.get("visual_words", 0)
    return f"{said}; {words} visual words" if words else said


def terms_of(options: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], int | None]:
    """The configurations of the term filters, and how many classes a query picture asks with."""
    if "term_filters" in options:
        if "terms" in options:
            raise ConfigurationError(
                "terms is short for term_filters that are one top_k: give one of the two"
            )
        filters, asked = options["term_filters"], options.get("query_terms")
    else:
        kept = _number("terms", options.get("terms", TERMS))
        filters = [{"name": "top_k", "k": kept}]
        asked = options.get("query_terms", QUERY_TERMS)
    return filters, None if asked is None else _number("query_terms", asked)


def _number(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{option} is a whole number above 0, not {value!r}")
    return value


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says where its files are on this machine, and visual words.

    The latter follow from the rest, and what is kept of pictures is not the analyzer's. Which files
    they are is in the model's fingerprint, and in the option sha256 of the other parts.
    """
    model = {
        name: value
        for name, value in config["model"].items()
        if name not in ("weights", "path", "labels") and (name, value) != ("wordnet", False)
    }
    kind, is_file, _ = str(model["name"]).partition(":")
    if is_file and kind in ("keras", "quantized", "zeroshot"):
        model["name"] = kind
    feature = without_paths({"embedding": config.get("embedding", True)})
    filters = [*map(without_paths, config.get("embedding_filters", ()))]
    kept = ("visual_words", "photo", "thumbnails")
    rest = {name: value for name, value in config.items() if name not in kept}
    return {**rest, "model": model, **feature, "embedding_filters": filters}


def _described(part: Mapping[str, Any]) -> str:
    shown = {
        key: f"[{len(value)}]" if isinstance(value, list) and len(value) > _LISTED else value
        for key, value in part.items()
    }
    options = ", ".join(f"{key}={value}" for key, value in shown.items() if key != "name")
    return f"{part['name']}({options})" if options else str(part["name"])


def read_config(
    config: Mapping[str, Any] | str | Path, words: object = None
) -> tuple[Mapping[str, Any], Path]:
    """The configuration, with ``words`` of its model, and where its relative paths begin."""
    if words is not None:
        options, folder = read_config(config)
        model = options.get("model", DEFAULT_MODEL)
        named = {"name": model} if isinstance(model, str) else model
        return {**options, "model": {**named, "words": words}}, folder
    if isinstance(config, str) and not config.endswith(".toml"):
        config = PRESETS.get(config, {"model": config})
    if isinstance(config, Mapping):
        return config, current_folder()
    path = absolute(config)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        check_finite(path)
        with path.open("rb") as file:
            return tomllib.load(file), path.parent
    except OSError as error:
        raise ConfigurationError(f"cannot read the analyzer {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8 is a ValueError, too
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
