"""The manifest of a sweep: what was asked, of what, with which versions, and what came out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.manifest import Difference, compare_values, read_json, versions
from imgsearch_es.evaluation.plan import IN_PYTHON
from imgsearch_es.evaluation.sweeps.measured import Measured
from imgsearch_es.evaluation.sweeps.plan import SweepPlan

FORMAT = "imgsearch_sweep"
VERSION = 1
_COMPARED = ("data", "judgements", "models", "figures")
"""What decides the figures, and the figures."""


def manifest_of(sweep: Measured) -> dict[str, Any]:
    """See ``Sweep.manifest``; times are not in it, because nobody gets the same again."""
    figures: dict[str, dict[str, Any]] = {}
    for point in sweep.points:
        values = {measure: mean.mean for measure, mean in point.means.items()}
        costs = {"terms": point.terms, "bytes": point.bytes}
        figures.setdefault(point.model, {})[point.name] = values | costs
    return {
        FORMAT: VERSION,
        "sweep": sweep.plan.to_dict(),
        **sweep.about,
        "versions": versions(),
        "figures": figures,
    }


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the manifest of a sweep.

    Raises:
        EvaluationError: the file cannot be read, or is none of this version.
    """
    manifest = read_json(path)
    if manifest.get(FORMAT) != VERSION or not isinstance(manifest.get("sweep"), dict):
        raise EvaluationError(f"{path} is no manifest of `imgsearch sweep` (version {VERSION})")
    return manifest


def arguments_of(manifest: Mapping[str, Any], places: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``sweep`` for the sweep of a manifest, to be run again.

    Args:
        manifest: as ``read_manifest`` gives it.
        places: where pictures, judgements, queries and query pictures are, if elsewhere now.

    Raises:
        EvaluationError: it is not whole, or something of it was given in Python.
    """
    arguments = SweepPlan.arguments({**manifest["sweep"], **places})
    given = (arguments["judgements"], arguments["queries"], *(arguments["pictures"] or ()))
    if IN_PYTHON in given:
        raise EvaluationError(
            "the pictures, judgements or queries of this sweep were given in Python, and no file "
            "holds them: give their files"
        )
    return arguments


def differences(manifest: Mapping[str, Any], sweep: Measured) -> list[Difference]:
    """What is not as the manifest says, what decides the figures first."""
    now = json.loads(json.dumps(manifest_of(sweep)))
    return [
        difference
        for key in (*_COMPARED, "versions")
        for difference in compare_values(key, manifest.get(key), now[key])
    ]
