"""Places on a map: boxes that conditions select by, and the tiles that facets count in.

Tiles are those of web maps (https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames), at one zoom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from imgsearch_es.errors import QueryError
from imgsearch_es.pictures.photo import is_place

Box = tuple[float, float, float, float]
"""South, west, north and east, in degrees. West of more than east is a box across the date line."""

ZOOM = 8
TILES = 2**ZOOM
"""Tiles around the equator: 1.4 degrees, 157 km, each."""
EDGE = 1e-7
"""Degrees to which edges are compared: Elasticsearch keeps places as whole parts of this."""


def to_box(value: object) -> Box:
    """The box of ``47.9,11.2,48.4,12``; QueryError of anything else."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    parts = list(map(str, value)) if several else str(value).split(",")  # type: ignore[call-overload]
    try:
        south, west, north, east = map(float, parts)
    except ValueError as error:
        raise QueryError(
            "within is the south, west, north and east of a box in degrees, such as "
            f"within:47.9,11.2,48.4,12, not {value!r:.60}"
        ) from error
    if not (is_place(south, west) and is_place(north, east) and south <= north):
        raise QueryError(f"there is no such box: within:{','.join(parts)!r:.60}")
    return south, west, north, east


def widened(box: Box) -> Box:
    """A box with the places on its edges, however they are rounded."""
    south, west, north, east = box
    return (
        max(-90.0, south - EDGE), max(-180.0, west - EDGE),
        min(90.0, north + EDGE), min(180.0, east + EDGE),
    )  # fmt: skip


def box_of_tile(name: str) -> Box:
    """The box of a tile by its zoom, column and row, such as "8/136/88"; else a QueryError."""
    found = re.fullmatch(rf"{ZOOM}/(\d{{1,3}})/(\d{{1,3}})", name, re.ASCII)
    column, row = (int(found[1]), int(found[2])) if found else (TILES, TILES)
    if column >= TILES or row >= TILES:
        raise QueryError(f"there is no place {name!r:.60}: places are such as {ZOOM}/136/88")
    north = 90.0 if row == 0 else _latitude(row)
    south = -90.0 if row == TILES - 1 else _latitude(row + 1)
    return south, column * 360 / TILES - 180, north, (column + 1) * 360 / TILES - 180


def _latitude(row: int) -> float:
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * row / TILES))))
