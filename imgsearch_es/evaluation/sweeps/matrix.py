"""A matrix: the same sweep on several collections, from one file, and its tables once again.

A TOML file names options of ``sweep`` for all collections, and for each its pictures and judgements
(docs/reproduction.md). A collection that was measured is not measured again: its folder is kept.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import DEFAULT_MODEL, absolute
from imgsearch_es.errors import EvaluationError, WeightsError
from imgsearch_es.evaluation.manifest import (
    MANIFEST,
    VERSION,
    SweepPlan,
    read_manifest,
    refuse_others,
    versions,
)
from imgsearch_es.evaluation.sweeps.outcome import Sweep
from imgsearch_es.evaluation.sweeps.posteriors import model_name, split_views
from imgsearch_es.evaluation.sweeps.sweep import SweepRequest, plan_of, sweep
from imgsearch_es.evaluation.systems import Progress
from imgsearch_es.evaluation.tables import Difference, differences
from imgsearch_es.evaluation.text_files import read_as, read_text, write_lines
from imgsearch_es.pictures.manifests import PictureList

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FORMAT = "imgsearch_matrix"
"""The key of the manifest's version."""
TABLE, COMMANDS = "table.md", "commands.txt"
_SETTINGS = (
    *("models", "top_k", "query_terms", "filters", "strategies", "measures", "compare"),
    *("depth", "sample", "confidence", "interval", "seed", "timed"),
)
_PLACES = ("pictures", "list", "judgements", "queries", "query_pictures")
_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("depth", "sample", "seed", "timed"), (int,)),
    "confidence": (int, float),
    **dict.fromkeys(("compare", "interval", "judgements", "queries", "query_pictures"), (str,)),
    **dict.fromkeys(("top_k", "query_terms"), (int, str, list)),
}
"""What settings are; the others are a text or a list of texts."""
_CACHE = "posteriors"
_KEPT = ("data", "judgements", "models", "figures")
"""Of a sweep's manifest: what is of no machine."""


