"""The page: rendered here, so that it works without a script; page.js makes it quick."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import QueryParams

from imgsearch_es.errors import ImgsearchError, UnknownWordError
from imgsearch_es.interfaces.gallery.texts import full_scale, word_terms
from imgsearch_es.interfaces.gallery.texts import why as why_of
from imgsearch_es.interfaces.html import render
from imgsearch_es.interfaces.server import panels, view
from imgsearch_es.interfaces.server.answers import ProblemError, problem_of, wants_page
from imgsearch_es.interfaces.server.readiness import WAITS, Notice
from imgsearch_es.interfaces.server.schemas import Click, ExplainRequest
from imgsearch_es.interfaces.server.services import Parts, Services, services_of
from imgsearch_es.interfaces.server.view import PAGE_SIZE, State
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.facets import ALBUM, PLACE, YEAR, Facets
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.query_building import LISTED_BY
from imgsearch_es.stores.base import known_settings

PATHS = ("/", "/results", "/why")
_FACET_VALUES = 30
_MANY = 200_000
"""Of more pictures folders are counted only when a person opens the albums: it takes a while."""
_IDEAS = 10

router = APIRouter(include_in_schema=False)


class _Asked(NamedTuple):
    params: str
    notices: list[Notice]
    goes_on: bool
    """Whether only more pictures are wanted, without what is beside them."""


@router.get("/")
async def page(request: Request, parts: Parts) -> Response:
    """The whole page; where a token is needed without its content, which the script asks for."""
    if not parts.settings.readable_without_token:
        return _render("page.html", 200, state=State(), locked=True, parts=parts)
    return await parts.answer(_page, await _asked(request, parts))


def _page(parts: Services, asked: _Asked) -> Response:
    status, content = _content(asked, parts)
    return _render("page.html", status, **content, locked=False, parts=parts)


@router.get("/results")
async def results(request: Request, parts: Parts) -> Response:
    """What changes on the page."""
    return await parts.answer(_results, await _asked(request, parts))


def _results(parts: Services, asked: _Asked) -> Response:
    status, content = _content(asked, parts)
    return _render("results.html", status, **content)


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

    content = await parts.work(explained)
    if wants_page(request.headers):
        return _render("page.html", 200, state=state, locked=False, parts=parts, **content)
    return _render("why.html", 200, state=state, **content)


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
        parts = services_of(request)
        return _render("page.html", problem.status, **content, locked=False, parts=parts)
    if request.url.path == "/results":
        return _render("problem.html", problem.status, **content)
    return problem.response()


async def _asked(request: Request, parts: Services) -> _Asked:
    """What a page is made of: the notices are known to the server's own process alone."""
    notices = await parts.work(lambda: parts.readiness.now(parts.model))
    return _Asked(str(request.query_params), notices, "imgsearch-goes-on" in request.headers)


def _content(asked: _Asked, parts: Services) -> tuple[int, dict[str, Any]]:
    """A status and what the templates need, or the error that they show instead."""
    state = State()
    try:
        state = State.from_params(QueryParams(asked.params))
        return 200, {"notices": asked.notices, **_found(parts, state, beside=not asked.goes_on)}
    except ImgsearchError as error:
        problem = problem_of(error, parts.index.location)
        unknown = error if isinstance(error, UnknownWordError) else None
        content = {"state": state, "problem": problem, "unknown": unknown}
        return problem.status, {**content, "location": parts.index.location}


def _found(parts: Services, state: State, *, beside: bool) -> dict[str, Any]:
    query, hits, counted = _search(parts, state, beside=beside)
    panel = panels.COUNTED.get(state.open)
    search = None
    if hits and state.has_query:
        shown = hits
        search = parts.keep("what was shown", lambda log: log.shown(shown))
    roles = (("image", state.image), ("like", state.like), ("dislike", state.dislike))
    examples = [
        view.example(parts.pictures.find(name), role) for role, names in roles for name in names
    ]
    settings = known_settings(parts.index.store)
    by_words = query is not None and query.by_words and hits is not None
    return {
        "state": state,
        "search": search,
        "words": list(map(word_terms, hits.explain_all())) if by_words and hits else [],
        "hits": hits,
        "asked": {term.key for term in hits.asked}
        if query is not None and hits is not None
        else (),
        "summary": view.summary(hits, state) if hits else None,
        "facets": view.facet_groups(
            {name: counted.get(name, [])[:_FACET_VALUES] for name in view.FACET_FIELDS}, state
        ),
        "examples": examples,
        "query": query,
        "share": view.share_url(query, state) if query is not None else None,
        "ideas": counted.get("top_synset", [])[:_IDEAS] if not state.has_query else [],
        "panel": panels.opened(counted[panel[0]], state, parts) if panel and counted else None,
        "panels": [one for one in view.PANELS if one == state.open or _has(counted, one)],
        "ways": view.ways(settings, state, query),
        "location": parts.index.location,
        "can_teach": parts.settings.token is not None and settings.embedding_dimensions > 0,
    }


def _search(
    parts: Services, state: State, *, beside: bool
) -> tuple[Query | None, Hits | None, Facets]:
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
        most, shown = panels.MOST[state.open], panels.COUNTED[state.open]
        counted |= searching.facets_to_choose(query, where, shown, most)
    return query, hits, counted


def _has(counted: Facets, panel: str) -> bool:
    """Whether there is something to show in a panel: dates, places, several folders."""
    field = {"timeline": YEAR, "map": PLACE, "albums": ALBUM}[panel]
    return len(counted.get(field, "many")) > (panel == "albums")


def _render(template: str, status: int, **content: Any) -> HTMLResponse:
    content |= {"waits": WAITS, "view": view, "value_name": view.value_name, "in_memory": in_memory}
    content["full_scale"] = full_scale
    return HTMLResponse(render(template, **content), status)
