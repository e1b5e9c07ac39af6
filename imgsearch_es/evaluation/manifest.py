"""What is asked, shown, kept and found again: plans, results with a folder, and manifests.

A manifest says what was asked for, what it was asked of (fingerprints of the pictures, labels,
judgements, terms and deep features, and of the model's weights), with which versions, and what came
out. Names of pictures do not depend on the folder that holds them, so the same pictures elsewhere
have the same fingerprints.
"""

from __future__ import annotations

import io
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    ParamSpec,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.significance import Clusters
from imgsearch_es.evaluation.tables import Tables, check_known
from imgsearch_es.evaluation.text_files import read_lines, write_bytes, write_lines
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.search.request import shown_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
MANIFEST, PICTURES = "manifest.json", "pictures.tsv.gz"
IN_PYTHON = "(given in Python)"
"""Stands for judgements, queries or runs that no file holds."""
_LIST = "list:"
"""Before the path of a list of pictures."""
_COMPARED = ("data", "judgements", "analyzer", "weights", "models", "rankings", "figures")
"""What decides the figures, and the figures; versions and places only may."""
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
        kept = (int, float, tuple, type(None))
        for name, value in asked.items():
            asked[name] = value if isinstance(value, kept) else as_text(value)
        return cls(**asked)

    @property
    def head(self) -> dict[str, Any]:
        """How a manifest begins: with its format and what was asked for."""
        return {self.format: VERSION, self.kind: self.to_dict()}

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
            is_wrong = not isinstance(value, _types(hints[name])) or isinstance(value, bool)
            parts = {type(part) for part in value} if isinstance(value, tuple) else set()
            if is_wrong or parts - _parts(hints[name]):
                raise EvaluationError(f"the {cls.kind}'s {name} cannot be {value!r}")
        needed = {name for name, field in kinds.items() if field.default is MISSING}
        if missing := needed - given.keys():
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


def _parts(hint: Any) -> set[Any]:
    """Of what types the parts of a tuple may be."""
    return {kind for each in (hint, *get_args(hint)) for kind in get_args(each)}


def _types(hint: Any) -> tuple[type, ...]:
    """What a setting may be in JSON, by its annotation."""
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _types(part))
    kind: type = get_origin(hint) or hint
    return (int, float) if kind is float else (kind,)


class Results(Tables):
    """Tables of figures that were planned, and a folder that keeps all that belongs to them."""

    plan: BasePlan
    clusters: Clusters | None
    csv_file: ClassVar[str]

    @property
    def groups(self) -> int | None:
        """How many groups the queries are of; None where each stands for itself."""
        return None if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def sureness(self) -> dict[str, Any]:
        """How sure means and differences are: options of ``significance.interval``."""
        plan = self.plan
        sure = {"confidence": plan.confidence, "kind": plan.interval, "seed": plan.seed}
        return {**sure, "clusters": self.clusters}

    @abstractmethod
    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""

    @abstractmethod
    def figures(self) -> Iterator[tuple[str, Figure]]:
        """The plots of the folder, by name (needs matplotlib)."""

    @abstractmethod
    def more_files(self, folder: Path) -> Iterator[Path]:
        """Write what the folder holds besides tables, plots and the manifest."""

    def write(self, folder: str | os.PathLike[str], *, plots: bool = True) -> list[Path]:
        """Write tables, manifest, plots and all that belongs to them into a folder.

        The manifest comes last: where it is, the folder is whole.

        >>> found.write("out", plots=False)[-1].name
        'manifest.json'
        """
        where = Path(folder).expanduser()
        figures = dict(self.figures()) if plots else {}
        written = [
            write_lines(where / "table.md", [self.to_markdown()]),
            write_lines(where / "table.tex", [self.to_latex()]),
            write_lines(where / self.csv_file, [self.to_csv().rstrip("\n")]),
            *self.more_files(where),
        ]
        for name, figure in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
            written.append(write_bytes(where / f"{name}.png", buffer.getvalue()))
        text = json.dumps(self.manifest(), indent=2, ensure_ascii=False)
        return [*written, write_lines(where / MANIFEST, [text])]

    def measured(self, name: str | None) -> str:
        """A measure that there is, by default the first.

        >>> found.measured(None)
        'P@3'
        """
        measures = self.plan.measures
        return check_known(name or measures[0], measures, "was not measured: {} were")

    def captioned(
        self, task: str, queries: int, pictures: int, more: str = "", *, marks: bool
    ) -> str:
        """The caption of a table of means.

        >>> found.captioned("pets", 10, 20, marks=False).partition(";")[0]
        'pets: 10 queries of 19 groups, 20 pictures'
        """
        plan = self.plan
        kind = "Student's t" if plan.interval == "t" else "bootstrap"
        stars = (
            f" Against {plan.compare}: * p < 0.05, ** p < 0.01, *** p < 0.001 (paired "
            "randomization test, Holm's correction)."
        )
        of, by = (f" of {self.groups:,} groups", ", by group") if self.groups else ("", "")
        return (
            f"{task}: {queries:,} queries{of}, {pictures:,} pictures; means with "
            f"{plan.confidence:.0%} confidence intervals ({kind}{by}).{more}"
            f"{stars if marks else ''}"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as the manifest says: ``what`` is such as ``figures, sqrt, P@10``."""

    what: str
    was: object
    now: object

    def __str__(self) -> str:
        return f"{self.what}: {_show(self.now)}, was {_show(self.was)}"


def read_manifest(path: str | os.PathLike[str], command: str = "evaluate") -> dict[str, Any]:
    """Read the manifest that `imgsearch evaluate` or `imgsearch sweep` wrote."""
    text = "\n".join(line for _, line in read_lines(path))
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is no JSON: {error}") from error
    plan = _PLANS[command]
    if not isinstance(manifest, dict) or manifest.get(plan.format) != VERSION:
        raise EvaluationError(f"{path} is no manifest of `imgsearch {command}` (version {VERSION})")
    if not isinstance(manifest.get(plan.kind), dict):
        raise EvaluationError(f"{path} does not say which {plan.kind} it is of")
    return cast("dict[str, Any]", manifest)


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


def differences(
    manifest: Mapping[str, Any], found: Results | Mapping[str, Any]
) -> list[Difference]:
    """What is not as the manifest says in what was found, or its manifest; figures come first."""
    now = json.loads(json.dumps(found.manifest() if isinstance(found, Results) else found))
    return [
        difference
        for key in (*_COMPARED, "versions", "index")
        if key in now
        for difference in _compare(key, manifest.get(key), now[key])
    ]


def part(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a manifest says of a part, nothing where it is of another form."""
    found = manifest.get(name)
    return found if isinstance(found, Mapping) else {}


def _compare(what: str, was: object, now: object) -> Iterator[Difference]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*was, *now)):
            yield from _compare(f"{what}, {key}", was.get(key), now.get(key))
    elif was != now:
        yield Difference(what, was, now)


def _show(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."


def picture_differences(path: Path, collection: Collection) -> list[str]:
    """In which pictures a collection differs from the list that ``write`` put beside a manifest."""
    was = {}
    for _, line in read_lines(path)[1:]:
        name, content, labels = line.split("\t")
        was[name] = (content, labels)
    now = {item.name: (item.sha256, " ".join(item.labels)) for item in collection.items}
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
