"""The page: rendered here, so that it works without a script; page.js makes it quick.

Above the pictures a timeline, a map or albums may be open; each narrows by links.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import QueryParams

from imgsearch_es.errors import ImgsearchError, IndexLockedError, UnknownWordError
from imgsearch_es.interfaces.html import full_scale, render, word_terms
from imgsearch_es.interfaces.html import why as why_of
from imgsearch_es.interfaces.server import view
from imgsearch_es.interfaces.server.answers import ProblemError, problem_of, wants_page
from imgsearch_es.interfaces.server.readiness import Notice
from imgsearch_es.interfaces.server.schemas import Click, ExplainRequest
from imgsearch_es.interfaces.server.services import Parts, Services, services_of
from imgsearch_es.interfaces.server.view import PAGE_SIZE, State, value_name
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.facets import ALBUM, MONTH, PLACE, YEAR, FacetCount, Facets
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.spans import Box, box_of_tile, to_box
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.query_building import LISTED_BY
from imgsearch_es.stores.base import known_settings

PATHS = ("/", "/results", "/why")
_FACET_VALUES = 30
_MANY = 200_000
"""Of more pictures folders are counted only when a person opens the albums: it takes a while."""
_IDEAS = 10
_WAITS = {
    "IndexNotFoundError": "There is no index yet",
    "IndexLockedError": "The index is being written",
    "ServerError": "The index does not answer",
}
"""Problems that pass: the page waits, and looks again by itself."""

_OPEN = {"timeline": (MONTH, 10_000), "map": (PLACE, 10_000), "albums": (ALBUM, 60)}
"""The facet that each of PANELS shows, and the most values of it."""
_YEARS, _BARS = 8, 100
"""Of more years the timeline shows no months; nor ever more bars of years than these."""
_STEPS = (1, 10, 100)
"""Years of a bar."""
_ASKED = re.compile(r"year=(\d{4})(?:-\d\d|\.\.(\d{4}))?")
_SEARCH = re.compile(r"[\w-]{16}", re.ASCII)
"""What ids of searches in the log look like."""
_COVERS = 24
_LEAST_WIDTH = 40.0
"""Degrees that a map shows, so that coasts tell where it is."""
_BINS = 32
"""Across a map; pictures in bins side by side are one dot."""

router = APIRouter(include_in_schema=False)


class _Asked(NamedTuple):
    template: str
    params: str
    notices: list[Notice]
    goes_on: str
    """The id in the log of the search of which this shows more, or shows the same again."""
    beside: bool
    """Whether more is wanted than pictures: what is beside them."""


@router.get("/")
async def page(request: Request, parts: Parts) -> Response:
    """The whole page; where a token is needed without its content, which the script asks for."""
    if not parts.settings.readable_without_token:
        return _render("page.html", 200, state=State(), locked=True, parts=parts)
    return await _answered("page.html", request, parts)


@router.get("/results")
async def results(request: Request, parts: Parts) -> Response:
    """What changes on the page."""
    return await _answered("results.html", request, parts)


async def _answered(template: str, request: Request, parts: Services) -> Response:
    """The notices are known to the server's own process alone."""
    params, goes_on = str(request.query_params), request.headers.get("imgsearch-goes-on", "")
    search = goes_on or request.headers.get("imgsearch-looks-again", "")
    try:
        notices = await parts.work(lambda: parts.readiness.now(parts.model))
    except IndexLockedError as error:
        return _failed(template, parts, State.from_params(QueryParams(params)), error)
    opening = request if request.query_params.get("region") else None
    asked = _Asked(template, params, notices, search, beside=not goes_on)
    return await parts.answer(_answer, asked, opening)


def _answer(parts: Services, asked: _Asked) -> Response:
    """What was found, or the error that the templates show instead."""
    state = State()
    try:
        state = State.from_params(QueryParams(asked.params))
        content = {"notices": asked.notices, **_found(parts, state, asked)}
    except ImgsearchError as error:
        return _failed(asked.template, parts, state, error)
    return _render(asked.template, 200, state=state, parts=parts, **content)


def _failed(template: str, parts: Services, state: State, error: ImgsearchError) -> Response:
    problem, place = problem_of(error, parts.index.location), parts.index.location
    unknown = error if isinstance(error, UnknownWordError) else None
    content = {"state": state, "parts": parts, "location": place, "unknown": unknown}
    return _render(template, problem.status, problem=problem, **content)


