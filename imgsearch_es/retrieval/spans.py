"""What conditions compare with: times, numbers, places, patterns and words in pictures.

A year, a month and a day are all of that time: ``2019..2021`` ends with the last second of 2021.
Tiles of places are those of web maps, https://wiki.openstreetmap.org/wiki/Slippy_map_tilenames.
"""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta, timezone

from imgsearch_es.errors import QueryError
from imgsearch_es.pictures.photo import is_place

Limits = dict[str, str | int | float]
"""What a value must be: "gte", "gt", "lt" or "lte" of a number, or of a time as ``text_of``."""

EARTH = 6_371_008.7714
"""Meters: the mean radius, as Lucene has it."""
BETWEEN = ".."
_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_DATE = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
NUMBER, DATE = (re.compile(pattern, re.ASCII) for pattern in (_NUMBER, _DATE))
"""What in metadata counts as a number, and what as a time."""
_UNITS = {"km": 1000.0, "m": 1.0, "mi": 1609.344}
_NEAR = re.compile(rf"({_NUMBER})\s*,\s*({_NUMBER})\s*,\s*(\d+(?:\.\d+)?)\s*([a-z]*)", re.ASCII)
_FARTHEST = math.pi * EARTH
_LONGEST_PATH = 1000
_LAST = datetime.max


def text_of(moment: datetime) -> str:
    """A time as both stores compare it: in UTC where it has a zone, without one otherwise."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return moment.isoformat()


def moment_of(text: str) -> datetime:
    """A time in ISO 8601, also as Python 3.10 does not read it; ValueError of anything else."""
    text = re.sub("[zZ]$", "+00:00", text)
    return datetime.fromisoformat(re.sub(r"[.,](\d+)", lambda part: f".{part[1]:0<6.6}", text))


def period(field: str, value: object) -> tuple[str, datetime, datetime | None]:
    """How a time is written, when it begins, and when what comes after it begins.

    A moment, with hours and minutes, has no length: None. QueryError of anything else.
    """
    if isinstance(value, datetime):
        value = value.isoformat()
    text = str(value).strip()
    try:
        if re.fullmatch(r"\d{4}", text):
            start = datetime(int(text), 1, 1)
            return text, start, _LAST if start.year == _LAST.year else start.replace(start.year + 1)
        if re.fullmatch(r"\d{4}-\d\d", text):
            year, month = map(int, text.split("-"))
            start = datetime(year, month, 1)
            after = (start + timedelta(days=31)).replace(day=1) if year < _LAST.year else _LAST
            return text, start, after
        if not re.match(r"\d{4}-\d\d-\d\d", text):
            raise ValueError(f"not a day: {text}")  # a week, as some versions of Python read it
        try:
            day = datetime.combine(date.fromisoformat(text), datetime.min.time())
        except ValueError:
            shown = text_of(moment_of(text))
            return shown, datetime.fromisoformat(shown), None
        after = _LAST if day.date() == _LAST.date() else day + timedelta(days=1)
        return day.date().isoformat(), day, after
    except OverflowError as error:
        raise QueryError(f"{field!r} is out of range: {text!r:.60}") from error
    except ValueError as error:
        raise QueryError(
            f"{field!r} is a date such as 2026-01-31, not {text!r:.60}, or a month or a year"
        ) from error


def to_period(field: str, value: object) -> str:
    """A time, or two with ``..`` between them, as a filter keeps it."""
    parts = str(value).split(BETWEEN) if isinstance(value, str) else [value]
    if len(parts) == 1:
        return period(field, parts[0])[0]
    if len(parts) != 2 or not any(map(str.strip, map(str, parts))):
        raise QueryError(f"{field!r} is between two dates, such as 2019..2021, not {value!r:.60}")
    return BETWEEN.join(period(field, part)[0] if str(part).strip() else "" for part in parts)


def limits_of_time(field: str, value: str) -> Limits:
    """What a time must be to lie in what ``to_period`` gave."""
    first, between, last = value.partition(BETWEEN)
    found: Limits = {}
    if first:
        found["gte"] = _bound("gte", period(field, first)[1])
    if last or not between:
        _, start, end = period(field, last or first)
        found |= {"lte": _bound("lte", start)} if end is None else {"lt": _bound("lt", end)}
    return found


def bound_of_time(field: str, operator: str, value: object) -> tuple[str, str]:
    """A comparison with a time: what is longer than a moment is taken whole."""
    _, start, end = period(field, value)
    if end is not None and operator in ("gt", "lte"):
        if end == _LAST:  # no day begins after it
            return operator, end.isoformat(timespec="seconds")
        return {"gt": "gte", "lte": "lt"}[operator], end.isoformat()
    return operator, _bound(operator, start)


def _bound(operator: str, moment: datetime) -> str:
    """A moment to the millisecond, which is all that Elasticsearch looks at: the same for both."""
    rest = moment.microsecond % 1000
    if rest and operator in ("gte", "lt") and moment < _LAST:
        moment += timedelta(microseconds=1000 - rest)
    else:
        moment -= timedelta(microseconds=rest)
    return moment.isoformat()


class Exact(str):
    """A value of metadata that is compared as it is, although it may look like a range."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and str.__eq__(self, other) and not is_range(other)


def is_range(value: object) -> bool:
    """Whether a value is two numbers, or two dates, with ``..`` between them, or one before it."""
    if not isinstance(value, str) or isinstance(value, Exact) or BETWEEN not in value:
        return False
    parts = value.split(BETWEEN)
    kinds = [kind for kind in (NUMBER, DATE) if all(not p or kind.fullmatch(p) for p in parts)]
    return len(parts) == 2 and any(parts) and bool(kinds)


