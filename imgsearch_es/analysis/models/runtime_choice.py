"""Which runtime a network gets: the fastest one here whose output is TensorFlow's.

That is measured once for each network, machine and set of versions. The decision is kept in the
user's cache folder beside the converted network, so that later processes need no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.models import checksums, openvino
from imgsearch_es.analysis.models.probe_pictures import probe_pictures
from imgsearch_es.analysis.models.runtime import (
    VARIABLE,
    Network,
    Outputs,
    Runtime,
    TensorFlowRuntime,
    check_runtime,
    import_keras,
)
from imgsearch_es.analysis.models.runtime_cache import (
    Choice,
    empty,
    folder_of,
    made_for,
    read_choice,
    replaced,
    write,
)
from imgsearch_es.errors import AnalyzerError, MissingDependencyError

TOLERANCE = 1e-4
"""How far an output may be from TensorFlow's; see `differences`."""

_BATCH = 32
_ROUNDS = 3
_ENOUGH_SECONDS = 2.0
_CLEARLY = 1.1
"""Below this ratio, speeds count as equal; then OpenVINO is taken, which starts sooner."""
_log = logging.getLogger(__name__)


def open_runtime(model: Network, wanted: str | None = None) -> tuple[Runtime, Choice]:
    """Make the runtime of a network.

    Args:
        model: the network and its weights.
        wanted: one of `RUNTIMES`; None for the one that IMGSEARCH_RUNTIME names, else "auto".

    Raises:
        ConfigurationError: there is no such runtime.
        MissingDependencyError: it is not installed.
        AnalyzerError: OpenVINO was asked for and does not agree with TensorFlow.
    """
    wanted = check_runtime(wanted or os.environ.get(VARIABLE) or "auto")
    if wanted == "tensorflow":
        return _tensorflow(model), Choice("tensorflow", "it was asked for", model.name)
    try:
        openvino.import_openvino()
    except MissingDependencyError as error:
        if wanted == "openvino":
            raise
        return _tensorflow(model), Choice("tensorflow", str(error), model.name)
    folder = folder_of(model)
    runtimes: dict[str, Runtime] = {}
    choice = read_choice(folder)
    if choice:
        try:
            checksums.check(folder)
            if choice.agrees and _named(wanted, choice) == "openvino":
                return openvino.OpenVINORuntime(openvino.read(folder), folder), choice
        except AnalyzerError as error:
            _log.warning("%s; measuring again", error)
            choice = None
    if choice is None:
        runtimes, choice = _decide(model, folder)
    if wanted == "openvino" and not choice.agrees:
        raise AnalyzerError(f"{model.name} cannot use the runtime openvino: {choice.reason}")
    return runtimes.get(_named(wanted, choice)) or _tensorflow(model), choice


def _named(wanted: str, choice: Choice) -> str:
    return choice.runtime if wanted == "auto" else wanted


def measure(model: Network) -> Choice:
    """Decide anew, whatever was decided before.

    Raises:
        MissingDependencyError: OpenVINO is not installed, so there is nothing to decide.
    """
    openvino.import_openvino()
    return _decide(model, folder_of(model))[1]


def differences(reference: Outputs, other: Outputs) -> dict[str, float]:
    """How far two outputs are apart.

    Returns:
        "posterior": the largest difference of two scores. "embedding": the largest difference
        within a deep feature, in relation to the largest value of that deep feature.
    """
    apart = np.abs(reference[1] - other[1]).max(axis=1)
    largest = np.abs(reference[1]).max(axis=1)
    relative = np.divide(apart, largest, out=np.zeros_like(apart), where=apart > 0)
    return {
        "posterior": float(np.abs(reference[0] - other[0]).max()),
        "embedding": float(relative.max()),
    }


def _decide(model: Network, folder: Path) -> tuple[dict[str, Runtime], Choice]:
    """Run the probe on both runtimes; keep the decision, and the network if it may be used."""
    _log.info("measuring once which runtime is the fastest for %s", model.name)
    reference = _tensorflow(model)
    try:
        with replaced(folder) as place:
            return _probe(model, reference, place)
    except OSError as error:  # the disk is full, say
        _log.warning("nothing is kept for the next start: %s", error)
        return _probe(model, reference, None)


def _probe(
    model: Network, reference: TensorFlowRuntime, place: Path | None
) -> tuple[dict[str, Runtime], Choice]:
    choice = Choice("tensorflow", "", model.name, made_for=made_for())
    try:
        other = _openvino(reference, place)
        choice = _compare(reference, other, probe_pictures(_BATCH, model.size), choice)
    except AnalyzerError as error:
        choice = dataclasses.replace(choice, reason=str(error))
    if not choice.agrees:
        _log.warning("%s runs on TensorFlow: %s", model.name, choice.reason)
        if place:
            empty(place)
    if place:
        write(place, choice)
        checksums.record(place)
    runtimes: dict[str, Runtime] = {"tensorflow": reference}
    if choice.agrees:
        runtimes["openvino"] = other
    return runtimes, choice


def _compare(
    reference: Runtime, other: Runtime, pixels: NDArray[np.uint8], choice: Choice
) -> Choice:
    apart = differences(reference(pixels), other(pixels))
    said = f"differs from TensorFlow by {apart['posterior']:.1e} in scores and by "
    said += f"{apart['embedding']:.1e} in deep features"
    # Written so that a NaN disagrees.
    if not all(difference <= TOLERANCE for difference in apart.values()):
        reason = f"OpenVINO {said}, more than {TOLERANCE:.0e}"
        return dataclasses.replace(choice, reason=reason, differences=apart)
    speed = _speeds({"tensorflow": reference, "openvino": other}, pixels)
    ours, theirs = speed["tensorflow"], speed["openvino"]
    size = str(_BATCH)
    runtime = "openvino" if theirs[size] * _CLEARLY >= ours[size] else "tensorflow"
    reason = (
        f"OpenVINO {said}; it analyzes {theirs[size]:g} pictures/s in batches of {size} and "
        f"{theirs['1']:g} one by one, TensorFlow {ours[size]:g} and {ours['1']:g}"
    )
    return dataclasses.replace(
        choice, runtime=runtime, reason=reason, differences=apart, speed=speed, agrees=True
    )


def _speeds(runtimes: dict[str, Runtime], pixels: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    """Pictures per second, the best of a few rounds in turn; fewer for slow networks."""
    best: dict[str, dict[str, float]] = {name: {} for name in runtimes}
    for batch in (pixels, pixels[:1]):
        for run in runtimes.values():
            run(batch)  # the first pass allocates
        began = perf_counter()
        for _ in range(_ROUNDS):
            for name, run in runtimes.items():
                started = perf_counter()
                run(batch)
                rate = len(batch) / max(perf_counter() - started, 1e-9)
                size = str(len(batch))
                best[name][size] = round(max(rate, best[name].get(size, 0.0)), 1)
            if perf_counter() - began > _ENOUGH_SECONDS:
                break
    return best


def _tensorflow(model: Network) -> TensorFlowRuntime:
    import_keras()
    return TensorFlowRuntime(model.checked_network())


def _openvino(reference: TensorFlowRuntime, place: Path | None) -> openvino.OpenVINORuntime:
    network = openvino.convert(reference.function)
    if place:
        openvino.save(network, place)
        network = openvino.read(place)
    return openvino.OpenVINORuntime(network, place)