@router.get("/why")
async def why(request: Request, parts: Parts, picture: str) -> Response:
    """What is known of a picture and why it was found, for the large view; else a page of it."""
    state = State.from_params(request.query_params)

    def explained() -> dict[str, Any]:
        document, explanation = parts.pictures.document(picture), None
        if state.has_query:
            asked = {**state.what().model_dump(), "picture": picture}
            _, found = parts.searching.explain(ExplainRequest.model_validate(asked))
            explanation = found[0] if found else None
        return {"document": document, "why": explanation and why_of(explanation)}

    content = await parts.work(explained, request if state.region else None)
    template = "page.html" if wants_page(request.headers) else "why.html"
    return _render(template, 200, state=state, parts=parts, **content)


@router.post("/clicks", status_code=204)
async def clicks(parts: Parts, click: Click) -> None:
    """Keep a click, where people asked for that."""
    await parts.work(
        lambda: parts.keep("a click", lambda log: log.clicked(click.search, click.picture))
    )


def problem_page(request: Request, problem: ProblemError) -> Response:
    """An error of the page, as a page, as results, or as the API says it."""
    content = {"state": State(), "problem": problem, "unknown": None}
    if wants_page(request.headers):
        return _render("page.html", problem.status, **content, parts=services_of(request))
    if request.url.path == "/results":
        return _render("problem.html", problem.status, **content)
    return problem.response()


def _found(parts: Services, state: State, given: _Asked) -> dict[str, Any]:
    query, hits, counted = _search(parts, state, beside=given.beside)
    search = None
    if hits and state.has_query:
        shown, before = hits, given.goes_on if _SEARCH.fullmatch(given.goes_on) else None
        search = parts.keep("what was shown", lambda log: log.shown(shown, continues=before))
    roles = (("image", state.image), ("like", state.like), ("dislike", state.dislike))
    examples = [
        view.example(parts.pictures.find(name), role) for role, names in roles for name in names
    ]
    settings = known_settings(parts.index.store)
    by_words = query is not None and query.by_words
    return {
        "search": search,
        "words": list(map(word_terms, hits.explain_all())) if by_words else [],
        "hits": hits,
        "asked": {term.key for term in hits.asked} if query is not None else (),
        "summary": view.summary(hits, state),
        "facets": view.facet_groups(
            {name: counted.get(name, [])[:_FACET_VALUES] for name in view.FACET_FIELDS}, state
        ),
        "examples": examples,
        "query": query,
        "share": view.share_url(query, state) if query is not None else None,
        "ideas": counted.get("top_synset", [])[:_IDEAS] if not state.has_query else [],
        "panel": _opened(counted, state, parts) if state.open and counted else None,
        "panels": [one for one in view.PANELS if one == state.open or _has(counted, one)],
        "ways": view.ways(settings, state, query),
        "location": parts.index.location,
        "can_teach": parts.settings.token is not None and settings.embedding_dimensions > 0,
    }


def _search(parts: Services, state: State, *, beside: bool) -> tuple[Query | None, Hits, Facets]:
    """The query without the facets' choices, the hits of a page, and what is counted beside."""
    where, offset = state.conditions(), (state.page - 1) * PAGE_SIZE
    searching, query = parts.searching, None
    if state.has_query:
        query = searching.query(state.what(), PAGE_SIZE, offset)
        asked = searching.narrowed(query, where)
    else:
        asked = searching.everything(where, PAGE_SIZE, offset, state.sort or LISTED_BY)
    hits = searching.run(asked)
    if not beside:
        return query, hits, {}
    fields = [one for one in view.FACET_FIELDS if one != ALBUM or hits.total <= _MANY]
    counted = searching.facets_to_choose(query, where, fields, _FACET_VALUES)
    if state.open:
        field, most = _OPEN[state.open]
        counted |= searching.facets_to_choose(query, where, [field], most)
    return query, hits, counted


def _has(counted: Facets, panel: str) -> bool:
    """Whether there is something to show in a panel: dates, places, several folders."""
    field = YEAR if panel == "timeline" else _OPEN[panel][0]
    return len(counted.get(field, "many")) > (panel == "albums")


def _render(template: str, status: int, **content: Any) -> HTMLResponse:
    shared = {"waits": _WAITS, "view": view, "value_name": value_name, "in_memory": in_memory}
    content = {"locked": False, "full_scale": full_scale, **shared, **content}
    return HTMLResponse(render(template, **content), status)


# -- what is open above the pictures --


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


