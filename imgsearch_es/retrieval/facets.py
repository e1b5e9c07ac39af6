"""Facets: how many of a query's pictures have each best synset, label, format or size.

A picture counts once for each of its values, so the counts of synsets and labels may add up to more
than there are pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase
from typing import TypedDict

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.conditions import METADATA, WITHIN, Filter
from imgsearch_es.retrieval.spans import Exact, box_of_tile

YEAR, MONTH = PERIODS = ("year", "month")
"""In which pictures were taken; all years, or months, are given, the newest first."""
PLACE, ALBUM = "place", "album"
"""Where photos were taken, by the tiles of a map (``places.box_of_tile``), and the folders that
pictures lie in."""
VALUE_FIELDS = (
    "synsets", "top_synset", "label", "format", *PERIODS, "camera", "lens", "keywords",
    PLACE, ALBUM,
)  # fmt: skip
"""Fields whose values are counted: most frequent first, equally frequent ones by name; so are
those of a person's own fields, "metadata.<name>". Cameras, lenses and keywords that differ by case
alone are one value, as they are to conditions."""

_PIXELS = (256, 512, 1024, 2048, 4096)
BOUNDS = {
    "width": _PIXELS,
    "height": _PIXELS,
    "bytes": tuple(kilobytes * 1024 for kilobytes in (16, 64, 256, 1024, 4096, 16384)),
}
"""Where one range of a numeric field ends and the next begins, in pixels and in bytes."""

FACETS = ("top_synset", "label", "format", "width", "bytes", YEAR, "camera")
"""The fields that are counted by default."""
MAX_VALUES = 10_000
_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)


class FacetCount(TypedDict):
    """One value, or one range, and how many pictures have it."""

    value: str
    count: int


Facets = dict[str, list[FacetCount]]
"""By field. Ranges without a picture are left out."""


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a number: ``low <= number < high``; ``value`` is its name: "<256", "64-256 KB"."""

    value: str
    low: int | None
    high: int | None


def ranges(field: str) -> list[Range]:
    """The ranges of a numeric field, in order, without gaps."""
    bounds = BOUNDS[field]
    shown = _size if field == "bytes" else str
    return [
        Range(f"<{shown(bounds[0])}", None, bounds[0]),
        *(Range(_between(field, low, high), low, high) for low, high in pairwise(bounds)),
        Range(f">={shown(bounds[-1])}", bounds[-1], None),
    ]


def range_of(field: str, value: str) -> Range:
    """The range of a numeric field by what it is called; QueryError where there is none."""
    known = {item.value: item for item in ranges(field)}
    if value not in known:
        raise QueryError(f"{field} has no range {value!r}; there are {', '.join(known)}")
    return known[value]


def check_facets(fields: Sequence[str], size: int) -> None:
    """Refuse a field without a facet, or a size that is out of range, by a QueryError."""
    known = (*VALUE_FIELDS, *BOUNDS)
    for field in fields:
        if field not in known and not (field.startswith(METADATA) and field != METADATA):
            raise QueryError(
                f"there is no facet of {field!r}; there are {', '.join(known)} and metadata.<name>"
            )
    if not 1 <= size <= MAX_VALUES:
        raise QueryError(f"a facet shows 1 to {MAX_VALUES} values, not {size}")


def conditions_of(field: str, value: str) -> tuple[Filter, ...]:
    """The conditions that the pictures counted under one value of a facet meet."""
    if field in PERIODS:
        return (Filter("taken_at", "in", (value,)),)
    if field == PLACE:
        return (Filter(WITHIN, WITHIN, box_of_tile(value)),)
    if field.startswith(METADATA):
        return (Filter(field, "in", (Exact(value),)),)
    if field not in BOUNDS:
        return (Filter(field, "in", (value,)),)
    found = range_of(field, value)
    low = () if found.low is None else (Filter(field, "gte", (found.low,)),)
    high = () if found.high is None else (Filter(field, "lt", (found.high,)),)
    return low + high


def most_frequent(counts: Iterable[tuple[str, int]], size: int) -> list[FacetCount]:
    """The ``size`` values with the highest counts, ties by value."""
    ordered = sorted(counts, key=lambda item: (-item[1], item[0]))
    return [{"value": value, "count": count} for value, count in ordered[:size]]


def small(value: str) -> str:
    """A value with small letters in place of A to Z."""
    return value.translate(_SMALL)


def spellings(counts: Iterable[tuple[str, int]]) -> dict[str, dict[str, int]]:
    """Values by their small letters, as conditions take A and a for the same: see ``CASELESS``."""
    found: dict[str, dict[str, int]] = {}
    for value, count in counts:
        found.setdefault(small(value), {})[value] = count
    return found


def without_case(
    spelled: Mapping[str, Mapping[str, int]], together: Mapping[str, int]
) -> Iterator[tuple[str, int]]:
    """Each value in its most frequent spelling; ``together`` where pictures have several."""
    for small, ways in spelled.items():
        best = min(ways, key=lambda value: (-ways[value], value))
        yield best, together.get(small, sum(ways.values()))


def by_time(counts: Iterable[tuple[str, int]]) -> list[FacetCount]:
    """Years or months, the newest first."""
    return [{"value": time, "count": count} for time, count in sorted(counts, reverse=True)]


def not_empty(counts: Iterable[tuple[str, int]]) -> list[FacetCount]:
    """Ranges in the order given, without those that no picture is in."""
    return [{"value": value, "count": count} for value, count in counts if count]


def _between(field: str, low: int, high: int) -> str:
    if field != "bytes":
        return f"{low}-{high - 1}"
    low_number, low_unit = _size(low).split()
    high_number, high_unit = _size(high).split()
    first = low_number if low_unit == high_unit else f"{low_number} {low_unit}"
    return f"{first}-{high_number} {high_unit}"


def _size(count: int) -> str:
    return f"{count // 1024} KB" if count < 1024**2 else f"{count // 1024**2} MB"
