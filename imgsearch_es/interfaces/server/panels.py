"""What may be open above the pictures: a timeline, a map, albums; each narrows by links."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import Any

from imgsearch_es.interfaces.server.services import Services
from imgsearch_es.interfaces.server.view import State, value_name
from imgsearch_es.retrieval.facets import ALBUM, MONTH, PLACE, FacetCount
from imgsearch_es.retrieval.spans import Box, box_of_tile, to_box
from imgsearch_es.search.query_building import LISTED_BY

COUNTED = {"timeline": (MONTH,), "map": (PLACE,), "albums": (ALBUM,)}
"""The facets that each of them shows."""
MOST = {"timeline": 10_000, "map": 10_000, "albums": 60}
_YEARS, _BARS = 8, 100
"""Of more years the timeline shows no months; nor ever more bars of years than these."""
_STEPS = (1, 10, 100)
"""Years of a bar."""
_ASKED = re.compile(r"year=(\d{4})(?:-\d\d|\.\.(\d{4}))?")
_COVERS = 24
_LEAST_WIDTH = 40.0
"""Degrees that a map shows, so that coasts tell where it is."""
_BINS = 32
"""Across a map; pictures in bins side by side are one dot."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A month or a year: how many pictures, how high in percent, and the link that narrows to it.

    ``url`` is None where there is no picture.
    """

    name: str
    count: int
    height: float
    url: str | None
    chosen: bool


@dataclass(slots=True)
class _Dot:
    """Pictures near each other: their mean place, and the box of all of their tiles."""

    count: int = 0
    x: float = 0.0
    y: float = 0.0
    boxes: list[Box] = field(default_factory=list)

    def add(self, box: Box, count: int) -> None:
        self.x += count * (box[1] + box[3]) / 2
        self.y += count * (box[0] + box[2]) / 2
        self.count += count
        self.boxes.append(box)


def opened(counts: Sequence[FacetCount], state: State, parts: Services) -> dict[str, Any]:
    """What the template of the open panel needs."""
    if state.open == "timeline":
        return {"years": timeline(counts, state)}
    if state.open == "map":
        return map_of(counts, state)
    return {"albums": albums(counts, state, parts)}


def timeline(counts: Sequence[FacetCount], state: State) -> list[tuple[str, list[Bar]]]:
    """Years, each with its twelve months; of many years, or decades, or centuries one bar each."""
    months = {item["value"]: item["count"] for item in counts}
    asked = {
        year
        for found in filter(None, map(_ASKED.fullmatch, state.where))
        for year in range(int(found[1]), int(found[2] or found[1]) + 1)
    }
    years = {year: sum(months[m] for m in group) for year, group in groupby(months, _year)}
    if not years:
        return []
    shown = sorted(asked) if asked & years.keys() else range(min(years), max(years) + 1)
    if len(shown) <= _YEARS:
        most = max(months.values())
        return [
            (f"{year:04}", [_bar(m, months.get(m, 0), most, state) for m in _months(year)])
            for year in shown
        ]
    step = next(step for step in _STEPS if (shown[-1] - shown[0]) // step < _BARS)
    bars = {
        _span(first, step): sum(years.get(year, 0) for year in group)
        for first, group in groupby(shown, lambda year: year // step * step)
    }
    most = max(bars.values())
    names = (f"{t[:4]}s" if step == 10 else value_name("year", t) for t in bars)
    each = ([_bar(t, many, most, state)] for t, many in bars.items())
    return list(zip(names, each, strict=True))


def map_of(counts: Sequence[FacetCount], state: State) -> dict[str, Any]:
    """What part of the world to show, in tenths of a degree, and dots where pictures were taken."""
    tiles = [(box_of_tile(item["value"]), item["count"]) for item in counts]
    asked = state.conditions().get("within")
    chosen = None if asked is None else to_box(asked)
    left, top, width = _frame([chosen] if chosen else [box for box, _ in tiles])
    dots = _dots(tiles, width / _BINS)
    most = max((dot.count for dot in dots), default=1)
    shown = [
        {
            "x": 10 * dot.x / dot.count,
            "y": -10 * dot.y / dot.count,
            "r": 10 * width * (0.006 + 0.016 * math.sqrt(dot.count / most)),
            "count": dot.count,
            "url": state.with_choice("within", _text(_around(dot.boxes))),
            "name": value_name("within", _text(_around(dot.boxes))),
        }
        for dot in sorted(dots, key=lambda dot: -dot.count)
    ]
    return {
        "dots": shown,
        "frame": [10 * left, -10 * top, 10 * width, 5 * width],
        "chosen": None if chosen is None else chosen,
        "all_url": state.url(where=_elsewhere(state)),
    }


def albums(counts: Sequence[FacetCount], state: State, parts: Services) -> list[dict[str, Any]]:
    """Folders, each with its newest picture as a cover, of the largest ones."""
    queries = [
        parts.searching.everything({ALBUM: item["value"]}, 1, 0, LISTED_BY)
        for item in counts[:_COVERS]
    ]
    covers = [next(iter(hits), None) for hits in parts.index.search_many(queries)]
    covers += [None] * (len(counts) - len(covers))
    return [
        {
            "folder": item["value"],
            "name": value_name(ALBUM, item["value"]),
            "count": item["count"],
            "cover": cover,
            "url": state.with_choice(ALBUM, item["value"]),
            "chosen": f"{ALBUM}={item['value']}" in state.where,
        }
        for item, cover in zip(counts, covers, strict=True)
    ]


def _dots(tiles: Sequence[tuple[Box, int]], least: float) -> list[_Dot]:
    """Tiles put together that are nearer than so many degrees; the fullest draw the others in."""
    dots: dict[tuple[int, int], _Dot] = {}
    for box, count in tiles:
        x, y = (box[1] + box[3]) / 2, (box[0] + box[2]) / 2
        column, row = math.floor(x / least), math.floor(y / least)
        around = product((column, column - 1, column + 1), (row, row - 1, row + 1))
        place = next((one for one in around if one in dots), (column, row))
        dots.setdefault(place, _Dot()).add(box, count)
    return list(dots.values())


def _bar(time: str, count: int, most: int, state: State) -> Bar:
    others = tuple(one for one in state.where if not one.startswith("year="))
    is_chosen = f"year={time}" in state.where
    url = state.url(where=others if is_chosen else (*others, f"year={time}"))
    height = max(3.0, 100 * count / most) if count else 0.0
    return Bar(value_name("year", time), count, round(height, 1), url if count else None, is_chosen)


def _year(month: str) -> int:
    return int(month[:4])


def _months(year: int) -> list[str]:
    return [f"{year:04}-{month:02}" for month in range(1, len(calendar.month_name))]


def _span(first: int, years: int) -> str:
    """So many years as a condition names them; there is no year 0."""
    return f"{first:04}" if years == 1 else f"{max(first, 1):04}..{first + years - 1:04}"


def _around(boxes: Sequence[Box]) -> Box:
    souths, wests, norths, easts = zip(*boxes, strict=True)
    return min(souths), min(wests), max(norths), max(easts)


def _text(box: Box) -> str:
    """A box for a condition; a tile's edges are no round numbers, so a little more."""
    ends = (math.floor, math.floor, math.ceil, math.ceil)
    return ",".join(f"{end(10_000 * v) / 10_000:g}" for end, v in zip(ends, box, strict=True))


def _frame(boxes: Sequence[Box]) -> tuple[float, float, float]:
    """West and north edge, and width in degrees, of what is shown; twice as wide as high."""
    if not boxes:
        return -180.0, 90.0, 360.0
    south, west, north, east = _around(boxes)
    if west > east:
        east += 360
    width = min(360.0, max(1.3 * (east - west), 2.6 * (north - south), _LEAST_WIDTH))
    left, top = (west + east - width) / 2, (south + north + width / 2) / 2
    return max(-180.0, min(left, 180.0 - width)), min(90.0, max(top, width / 2 - 90)), width


def _elsewhere(state: State) -> Sequence[str]:
    return tuple(one for one in state.where if one.partition("=")[0] not in ("within", PLACE))
