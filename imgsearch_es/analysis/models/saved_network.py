"""A network in a file that Keras saved: what the file says of itself, and loading it safely."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import MissingDependencyError, WeightsError

if TYPE_CHECKING:
    import keras


def read_description(path: Path) -> dict[str, Any]:
    """The JSON that Keras keeps of a model's layers.

    Raises:
        WeightsError: the file is no such model, or holds Python code (a Lambda layer).
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text: str | bytes = archive.read("config.json")
        else:
            h5py = _import_h5py()
            with h5py.File(path, "r") as file:
                text = file.attrs["model_config"]
        found = json.loads(text)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is not a model saved by Keras with its layers (a .keras or .h5 file from "
            "model.save; a file of weights alone is not enough)"
        ) from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is not a model saved by Keras: its description is malformed")
    if any(part.get("class_name") == "Lambda" for part in parts(found)):
        raise WeightsError(
            f"{path} holds a Lambda layer, which is Python code inside a file, and is not run; "
            "replace it by layers (such as keras.layers.Rescaling) and save it again"
        )
    return found


def load_network(path: Path) -> keras.Model:
    """Load a network that Keras saved; no code in its file is run.

    Raises:
        WeightsError: the file is unreadable, or holds Python code (a Lambda layer).
    """
    from imgsearch_es.analysis.models.runtime import import_keras, reason

    read_description(path)
    keras = import_keras()
    try:
        return keras.saving.load_model(str(path), compile=False, safe_mode=True)
    except Exception as error:  # a foreign file raises anything
        raise WeightsError(f"Keras cannot load {path}: {reason(error)}") from error


def _import_h5py() -> Any:
    try:
        return import_module("h5py")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "reading a .h5 file needs h5py, which comes with TensorFlow: pip install tensorflow"
        ) from error


def parts(value: object) -> Iterator[dict[str, Any]]:
    """Every dictionary in a JSON value, outermost first."""
    pending = [value]
    while pending:
        item = pending.pop(0)
        if isinstance(item, dict):
            yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
