"""Parts by name: built-ins and plug-ins are found the same way, by Python's entry points."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, cast

from imgsearch_es.errors import AnalyzerError


def plugin_names(group: str) -> list[str]:
    """The names registered under an entry-point group, sorted."""
    return sorted(_entry_points(group))


def entry_point(group: str, name: str) -> EntryPoint:
    """The entry point of this name; raises as `load_plugin` does where there is none."""
    found = _entry_points(group)
    if name in found:
        return found[name]
    kind = group.rpartition(".")[2].rstrip("s").replace("_", " ")
    near = difflib.get_close_matches(name, found, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise AnalyzerError(f"there is no {kind} {name!r}.{hint} Known are {', '.join(sorted(found))}.")


def version_of(group: str, name: str) -> str:
    """The version of the package that registers a name (what is before a colon in it), or ""."""
    item = _entry_points(group).get(name.partition(":")[0])
    return item.dist.version if item and item.dist else ""


def installed_version(distribution: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def check_options(what: str, options: Iterable[str], known: Sequence[str]) -> None:
    """An AnalyzerError unless a part has all of these options."""
    for option in options:
        if option not in known:
            has = ", ".join(known) or "none"
            raise AnalyzerError(f"{what} has no option {option!r}; it has {has}")


@cache
def load_plugin(group: str, name: str) -> object:
    """Load the object registered under this name; an AnalyzerError if that is not possible."""
    found = entry_point(group, name)
    try:
        return found.load()
    except (ImportError, AttributeError, SyntaxError) as error:
        package = found.dist.name if found.dist else found.value
        raise AnalyzerError(f"the plug-in {name!r} of {package} does not load: {error}") from error


def full_config(config: Mapping[str, Any], part: object) -> dict[str, Any]:
    """The configuration a filter was built from, completed with its defaults."""
    options = asdict(cast(Any, part))
    return {"name": config["name"], **{k: v for k, v in options.items() if v is not None}}


def create_part(group: str, kind: str, config: Mapping[str, Any]) -> object:
    """Build a filter of an entry-point group from ``{"name": ..., option: value}``."""
    if not isinstance(config, Mapping):
        raise AnalyzerError(f'a {kind} is written {{"name": ..., option: value}}, not {config!r}')
    options = dict(config)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise AnalyzerError(f"this {kind} has no name: {dict(config)!r}")
    factory = load_plugin(group, name)
    if not (isinstance(factory, type) and is_dataclass(factory)):
        raise AnalyzerError(f"the {kind} {name!r} is not a dataclass, so its options are unknown")
    known = [field.name for field in fields(factory)]
    check_options(f"the {kind} {name!r}", options, known)
    try:
        return factory(**options)
    except TypeError as error:
        raise AnalyzerError(f"the {kind} {name!r} cannot be built: {error}") from error


@cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for item in entry_points(group=group):
        found.setdefault(item.name, item)
    return found
