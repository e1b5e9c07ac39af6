"""The configuration of an analyzer: read, completed, compared, and described on one line.

With it the files that it names, by place and fingerprint, and the deep feature that it asks for.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from imgsearch_es.analysis.plugins import check_options
from imgsearch_es.errors import AnalyzerError, ConfigurationError, WeightsError
from imgsearch_es.pictures import places
from imgsearch_es.pictures.files import check_finite

DEFAULT_MODEL = "vgg16"
"""The paper's model."""
TERMS, QUERY_TERMS = 50, 10
"""Classes that a document keeps, and that a query picture asks with, where nobody says."""
PRESETS: Mapping[str, Mapping[str, Any]] = {"paper": {"model": "vgg16", "terms": 10}}
"""Whole analyzers by name. The paper keeps, and asks with, each picture's ten best synsets."""


def is_same_analyzer(
    config: Mapping[str, Any], weights: str, other: Mapping[str, Any], other_weights: str
) -> bool:
    """Whether two configurations, with the fingerprints of their weights, give the same terms."""
    return weights == other_weights and essence(config) == essence(other)


def describe(config: Mapping[str, Any]) -> str:
    """An analyzer's full configuration on one line: its parts and their options, in order."""
    parts = [*config["image_filters"], config["model"], *config["term_filters"]]
    said = " -> ".join(map(_described, parts))
    if (asked := config.get("query_terms")) is not None:
        said += f"; a query picture asks with {asked}"
    if "views" in config:
        said = f"views={config['views']} -> {said}"
    feature, behind = config.get("embedding", True), config.get("embedding_filters", ())
    if behind or not isinstance(feature, bool):
        feature = {} if isinstance(feature, bool) else feature
        described = [f"deep feature: {describe_feature(feature)}", *map(_described, behind)]
        said = f"{said}; {' -> '.join(described)}"
    words = config.get("visual_words", 0)
    return f"{said}; {words} visual words" if words else said


def terms_of(options: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], int | None]:
    """The configurations of the term filters, and how many classes a query picture asks with."""
    if "term_filters" in options:
        if "terms" in options:
            raise ConfigurationError(
                "terms is short for term_filters that are one top_k: give one of the two"
            )
        filters, asked = options["term_filters"], options.get("query_terms")
    else:
        kept = _number("terms", options.get("terms", TERMS))
        filters = [{"name": "top_k", "k": kept}]
        asked = options.get("query_terms", QUERY_TERMS)
    return filters, None if asked is None else _number("query_terms", asked)


