"""Datasets of Hugging Face as pictures: a column with the image, others with labels and metadata.

The first column of images is the picture, ``label`` or ``labels`` its label (a class by its name),
and all others that JSON has values for are metadata. ``rename_column``, ``select_columns`` and
``remove_columns`` of the dataset say otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from imgsearch_es.errors import SourceError

LABELS = ("label", "labels")
_PLAIN = str | int | float | bool


class TableRow(NamedTuple):
    """One row: a path, the bytes of a file or a Pillow image, and what else it has."""

    image: Any
    labels: tuple[str, ...] | None
    metadata: dict[str, Any]


def is_table(source: object) -> bool:
    """Whether a source is a dataset of Hugging Face, in memory, on disk or streaming."""
    return hasattr(source, "cast_column") and hasattr(source, "features")


def table_rows(dataset: Any) -> Iterator[TableRow]:
    """The rows, one after the other, with pictures as their files are.

    Raises:
        SourceError: no column has pictures, or a row has none.
    """
    features: Mapping[str, Any] = dataset.features or {}
    column = _image_column(features, dataset)
    if column in features:
        undecoded = import_module("datasets").Image(decode=False)
        dataset = dataset.cast_column(column, undecoded)
    for number, row in enumerate(dataset, start=1):
        image = row.get(column)
        if isinstance(image, Mapping):  # as the file is
            image = image.get("bytes") or image.get("path")
        if image is None:
            raise SourceError(f"the dataset, row {number}: it has no {column}")
        names = {name for name in LABELS if row.get(name) is not None}
        label = next(
            (_label(row[name], features.get(name)) for name in LABELS if name in names), None
        )
        rest = {name: value for name, value in row.items() if name not in {column, *names}}
        yield TableRow(image, label, {k: v for k, v in rest.items() if _is_json(v)})


def _image_column(features: Mapping[str, Any], dataset: Any) -> str:
    known = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if "image" in known or (not features and "image" in next(iter(dataset), {})):
        return "image"
    if not known:
        raise SourceError(
            f"the dataset has no column of images; it has {', '.join(features) or 'no features'}: "
            "cast_column(name, datasets.Image()) makes one of paths or bytes"
        )
    return known[0]


def _label(value: Any, kind: Any) -> tuple[str, ...]:
    """The names of classes, or texts; several of a list. Class -1 is none, as of a test set."""
    inner = getattr(kind, "feature", kind[0] if isinstance(kind, list) and kind else kind)
    to_name = getattr(inner, "int2str", str)
    value = value.tolist() if hasattr(value, "tolist") else value
    values = value if isinstance(value, list | tuple) else [value]
    try:
        if odd := [one for one in values if not isinstance(one, _PLAIN | None)]:
            raise ValueError(f"{odd[0]!r:.60} is no text or number")
        given = (one for one in values if one is not None and (to_name is str or one != -1))
        return tuple(str(to_name(one)) for one in given)
    except ValueError as error:
        raise SourceError(
            f"the dataset has a label that is none ({error}): rename or remove the column"
        ) from error


def _is_json(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_json, value))
    return isinstance(value, _PLAIN)