def _opened(counted: Facets, state: State, parts: Services) -> dict[str, Any]:
    """What the template of the open panel needs."""
    counts = counted[_OPEN[state.open][0]]
    if state.open == "timeline":
        return {"years": timeline(counts, state)}
    if state.open == "map":
        return _map(counts, state)
    return {"albums": _albums(counts, state, parts)}


def timeline(counts: Sequence[FacetCount], state: State) -> list[tuple[str, list[Bar]]]:
    """Years, each with its twelve months; of many years, or decades, or centuries one bar each."""
    months = {item["value"]: item["count"] for item in counts}
    asked = {
        year
        for found in filter(None, map(_ASKED.fullmatch, state.where))
        for year in range(int(found[1]), int(found[2] or found[1]) + 1)
    }
    by_year = groupby(months, lambda month: int(month[:4]))
    years = {year: sum(months[month] for month in group) for year, group in by_year}
    if not years:
        return []
    shown = sorted(asked) if asked & years.keys() else range(min(years), max(years) + 1)
    if len(shown) <= _YEARS:
        most = max(months.values())
        names = {f"{year:04}": [f"{year:04}-{n:02}" for n in range(1, 13)] for year in shown}
        return [
            (year, [_bar(month, months.get(month, 0), most, state) for month in own])
            for year, own in names.items()
        ]
    step = next(step for step in _STEPS if (shown[-1] - shown[0]) // step < _BARS)
    bars = {
        _span(first, step): sum(years.get(year, 0) for year in group)
        for first, group in groupby(shown, lambda year: year // step * step)
    }
    most = max(bars.values())
    return [
        (f"{t[:4]}s" if step == 10 else value_name("year", t), [_bar(t, many, most, state)])
        for t, many in bars.items()
    ]


def _bar(time: str, count: int, most: int, state: State) -> Bar:
    others = tuple(one for one in state.where if not one.startswith("year="))
    is_chosen = f"year={time}" in state.where
    url = state.url(where=others if is_chosen else (*others, f"year={time}"))
    height = max(3.0, 100 * count / most) if count else 0.0
    return Bar(value_name("year", time), count, round(height, 1), url if count else None, is_chosen)


def _span(first: int, years: int) -> str:
    """So many years as a condition names them; there is no year 0."""
    return f"{first:04}" if years == 1 else f"{max(first, 1):04}..{first + years - 1:04}"


def _map(counts: Sequence[FacetCount], state: State) -> dict[str, Any]:
    """What part of the world to show, in tenths of a degree, and dots where pictures were taken."""
    tiles = [(box_of_tile(item["value"]), item["count"]) for item in counts]
    asked = state.conditions().get("within")
    chosen = None if asked is None else to_box(asked)
    left, top, width = _frame([chosen] if chosen else [box for box, _ in tiles])
    dots = [(sum(count for _, count in dot), dot) for dot in _dots(tiles, width / _BINS)]
    most = max((count for count, _ in dots), default=1)
    shown = []
    for count, dot in sorted(dots, key=lambda one: -one[0]):
        within = _text(_around([box for box, _ in dot]))
        shown.append(
            {
                "x": 10 * sum(n * (box[1] + box[3]) / 2 for box, n in dot) / count,
                "y": -10 * sum(n * (box[0] + box[2]) / 2 for box, n in dot) / count,
                "r": 10 * width * (0.006 + 0.016 * math.sqrt(count / most)),
                "count": count,
                "url": state.with_choice("within", within),
                "name": value_name("within", within),
            }
        )
    elsewhere = [one for one in state.where if one.partition("=")[0] not in ("within", PLACE)]
    return {
        "dots": shown,
        "frame": [10 * left, -10 * top, 10 * width, 5 * width],
        "chosen": chosen,
        "all_url": state.url(where=tuple(elsewhere)),
    }


def _dots(tiles: Sequence[tuple[Box, int]], least: float) -> Iterable[list[tuple[Box, int]]]:
    """Tiles put together that are nearer than so many degrees; the fullest draw the others in."""
    dots: dict[tuple[int, int], list[tuple[Box, int]]] = {}
    for box, count in tiles:
        x, y = (box[1] + box[3]) / 2, (box[0] + box[2]) / 2
        column, row = math.floor(x / least), math.floor(y / least)
        around = product((column, column - 1, column + 1), (row, row - 1, row + 1))
        place = next((one for one in around if one in dots), (column, row))
        dots.setdefault(place, []).append((box, count))
    return dots.values()


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


def _albums(counts: Sequence[FacetCount], state: State, parts: Services) -> list[dict[str, Any]]:
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
