"""The page: rendered here, so that it works without a script; page.js makes it quick."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from starlette.datastructures import QueryParams

from imgsearch_es.errors import ImgsearchError, UnknownWordError
from imgsearch_es.interfaces.gallery.page import value_name
from imgsearch_es.interfaces.gallery.texts import full_scale, word_terms
from imgsearch_es.interfaces.gallery.texts import why as why_of
from imgsearch_es.interfaces.html import render
from imgsearch_es.interfaces.server import view
from imgsearch_es.interfaces.server.answers import ProblemError, problem_of, wants_page
from imgsearch_es.interfaces.server.schemas import Click, ExplainRequest
from imgsearch_es.interfaces.server.services import Parts, Services, services_of
from imgsearch_es.interfaces.server.view import PAGE_SIZE, State
from imgsearch_es.pictures.files import in_memory
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import known_settings

PATHS = ("/", "/results", "/why")
_FACET_VALUES = 30
_IDEAS = 10

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request, parts: Parts) -> Response:
    """The whole page; where a token is needed without its content, which the script asks for."""
    if not parts.settings.readable_without_token:
        return _render("page.html", 200, state=State(), locked=True, parts=parts)
    return await parts.answer(_page, str(request.query_params))


def _page(parts: Services, params: str) -> Response:
    status, content = _content(params, parts)
    return _render("page.html", status, **content, locked=False, parts=parts)


@router.get("/results")
async def results(request: Request, parts: Parts) -> Response:
    """What changes on the page."""
    return await parts.answer(_results, str(request.query_params))


def _results(parts: Services, params: str) -> Response:
    status, content = _content(params, parts)
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
    """An error of the page, as a page or as a part of one."""
    content = {"state": State(), "problem": problem, "unknown": None}
    if wants_page(request.headers):
        parts = services_of(request)
        return _render("page.html", problem.status, **content, locked=False, parts=parts)
    return _render("problem.html", problem.status, **content)


def _content(params: str, parts: Services) -> tuple[int, dict[str, Any]]:
    """A status and what the templates need, or the error that they show instead."""
    state = State()
    try:
        state = State.from_params(QueryParams(params))
        return 200, _found(parts, state)
    except ImgsearchError as error:
        problem = problem_of(error, parts.index.location)
        unknown = error if isinstance(error, UnknownWordError) else None
        return problem.status, {"state": state, "problem": problem, "unknown": unknown}


def _found(parts: Services, state: State) -> dict[str, Any]:
    query, hits, counted = _search(parts, state)
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
        "facets": view.facet_groups(counted, state),
        "examples": examples,
        "query": query,
        "share": view.share_url(query, state) if query is not None else None,
        "ideas": counted["synsets"][:_IDEAS] if not state.has_query else [],
        "has_words": settings.visual_words > 0,
        "can_teach": parts.settings.token is not None and settings.embedding_dimensions > 0,
    }


def _search(parts: Services, state: State) -> tuple[Query | None, Hits | None, Facets]:
    """The query without the facets' choices, the hits of a page, and the facets beside them."""
    where, offset = state.conditions(), (state.page - 1) * PAGE_SIZE
    searching, query = parts.searching, None
    if state.has_query:
        query = searching.query(state.what(), PAGE_SIZE, offset)
        asked = searching.narrowed(query, where)
    else:
        asked = searching.everything(where, PAGE_SIZE, offset)
    hits = searching.run(asked)
    fields = tuple(view.FACET_FIELDS)
    return query, hits, searching.facets_to_choose(query, where, fields, _FACET_VALUES)


def _render(template: str, status: int, **content: Any) -> HTMLResponse:
    content |= {"view": view, "value_name": value_name, "in_memory": in_memory}
    content["full_scale"] = full_scale
    words = content.pop("has_words", False)
    content["strategies"] = [way for way in STRATEGIES.values() if words or not way.by_words]
    return HTMLResponse(render(template, **content), status)
