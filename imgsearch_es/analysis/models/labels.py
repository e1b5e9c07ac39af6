"""Files of labels: the classes of a person's own classifier, in the order of its outputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.vocabulary.synsets import Vocabulary, from_labels, imagenet


def find_labels(model: Path) -> Path:
    """The file of labels beside a model: <stem>.labels.txt, labels.txt or labels.json.

    Raises:
        ConfigurationError: there is none.
    """
    names = (f"{model.name.partition('.')[0]}.labels.txt", "labels.txt", "labels.json")
    for name in dict.fromkeys((f"{model.stem}.labels.txt", *names)):
        if model.with_name(name).is_file():
            return model.with_name(name)
    raise ConfigurationError(
        f"the labels of {model} are not known: give them with labels=FILE, or put "
        f"{model.stem}.labels.txt, labels.txt or labels.json beside it"
    )


def read_labels(path: Path) -> list[str]:
    """Read labels: one per line, or (.json) a list, or an object {"0": label, "1": label, ...}.

    Raises:
        ConfigurationError: the file cannot be read, or is not of this form.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            return _in_order(json.loads(text), path)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the labels in {path}: {error.strerror or error}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"the labels in {path} are not valid: {error}") from error
    return [line.strip() for line in text.strip().splitlines()]


def to_vocabulary(labels: Sequence[str]) -> Vocabulary:
    """The vocabulary of the labels: ImageNet's, where they are its 1,000 classes in order.

    Raises:
        ConfigurationError: there are no labels, or one is empty or occurs twice.
    """
    known = imagenet()
    if len(labels) == len(known) and all(
        label in (synset.key, synset.name, synset.wnid)
        for label, synset in zip(labels, known, strict=True)
    ):
        return known
    return from_labels(labels)


def _in_order(found: object, path: Path) -> list[str]:
    if isinstance(found, dict):
        numbers = [str(i) for i in range(len(found))]
        missing = [number for number in numbers if number not in found]
        if missing:
            raise ConfigurationError(
                f"the labels in {path} are not numbered from 0 on: {missing[0]} is missing"
            )
        found = [found[number] for number in numbers]
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        raise ConfigurationError(f"{path} must hold a list of labels, or an object by number")
    return found
