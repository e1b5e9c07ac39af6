"""The page: rendered here, so that it works without a script; page.js makes it quick."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from imgsearch_es.errors import ImgsearchError, UnknownWordError
from imgsearch_es.interfaces.html import render
from imgsearch_es.interfaces.server import view
from imgsearch_es.interfaces.server.answers import Problem, problem_of
from imgsearch_es.interfaces.server.schemas import ExplainRequest
from imgsearch_es.interfaces.server.services import Parts, Services, services_of
from imgsearch_es.interfaces.server.state import PAGE_SIZE, State
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits

PATHS = ("/", "/results", "/why")
_FACET_VALUES = 30
_IDEAS = 10

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request, parts: Parts) -> Response:
    """The whole page; where a token is needed without its content, which the script asks for."""
    if not parts.settings.readable_without_token:
        return _render("page.html", 200, state=State(), locked=True, parts=parts)
    content = await _content(request, parts)
    return _render("page.html", content.pop("status"), **content, locked=False, parts=parts)


@router.get("/results")
async def results(request: Request, parts: Parts) -> Response:
    """What changes on the page."""
    content = await _content(request, parts)
    return _render("results.html", content.pop("status"), **content)


@router.get("/why")
async def why(request: Request, parts: Parts, picture: str) -> Response:
    """Why a picture was found, and what is known of it."""
    state = State.from_params(request.query_params)
    content = await parts.work(lambda: _explained(parts, state, picture))
    return _render("why.html", 200, state=state, **content)


class Click(BaseModel):
    """A picture of a search that was shown; both by their ids."""

    search: str = Field(min_length=1, max_length=200)
    picture: str = Field(min_length=1, max_length=200)


@router.post("/clicks", status_code=204)
async def clicks(parts: Parts, click: Click) -> None:
    """Keep a click, where people asked for that."""
    await parts.work(lambda: parts.interactions.clicked(click.search, click.picture))


def problem_page(request: Request, problem: Problem) -> Response:
    """An error of the page, as a page or as a part of one."""
    content = {"state": State(), "problem": problem, "unknown": None}
    if request.url.path == "/":
        parts = services_of(request)
        return _render("page.html", problem.status, **content, locked=False, parts=parts)
    return _render("problem.html", problem.status, **content)


async def _content(request: Request, parts: Services) -> dict[str, Any]:
    """What the templates need, or the error that they show instead."""
    state = State()
    try:
        state = State.from_params(request.query_params)
        return await parts.work(lambda: _found(parts, state))
    except ImgsearchError as error:
        problem = problem_of(error, parts.index.location)
        unknown = error if isinstance(error, UnknownWordError) else None
        return {"state": state, "problem": problem, "unknown": unknown, "status": problem.status}


def _found(parts: Services, state: State) -> dict[str, Any]:
    query, hits, counted = _search(parts, state)
    roles = (("image", state.image), ("like", state.like), ("dislike", state.dislike))
    examples = [
        view.example(parts.pictures.find(name), role) for role, names in roles for name in names
    ]
    return {
        "state": state,
        "search": parts.interactions.shown(hits) if hits and state.has_query else None,
        "status": 200,
        "hits": hits,
        "asked": {term.key for term in query.terms} if query is not None else (),
        "summary": None if hits is None or not len(hits) else view.summary(hits, state),
        "facets": view.facet_groups(counted, state),
        "examples": examples,
        "query": query,
        "share": view.share_url(query, state) if query is not None else None,
        "ideas": counted["synsets"][:_IDEAS] if not state.has_query else [],
    }


def _search(parts: Services, state: State) -> tuple[Query | None, Hits | None, Facets]:
    """The query without the facets' choices, the hits of a page, and the facets beside them."""
    where, offset = state.conditions(), (state.page - 1) * PAGE_SIZE
    searching, fields = parts.searching, list(view.FACET_FIELDS)
    if not state.has_query:
        every = searching.everything(where, PAGE_SIZE, offset)
        counted = searching.facets_to_choose(None, where, fields, _FACET_VALUES)
        return None, None if every is None else searching.run(every), counted
    query = searching.query(state.what(), PAGE_SIZE, offset)
    hits = searching.run(searching.narrowed(query, where))
    return query, hits, searching.facets_to_choose(query, where, fields, _FACET_VALUES)


def _explained(parts: Services, state: State, picture: str) -> dict[str, Any]:
    document = parts.pictures.document(picture)
    found: list[Explanation] = []
    if state.has_query:
        request = ExplainRequest.model_validate({**state.what().model_dump(), "picture": picture})
        _, found = parts.searching.explain(request)
    return {"document": document, "explanation": found[0] if found else None}


def _render(template: str, status: int, **content: Any) -> HTMLResponse:
    content |= {"view": view, "in_memory": in_memory, "strategies": STRATEGIES.values()}
    return HTMLResponse(render(template, **content), status)