@dataclass(frozen=True)
class Matrix:
    """What a file asks for, and where the pictures are.

    Attributes:
        plan: the file's content, as JSON values.
        root: the folder in which the places of collections begin.
        expected: the manifest, where the file was one.
        file: of the manifest.
    """

    plan: Mapping[str, Any]
    root: Path
    expected: Mapping[str, Any] | None = None
    file: Path | None = None

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> Matrix:
        """Read a TOML file, or the manifest of a matrix; without a root, from its folder on."""
        where = root or path.parent
        if path.suffix != ".json":
            return cls(read_as(path, tomllib.loads, "not valid TOML"), where)
        kept = read_as(path, json.loads, "no JSON")
        is_ours = isinstance(kept, dict) and kept.get(FORMAT) == VERSION
        parts = [kept.get(key) for key in ("matrix", "collections")] if is_ours else [None]
        if not all(isinstance(part, dict) for part in parts):
            raise EvaluationError(f"{path} is no manifest of `imgsearch reproduce`")
        return cls(kept["matrix"], where, kept, path)

    def options(self) -> dict[str, dict[str, Any]]:
        """By collection, what ``sweep`` takes; models whose weights are missing are among them."""
        collections = self.plan.get("collections")
        if not isinstance(collections, Mapping) or not collections:
            raise EvaluationError("the matrix has no [collections.NAME] with pictures")
        shared = {key: value for key, value in self.plan.items() if key != "collections"}
        return {name: self._sweep(name, shared, own) for name, own in collections.items()}

    def _sweep(self, name: str, shared: Mapping[str, Any], own: object) -> dict[str, Any]:
        if not re.fullmatch(r"[\w-]+", name) or name == _CACHE:
            raise EvaluationError(f"a collection cannot be called {name!r}: take letters, - and _")
        if not isinstance(own, Mapping):
            raise EvaluationError(f"the collection {name} has no settings: {own!r}")
        found = {**shared, **own}
        for key, value in found.items():
            if key not in (*_SETTINGS, *_PLACES) or not _fits(key, value):
                raise EvaluationError(f"the collection {name} cannot have {key} = {value!r}")
        places = list(map(self._place, _listed(found.pop("pictures", []))))
        lists = [PictureList(self._place(place)) for place in _listed(found.pop("list", []))]
        if not places and not lists:
            raise EvaluationError(f"the collection {name} has no pictures, and no list of them")
        for key in {"judgements", "queries", "query_pictures"} & found.keys():
            place = self._place(found[key])
            found[key] = place if key != "judgements" or Path(place).exists() else found[key]
        for key in {"top_k", "query_terms"} & found.keys():
            found[key] = _listed(found[key])
        if "strategies" in found:
            found["systems"] = found.pop("strategies")
        models = [
            self._place(model) if split_views(model)[0].endswith(".toml") else model
            for model in _listed(found.get("models", DEFAULT_MODEL))
        ]
        return {**found, "pictures": [*places, *lists], "models": models}

    def _place(self, place: object) -> str:
        return str(absolute(self.root / str(place)))

    def row(self, name: str) -> dict[str, Any]:
        """What ``sweep`` takes for one row: "pets efficientnet-lite0 auto/plain/50/10"."""
        collection, _, rest = name.partition(" ")
        model, _, point = rest.rpartition(" ")
        options = self.options().get(collection)
        models = [] if options is None else options["models"]
        chosen = [each for each in models if model_name(each) == model]
        system, *parts = point.split("/")
        if options is None or not chosen or len(parts) not in (0, 2, 3):
            raise EvaluationError(
                f"there is no row {name!r}: it is called COLLECTION MODEL SYSTEM/FILTERS/TERMS/"
                f"QUERY_TERMS; there are {', '.join(self.options())} with "
                f"{', '.join(map(model_name, models)) or 'their models'}"
            )
        grid = {"filters": parts[:1], "top_k": parts[1:2], "query_terms": parts[2:]}
        kept = {key: value for key, value in options.items() if key not in grid}
        kept |= {"models": chosen, "systems": [system], "compare": None}
        return kept | {key: value for key, value in grid.items() if value}


@dataclass(frozen=True)
class Reproduction:
    """The tables of a matrix.

    Attributes:
        manifests: of each collection, without what is of this machine.
        tables: of each collection, as Markdown.
        missing: models without rows, and why.
    """

    matrix: Matrix
    manifests: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, str]
    missing: Mapping[str, str]

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same tables, as JSON values."""
        return {
            FORMAT: VERSION,
            "matrix": self.matrix.plan,
            "missing": list(self.missing),
            "collections": self.manifests,
            "versions": versions(),
        }

    def differences(self) -> list[Difference]:
        """What is not as the manifest says that was read."""
        expected = self.matrix.expected or {}
        found = differences(expected, {"versions": versions()})
        for name, now in self.manifests.items():
            was = expected.get("collections", {}).get(name)
            mine = differences(was if isinstance(was, Mapping) else {}, now)
            found += [replace(one, what=f"{one.what} of {name}") for one in mine]
        return found

    def rows(self) -> Iterator[str]:
        """The names of all rows, as ``Matrix.row`` takes them."""
        for name, manifest in self.manifests.items():
            for model, points in manifest["figures"].items():
                yield from (f"{name} {model} {point}" for point in points)

    def to_markdown(self) -> str:
        """A table for each collection."""
        parts = [f"## {name}\n\n{table}" for name, table in self.tables.items()]
        for model in self.missing:
            parts.append(f"No row of {model}: with its weights the same command adds its rows.")
        return "\n\n".join(parts)

    def write(self, folder: Path, file: Path) -> list[Path]:
        """Write tables, a command for each row, and the manifest; ``file`` is the matrix's."""
        text, root = json.dumps(self.manifest(), indent=1, ensure_ascii=False), self.matrix.root
        places = [] if root == file.parent else ["--pictures", str(root)]
        asked = ["imgsearch", "reproduce", str(file), *places, "--row"]
        commands = [shlex.join([*asked, row]) for row in self.rows()]
        check_out(folder)
        return [
            write_lines(folder / TABLE, [self.to_markdown()]),
            write_lines(folder / COMMANDS, commands),
            write_lines(folder / MANIFEST, [text]),
        ]


