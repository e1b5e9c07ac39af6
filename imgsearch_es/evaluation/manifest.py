"""What is asked, kept and found again: plans, manifests, and where figures and runs come from.

A manifest says what was asked for, what it was asked of (fingerprints of the pictures, labels,
judgements, terms and deep features, and of the model's weights), with which versions, and what came
out. Names of pictures do not depend on the folder that holds them, so the same pictures elsewhere
have the same fingerprints.

The metadata of a run (the machine, versions, time and energy) are those of Breuer, Keller and
Schaer, "ir_metadata: an extensible metadata schema for IR experiments", SIGIR 2022
(https://www.ir-metadata.org), version 0.1; time and energy are under ``resources``, as the TIREx
tracker writes them. A header is YAML in comment lines before a run.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import datetime, timezone
from inspect import signature
from pathlib import Path
from time import perf_counter, process_time
from types import UnionType
from typing import Any, ClassVar, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from imgsearch_es.analysis.plugins import installed_version
from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.collection import Collection, Item
from imgsearch_es.evaluation.text_files import read_as, read_lines
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.search.request import shown_as

VERSION = 1
MANIFEST, PICTURES = "manifest.json", "pictures.tsv.gz"
IN_PYTHON = "(given in Python)"
"""Stands for judgements, queries or runs that no file holds."""
_LIST = "list:"
"""Before the path of a list of pictures."""
_PACKAGES = (
    *("imgsearch-es", "numpy", "scipy", "ir-measures", "pytrec-eval-terrier"),
    *("duckdb", "elasticsearch", "keras", "tensorflow", "openvino", "pillow"),
)
_START, _END = "# ir_metadata.start", "# ir_metadata.end"
_RAPL = Path("/sys/class/powercap")
P = TypeVar("P", bound="BasePlan")
Request = TypeVar("Request")
Answer = TypeVar("Answer")
Options = ParamSpec("Options")


def takes(
    request: Callable[Options, Request],
) -> Callable[[Callable[[Request], Answer]], Callable[Options, Answer]]:
    """Decorates a function of a request: it takes the fields as arguments, and its help says so."""

    def decorate(function: Callable[[Request], Answer]) -> Callable[Options, Answer]:
        def ask(*args: Options.args, **options: Options.kwargs) -> Answer:
            return function(request(*args, **options))

        return shown_as(ask, function, request)

    return decorate


@dataclass(frozen=True, kw_only=True)
class BasePlan:
    """What an experiment or a sweep is asked to do, as JSON values that a manifest keeps."""

    kind: ClassVar[str]
    format: ClassVar[str]
    """The key of the manifest's version."""
    judgements: str
    systems: tuple[str, ...]
    measures: tuple[str, ...]
    compare: str | None = None
    queries: str | None = None
    depth: int = 1000
    sample: int | None = None
    confidence: float = 0.95
    interval: str = "t"
    seed: int = 0

    @classmethod
    def of(cls: type[P], request: object, **settled: Any) -> P:
        """The plan of a request, some of whose options are settled."""
        asked = {name: getattr(request, name) for name in signature(cls).parameters} | settled
        for name, given in asked.items():
            value = given.item() if hasattr(given, "dtype") else given  # of NumPy's numbers
            asked[name] = value if isinstance(value, int | float | tuple | None) else as_text(value)
        return cls(**asked)

    @property
    def head(self) -> dict[str, Any]:
        """How a manifest begins: with its format and what was asked for."""
        return {self.format: VERSION, self.kind: self.to_dict()}

    @property
    def level(self) -> str:
        """The confidence in percent."""
        return f"{100 * self.confidence:.10g}%"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def arguments(self) -> dict[str, Any]:
        """What ``evaluate`` or ``sweep`` takes to do it again."""
        values = self.to_dict()
        lost = [k for k, v in values.items() if IN_PYTHON in (v if isinstance(v, list) else [v])]
        if lost:
            raise EvaluationError(
                f"the {' and '.join(lost)} of this {self.kind} were given in Python, and no file "
                "holds them: give their files, or compare with differences(manifest, found)"
            )
        return values

    @classmethod
    def from_dict(cls: type[P], values: Mapping[str, Any]) -> P:
        """Read what ``to_dict`` gave."""
        kinds = {f.name: f for f in fields(cls)}
        hints = get_type_hints(cls)
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        article = "an" if cls.kind[0] in "aeiou" else "a"
        if unknown := given.keys() - kinds.keys():
            raise EvaluationError(f"{article} {cls.kind} has no setting {min(unknown)}")
        for name, value in given.items():
            if not _fits(value, hints[name]):
                raise EvaluationError(f"the {cls.kind}'s {name} cannot be {value!r}")
        required = {name for name, field in kinds.items() if field.default is MISSING}
        if missing := required - given.keys():
            raise EvaluationError(f"the {cls.kind} does not say its {min(missing)}")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Plan(BasePlan):
    """The arguments of ``evaluate``, as text and numbers."""

    kind = "experiment"
    format = "imgsearch_evaluation"
    pictures: str | None = None
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SweepPlan(BasePlan):
    """The arguments of ``sweep``, as text and numbers; no picture where its cache was taken."""

    kind = "sweep"
    format = "imgsearch_sweep"
    pictures: tuple[str, ...]
    models: tuple[str, ...]
    top_k: tuple[int, ...]
    filters: tuple[str, ...]
    query_pictures: str | None
    timed: int
    query_terms: tuple[int, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """What ``sweep`` takes to do it again."""
        pictures = [
            PictureList(place.removeprefix(_LIST)) if place.startswith(_LIST) else place
            for place in self.pictures
        ]
        return {**super().arguments(), "pictures": pictures or None}


_PLANS: Mapping[str, type[BasePlan]] = {"evaluate": Plan, "sweep": SweepPlan}


def as_text(value: object) -> str:
    """A path, a name or a list of pictures; of what no file holds, IN_PYTHON."""
    if isinstance(value, PictureList):
        return f"{_LIST}{os.fspath(value.place)}"
    return os.fspath(value) if isinstance(value, str | os.PathLike) else IN_PYTHON


def _fits(value: object, hint: Any) -> bool:
    """Whether a setting from JSON is as its annotation says."""
    if isinstance(hint, UnionType):
        return any(_fits(value, kind) for kind in get_args(hint))
    if isinstance(value, tuple):
        return get_origin(hint) is tuple and all(_fits(one, get_args(hint)[0]) for one in value)
    return type(value) in ((int, float) if hint is float else (hint,))


def read_manifest(path: str | os.PathLike[str], command: str = "evaluate") -> dict[str, Any]:
    """Read the manifest that `imgsearch evaluate` or `imgsearch sweep` wrote."""
    manifest = read_as(path, json.loads, "no JSON")
    plan = _PLANS[command]
    if not isinstance(manifest, dict) or manifest.get(plan.format) != VERSION:
        raise EvaluationError(f"{path} is no manifest of `imgsearch {command}` (version {VERSION})")
    if not isinstance(manifest.get(plan.kind), dict):
        raise EvaluationError(f"{path} does not say which {plan.kind} it is of")
    if not isinstance(manifest.setdefault("files", {}), dict):
        raise EvaluationError(f"{path} does not say which files are its own")
    return manifest


def refuse_others(files: Iterable[Path], command: str, cause: EvaluationError) -> None:
    """EvaluationError where one of these files is there, as no manifest of this command is."""
    if taken := next(filter(os.path.lexists, files), None):
        raise EvaluationError(
            f"{taken} is there, and of no earlier `imgsearch {command}`: name another folder"
        ) from cause


def check_known(name: str, known: Iterable[str], otherwise: str) -> str:
    """A name that is among the known ones."""
    names = list(known)
    if name not in names:
        raise EvaluationError(f"{name} {otherwise.format(', '.join(names))}")
    return name


def arguments_of(
    manifest: Mapping[str, Any], places: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The arguments of ``evaluate`` or ``sweep`` to do what a manifest is of again."""
    (plan,) = (plan for plan in _PLANS.values() if plan.format in manifest)
    moved = {
        key: [as_text(one) for one in value] if isinstance(value, list) else as_text(value)
        for key, value in (places or {}).items()
    }
    return plan.from_dict({**manifest[plan.kind], **moved}).arguments()


def labels_of(item: Item) -> str:
    """The labels of a picture, as the list of pictures has them."""
    return re.sub(r"\s", " ", " ".join(item.labels))


def picture_differences(path: Path, collection: Collection) -> list[str]:
    """In which pictures a collection differs from the list that ``write`` put beside a manifest."""
    was = {}
    for number, line in read_lines(path)[1:]:
        name, *about = line.split("\t")
        if len(about) != 2:
            raise EvaluationError(f"{path}, line {number}: not 3 columns: name, sha256, labels")
        was[name] = tuple(about)
    now = {item.name: (item.sha256, labels_of(item)) for item in collection.items}
    both = was.keys() & now.keys()
    kinds = {
        "are gone": was.keys() - now.keys(),
        "are new": now.keys() - was.keys(),
        "have another content": {name for name in both if was[name][0] != now[name][0]},
        "have other labels": {name for name in both if was[name][1] != now[name][1]},
    }
    return [
        f"{len(names)} pictures {kind}: {', '.join(sorted(names)[:3])}{', ...' * (len(names) > 3)}"
        for kind, names in kinds.items()
        if names
    ]


# -- where figures and runs come from --------------------------------------------------------------


def versions() -> dict[str, str]:
    """Of Python, the machine and the packages that figures may depend on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    return found | {name: number for name in _PACKAGES if (number := installed_version(name))}


def measured() -> Callable[[], dict[str, Any]]:
    """Start a clock; what it gives says how long, and how much energy, it was until it is asked."""
    begun, clock, used = datetime.now(timezone.utc), perf_counter(), process_time()
    energy = _energy()

    def resources() -> dict[str, Any]:
        ended = datetime.now(timezone.utc)
        found: dict[str, Any] = {
            "runtime": {
                "start time": begun.isoformat(timespec="milliseconds"),
                "stop time": ended.isoformat(timespec="milliseconds"),
                "wallclock": f"{1000 * (perf_counter() - clock):.0f} ms",
                "user": f"{1000 * (process_time() - used):.0f} ms",
            }
        }
        after = _energy()
        if energy and energy.keys() == after.keys():
            counted = ((after[zone][0] - was) % (turn + 1) for zone, (was, turn) in energy.items())
            found["cpu"] = {"energy used system": f"{sum(counted) / 1e6:.1f} J"}
        return found

    return resources


def about(
    strategy: str, analyzer: Mapping[str, Any], resources: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of a run, as ir_metadata arranges them.

    It does not know who made it, why, and of what collection: "actor" and the like are empty.
    """
    known = versions()
    del known["machine"]
    return {
        "schema-version": 0.1,
        "run-version": 1.0,
        "tag": strategy,
        "platform": {
            "hardware": _hardware(),
            "operating system": {
                "kernel": f"{platform.system()} {platform.release()}",
                "distribution": _distribution(),
            },
            "software": {
                "libraries": {"python": [f"{name}=={value}" for name, value in known.items()]},
                "retrieval toolkit": [f"imgsearch-es=={known.get('imgsearch-es', '')}"],
            },
        },
        "research goal": {},
        "implementation": {"source": {"lang": ["Python"]}},
        "method": {
            "automatic": True,
            "indexing": {"analyzer": json.loads(json.dumps(dict(analyzer)))},
            "retrieval": [{"name": strategy}],
        },
        "actor": {},
        "data": {},
        "resources": dict(resources),
    }


def to_header(metadata: Mapping[str, Any]) -> list[str]:
    """Comment lines with metadata in YAML; EvaluationError where it cannot hold a value."""
    yaml = needed("yaml", "metadata of runs need PyYAML", "evaluation")
    try:
        text = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=4096)
    except yaml.YAMLError as error:
        raise EvaluationError(f"the metadata of the run are no YAML: {error}") from error
    return [_START, *(f"# {line}" for line in text.splitlines()), _END]


def from_header(lines: Sequence[tuple[int, str]], where: str) -> tuple[dict[str, Any], int]:
    """What a run's first lines say of it, and how many they are: none without a header."""
    if not lines or lines[0][1].rstrip() != _START:
        return {}, 0
    ends = [place for place, (_, line) in enumerate(lines) if line.rstrip() == _END]
    if not ends:
        raise EvaluationError(f"{where}: the header has no line {_END!r}")
    yaml = needed("yaml", f"{where} has a header, which needs PyYAML", "evaluation")
    rows = [line.rstrip("\r").removeprefix("#").removeprefix(" ") for _, line in lines[1 : ends[0]]]
    try:
        found = yaml.safe_load("\n".join(rows))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise EvaluationError(f"{where}: the header is no YAML: {text}") from error
    if not isinstance(found, dict):
        raise EvaluationError(f"{where}: the header is no mapping of names to values")
    return found, ends[0] + 1


def _hardware() -> dict[str, Any]:
    cpu = {
        "model": _first("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "operation mode": platform.architecture()[0].replace("bit", "-bit"),
        "number of cores": os.cpu_count() or 0,
    }
    kilobytes = _first("/proc/meminfo", "MemTotal").partition(" ")[0]
    return {"cpu": cpu} | ({"ram": f"{int(kilobytes) / 2**20:.0f} GB"} if kilobytes else {})


def _first(path: str, name: str) -> str:
    """The first value of a name in a file of Linux, or nothing."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            rows = (line.partition(":") for line in file)
            return next((value.strip() for key, _, value in rows if key.strip() == name), "")
    except OSError:
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return platform.platform(terse=True)


def _energy() -> dict[Path, tuple[int, int]]:
    """By processor package, Intel's and AMD's counter (RAPL) of microjoules, and where it turns.

    Linux lets root alone read it, unless told otherwise; nothing is measured where it does not.
    """
    found = {}
    for zone in sorted(_RAPL.glob("*-rapl:?")):
        try:
            highest = int((zone / "max_energy_range_uj").read_text())
            found[zone] = int((zone / "energy_uj").read_text()), highest
        except (OSError, ValueError):
            continue
    return found
