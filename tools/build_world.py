"""Makes the outline of the world that the page's map draws, a few kilobytes of SVG.

    npm pack world-atlas && tar xzf world-atlas-*.tgz
    python tools/build_world.py package/land-110m.json

Writes imgsearch_es/interfaces/templates/world.svg. The source is Natural Earth, land at 1:110
million (https://www.naturalearthdata.com, public domain), as TopoJSON by the npm package
world-atlas. One unit is a tenth of a degree; x is the longitude, y minus the latitude.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "imgsearch_es" / "interfaces" / "templates" / "world.svg"
TOLERANCE = 4.0
"""How far the outline may be from the source's, and what an island is at least, in units."""
SMALLEST = 60.0
SOUTHERNMOST, AROUND = 850.0, 3600.0

Point = tuple[float, float]


def main() -> None:
    topology = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rings = (thinned(ring) for ring in rings_of(topology))
    shown = "".join(path(ring) for ring in rings if len(ring) > 3 and area(ring) > SMALLEST)
    TARGET.write_text(f'<path class="land" d="{shown}"/>\n', encoding="utf-8")
    print(f"{TARGET}: {len(shown):,} bytes")


def rings_of(topology: dict[str, Any]) -> Iterator[list[Point]]:
    """The outer lines of all land (https://github.com/topojson/topojson-specification)."""
    (sx, sy), (tx, ty) = topology["transform"]["scale"], topology["transform"]["translate"]
    arcs = []
    for arc in topology["arcs"]:
        x = y = 0
        line = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            line.append((10 * (x * sx + tx), min(SOUTHERNMOST, -10 * (y * sy + ty))))
        arcs.append(line)
    for land in topology["objects"]["land"]["geometries"]:
        for outer, *_ in land["arcs"]:
            ring: list[Point] = []
            for number in outer:
                line = arcs[number] if number >= 0 else arcs[~number][::-1]
                ring += line[1:] if ring else line
            yield from unwound(ring)


def unwound(ring: list[Point]) -> Iterator[list[Point]]:
    """A ring without jumps at the date line, and a copy of what of it is beyond."""
    line = ring[:1]
    for x, y in ring[1:]:
        before = line[-1][0]
        line.append((x + AROUND * round((before - x) / AROUND), y))
    if abs(line[-1][0] - line[0][0]) > AROUND / 2:  # around the pole
        line += [(line[-1][0], SOUTHERNMOST), (line[0][0], SOUTHERNMOST), line[0]]
    yield line
    for shift in (-AROUND, AROUND):
        copy = [(x + shift, y) for x, y in line]
        if any(-AROUND / 2 + 1 < x < AROUND / 2 - 1 for x, _ in copy):
            yield copy


def thinned(line: list[Point]) -> list[Point]:
    """Fewer points, none further away than the tolerance (Douglas and Peucker 1973)."""
    if len(line) < 3:
        return line
    first, last = line[0], line[-1]
    far = [distance(point, first, last) for point in line]
    place = max(range(len(line)), key=far.__getitem__)
    if far[place] < TOLERANCE:
        return [first, last]
    return thinned(line[: place + 1])[:-1] + thinned(line[place:])


def distance(point: Point, first: Point, last: Point) -> float:
    """From a line; from a point where the line is one, as of a ring."""
    dx, dy = last[0] - first[0], last[1] - first[1]
    x, y = point[0] - first[0], point[1] - first[1]
    length = math.hypot(dx, dy)
    return abs(x * dy - y * dx) / length if length else math.hypot(x, y)


def area(ring: list[Point]) -> float:
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise([*ring, ring[0]]))) / 2


def path(ring: list[Point]) -> str:
    """A closed line in whole units, each point by its step from the one before."""
    points = list(dict.fromkeys((round(x), round(y)) for x, y in ring))
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(points)]
    shown = " ".join(f"{dx} {dy}" for dx, dy in steps).replace(" -", "-")
    return f"M{points[0][0]} {points[0][1]}l{shown}z"


if __name__ == "__main__":
    main()
