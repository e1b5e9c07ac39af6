"""What a sweep found: points, what they lose against a baseline, and how many terms are enough.

A point is a setting and a system, with figures and costs.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.manifest import SweepPlan, versions
from imgsearch_es.evaluation.measures import Scores
from imgsearch_es.evaluation.significance import NOTHING, Clusters, Comparison, Interval, interval
from imgsearch_es.evaluation.tables import Results, Section, compared, mark, p_values, plain, show
from imgsearch_es.evaluation.text_files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COSTS = ("bytes", "latency")
MARGIN = 0.01
"""A loss that does not matter, where nobody says."""
_ENOUGH = (
    "Terms that are enough: the confidence interval of the difference to the most terms lies above "
    "-0.01"
)
_COLUMNS = (
    *("model", "name", "system", "filters", "top_k", "query_terms"),
    *("terms", "bytes", "file_bytes", "p50_ms", "p95_ms", "pictures_per_second"),
)
"""What files say of a point."""
Curve = tuple[str, str, str, int | None]
"""Model, system, filters and ``query_terms``."""


@dataclass(frozen=True, eq=False)
class Point:
    """What one system achieves with one setting: the columns of docs/sweeps.md.

    Where no synsets are compared, ``filters`` is empty, ``top_k`` None and ``terms`` 0.
    ``query_terms`` is None where a query picture asks with all its terms. Times are nan where
    nothing was timed, ``pictures_per_second`` where no run is known that analyzed them.
    """

    model: str
    system: str
    filters: str
    top_k: int | None
    query_terms: int | None
    terms: float
    bytes: float
    file_bytes: float
    p50_ms: float
    p95_ms: float
    scores: Scores
    means: Mapping[str, Interval]
    pictures_per_second: float = math.nan

    @property
    def name(self) -> str:
        """All but the model: ``auto/plain/10``, ``auto/plain/50/10``, ``dense-cosine``."""
        return point_name(self.system, self.filters, self.top_k, self.query_terms)

    @property
    def curve(self) -> Curve:
        """What it has in common with points of another number of terms."""
        return self.model, self.system, self.filters, self.query_terms

    def cost(self, kind: str) -> float:
        """Bytes per picture, or milliseconds per query."""
        return self.bytes if kind == "bytes" else self.p50_ms


def point_name(system: str, filters: str, top_k: int | None, query_terms: int | None) -> str:
    """What a point is called, but for its model."""
    name = f"{system}/{filters}/{top_k}" if top_k else system
    return f"{name}/{query_terms}" if query_terms else name


def curves(points: Iterable[Point]) -> dict[Curve, list[Point]]:
    """Points that differ by the number of terms only, fewest first; single ones, too."""
    found: dict[Curve, list[Point]] = {}
    for point in points:
        found.setdefault(point.curve, []).append(point)
    for curve in found.values():
        curve.sort(key=lambda point: point.top_k or 0)
    return found


@dataclass(frozen=True, slots=True)
class Enough:
    """The least number of terms that is enough, and every larger one, compared with the most.

    ``top_k`` is ``most`` where no smaller number is shown to be enough.
    """

    model: str
    system: str
    filters: str
    query_terms: int | None
    top_k: int
    most: int
    difference: Interval


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(Results):
    """Quality, time and size of many settings; shows itself as a table in a notebook.

    A point, measure or cost that it does not have is an EvaluationError.

    Attributes:
        points: by model, then as the systems and filters were named, fewest terms first.
        about: fingerprints of data, judgements and models.
        notes: what a reader of the figures should know.
        clusters: the group of each query, as of an ``Evaluation``.
    """

    plan: SweepPlan
    task: str
    pictures: int
    queries: int
    points: tuple[Point, ...]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    clusters: Clusters | None = None
    command = "sweep"
    own_files = ("sweep.csv", "sweep.parquet")

    def point(self, name: str, model: str | None = None) -> Point:
        """A point by its name, such as ``auto/plain/10``, of a model or the first that has it."""
        for point in self.points:
            if point.name == name and model in (None, point.model):
                return point
        raise EvaluationError(
            f"the sweep has no point {name}; there are {', '.join(p.name for p in self.points[:9])}"
        )

    def front(self, measure: str | None = None, cost: str = "bytes") -> list[Point]:
        """The Pareto front: points to which no other is equal or better in both, cheapest first.

        The cost is "bytes" per picture, or "latency" of a query.
        """
        if cost not in COSTS:
            raise EvaluationError(f"there is no cost {cost!r}; there are {', '.join(COSTS)}")
        name, best = self.measured(measure), list[Point]()
        priced = [point for point in self.points if not math.isnan(point.cost(cost))]
        for point in sorted(priced, key=lambda p: (p.cost(cost), -p.means[name].mean, p.name)):
            if not best or point.means[name].mean > best[-1].means[name].mean:
                best.append(point)
        return best

    @cached_property
    def comparisons(self) -> dict[tuple[str, str, str], Comparison]:
        """Points against the baseline, by model, point's name and measure.

        It is one point of each model, or of the model that ``plan.compare`` names before it.
        """
        found: dict[tuple[str, str, str], Comparison] = {}
        compare = self.plan.compare or ""
        own, _, baseline = compare.rpartition(" ")
        for models in [self._models] if own else [[model] for model in self._models]:
            mine = {(p.model, p.name): p.scores for p in self.points if p.model in models}
            if figures := mine.pop((own or models[0], baseline), None):
                named = {" ".join(key) if own else key[1]: key for key in mine}
                others = {name: mine[key] for name, key in named.items()}
                for one in self._against(compare, figures, others):
                    model, name = named[one.system]
                    found[model, name, one.measure] = one
        return found

    def enough(self, measure: str | None = None, margin: float = MARGIN) -> list[Enough]:
        """How many terms are enough: the mean is hardly below that of the most terms.

        So many are enough when, query by query, the confidence interval of the difference to the
        most terms lies above minus the margin, for this number of terms and every larger one.

        Args:
            measure: by default the first.
            margin: the loss that does not matter, in the units of the measure, above 0.
        """
        name = self.measured(measure)
        if margin <= 0:
            raise EvaluationError(f"the margin is above 0, not {margin}")
        found = []
        for curve in curves(self.points).values():
            *fewer, most = curve
            chosen, difference = most, Interval(0.0, 0.0, 0.0)
            for point in reversed(fewer):
                losses = point.scores.values[name] - most.scores.values[name]
                lost = interval(losses, **self.sureness)
                if not lost.low >= -margin:
                    break
                chosen, difference = point, lost
            if chosen.top_k is not None and most.top_k is not None:
                found.append(Enough(*most.curve, chosen.top_k, most.top_k, difference))
        return found

    @property
    def _models(self) -> list[str]:
        return list(dict.fromkeys(point.model for point in self.points))

    def plot(self, measure: str | None = None, cost: str = "bytes") -> Figure:
        """Quality against cost, with the Pareto front: see ``front`` (needs matplotlib)."""
        from imgsearch_es.search.shown import plots

        return plots.pareto(self, self.measured(measure), cost)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Quality against bytes, and against time where it was measured."""
        for cost in COSTS:
            if self.front(cost=cost):
                yield f"pareto-{cost}", self.plot(cost=cost)

    @property
    def caption(self) -> str:
        """What the table is of."""
        more = (
            " Bytes per picture of what is compared, uncompressed; front: nothing is better by "
            f"{self.plan.measures[0]} and as small, or as fast."
        )
        marks = bool(self.comparisons)
        return self.captioned(self.task, self.queries, self.pictures, more, marks=marks)

    @property
    def numbers(self) -> Sequence[str]:
        """Headings of the columns that a terminal shows to the right."""
        return "top_k", "query_terms", "terms", "bytes", "pictures/s", "p50 ms"

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table of points."""
        fronts = {
            name: self.front(cost=cost) for cost, name in (("bytes", "bytes"), ("latency", "ms"))
        }
        several = len(self._models) > 1
        asked = ["query_terms"] * bool(self.plan.query_terms)
        rates = ["pictures/s"] * any(p.pictures_per_second > 0 for p in self.points)
        columns = ["system", "filters", "top_k", *asked, "terms", "bytes", *rates, "p50 ms"]
        columns += self.plan.measures
        rows = []
        for point in self.points:
            row = [point.system, point.filters]
            row += [str(getattr(point, name) or "") for name in ("top_k", *asked)]
            row += ["" if point.top_k is None else f"{point.terms:.1f}", f"{point.bytes:,.0f}"]
            row += [_number(point.pictures_per_second, 0)] * len(rates)
            row += [_number(point.p50_ms, 1)]
            row += [
                show(mean) + mark(self.comparisons.get((point.model, point.name, measure)))
                for measure, mean in point.means.items()
            ]
            on = ", ".join(name for name, front in fronts.items() if point in front)
            rows.append([point.model] * several + [*row, on])
        return ["model"] * several + [*columns, "front"], rows

    def sections(self) -> list[Section]:
        """How many terms are enough, in a sentence for each curve."""
        if len(self.plan.top_k) == 1:
            return []
        several = len(self._models) > 1
        sentences = [
            f"{f'{e.model}, ' * several}{e.system}, {e.filters}"
            f"{f', {e.query_terms} of a query' if e.query_terms else ''}: "
            + (
                f"{e.top_k} of {e.most} terms are enough; "
                f"{self.plan.measures[0]} {show(e.difference, sign=True)}"
                if e.top_k < e.most
                else f"no number below {e.most} is shown to be"
            )
            for e in self.enough()
        ]
        return [(_ENOUGH, (), [[sentence] for sentence in sentences])] if sentences else []

    def records(self) -> list[dict[str, Any]]:
        """A row for each point and measure."""
        rows = []
        for point in self.points:
            for measure in self.plan.measures:
                found = self.comparisons.get((point.model, point.name, measure))
                lost, mean = found.difference if found else NOTHING, point.means[measure]
                row = {name: getattr(point, name) for name in _COLUMNS}
                row |= {"measure": measure, "queries": self.queries, **plain(mean)}
                row |= {"difference": lost.mean, "difference_low": lost.low}
                row |= {"difference_high": lost.high, **p_values(found)}
                rows.append(row)
        return rows

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what `imgsearch sweep --json` prints."""
        points = [
            {**{name: plain(getattr(p, name)) for name in _COLUMNS}, "measures": plain(p.means)}
            for p in self.points
        ]
        shown = ("baseline", "measure", "difference", "p", "p_corrected")
        comparisons = [
            {"model": model, "name": name, **{key: compared(found)[key] for key in shown}}
            for (model, name, _), found in self.comparisons.items()
        ]
        return {
            "task": self.task,
            "queries": self.queries,
            "groups": self.groups,
            "pictures": self.pictures,
            "notes": list(self.notes),
            "points": points,
            "comparisons": comparisons,
            "fronts": {c: [[p.model, p.name] for p in self.front(cost=c)] for c in COSTS},
            "enough": plain(self.enough()),
            "manifest": self.manifest(),
        }

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures; nobody gets the same times."""
        figures: dict[str, dict[str, Any]] = {}
        for point in self.points:
            values = {measure: mean.mean for measure, mean in point.means.items()}
            costs = {"terms": point.terms, "bytes": point.bytes}
            figures.setdefault(point.model, {})[point.name] = values | costs
        return {**self.plan.head, **self.about, "versions": versions(), "figures": figures}

    def more_files(self, folder: Path) -> Iterator[Path]:
        """The rows of the CSV as Parquet, with the manifest in the schema (needs pyarrow)."""
        if find_spec("pyarrow") is None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        path, buffer = folder / "sweep.parquet", io.BytesIO()
        rows = plain(self.records())
        schema = pa.schema(
            [(name, _kind(name)) for name in rows[0]],
            metadata={"manifest": json.dumps(self.manifest(), ensure_ascii=False)},
        )
        try:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer)
        except pa.ArrowException as error:
            raise EvaluationError(f"{path} cannot be written: {error}") from error
        yield write_bytes(path, buffer.getvalue())


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def _kind(column: str) -> str:
    """The type of a column: also right where all its values are missing."""
    if column in ("model", "name", "system", "filters", "measure"):
        return "string"
    return "int64" if column in ("top_k", "query_terms", "queries") else "double"