def _number(option: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{option} is a whole number above 0, not {value!r}")
    return value


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says where its files are on this machine, and visual words.

    The latter follow from the rest, and what is kept of pictures is not the analyzer's. Which files
    they are is in the model's fingerprint, and in the option sha256 of the other parts.
    """
    model = {
        name: value
        for name, value in config["model"].items()
        if name not in ("weights", "path", "labels") and (name, value) != ("wordnet", False)
    }
    kind, is_file, _ = str(model["name"]).partition(":")
    if is_file and kind in ("keras", "quantized", "zeroshot"):
        model["name"] = kind
    feature = without_paths({"embedding": config.get("embedding", True)})
    filters = [*map(without_paths, config.get("embedding_filters", ()))]
    kept = ("visual_words", "photo", "thumbnails")
    rest = {name: value for name, value in config.items() if name not in kept}
    return {**rest, "model": model, **feature, "embedding_filters": filters}


def _described(part: Mapping[str, Any]) -> str:
    """A part with its options; of more than twelve labels or words their number."""
    shown = {
        key: f"[{len(value)}]" if isinstance(value, list) and len(value) > 12 else value
        for key, value in part.items()
    }
    options = ", ".join(f"{key}={value}" for key, value in shown.items() if key != "name")
    return f"{part['name']}({options})" if options else str(part["name"])


def read_config(
    config: Mapping[str, Any] | str | Path, words: object = None
) -> tuple[Mapping[str, Any], Path]:
    """The configuration, with ``words`` of its model, and where its relative paths begin."""
    if words is not None:
        options, folder = read_config(config)
        model = options.get("model", DEFAULT_MODEL)
        named = {"name": model} if isinstance(model, str) else model
        return {**options, "model": {**named, "words": words}}, folder
    if isinstance(config, str) and not config.endswith(".toml"):
        config = PRESETS.get(config, {"model": config})
    if isinstance(config, Mapping):
        return config, current_folder()
    path = absolute(config)
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        check_finite(path)
        with path.open("rb") as file:
            return tomllib.loads(file.read().decode("utf-8-sig")), path.parent
    except OSError as error:
        raise ConfigurationError(f"cannot read the analyzer {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8 is a ValueError, too
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


_folder: ContextVar[Path] = ContextVar("_folder")


def fingerprint(path: Path, model: str) -> str:
    """``sha256:<hex>`` of a file's bytes; a WeightsError if it cannot be read."""
    try:
        return f"sha256:{kept_digest(path, 'sha256')}"
    except OSError as error:
        raise WeightsError(f"cannot read {path} of {model}: {error.strerror}") from error


@contextmanager
def relative_to(folder: Path) -> Iterator[None]:
    """Within this block relative paths begin in the folder of the file that names them."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def absolute(path: str | os.PathLike[str]) -> Path:
    """The absolute path of what a person gave; symbolic links stay."""
    given = _folder.get(Path()) / Path(path).expanduser()
    return Path(places.absolute(given))


def current_folder() -> Path:
    """Where relative paths begin now."""
    try:
        return absolute("")
    except FileNotFoundError:  # it was deleted: whole paths do without
        return Path()


def given_file(weights: str | os.PathLike[str], model: str) -> Path:
    """The absolute path of a file that a person gave; a WeightsError if there is none."""
    path = absolute(weights)
    if not path.is_file():
        found = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(f"the file given as weights of {model} {found}: {path}")
    return path


def kept_digest(path: Path, algorithm: str) -> str:
    """The hexadecimal digest of a file's bytes; one that has not changed is read only once."""
    state = path.stat()
    return _kept_digest(path, algorithm, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _kept_digest(path: Path, algorithm: str, size: int, mtime_ns: int) -> str:
    return digest_of(path, algorithm)


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of what is in a file now; it is read each time."""
    state = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()


@dataclass(frozen=True)
class LearntFile:
    """A file that a part was learnt into; its place may change, and its content may not.

    A WeightsError if there is no such file, or its content is another than ``sha256`` says.
    """

    path: str
    """Kept as an absolute path."""
    sha256: str = ""
    """Of its bytes, in hexadecimal; found out when it is not given."""
    what: ClassVar[str] = "a learnt part"
    """What the file is of, for messages."""

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not isinstance(self.sha256, str):
            raise AnalyzerError(f"{self.what} needs path, and sha256 is a text")
        file = given_file(self.path, self.what)
        found = fingerprint(file, self.what).partition(":")[2]
        if self.sha256 and self.sha256 != found:
            raise WeightsError(
                f"{file} is not the file that was recorded, by its sha256: give the right one in "
                "the analyzer's configuration (--analyzer), or index the pictures again under "
                "another name"
            )
        object.__setattr__(self, "path", str(file))
        object.__setattr__(self, "sha256", found)


def without_paths(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, and those in it, without the places of files that it names by sha256."""
    return {
        key: without_paths(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "path" or "sha256" not in config
    }


POOLINGS = ("avg", "max", "gem", "rmac", "spoc")
_OWN_OPTIONS = {"p": "gem", "levels": "rmac"}
_LARGEST_SCALE = 4.0


@dataclass(frozen=True)
class Parallel(LearntFile):
    """The file of a network that makes the deep feature of the model's own and of the picture."""

    what: ClassVar[str] = "a network in parallel"


@dataclass(frozen=True)
class DeepFeature:
    """A deep feature; the defaults are a model's own: the average of its last activation.

    docs/features.md says what the options mean, and has the formulas of the poolings.
    """

    layer: str | None = None
    pooling: str = "avg"
    p: float = 3.0
    levels: int = 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    parallel: Parallel | None = None

    def __post_init__(self) -> None:
        are_scales = isinstance(self.scales, tuple) and all(
            _is_number(scale, _LARGEST_SCALE) for scale in self.scales
        )
        rules = {
            "layer": (
                self.layer is None or (isinstance(self.layer, str) and self.layer != ""),
                "a layer's name",
            ),
            "pooling": (self.pooling in POOLINGS, f"one of {', '.join(POOLINGS)}"),
            "p": (_is_number(self.p, 100), "a number above 0 and up to 100"),
            "levels": (type(self.levels) is int and 1 <= self.levels <= 8, "1 to 8"),
            "flip": (isinstance(self.flip, bool), "true or false"),
            "scales": (
                are_scales and 0 < len(self.scales) == len(set(self.scales)),
                f"a list of different numbers above 0 and up to {_LARGEST_SCALE:g}",
            ),
        }
        for option, (is_right, wanted) in rules.items():
            if not is_right:
                given = getattr(self, option)
                raise AnalyzerError(f"embedding: {option} is {wanted}, not {given!r}")

    @property
    def is_default(self) -> bool:
        """Whether it is the model's own deep feature."""
        return self.to_config() == {}

    def to_config(self) -> dict[str, Any]:
        """The options that differ from the defaults, as JSON values."""
        mine, default = asdict(self), asdict(DeepFeature())
        found = {name: value for name, value in mine.items() if value != default[name]}
        for option, pooling in _OWN_OPTIONS.items():
            if self.pooling == pooling:
                found[option] = mine[option]
            else:
                found.pop(option, None)
        if "p" in found:
            found["p"] = float(self.p)
        if "scales" in found:
            found["scales"] = list(self.scales)
        return found

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> DeepFeature:
        """Read what `to_config` gave, or what a person wrote."""
        check_options("embedding", config, [field.name for field in fields(cls)])
        for option, pooling in _OWN_OPTIONS.items():
            if option in config and config.get("pooling", "avg") != pooling:
                raise AnalyzerError(f'embedding: {option} is an option of pooling = "{pooling}"')
        options = dict(config)
        if isinstance(scales := options.get("scales"), list):
            options["scales"] = tuple(float(s) if _is_number(s) else s for s in scales)
        if "parallel" in options:
            options["parallel"] = _parallel(options["parallel"])
        return cls(**options)


def describe_feature(config: Mapping[str, Any]) -> str:
    """What `DeepFeature.to_config` gave, in a few words; its file need not be there."""
    options = dict(config)
    calls = {options.pop("pooling", "avg"): options}
    if "parallel" in options:
        calls["parallel"] = options.pop("parallel")
    return " -> ".join(
        f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"
        for name, given in calls.items()
    )


def _parallel(given: object) -> Parallel:
    """The option's value as a person writes it, a path, or as `to_config` gave it."""
    if isinstance(given, str | os.PathLike):
        return Parallel(os.fspath(given))
    if not isinstance(given, Mapping) or not {"path"} <= set(given) <= {"path", "sha256"}:
        wanted = "the path of a head, or its path and sha256"
        raise AnalyzerError(f"embedding: parallel is {wanted}, not {given!r}")
    return Parallel(**given)


def _is_number(value: object, most: float = sys.float_info.max) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value <= most