def limits_of_range(field: str, value: str) -> Limits:
    """What a number, or a time in metadata, must be to lie in a range; both ends are in it."""
    first, _, last = value.partition(BETWEEN)
    if DATE.fullmatch(first or last):
        return limits_of_time(field, value)
    ends = {"gte": first, "lte": last}
    return {operator: to_number(end) for operator, end in ends.items() if end}


def to_number(text: str) -> int | float:
    """A number that is written as NUMBER says."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def to_near(value: object) -> tuple[float, float, float]:
    """Latitude, longitude and meters of ``48.14,11.58,5km``."""
    text = value if isinstance(value, str) else ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        text = ",".join(map(str, value))
    found = _NEAR.fullmatch(text.strip())
    if found is None or (found[4] or "km") not in _UNITS:
        raise QueryError(
            "near is a latitude, a longitude and a distance, such as near:48.14,11.58,5km, not "
            f"{text!r:.60}"
        )
    latitude, longitude = float(found[1]), float(found[2])
    meters = float(found[3]) * _UNITS[found[4] or "km"]
    if not is_place(latitude, longitude) or not 0 < meters <= _FARTHEST:
        raise QueryError(f"there is no such place or distance: near:{text!r:.60}")
    return latitude, longitude, meters


def ordered_text(value: str | int | float) -> str:
    """A number or a time as a text that Elasticsearch's flattened fields put in the same order."""
    if isinstance(value, str):
        return f"d{value}"
    (bits,) = struct.unpack(">Q", struct.pack(">d", value + 0.0))
    return f"n{(~bits & (1 << 64) - 1) if bits >> 63 else bits | 1 << 63:016x}"


def orders(leaves: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """The numbers and times among values of metadata, by their dotted names."""
    found: dict[str, list[str]] = {}
    for path, text in leaves:
        value = None if len(path) > _LONGEST_PATH else in_order(text)
        if value is not None:
            found.setdefault(path, []).append(ordered_text(value))
    return found


def in_order(text: str) -> float | str | None:
    """The number or the time that a value of metadata is; None of all others."""
    if NUMBER.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else None
    return text.replace(" ", "T") + "T00:00:00"[len(text) - 10 :] if DATE.fullmatch(text) else None


# -- patterns: * is any text, ? any one character ----------------------------------------------

_MAX_EFFORT = 20_000
"""To make a pattern deterministic; Lucene, which counts alike, gives up at 100,000."""


def wildcard_matches(pattern: str, text: str) -> bool:
    """Whether a pattern matches all of a text."""
    at = start = 0
    star = -1
    while at < len(text):
        place = start
        if place < len(pattern) and pattern[place] == "*":
            star, retry, start = place, at, place + 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            at, start = at + 1, start + 1
        elif star >= 0:
            retry += 1
            at, start = retry, star + 1
        else:
            return False
    return not pattern[start:].strip("*")


def is_complex(pattern: str) -> bool:
    """Whether the deterministic automaton of a pattern is large: ``*a??????????`` has 2^10 states.

    A set of places in the pattern is the bits of a number, as is what each character can match.
    """
    pattern = re.sub(r"\*+", "*", pattern)
    stars = sum(1 << i for i, character in enumerate(pattern) if character == "*")
    any_one = sum(1 << i for i, character in enumerate(pattern) if character == "?")
    matches = {
        character: any_one | sum(1 << i for i, other in enumerate(pattern) if other == character)
        for character in set(pattern) - {"*", "?"}
    }
    start = 0b11 if stars & 1 else 0b1  # before a star is also after it
    waiting, seen, effort = [start], {start}, 0
    while waiting:
        places = waiting.pop()
        effort += places.bit_count()
        if effort > _MAX_EFFORT:
            return True
        for matched in {any_one, *matches.values()}:
            after = (places & matched) << 1
            after |= places & stars | (after & stars) << 1 | (places & stars) << 1
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return False


# -- boxes that conditions select by, and the tiles that facets count in -------------------------

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


# -- text that stands in pictures: both stores compare words alone -------------------------------

_WORD = re.compile(r"[^\W_]+")
_PATTERN = re.compile(r"[^\W_*?]*(?:[*?]+[^\W_*?]*)+")
_LONGEST = 100
"""Characters of a word; the rest is another word."""


def searched(text: str) -> str:
    """The words of a text, a space before and after each; none for a text without words.

    They are letters and digits as Unicode's NFKC and its folding of cases give them.
    """
    found = (
        word[start : start + _LONGEST]
        for word in _WORD.findall(_folded(text))
        for start in range(0, len(word), _LONGEST)
    )
    words = " ".join(found)
    return f" {words} " if words else ""


def pattern_of_word(pattern: str) -> str | None:
    """A pattern of one word (``*`` and ``?``) in the form of `searched`; None if it is none."""
    folded = _folded(pattern)
    return folded if _PATTERN.fullmatch(folded) else None


def marked(text: str, query: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether it is a word of a query."""
    wanted, pieces, at = set(searched(query).split()), [], 0
    for found in _WORD.finditer(text):
        if wanted & set(searched(found[0]).split()):
            pieces += [(text[at : found.start()], False), (found[0], True)]
            at = found.end()
    return [piece for piece in (*pieces, (text[at:], False)) if piece[0]]


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
