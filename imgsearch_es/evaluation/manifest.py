"""The manifest of an experiment: so that another person gets the same figures, or learns why not.

A JSON file with what was asked for, what it was asked of (fingerprints of the pictures, labels,
judgements, terms and deep features, and of the model's weights), with which versions, and what came
out. Names of pictures do not depend on the folder that holds them, so the same pictures elsewhere
have the same fingerprints.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.plan import BasePlan, Plan, SweepPlan, as_text
from imgsearch_es.evaluation.results import Results
from imgsearch_es.evaluation.text_files import read_lines

VERSION = 1
PACKAGES = (
    *("imgsearch-es", "numpy", "scipy", "ir-measures", "pytrec-eval-terrier"),
    *("duckdb", "elasticsearch", "keras", "tensorflow", "openvino", "pillow"),
)
_PLANS: Mapping[str, tuple[str, type[BasePlan]]] = {
    "evaluate": ("imgsearch_evaluation", Plan),
    "sweep": ("imgsearch_sweep", SweepPlan),
}
"""By command: the key of the format's version, and what the plan is."""
_COMPARED = ("data", "judgements", "analyzer", "weights", "models", "rankings", "figures")
"""What decides the figures, and the figures; versions and places only may."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as the manifest says.

    Attributes:
        what: where in the manifest, such as ``figures, sqrt, P@10``.
        was: in the manifest.
        now: in this run.
    """

    what: str
    was: object
    now: object

    @property
    def decides(self) -> bool:
        """Whether it is one of the figures, or decides them; versions and places only may."""
        return self.what.partition(",")[0] in _COMPARED

    def __str__(self) -> str:
        return f"{self.what}: {_show(self.now)}, was {_show(self.was)}"


def head_of(plan: BasePlan) -> dict[str, Any]:
    """How a manifest begins: with its format and what was asked for."""
    (key,) = (key for key, kind in _PLANS.values() if isinstance(plan, kind))
    return {key: VERSION, plan.kind: plan.to_dict()}


def versions() -> dict[str, str]:
    """Of Python, the machine and the packages that figures may depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_manifest(path: str | os.PathLike[str], command: str = "evaluate") -> dict[str, Any]:
    """Read the manifest that `imgsearch evaluate` or `imgsearch sweep` wrote.

    Raises:
        EvaluationError: the file cannot be read, or is none of this command and version.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise EvaluationError(f"{path} is no JSON: {error}") from error
    key, kind = _PLANS[command]
    if not isinstance(manifest, dict) or manifest.get(key) != VERSION:
        raise EvaluationError(f"{path} is no manifest of `imgsearch {command}` (version {VERSION})")
    if not isinstance(manifest.get(kind.kind), dict):
        raise EvaluationError(f"{path} does not say which {kind.kind} it is of")
    return cast("dict[str, Any]", manifest)


def arguments_of(
    manifest: Mapping[str, Any], places: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of ``evaluate`` or ``sweep`` to do what a manifest is of again.

    Raises:
        EvaluationError: it is not whole, or something of it was given in Python.
    """
    (kind,) = (kind for key, kind in _PLANS.values() if key in manifest)
    moved = {
        key: [as_text(one) for one in value] if isinstance(value, list) else as_text(value)
        for key, value in (places or {}).items()
    }
    return kind.from_dict({**manifest[kind.kind], **moved}).arguments()


def differences(manifest: Mapping[str, Any], found: Results) -> list[Difference]:
    """What is not as the manifest says, what decides the figures first."""
    now = json.loads(json.dumps(found.manifest()))
    different = [
        difference
        for key in (*_COMPARED, "versions", "index")
        if key in now
        for difference in _compare(key, manifest.get(key), now[key])
    ]
    return sorted(different, key=lambda difference: not difference.decides)


def _compare(what: str, was: object, now: object) -> Iterator[Difference]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*was, *now)):
            yield from _compare(f"{what}, {key}", was.get(key), now.get(key))
    elif was != now:
        yield Difference(what, was, now)


def _show(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."


def picture_differences(path: Path, collection: Collection) -> list[str]:
    """In which pictures a collection differs from the list that ``write`` put beside a manifest."""
    was = {}
    for _, line in read_lines(path)[1:]:
        name, content, labels = line.split("\t")
        was[name] = (content, labels)
    now = {item.name: (item.sha256, " ".join(item.labels)) for item in collection.items}
    kinds = {
        "are gone": was.keys() - now.keys(),
        "are new": now.keys() - was.keys(),
        "have another content": {n for n in was.keys() & now.keys() if was[n][0] != now[n][0]},
        "have other labels": {n for n in was.keys() & now.keys() if was[n][1] != now[n][1]},
    }
    return [
        f"{len(names)} pictures {kind}: {', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)}"
        for kind, names in kinds.items()
        if names
    ]
