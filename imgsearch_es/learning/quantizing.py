"""Quantizes a classifier: its weights and activations become whole numbers of 8 bits.

NNCF fits the ranges of the activations to a sample of pictures (Jacob et al. 2018, "Quantization
and training of neural networks for efficient integer-arithmetic-only inference"). That changes
scores, so what it does to terms and hits is measured on pictures that were kept back.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import statistics
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import fingerprint
from imgsearch_es.analysis.filters import whole_of
from imgsearch_es.analysis.models.base import NetworkModel, check_pixels
from imgsearch_es.analysis.models.quantized import Origin, write
from imgsearch_es.analysis.models.runtime import (
    OpenVINORuntime,
    Outputs,
    Runtime,
    TensorFlowRuntime,
    convert,
    import_keras,
    import_openvino,
    save,
    without_telemetry,
)
from imgsearch_es.analysis.models.runtime_choice import differences
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    MissingDependencyError,
    SourceError,
    pip_install,
)
from imgsearch_es.learning.training import target_of
from imgsearch_es.pictures.files import PathSource, picture_id
from imgsearch_es.pictures.sources import find_images

PICTURES = 300
"""In the sample, unless told."""
LEAST = 60
"""Fewer say too little of the ranges, and of the effect."""
HITS = 10
"""Of each picture, to see how many stay."""
_KEPT_BACK = 3
"""One picture in so many is kept back."""
_BATCH = 32
_ROUNDS = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Quantization:
    """A quantized classifier, and what quantizing did to its answers.

    Attributes:
        path, sha256, bytes: of the file; "quantized:" and the path is the model's name.
        model: the name of the model that it was made from.
        fitted, compared: pictures that the ranges were fitted to, and those that were kept back.
        rejected: pictures of the sample that could not be read.
        best: part of the pictures whose best synset is the same, 0 to 1.
        terms: part of a picture's terms that are the same, 0 to 1, on average.
        hits: part of the ten best hits by formula (1), fewer where fewer share a term, that are
            the same, 0 to 1, on average over pictures that have any.
        largest_difference: of two scores of a synset.
        speed: pictures per second in relation to the model's on OpenVINO.
    """

    path: str
    sha256: str
    bytes: int
    model: str
    fitted: int
    compared: int
    rejected: int
    best: float
    terms: float
    hits: float
    largest_difference: float
    speed: float


def quantize(
    sources: PathSource | Iterable[PathSource],
    out: str | os.PathLike[str],
    *,
    analyzer: Analyzer | str = "efficientnet-lite0",
    pictures: int = PICTURES,
    force: bool = False,
) -> Quantization:
    """Make a classifier with 8 bits, and measure what that does to its terms.

    Args:
        sources: files and folders of pictures like those that will be indexed.
        out: the file to write, a name in .zip.
        analyzer: the classifier with its filters and its deep feature, or a model's name.
        pictures: how many to take of the sources; always the same ones, spread over all.
        force: overwrite the file.

    Raises:
        ConfigurationError: the file exists or is no .zip, or the model is no network of Keras.
        AnalyzerError: the analyzer's image filters do not fit the model.
        SourceError: there are fewer than 60 pictures that can be read.
        MissingDependencyError: NNCF or OpenVINO is not installed.
        WeightsError: the model's weights are missing, or the file cannot be written.
    """
    path = target_of(out, ".zip", force=force).absolute()
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}")
    analyzer = Analyzer(analyzer) if isinstance(analyzer, str) else analyzer
    model = analyzer.model
    if not isinstance(model, NetworkModel):
        raise ConfigurationError(f"{model.name} is no network of Keras: it cannot be quantized")
    nncf = _import_nncf()
    sample, rejected = _sample(analyzer, model.size, sources, pictures)
    kept = sample[::_KEPT_BACK]
    fitted = np.delete(sample, np.s_[::_KEPT_BACK], axis=0)
    origin = Origin(
        model=model.config,
        weights=model.fingerprint(),
        size=model.size,
        image_filters=analyzer.config["image_filters"],
        labels=model.vocabulary.labels,
    )
    import_keras()
    network = convert(TensorFlowRuntime(model.checked_network()).function)
    small = _with_8_bits(nncf, network, fitted)
    with tempfile.TemporaryDirectory() as folder:
        save(small, Path(folder))
        write(path, origin, Path(folder))
    plain, quick = OpenVINORuntime(network), OpenVINORuntime(small)
    return Quantization(
        path=str(path),
        sha256=fingerprint(path, "the quantized classifier").partition(":")[2],
        bytes=path.stat().st_size,
        model=model.name,
        fitted=len(fitted),
        rejected=rejected,
        speed=_speed(plain, quick, kept[:_BATCH]),
        **_effect(analyzer, plain(kept), quick(kept)),
    )


def _with_8_bits(nncf: Any, network: Any, fitted: NDArray[np.uint8]) -> Any:
    _name_anew(network)
    pictures = nncf.Dataset([picture[np.newaxis] for picture in fitted])
    with contextlib.redirect_stdout(io.StringIO()):  # bars are drawn there
        small = nncf.quantize(network, pictures, subset_size=len(fitted))
    _name_anew(small)
    return small


def _name_anew(network: Any) -> None:
    """Name the parts of a network by their order.

    Keras and OpenVINO number them through the whole life of a process. The numbers would be in the
    file, and what NNCF adds is placed by them, so the same pictures would give another file.
    """
    for i, operation in enumerate(network.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{i}")
        for output in operation.outputs():
            output.get_tensor().set_names(set())


def _effect(analyzer: Analyzer, before: Outputs, after: Outputs) -> dict[str, Any]:
    """How far the answers of the quantized network are from those before."""
    weights = [_weights(analyzer, posterior) for posterior, _ in (before, after)]
    kept = [[set(np.flatnonzero(row).tolist()) for row in rows] for rows in weights]
    return {
        "compared": len(before[0]),
        "best": float(np.mean(before[0].argmax(axis=1) == after[0].argmax(axis=1))),
        "terms": _in_common(*kept),
        "hits": _in_common(*map(_best_hits, weights)),
        "largest_difference": differences(before, after)["posterior"],
    }


def _weights(analyzer: Analyzer, posterior: NDArray[np.float32]) -> NDArray[np.float64]:
    column = {key: i for i, key in enumerate(analyzer.vocabulary.keys)}
    weights = np.zeros((len(posterior), len(column)))
    for row, terms in enumerate(analyzer.to_terms(posterior)):
        for term in terms:
            weights[row, column[term.key]] = term.score
    return weights


def _best_hits(weights: NDArray[np.float64]) -> list[set[int]]:
    """The best hits of each picture among the others, by formula (1): they share a term."""
    scores = weights @ weights.T
    np.fill_diagonal(scores, 0)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :HITS].tolist()
    return [{hit for hit in hits if scores[row, hit] > 0} for row, hits in enumerate(best)]


def _in_common(before: Sequence[set[int]], after: Sequence[set[int]]) -> float:
    """Which part of the one is in the other, on average over pictures that have any."""
    pairs = zip(before, after, strict=True)
    return float(np.mean([len(one & other) / len(one) for one, other in pairs if one] or [1.0]))


def _speed(plain: Runtime, quick: Runtime, pixels: NDArray[np.uint8]) -> float:
    """How many times as fast the second is: the median of rounds in turn."""
    seconds: dict[Runtime, list[float]] = {plain: [], quick: []}
    for _ in range(_ROUNDS + 1):
        for run, times in seconds.items():
            started = perf_counter()
            run(pixels)
            times.append(perf_counter() - started)
    before, after = (statistics.median(times[1:]) for times in seconds.values())  # first allocates
    return before / after


def _sample(
    analyzer: Analyzer,
    size: tuple[int, int],
    sources: PathSource | Iterable[PathSource],
    count: int,
) -> tuple[NDArray[np.uint8], int]:
    """Pictures for the network, and how many were rejected.

    Those with the smallest ids: an id is a hash, so that is a random sample, and always the same.
    """
    if count < LEAST:
        raise ConfigurationError(f"quantizing needs {LEAST} pictures or more, not {count}")
    found, rejected = list[NDArray[np.uint8]](), 0
    for uri in sorted(find_images(sources), key=picture_id):
        if len(found) == count:
            break
        try:
            pixels = whole_of(analyzer.prepare(analyzer.open(uri).image))
            check_pixels(pixels[np.newaxis], size, analyzer.model.name)
            found.append(pixels)
        except ImageError as error:
            rejected += 1
            _log.warning("passed over %s", error)
    if len(found) < LEAST:
        raise SourceError(
            f"quantizing needs {LEAST} pictures or more, and {len(found)} can be read: name more "
            "files or folders"
        )
    return np.stack(found), rejected


def _import_nncf() -> Any:
    import_openvino()
    loggers = logging.getLoggerClass()  # NNCF's would be that of every logger made later
    try:
        with without_telemetry():
            nncf = importlib.import_module("nncf")
    except ImportError as error:
        raise MissingDependencyError(
            "quantizing needs a package that is not installed "
            f"({error.name}): {pip_install('int8')}"
        ) from error
    finally:
        logging.setLoggerClass(loggers)
    logging.getLogger("nncf").setLevel(logging.ERROR)  # its own way sets handlers, also ours
    return nncf
