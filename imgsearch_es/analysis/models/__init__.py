"""Models by name: the built-ins and those of plug-ins, found the same way (docs/how-to/extend.md).

A name of the form ``keras:PATH`` goes to the factory registered under the part before the colon.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from imgsearch_es.analysis.models.base import Model, ModelInfo, Prediction
from imgsearch_es.analysis.plugins import check_options, entry_point, load_plugin, plugin_names
from imgsearch_es.errors import AnalyzerError, ImgsearchError

__all__ = [
    "MODELS",
    "Model",
    "ModelInfo",
    "Prediction",
    "available_models",
    "create_model",
    "reads_texts",
]

MODELS = "imgsearch_es.models"
"""The entry-point group."""


def create_model(config: str | Mapping[str, Any], **options: Any) -> Model:
    """Make a model by its name, or by ``{"name": ..., option: value}``; other options go before.

    It is cheap, for the network is built on first use. An AnalyzerError where there is no such
    model, or an option is unknown or wrong; a WeightsError for a file of weights that cannot be
    used.
    """
    given = dict(config) if isinstance(config, Mapping) else {"name": config}
    name = given.pop("name", None)
    if not isinstance(name, str) or not name:
        raise AnalyzerError(f"this model has no name: {config!r}")
    factory = _factory(name)
    given |= options
    _check(factory, name, given)
    try:
        return factory(name, **given)
    except ImgsearchError:
        raise
    except Exception as error:
        raise AnalyzerError(f"the model {name!r} cannot be made: {error}") from error


def available_models() -> list[ModelInfo]:
    """List the registered models, sorted by name; a broken plug-in is listed with its error."""
    return [_info(name) for name in plugin_names(MODELS)]


def reads_texts(name: str) -> bool:
    """Whether the model of this name gives texts deep features, so that they can be compared."""
    try:
        return hasattr(_factory(name), "text_features")
    except AnalyzerError:  # it is not installed here
        return False


def _factory(name: str) -> Callable[..., Model]:
    try:
        factory = load_plugin(MODELS, name.partition(":")[0])
    except ImgsearchError:
        raise
    except Exception as error:  # a plug-in's module may raise anything
        raise AnalyzerError(f"the plug-in {name!r} does not load: {error}") from error
    if not callable(factory):
        raise AnalyzerError(f"the plug-in {name!r} is no model factory: it cannot be called")
    return cast(Callable[..., Model], factory)


def _check(factory: Callable[..., Model], name: str, options: Iterable[str]) -> None:
    try:
        parameters = list(inspect.signature(factory).parameters.values())[1:]
    except (TypeError, ValueError):  # a factory without a signature checks for itself
        return
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        check_options(f"the model {name!r}", options, [each.name for each in parameters])


def _info(name: str) -> ModelInfo:
    package = entry_point(MODELS, name).dist
    distribution = package.name if package else ""
    try:
        factory = _factory(name)
        describe = getattr(factory, "describe", None)
        summary = (inspect.getdoc(factory) or "").partition("\n")[0]
        info: ModelInfo = describe(name) if describe else ModelInfo(name, summary)
        return replace(info, distribution=distribution)
    except Exception as error:  # noqa: BLE001 - listed, not raised: the others still work
        return ModelInfo(name, "", distribution=distribution, error=str(error))
