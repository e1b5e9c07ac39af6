"""The manifest of an experiment: so that another person gets the same figures, or learns why not.

A JSON file with what was asked for, what it was asked of (fingerprints of the pictures, labels,
judgements, terms and deep features, and of the model's weights), with which versions, and what came
out. Names of pictures do not depend on the folder that holds them, so the same pictures elsewhere
have the same fingerprints.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.measured import Measured
from imgsearch_es.evaluation.plan import IN_PYTHON, Plan
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.text_files import read_lines

FORMAT = "imgsearch_evaluation"
VERSION = 1
PACKAGES = (
    *("imgsearch-es", "numpy", "scipy", "ir-measures", "pytrec-eval-terrier"),
    *("duckdb", "elasticsearch", "keras", "tensorflow", "openvino", "pillow"),
)
_COMPARED = ("data", "judgements", "analyzer", "weights", "rankings", "figures")
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


def manifest_of(evaluation: Measured) -> dict[str, Any]:
    """See ``Evaluation.manifest``."""
    collection, judgements = evaluation.collection, evaluation.task.judgements
    named = judgements.renamed(collection.name)
    return {
        FORMAT: VERSION,
        "experiment": evaluation.plan.to_dict(),
        "data": {
            "pictures": len(collection),
            "contents": collection.pictures,
            "labels": collection.labels,
            "analysis": collection.analysis,
        },
        "judgements": {
            "task": evaluation.task.name,
            "queries": len(judgements),
            "fingerprint": named.fingerprint,
        },
        "analyzer": evaluation.about["analyzer"],
        "weights": evaluation.about["weights"],
        "index": {key: evaluation.about[key] for key in ("location", "store")},
        "versions": versions(),
        "rankings": {
            name: _rankings(run.renamed(collection.name)) for name, run in evaluation.runs.items()
        },
        "figures": {
            name: {measure: scores.mean(measure) for measure in scores.values}
            for name, scores in evaluation.scores.items()
        },
    }


def versions() -> dict[str, str]:
    """Of Python, the machine and the packages that figures may depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        EvaluationError: the file cannot be read, or is none of this version.
    """
    manifest = read_json(path)
    if manifest.get(FORMAT) != VERSION:
        raise EvaluationError(f"{path} is no manifest of `imgsearch evaluate` (version {VERSION})")
    if not isinstance(manifest.get("experiment"), dict):
        raise EvaluationError(f"{path} does not say which experiment it is of")
    return manifest


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        EvaluationError: the file cannot be read, or holds none.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        found = json.loads(text)
    except ValueError as error:
        raise EvaluationError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"{path} is no JSON object")
    return found


def plan_of(manifest: Mapping[str, Any], places: Mapping[str, Any] | None = None) -> Plan:
    """The experiment of a manifest, to be run again.

    Args:
        manifest: as ``read_manifest`` gives it.
        places: where judgements, queries, pictures and runs are, if they are elsewhere now.

    Raises:
        EvaluationError: it is not whole, or its judgements were given in Python.
    """
    moved = {
        key: [str(one) for one in value] if isinstance(value, list) else str(value)
        for key, value in (places or {}).items()
    }
    plan = Plan.from_dict({**manifest["experiment"], **moved})
    if IN_PYTHON in (plan.judgements, plan.queries, *plan.runs):
        raise EvaluationError(
            "the judgements, queries or runs of this experiment were given in Python, and no file "
            "holds them: give their files, or compare with differences(manifest, evaluation)"
        )
    return plan


def differences(manifest: Mapping[str, Any], evaluation: Measured) -> list[Difference]:
    """What is not as the manifest says, what decides the figures first."""
    now = json.loads(json.dumps(manifest_of(evaluation)))
    found = [
        difference
        for key in (*_COMPARED, "versions", "index")
        for difference in compare_values(key, manifest.get(key), now[key])
    ]
    return sorted(found, key=lambda difference: not difference.decides)


def compare_values(what: str, was: object, now: object) -> Iterator[Difference]:
    """Where two JSON values differ; ``what`` is what to call them."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*was, *now)):
            yield from compare_values(f"{what}, {key}", was.get(key), now.get(key))
    elif was != now:
        yield Difference(what, was, now)


def _rankings(run: Run) -> str:
    """The order of all rankings, as a SHA-256."""
    digest = hashlib.sha256()
    for query in sorted(run.rankings):
        digest.update(f"{(query, run.documents(query))!r}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _show(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."


def picture_differences(path: Path, evaluation: Measured) -> list[str]:
    """In which pictures a collection differs from the list that ``write`` put beside a manifest."""
    was = {}
    for _, line in read_lines(path)[1:]:
        name, content, labels = line.split("\t")
        was[name] = (content, labels)
    now = {item.name: (item.sha256, " ".join(item.labels)) for item in evaluation.collection.items}
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
