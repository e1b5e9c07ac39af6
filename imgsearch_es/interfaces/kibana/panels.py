"""The panels of the dashboard, each defined once, and the requests that prove what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imgsearch_es.interfaces.kibana.aggregations import (
    Bucket,
    Count,
    FieldMetric,
    Hours,
    Metric,
    Ranges,
    Terms,
    nested,
)

Chart = Literal["bars", "columns", "heatmap", "table"]
SHOWN = 20
"""Synsets that a panel names."""
TOGETHER_ROWS, TOGETHER_COLUMNS = 20, 200
"""Synsets of the matrix of co-occurrence, and how many of their companions are asked for: those
that are no row are left out by the drawing."""
LEAST_PICTURES = 3
"""The mean of fewer scores says little: such synsets are not among those with the best mean."""

# Scores are in one field for each synset, so no aggregation over "synsets" reaches them. A script
# may: a document holds a handful of synsets, and each score is one look-up in a column.
_MAP = """
for (key in doc['synsets']) {
  def field = doc['synset.' + key + '.score'];
  if (field.size() == 0) { continue; }
  def row = state.rows.computeIfAbsent(key, k -> new double[2]);
  row[0] += 1;
  row[1] += field.value;
}
""".strip()
_REDUCE = """
Map all = new HashMap();
for (rows in states) {
  if (rows == null) { continue; }
  for (row in rows.entrySet()) {
    def sum = all.computeIfAbsent(row.getKey(), k -> new double[2]);
    sum[0] += row.getValue()[0];
    sum[1] += row.getValue()[1];
  }
}
List found = new ArrayList();
for (row in all.entrySet()) {
  double count = row.getValue()[0];
  if (count >= params.least) {
    found.add(['synset': row.getKey(), 'pictures': (long) count,
               'mean_score': row.getValue()[1] / count]);
  }
}
found.sort((a, b) -> {
  int by = Double.compare(b.mean_score, a.mean_score);
  return by != 0 ? by : a.synset.compareTo(b.synset);
});
return found.subList(0, (int) Math.min(params.size, found.size()));
""".strip()


@dataclass(frozen=True, slots=True)
class LensPanel:
    """A panel that Kibana's Lens draws.

    Attributes:
        name: unique; part of the id of the saved object.
        title: above the panel.
        description: one sentence for people.
        chart: horizontal bars, vertical columns, a heat map of two buckets, or a table.
        buckets: outermost first.
        metrics: the first sorts the buckets.
        of_rejected: counts the ledger of rejected pictures instead of the documents.
    """

    name: str
    title: str
    description: str
    chart: Chart
    buckets: Sequence[Bucket]
    metrics: Sequence[Metric]
    of_rejected: bool = False

    def body(self) -> dict[str, Any]:
        """The request that computes what the panel shows."""
        return {"size": 0, "aggs": nested(self.buckets, self.metrics)}


@dataclass(frozen=True, slots=True)
class VegaPanel:
    """A panel that Vega-Lite draws, from any request.

    Attributes:
        name, title, description: as of a LensPanel.
        aggregations: of the request.
        rows: where the rows are in the answer, as Vega writes paths.
        of_rejected: as of a LensPanel.
    """

    name: str
    title: str
    description: str
    aggregations: dict[str, Any]
    rows: str
    of_rejected: bool = False

    def body(self) -> dict[str, Any]:
        """The request that computes what the panel shows."""
        return {"size": 0, "aggs": self.aggregations}


Panel = LensPanel | VegaPanel

_PICTURES = Count("pictures")

BY_COUNT = LensPanel(
    "synsets-by-count",
    "Synsets by count",
    "In how many pictures a synset is among the terms.",
    "bars",
    [Terms("synset", "synset", "synsets", SHOWN)],
    [_PICTURES],
)
BY_MEAN_SCORE = VegaPanel(
    "synsets-by-mean-score",
    "Synsets by mean score",
    f"The mean score of a synset in the pictures that have it, {LEAST_PICTURES} or more.",
    {
        "synsets": {
            "scripted_metric": {
                "init_script": "state.rows = new HashMap();",
                "map_script": _MAP,
                "combine_script": "return state.rows;",
                "reduce_script": _REDUCE,
                "params": {"least": LEAST_PICTURES, "size": SHOWN},
            }
        }
    },
    "aggregations.synsets.value",
)
BEST_SYNSETS = LensPanel(
    "best-synsets",
    "Best synsets, and how sure",
    "How many pictures a synset is the best of, and its mean score there.",
    "table",
    [Terms("best synset", "synset", "top_synset", SHOWN)],
    [_PICTURES, FieldMetric("mean score", "mean_score", "avg", "top_score")],
)
SCORES = LensPanel(
    "scores",
    "Score distribution",
    "The score of the best synset: how sure the classifier is.",
    "columns",
    [Ranges("score of the best synset", "score", "top_score", [i / 10 for i in range(10)])],
    [_PICTURES],
)
LABELS = LensPanel(
    "labels",
    "Labels against best synsets",
    "What people call pictures, and what the classifier does.",
    "heatmap",
    [Terms("label", "label", "label", 10), Terms("best synset", "synset", "top_synset", SHOWN)],
    [_PICTURES],
)
TOGETHER = VegaPanel(
    "synsets-together",
    "Synsets that occur together",
    "In how many pictures two of the most frequent synsets both are.",
    {
        "synset": {
            "terms": {
                "field": "synsets",
                "size": TOGETHER_ROWS,
                "shard_size": 5 * TOGETHER_ROWS,
                # first the rows, then the companions of these only, instead of every pair
                "collect_mode": "breadth_first",
            },
            "aggs": {"other": {"terms": {"field": "synsets", "size": TOGETHER_COLUMNS}}},
        }
    },
    "aggregations.synset.buckets",
)
OVER_TIME = LensPanel(
    "indexing-over-time",
    "Indexing over time",
    "When pictures were analyzed, hour by hour.",
    "columns",
    [Hours("indexed at", "hour", "indexed_at")],
    [_PICTURES],
)
REJECTED = LensPanel(
    "rejected-reasons",
    "Rejected pictures",
    "Why pictures could not be indexed, and when that was last.",
    "table",
    [Terms("reason", "reason", "reason", SHOWN)],
    [_PICTURES, FieldMetric("last at", "last_at", "max", "rejected_at", "date")],
    of_rejected=True,
)

PANELS: tuple[Panel, ...] = (
    BY_COUNT, BY_MEAN_SCORE, BEST_SYNSETS, SCORES, LABELS, TOGETHER, OVER_TIME, REJECTED,
)  # fmt: skip
"""All panels, in the order of the dashboard."""


def searched(panel: Panel, index: str) -> str:
    """The name of the index that a panel's request goes to."""
    return f"{index}-rejected" if panel.of_rejected else index
