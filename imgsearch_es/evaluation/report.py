"""Tables of an experiment: Markdown, LaTeX, CSV, HTML and JSON values.

A mean stands with its confidence interval; against a baseline, marks say where the difference is
significant by the randomization test after Holm's correction.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any

from imgsearch_es.evaluation import tables
from imgsearch_es.evaluation.manifest import manifest_of
from imgsearch_es.evaluation.measured import Measured
from imgsearch_es.evaluation.significance import TESTS, Comparison, Interval

MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""p-values below these get these marks."""
REPORTED = "randomization"
COMPARED = ("measure", "system", "difference", "better/equal/worse", *(f"p {t}" for t in TESTS))


def caption(evaluation: Measured) -> str:
    """What the table is of, in one sentence or two."""
    plan, task = evaluation.plan, evaluation.task
    kind = "Student's t" if plan.interval == "t" else "bootstrap"
    text = (
        f"{task.name}: {len(task.judgements):,} queries, {len(evaluation.collection):,} pictures; "
        f"means with {plan.confidence:.0%} confidence intervals ({kind})."
    )
    if plan.compare is None:
        return text
    return (
        f"{text} Against {plan.compare}: * p < 0.05, ** p < 0.01, *** p < 0.001 (paired "
        "randomization test, Holm's correction)."
    )


def means(evaluation: Measured) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the table of means."""
    marks = {(c.system, c.measure): mark(c) for c in evaluation.comparisons}
    rows = [
        [name]
        + [
            f"{show(evaluation.mean(name, measure))}{marks.get((name, measure), '')}"
            for measure in evaluation.plan.measures
        ]
        for name in evaluation.scores
    ]
    return ["system", *evaluation.plan.measures], rows


def comparisons(evaluation: Measured) -> list[list[str]]:
    """Cells of the table of comparisons, whose headings are COMPARED; p-values are corrected."""
    return [
        [
            found.measure,
            found.system,
            show(found.difference, sign=True),
            f"{found.better}/{found.equal}/{found.worse}",
            *(probability(found.corrected[test]) for test in TESTS),
        ]
        for found in evaluation.comparisons
    ]


def show(value: Interval, *, sign: bool = False) -> str:
    """A mean and its interval, to three decimals: ``0.941 [0.922, 0.960]``."""
    form = "+.3f" if sign else ".3f"
    if math.isnan(value.low):
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def to_markdown(evaluation: Measured) -> str:
    """Tables for a README or a notebook."""
    columns, rows = means(evaluation)
    text = f"{tables.to_markdown(columns, rows)}\n\n{caption(evaluation)}"
    if evaluation.comparisons:
        title = f"Differences to {evaluation.plan.compare}; p-values by Holm's correction:"
        text += f"\n\n{title}\n\n{tables.to_markdown(COMPARED, comparisons(evaluation))}"
    return text + "".join(f"\n\nNote: {note}." for note in evaluation.notes)


def to_latex(evaluation: Measured) -> str:
    """A table for a paper; needs the package booktabs."""
    columns, rows = means(evaluation)
    return tables.to_latex(columns, rows, caption(evaluation))


def to_csv(evaluation: Measured) -> str:
    """A line for each system and measure, with all digits; comparisons where there are some."""
    found = {(c.system, c.measure): c for c in evaluation.comparisons}
    tests = [f"{kind}_{test}" for test in TESTS for kind in ("p", "holm")]
    rows = []
    for name in evaluation.scores:
        for measure in evaluation.plan.measures:
            value = evaluation.mean(name, measure)
            row: list[object] = [name, measure, len(evaluation.task.judgements)]
            row += [value.mean, *map(blank, (value.low, value.high))]
            if evaluation.plan.compare is not None:
                row += _compared(found.get((name, measure)))
            rows.append(row)
    columns = ["system", "measure", "queries", "mean", "low", "high"]
    if evaluation.plan.compare is not None:
        columns += ["difference", *tests]
    return tables.to_csv(columns, rows)


def queries_csv(evaluation: Measured) -> str:
    """A line for each query, a column for each system and measure."""
    pairs = [(name, measure) for name in evaluation.scores for measure in evaluation.plan.measures]
    columns = [evaluation.scores[name].values[measure].tolist() for name, measure in pairs]
    queries = map(evaluation.topic_name, evaluation.task.judgements.queries)
    rows = [[query, *row] for query, *row in zip(queries, *columns, strict=True)]
    return tables.to_csv(["query", *(f"{name} {measure}" for name, measure in pairs)], rows)


def to_html(evaluation: Measured) -> str:
    """The tables, for a notebook."""
    columns, rows = means(evaluation)
    parts = [tables.to_html(columns, rows, caption(evaluation))]
    if evaluation.comparisons:
        title = f"Differences to {evaluation.plan.compare}; p-values by Holm's correction"
        parts.append(tables.to_html(COMPARED, comparisons(evaluation), title))
    parts += [f"<p>Note: {escape(note)}.</p>" for note in evaluation.notes]
    return "".join(parts)


def to_dict(evaluation: Measured) -> dict[str, Any]:
    """What `imgsearch evaluate --json` prints."""
    return {
        "task": evaluation.task.name,
        "queries": len(evaluation.task.judgements),
        "pictures": len(evaluation.collection),
        "notes": list(evaluation.notes),
        "systems": [
            {
                "system": name,
                "measures": {
                    measure: values_of(evaluation.mean(name, measure))
                    for measure in evaluation.plan.measures
                },
            }
            for name in evaluation.scores
        ],
        "comparisons": [
            {
                "measure": found.measure,
                "baseline": found.baseline,
                "system": found.system,
                "difference": values_of(found.difference),
                "better": found.better,
                "equal": found.equal,
                "worse": found.worse,
                "p": {test: null(value) for test, value in found.p.items()},
                "p_corrected": {test: null(value) for test, value in found.corrected.items()},
            }
            for found in evaluation.comparisons
        ],
        "manifest": manifest_of(evaluation),
    }


def mark(comparison: Comparison) -> str:
    """Stars behind a figure, by the corrected p-value of the test that is reported."""
    p = comparison.corrected[REPORTED]
    return next((f" {stars}" for limit, stars in MARKS if p < limit), "")


def probability(p: float) -> str:
    """A p-value to three decimals."""
    if math.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"


def _compared(found: Comparison | None) -> list[object]:
    if found is None:
        return [""] * (1 + 2 * len(TESTS))
    pairs = ((found.p[test], found.corrected[test]) for test in TESTS)
    return [found.difference.mean, *(blank(value) for pair in pairs for value in pair)]


def values_of(value: Interval) -> dict[str, float | None]:
    """A mean and its interval as JSON values."""
    return {"mean": value.mean, "low": null(value.low), "high": null(value.high)}


def null(value: float) -> float | None:
    """A number for JSON, which has no nan."""
    return None if math.isnan(value) else value


def blank(value: float) -> object:
    """A number for CSV: empty for nan."""
    return "" if math.isnan(value) else value
