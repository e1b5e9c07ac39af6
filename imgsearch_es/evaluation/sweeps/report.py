"""Tables of a sweep: Markdown, LaTeX, CSV, HTML, JSON values, and rows for Parquet."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from imgsearch_es.evaluation import tables
from imgsearch_es.evaluation.report import blank, mark, null, show, values_of
from imgsearch_es.evaluation.significance import TESTS
from imgsearch_es.evaluation.sweeps.manifest import manifest_of
from imgsearch_es.evaluation.sweeps.measured import Measured
from imgsearch_es.evaluation.sweeps.points import COSTS, Point

_ON_FRONT = {"bytes": "bytes", "latency": "ms"}


def caption(sweep: Measured) -> str:
    """What the table is of."""
    plan = sweep.plan
    kind = "Student's t" if plan.interval == "t" else "bootstrap"
    text = (
        f"{sweep.task}: {sweep.queries:,} queries, {sweep.pictures:,} pictures; means with "
        f"{plan.confidence:.0%} confidence intervals ({kind}). Bytes per picture of what is "
        f"compared, uncompressed; front: nothing is better by {plan.measures[0]} and as small, or "
        "as fast."
    )
    if sweep.comparisons:
        text += (
            f" Against {plan.compare}: * p < 0.05, ** p < 0.01, *** p < 0.001 (paired "
            "randomization test, Holm's correction)."
        )
    return text


def cells(sweep: Measured) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table of points."""
    fronts = {cost: set(map(id, sweep.front(cost=cost))) for cost in COSTS}
    several = len({point.model for point in sweep.points}) > 1
    columns = ["system", "filters", "top_k", "terms", "bytes", "p50 ms", *sweep.plan.measures]
    rows = []
    for point in sweep.points:
        on = ", ".join(name for cost, name in _ON_FRONT.items() if id(point) in fronts[cost])
        row = [point.system, point.filters, "" if point.top_k is None else str(point.top_k)]
        row += ["" if point.top_k is None else f"{point.terms:.1f}", f"{point.bytes:,.0f}"]
        row += ["" if math.isnan(point.p50_ms) else f"{point.p50_ms:.1f}"]
        row += [_mean(sweep, point, measure) for measure in sweep.plan.measures]
        rows.append([point.model] * several + [*row, on])
    return ["model"] * several + [*columns, "front"], rows


def answers(sweep: Measured) -> list[str]:
    """How many terms are enough, in a sentence for each curve."""
    if len(sweep.plan.top_k) == 1:
        return []
    measure = sweep.plan.measures[0]
    several = len({point.model for point in sweep.points}) > 1
    return [
        f"{f'{e.model}, ' * several}{e.system}, {e.filters}: {e.top_k} of {e.most} terms are "
        f"enough; {measure} {show(e.difference, sign=True)}"
        for e in sweep.enough()
    ]


ENOUGH = (
    "Terms that are enough: the confidence interval of the difference to the most terms lies above "
    "-0.01"
)


def to_markdown(sweep: Measured) -> str:
    """The table, the answers and the notes."""
    text = f"{tables.to_markdown(*cells(sweep))}\n\n{caption(sweep)}"
    if found := answers(sweep):
        text += f"\n\n{ENOUGH}:\n\n" + "\n".join(f"- {line}" for line in found)
    return text + "".join(f"\n\nNote: {note}." for note in sweep.notes)


def to_latex(sweep: Measured) -> str:
    """A table for a paper; needs the package booktabs."""
    return tables.to_latex(*cells(sweep), caption(sweep))


def to_html(sweep: Measured) -> str:
    """The table, the answers and the notes, for a notebook."""
    parts = [tables.to_html(*cells(sweep), caption(sweep))]
    if found := answers(sweep):
        lines = "".join(f"<li>{escape(line)}</li>" for line in found)
        parts.append(f"<p>{escape(ENOUGH)}:</p><ul>{lines}</ul>")
    return "".join([*parts, *(f"<p>Note: {escape(note)}.</p>" for note in sweep.notes)])


def rows(sweep: Measured) -> list[dict[str, Any]]:
    """A row for each point and measure, with all digits; nan where there is no number."""
    return [
        _row(sweep, point, measure) for point in sweep.points for measure in sweep.plan.measures
    ]


def to_csv(sweep: Measured) -> str:
    """What ``rows`` gives, as CSV."""
    found = rows(sweep)
    values = [[_blank(value) for value in row.values()] for row in found]
    return tables.to_csv(list(found[0]), values)


def to_dict(sweep: Measured) -> dict[str, Any]:
    """What `imgsearch sweep --json` prints."""
    fronts = {cost: [[p.model, p.name] for p in sweep.front(cost=cost)] for cost in COSTS}
    plain = ("model", "name", "system", "filters", "top_k", "terms", "bytes", "file_bytes")
    return {
        "task": sweep.task,
        "queries": sweep.queries,
        "pictures": sweep.pictures,
        "notes": list(sweep.notes),
        "points": [
            {
                **{name: getattr(point, name) for name in plain},
                "p50_ms": null(point.p50_ms),
                "p95_ms": null(point.p95_ms),
                "measures": {name: values_of(mean) for name, mean in point.means.items()},
            }
            for point in sweep.points
        ],
        "comparisons": [
            {
                **{"model": model, "name": name, "baseline": found.baseline, "measure": measure},
                "difference": values_of(found.difference),
                "p": {test: null(p) for test, p in found.p.items()},
                "p_corrected": {test: null(p) for test, p in found.corrected.items()},
            }
            for (model, name, measure), found in sweep.comparisons.items()
        ],
        "fronts": fronts,
        "enough": [
            {
                **{key: getattr(e, key) for key in ("model", "system", "filters", "top_k", "most")},
                "difference": values_of(e.difference),
            }
            for e in sweep.enough()
        ],
        "manifest": manifest_of(sweep),
    }


def _mean(sweep: Measured, point: Point, measure: str) -> str:
    compared = sweep.comparisons.get((point.model, point.name, measure))
    return show(point.means[measure]) + (mark(compared) if compared else "")


def _row(sweep: Measured, point: Point, measure: str) -> dict[str, Any]:
    mean = point.means[measure]
    names = ("model", "name", "system", "filters", "top_k", "terms", "bytes", "file_bytes")
    row = {name: getattr(point, name) for name in (*names, "p50_ms", "p95_ms")}
    row |= {"measure": measure, "queries": sweep.queries}
    row |= {"mean": mean.mean, "low": mean.low, "high": mean.high}
    found = sweep.comparisons.get((point.model, point.name, measure))
    lost = found.difference if found else None
    row |= {
        "difference": lost.mean if lost else math.nan,
        "difference_low": lost.low if lost else math.nan,
        "difference_high": lost.high if lost else math.nan,
    }
    for test in TESTS:
        row[f"p_{test}"] = found.p[test] if found else math.nan
        row[f"holm_{test}"] = found.corrected[test] if found else math.nan
    return row


def _blank(value: Any) -> object:
    if value is None:
        return ""
    return blank(value) if isinstance(value, float) else value
