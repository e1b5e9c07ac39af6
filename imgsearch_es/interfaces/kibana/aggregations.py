"""Aggregations, each defined once: as Elasticsearch runs it, and as a column of Kibana's Lens.

A panel of Lens is a list of columns: those that put documents into buckets, outermost first, then
those that measure a bucket. Kibana makes one request of them, with the buckets nested. The classes
here give both, so that a request sent by hand computes what the panel shows.

Lens turns columns into aggregations in ``toEsAggsFn`` of each operation (elastic/kibana,
x-pack/plugins/lens/public/datasources/form_based/operations/definitions: ``terms/index.tsx``,
``ranges/ranges.tsx``, ``date_histogram.tsx``, ``metrics.tsx``, ``count.tsx``; from 9.0 below
x-pack/platform/plugins/shared/lens).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Metric(Protocol):
    """What is measured of the documents of a bucket."""

    @property
    def name(self) -> str:
        """Of the column, and of the aggregation in the answer."""
        ...

    @property
    def order(self) -> dict[str, str]:
        """Sorts buckets by this metric, largest first."""
        ...

    def aggregation(self) -> dict[str, Any]:
        """As Elasticsearch takes it; empty for the count, which every bucket has."""
        ...

    def column(self) -> dict[str, Any]:
        """As Lens takes it."""
        ...


class Bucket(Protocol):
    """How documents are put into groups."""

    @property
    def name(self) -> str:
        """Of the column, and of the aggregation in the answer."""
        ...

    def aggregation(self, first: Metric) -> dict[str, Any]:
        """As Elasticsearch takes it; ``first`` may sort the buckets."""
        ...

    def column(self, first: Metric) -> dict[str, Any]:
        """As Lens takes it."""
        ...


@dataclass(frozen=True, slots=True)
class Count:
    """The number of documents."""

    label: str
    name: str = "count"

    @property
    def order(self) -> dict[str, str]:
        """Sorts buckets by this metric, largest first."""
        return {"_count": "desc"}

    def aggregation(self) -> dict[str, Any]:
        """Nothing: ``doc_count`` is in every answer."""
        return {}

    def column(self) -> dict[str, Any]:
        """As Lens takes it."""
        return _column(self.label, "number", "count", "___records___", "ratio", bucketed=False)


@dataclass(frozen=True, slots=True)
class FieldMetric:
    """One number, or one date, of a field.

    Attributes:
        label: heading of the column.
        name: of the column, and of the aggregation in the answer.
        operation: "avg" or "max"; Lens names it "average" or "max".
        field: a numeric field or a date.
        type: "number" or "date".
    """

    label: str
    name: str
    operation: str
    field: str
    type: str = "number"

    @property
    def order(self) -> dict[str, str]:
        """Sorts buckets by this metric, largest first."""
        return {self.name: "desc"}

    def aggregation(self) -> dict[str, Any]:
        """As Elasticsearch takes it."""
        return {self.name: {self.operation: {"field": self.field}}}

    def column(self) -> dict[str, Any]:
        """As Lens takes it."""
        operation = {"avg": "average"}.get(self.operation, self.operation)
        return _column(self.label, self.type, operation, self.field, "ratio", bucketed=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """The values of a keyword that the first metric puts first.

    A shard counts ``SHARD_SIZE`` values, as Lens asks for in its mode for accuracy, so that several
    shards agree.
    """

    label: str
    name: str
    field: str
    size: int

    def aggregation(self, first: Metric) -> dict[str, Any]:
        """As Elasticsearch takes it."""
        return {
            "terms": {
                "field": self.field,
                "size": self.size,
                "shard_size": SHARD_SIZE,
                "order": first.order,
            }
        }

    def column(self, first: Metric) -> dict[str, Any]:
        """As Lens takes it."""
        params = {
            "size": self.size,
            "orderBy": {"type": "column", "columnId": first.name},
            "orderDirection": "desc",
            "otherBucket": False,
            "missingBucket": False,
            "parentFormat": {"id": "terms"},
            "include": [],
            "exclude": [],
            "includeIsRegex": False,
            "excludeIsRegex": False,
            "accuracyMode": True,
        }
        return _column(self.label, "string", "terms", self.field, "ordinal", params=params)


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of a number, each from one limit (included) to the next; the last has no end."""

    label: str
    name: str
    field: str
    limits: Sequence[float]

    def aggregation(self, first: Metric) -> dict[str, Any]:
        """As Elasticsearch takes it."""
        ranges = [
            {"from": low} if high is None else {"from": low, "to": high} for low, high in self._both
        ]
        return {"range": {"field": self.field, "ranges": ranges}}

    def column(self, first: Metric) -> dict[str, Any]:
        """As Lens takes it."""
        params = {
            "type": "range",
            "maxBars": "auto",
            "ranges": [
                {"from": low, "to": high, "label": f"{low:g} and more" if high is None else ""}
                for low, high in self._both
            ],
            "parentFormat": {
                "id": "range",
                "params": {"template": "arrow_right", "replaceInfinity": True},
            },
        }
        return _column(self.label, "string", "range", self.field, "ordinal", params=params)

    @property
    def _both(self) -> list[tuple[float, float | None]]:
        return list(zip(self.limits, [*self.limits[1:], None], strict=True))


@dataclass(frozen=True, slots=True)
class Hours:
    """The hours of a date in which there is something."""

    label: str
    name: str
    field: str

    def aggregation(self, first: Metric) -> dict[str, Any]:
        """As Elasticsearch takes it, in UTC; Kibana adds the time zone of the browser."""
        histogram = {"field": self.field, "calendar_interval": "1h", "min_doc_count": 1}
        return {"date_histogram": histogram}

    def column(self, first: Metric) -> dict[str, Any]:
        """As Lens takes it, for all time and not for that of the time picker."""
        params = {"interval": "1h", "ignoreTimeRange": True, "includeEmptyRows": False}
        return _column(self.label, "date", "date_histogram", self.field, "interval", params=params)


SHARD_SIZE = 1000
"""What Lens asks of each shard in its mode for accuracy (``accuracyMode``)."""


def nested(buckets: Sequence[Bucket], metrics: Sequence[Metric]) -> dict[str, Any]:
    """The aggregations of a request: each bucket within the one before, the metrics innermost.

    A metric that sorts is computed where it sorts, too.
    """
    inner: dict[str, Any] = {}
    for metric in metrics:
        inner |= metric.aggregation()
    sorting = metrics[0].aggregation()
    for bucket in reversed(buckets):
        whole = bucket.aggregation(metrics[0])
        if inner:
            whole["aggs"] = inner
        inner = {bucket.name: whole, **sorting}
    return {buckets[0].name: inner[buckets[0].name]}


def _column(
    label: str,
    data_type: str,
    operation: str,
    field: str,
    scale: str,
    *,
    bucketed: bool = True,
    params: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "label": label,
        "customLabel": True,
        "dataType": data_type,
        "operationType": operation,
        "sourceField": field,
        "isBucketed": bucketed,
        "scale": scale,
        "params": params or {},
    }
