"""Checkpoints: where a training stands after an epoch, so that a killed one goes on.

One file of NumPy arrays without pickle, written whole or not at all: weights, the optimizer's
variables, the best weights so far, and as JSON text the rest. Random numbers need not be kept: each
epoch begins its own sequence from the seed and its number.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.pictures.files import replacing

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """Where a training stands.

    Attributes:
        weights: of the head.
        optimizer: the optimizer's variables.
        best: the weights of the best epoch.
        state: JSON values.
    """

    weights: Arrays
    optimizer: Arrays
    best: Arrays
    state: dict[str, Any]

    def write(self, path: Path) -> None:
        """Replace the checkpoint.

        Raises:
            ConfigurationError: it cannot be written.
        """
        arrays: dict[str, Any] = {f"{kind}_{i}": array for kind, i, array in self._named()}
        try:
            with replacing(path) as draft, draft.open("wb") as file:
                np.savez(file, state=np.array(json.dumps(self.state)), **arrays)
        except OSError as error:
            raise ConfigurationError(f"cannot write {path}: {error.strerror or error}") from error

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read what ``write`` wrote.

        Raises:
            ConfigurationError: the file is damaged, or no checkpoint.
        """
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                state = json.loads(str(file["state"]))
                weights, optimizer, best = (
                    _of_kind(file, kind) for kind in ("weights", "optimizer", "best")
                )
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigurationError(
                f"{path} is no checkpoint of a training, or damaged: delete it to begin again"
            ) from error
        return cls(weights, optimizer, best, state)

    def _named(self) -> list[tuple[str, int, NDArray[Any]]]:
        kinds = (("weights", self.weights), ("optimizer", self.optimizer), ("best", self.best))
        return [(kind, i, array) for kind, arrays in kinds for i, array in enumerate(arrays)]


def _of_kind(file: Any, kind: str) -> Arrays:
    names: Sequence[str] = file.files
    count = sum(name.startswith(f"{kind}_") for name in names)
    return [file[f"{kind}_{i}"] for i in range(count)]
