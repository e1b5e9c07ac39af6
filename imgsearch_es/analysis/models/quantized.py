"""A network with whole numbers of 8 bits: ``quantized:FILE``, which ``imgsearch quantize`` makes.

It is a model of its own and no runtime of another one, because its scores differ. The file is a zip
archive of a network of OpenVINO and of ``model.json``, which says what it was made from. No code is
in it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.configuration import fingerprint, given_file
from imgsearch_es.analysis.models.base import JSON, ModelInfo, RunModel
from imgsearch_es.analysis.models.keras_file import to_vocabulary
from imgsearch_es.analysis.models.runtime import OpenVINORuntime, Runtime, core
from imgsearch_es.errors import AnalyzerError, WeightsError
from imgsearch_es.pictures.files import saving
from imgsearch_es.vocabulary.synsets import Vocabulary

_DESCRIPTION, _NETWORK, _WEIGHTS = "model.json", "network.xml", "network.bin"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """What a quantized network was made from."""

    model: Mapping[str, Any]
    """Its configuration."""
    weights: str
    """Their fingerprint."""
    size: tuple[int, int]
    """(height, width) of its input, in pixels."""
    image_filters: Sequence[Mapping[str, Any]]
    labels: Sequence[str]
    """The names of its classes, in order."""


class QuantizedModel(RunModel):
    """A classifier with whole numbers of 8 bits, on OpenVINO, named "quantized:" and a file."""

    def __init__(self, name: str) -> None:
        path = name.partition(":")[2]
        if not path:
            raise AnalyzerError(
                "a quantized classifier is named quantized:FILE; `imgsearch quantize` makes one"
            )
        self.path = given_file(path, "the quantized classifier")
        self.origin = _read_origin(self.path)
        super().__init__(f"quantized:{self.path}", {}, self.origin.size)

    @classmethod
    def describe(cls, name: str) -> ModelInfo:
        """What the list of models says."""
        return ModelInfo("quantized:FILE", "a classifier with 8 bits, made by imgsearch quantize")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """That of the model it was made from."""
        wordnet = bool(self.origin.model.get("wordnet", False))
        return to_vocabulary(self.origin.labels, wordnet=wordnet)

    @property
    def image_filters(self) -> list[dict[str, JSON]]:
        """Those of the model it was made from."""
        return [dict(config) for config in self.origin.image_filters]

    def fingerprint(self) -> str:
        """The sha256 of the file."""
        return fingerprint(self.path, self.name)

    def open_runtime(self) -> Runtime:
        """OpenVINO, with the network in the file."""
        openvino = core()  # or what says that it is not installed
        with _opened(self.path) as archive:
            network = openvino.read_model(archive.read(_NETWORK), archive.read(_WEIGHTS))
        return OpenVINORuntime(network)

    def __repr__(self) -> str:
        return f"QuantizedModel({self.name!r})"


def write(path: Path, origin: Origin, folder: Path) -> None:
    """Write the file of a network that `runtime.save` put into a folder, whole or not at all.

    The same network gives the same bytes.
    """
    said = json.dumps({"format": _FORMAT, **asdict(origin)}, sort_keys=True)
    with saving(path, WeightsError) as draft, zipfile.ZipFile(draft, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_DESCRIPTION), said)
        for name in (_NETWORK, _WEIGHTS):
            archive.writestr(zipfile.ZipInfo(name), (folder / name).read_bytes())


def _read_origin(path: Path) -> Origin:
    with _opened(path) as archive:
        found = json.loads(archive.read(_DESCRIPTION))
        if found.pop("format") != _FORMAT:
            raise WeightsError(
                f"{path} was made by another version of imgsearch_es: make it again by "
                "`imgsearch quantize`"
            )
        found["size"] = tuple(found["size"])
        return Origin(**found)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with it is a WeightsError."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > 4 << 30:
                raise ValueError("it is too large")
            yield archive
    except WeightsError:
        raise
    except Exception as error:  # a foreign file raises anything
        raise WeightsError(
            f"{path} is no file that `imgsearch quantize` made, or it is damaged"
        ) from error
