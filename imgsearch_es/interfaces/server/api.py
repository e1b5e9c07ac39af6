"""The API for reading: search, explain, facets, documents, thumbnails, health and metrics."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from imgsearch_es.errors import ImgsearchError, QueryError
from imgsearch_es.interfaces.server.answers import NOT_FOUND, Problem, reason_of
from imgsearch_es.interfaces.server.forms import form_content, pictures_of
from imgsearch_es.interfaces.server.pictures import MEDIA_TYPES, SIZES
from imgsearch_es.interfaces.server.schemas import (
    DocumentAnswer,
    ErrorAnswer,
    ExplainAnswer,
    ExplainRequest,
    FacetsAnswer,
    FacetsRequest,
    HealthAnswer,
    SearchAnswer,
    SearchRequest,
    SearchRequestInUrl,
    UploadAnswer,
    UrlRequest,
)
from imgsearch_es.interfaces.server.searching import document_dict, explained_dict
from imgsearch_es.interfaces.server.services import Parts, ProblemError, Services
from imgsearch_es.interfaces.server.uploads import KEEP_SECONDS, Upload

_FOREVER = "private, max-age=31536000, immutable"
_ASK = "private, no-cache"
_QUERY = {
    "type": "string",
    "description": "A SearchRequest as JSON; the pictures are added to it.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorAnswer},
    "5XX": {"model": ErrorAnswer},
}

router = APIRouter(responses=ERRORS)


@router.post("/api/v1/search", response_model=SearchAnswer, tags=["search"])
async def search(request: SearchRequest, parts: Parts) -> Response:
    """Find pictures by words, by pictures, by liked and disliked ones, or by all of these."""
    return await _search(request, parts)


@router.get("/api/v1/search", response_model=SearchAnswer, tags=["search"])
async def search_by_url(request: Annotated[SearchRequestInUrl, Query()], parts: Parts) -> Response:
    """The same for what fits into a URL; conditions are part of the words: `label:pets`."""
    return await _search(request.to_request(), parts)


@router.post(
    "/api/v1/search/upload",
    response_model=SearchAnswer,
    tags=["search"],
    openapi_extra={"requestBody": {"required": True, "content": form_content(query=_QUERY)}},
)
async def search_by_upload(http: Request, parts: Parts) -> Response:
    """Find pictures by one or several that are sent along."""
    async with pictures_of(http, "query") as (files, texts):
        if len(texts) > 1:
            raise QueryError("the form has several fields 'query': send one")
        uploads = [await parts.check(http, file.read, parts.uploads.add) for file in files]
    try:
        request = SearchRequest.model_validate_json(texts[0] if texts else "{}")
    except ValidationError as error:
        raise QueryError(
            f"the form field 'query' is no search: {reason_of(error.errors())}"
        ) from error
    request.image = [*request.image, *(upload.id for upload in uploads)]
    return await _search(request, parts)


@router.post(
    "/api/v1/uploads",
    response_model=UploadAnswer,
    tags=["search"],
    openapi_extra={"requestBody": {"required": True, "content": form_content()}},
)
async def upload(http: Request, parts: Parts) -> Response:
    """Send a picture to search by, for an hour."""
    async with pictures_of(http, most=1) as (files, _):
        kept = await parts.check(http, files[0].read, parts.uploads.add)
    return JSONResponse(_upload_dict(kept), 201)


@router.post("/api/v1/uploads/url", response_model=UploadAnswer, tags=["search"])
async def upload_by_url(http: Request, request: UrlRequest, parts: Parts) -> Response:
    """Have a picture fetched from the web, where the server allows it."""
    if not parts.settings.allow_urls:
        raise ProblemError(
            Problem(
                403, "UrlsNotAllowed", "this server fetches no URLs: save the picture and upload it"
            )
        )
    data = await parts.fetch(request.url)

    async def read() -> bytes:
        return data

    kept = await parts.check(http, read, parts.uploads.add)
    return JSONResponse(_upload_dict(kept), 201)


@router.post("/api/v1/explain", response_model=ExplainAnswer, tags=["search"])
async def explain(request: ExplainRequest, parts: Parts) -> Response:
    """What scores are the sums of, synset by synset."""
    query, found = await parts.work(lambda: parts.searching.explain(request))
    return JSONResponse(explained_dict(query, found))


@router.post("/api/v1/facets", response_model=FacetsAnswer, tags=["search"])
async def facets(request: FacetsRequest, parts: Parts) -> Response:
    """Count synsets, labels, formats and sizes of what a query matches, or of all."""
    return JSONResponse(await parts.work(lambda: parts.searching.facets(request)))


@router.get("/api/v1/suggest", response_model=list[str], tags=["search"])
async def suggest(word: Annotated[str, Query(max_length=100)], parts: Parts) -> Response:
    """Words that would be found and resemble this one or contain it."""
    found = await parts.work(lambda: parts.index.vocabulary.suggest(word, 8))
    return JSONResponse(list(found))


@router.get("/api/v1/stats", tags=["index"])
async def stats(parts: Parts) -> Response:
    """Figures of the index, as `imgsearch stats --json` prints them."""
    return JSONResponse(await parts.work(parts.index.stats))


@router.get("/api/v1/documents/{name}", response_model=DocumentAnswer, tags=["documents"])
async def document(name: str, parts: Parts) -> Response:
    """What the index holds of a picture."""
    return JSONResponse(document_dict(await parts.work(lambda: parts.pictures.document(name))))


@router.get("/api/v1/documents/{name}/picture", tags=["documents"])
async def original(name: str, parts: Parts) -> Response:
    """The file of an indexed picture, if it is what was indexed."""
    found = await parts.work(lambda: parts.pictures.document(name))
    data = await parts.draw(lambda: parts.pictures.read(found))
    kind = MEDIA_TYPES.get(found.format, "application/octet-stream")
    return Response(data, media_type=kind, headers={"Cache-Control": _ASK})


@router.get("/thumbnails/{name}/{size}", tags=["documents"])
async def thumbnail(
    http: Request, name: str, size: int, parts: Parts, v: str | None = None
) -> Response:
    """A small JPEG of an indexed or uploaded picture: 240, 480 or 1280 pixels."""
    if size not in SIZES:
        raise ProblemError(NOT_FOUND)
    found = await parts.draw(lambda: parts.pictures.find(name))
    made = await parts.draw(lambda: parts.pictures.thumbnail(found, size))
    parts.metrics.thumbnails.labels("hit" if made.was_there else "miss").inc()
    headers = {"ETag": made.etag, "Cache-Control": _ASK if v is None else _FOREVER}
    if http.headers.get("if-none-match") == made.etag:
        return Response(status_code=304, headers=headers)
    return Response(made.data, media_type="image/jpeg", headers=headers)


@router.get("/health", response_model=HealthAnswer, tags=["server"])
async def health(http: Request, parts: Parts) -> Response:
    """Whether the index answers; how much it has is told to those who may read."""
    try:
        count = await parts.work(parts.index.count)
    except ImgsearchError:
        return JSONResponse({"status": "unavailable"}, 503)
    parts.metrics.pictures.set(count)
    if not parts.may_read(http):
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "ok", "pictures": count, "model": parts.model})


@router.get("/metrics", tags=["server"])
async def metrics(parts: Parts) -> Response:
    """Figures for Prometheus."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _search(request: SearchRequest, parts: Services) -> Response:
    hits = await parts.work(
        lambda: parts.searching.search(request, request.k, request.offset).to_dict()
    )
    return JSONResponse(hits)


def _upload_dict(kept: Upload) -> dict[str, Any]:
    return {
        "id": kept.id,
        "width": kept.width,
        "height": kept.height,
        "bytes": len(kept.data),
        "format": kept.format,
        "expires_in_seconds": round(KEEP_SECONDS),
    }