def check_out(folder: Path, collections: Iterable[str] = ()) -> None:
    """EvaluationError unless a matrix may be written there: over nothing but an earlier one."""
    try:
        Matrix.read(folder / MANIFEST)
    except EvaluationError as error:
        places = (folder / name for name in (TABLE, COMMANDS, MANIFEST))
        refuse_others(places, "reproduce", error)
    for name in collections:
        Sweep.check_folder(folder / name, {})


def reproduce(
    matrix: Matrix,
    out: Path,
    runtime: str | None = None,
    progress: Progress | None = None,
    *,
    plots: bool = True,
) -> Reproduction:
    """Measure a matrix, collection after collection, each into a folder of its own below ``out``.

    A collection that is whole there, by the same settings and versions, is taken as it is, with its
    times; what models said of the pictures is kept in any case.

    Raises:
        EvaluationError: the matrix makes no sense, no model has weights, or ``out`` has other files
            of the same names.
        Others: see ``sweep``.
    """
    asked = matrix.options()
    check_out(out, asked)
    if matrix.file is not None and matrix.file.resolve() == (out / MANIFEST).resolve():
        raise EvaluationError(f"{out} holds {matrix.file} and its figures: name another folder")
    missing = _missing({model for options in asked.values() for model in options["models"]})
    manifests, tables = {}, {}
    for name, options in asked.items():
        models = [model for model in options["models"] if model not in missing]
        if not models:
            raise EvaluationError(
                f"no model of {name} has weights: {next(iter(missing.values()), 'it names none')}"
            )
        options["models"] = models
        if (point := options.get("compare")) and " " not in point:
            options["compare"] = f"{model_name(models[0])} {point}"
        folder = out / name
        kept = _whole(folder, plan_of(SweepRequest(**options)))
        if kept is None:
            cache = out / _CACHE / name
            found = sweep(**options, cache=cache, runtime=runtime, progress=progress)
            found.write(folder, plots=plots)
            kept = read_manifest(folder / MANIFEST, "sweep")
        manifests[name] = {key: kept[key] for key in _KEPT}
        tables[name] = read_text(folder / TABLE).rstrip("\n")
    return Reproduction(matrix, manifests, tables, missing)


def measure_row(
    matrix: Matrix,
    row: str,
    out: Path,
    runtime: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure one row, by its name; what the model says of the pictures is kept below ``out``."""
    options, cache = matrix.row(row), out / _CACHE / row.partition(" ")[0]
    return sweep(**options, cache=cache, runtime=runtime, progress=progress)


def _whole(folder: Path, plan: SweepPlan) -> Mapping[str, Any] | None:
    """The manifest of a folder that holds all that a plan asks for, by these versions."""
    try:
        kept = read_manifest(folder / MANIFEST, "sweep")
    except EvaluationError:
        return None
    wanted = plan.to_dict()
    if not plan.measures:
        wanted["measures"] = kept["sweep"].get("measures")
    is_same = kept["sweep"] == wanted and kept.get("versions") == versions()
    is_whole = all(isinstance(kept.get(key), dict) for key in _KEPT)
    return kept if is_same and is_whole and (folder / TABLE).is_file() else None


def _missing(models: Iterable[str]) -> dict[str, str]:
    """The models whose weights are not there, and cannot be had now; and why."""
    found: dict[str, str] = {}
    for model in sorted(models):
        try:
            Analyzer(split_views(model)[0]).model.fingerprint()
        except WeightsError as error:
            found[model] = str(error)
    return found


def _fits(key: str, value: object) -> bool:
    """Whether a setting can have this value, by its kind."""
    kinds = _KINDS.get(key, (str, list))
    parts = {type(part) for part in value} if isinstance(value, list) else set()
    return type(value) in kinds and parts <= {*kinds} - {list}


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else str(value).split(",")
