"""The API: what reads for everybody, what changes the index only with the token, one at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.responses import StreamingResponse

from imgsearch_es.errors import ImgsearchError, QueryError, SourceError
from imgsearch_es.interfaces.server import schemas
from imgsearch_es.interfaces.server.answers import RETRY_SOON, ProblemError, not_found, reason_of
from imgsearch_es.interfaces.server.guard import IS_HEAD
from imgsearch_es.interfaces.server.pictures import ATTACHED, SIZES, Download, sent, zipped
from imgsearch_es.interfaces.server.schemas import DocumentAnswer, SearchRequest
from imgsearch_es.interfaces.server.services import Parts, Services, check_may_change, client_of
from imgsearch_es.interfaces.server.uploads import KEEP_SECONDS, UnknownPictureError, Upload
from imgsearch_es.pictures.files import replacing, to_uri
from imgsearch_es.retrieval.documents import Document

T = TypeVar("T")
_FOREVER = "private, max-age=31536000, immutable"
_ASK = "private, no-cache"
_MOST_PICTURES, _MOST_FIELDS = 8, 100
_MOST_FILES, _MOST_BYTES = 200, 2 * 1024**3  # of one download
_MOST_DOWNLOADS = 4
"""At once, of all clients: each has a picture in memory. One client has one."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.ErrorAnswer} for status in ("4XX", "5XX")
}
_QUERY = {
    "type": "string", "description": "A SearchRequest as JSON; the pictures are added to it.",
}  # fmt: skip

router = APIRouter(responses=_ERRORS)
changes = APIRouter(
    prefix="/api/v1",
    tags=["changing (needs the token)"],
    dependencies=[
        Depends(HTTPBearer(auto_error=False, description="The token of IMGSEARCH_TOKEN.")),
        Depends(check_may_change),
    ],
    responses=_ERRORS,
)


@asynccontextmanager
async def _form(
    http: Request, field: str | None = None, most: int = _MOST_PICTURES
) -> AsyncIterator[tuple[list[UploadFile], list[str]]]:
    """The pictures of a form, and the texts of its only other field."""
    async with http.form(max_files=most, max_fields=_MOST_FIELDS) as form:
        pictures, texts = [], []
        for name, value in form.multi_items():
            if name not in ("picture", field):
                known = f"'picture' and {field!r}" if field else "'picture' only"
                raise QueryError(f"the form has a field {name[:40]!r}: it takes {known}")
            if isinstance(value, UploadFile) and name == "picture":
                pictures.append(value)
            elif isinstance(value, str) and name == field:
                texts.append(value)
            else:
                kind = "file" if name == "picture" else "text"
                raise QueryError(f"the form field {name!r} takes a {kind}")
        if not pictures:
            raise QueryError("no picture was uploaded: send it as the form field 'picture'")
        yield pictures, texts


# -- reading --


@router.post("/api/v1/search", response_model=schemas.SearchAnswer, tags=["search"])
async def search(http: Request, request: SearchRequest, parts: Parts) -> Response:
    """Find pictures by words, by pictures, by liked and disliked ones, or by all of these."""
    return await parts.answer(_found, request, http if request.opens_pictures else None)


def _found(parts: Services, request: SearchRequest) -> Response:
    query = parts.searching.query(request, request.k, request.offset)
    return JSONResponse(parts.searching.run(query).to_dict())


@router.get("/api/v1/search", response_model=schemas.SearchAnswer, tags=["search"])
async def search_by_url(
    http: Request, request: Annotated[schemas.SearchRequestInUrl, Query()], parts: Parts
) -> Response:
    """The same for what fits into a URL; conditions are part of the words: `label:pets`."""
    return await search(http, request.to_request(), parts)


@router.post(
    "/api/v1/search/upload",
    response_model=schemas.SearchAnswer,
    tags=["search"],
    openapi_extra=schemas.takes_form(query=_QUERY),
)
async def search_by_upload(http: Request, parts: Parts) -> Response:
    """Find pictures by one or several that are sent along."""
    async with _form(http, "query") as (files, texts):
        if len(texts) > 1:
            raise QueryError("the form has several fields 'query': send one")
        uploads = [await parts.check(http, file.read, parts.uploads.add) for file in files]
    try:
        request = SearchRequest.model_validate_json(texts[0] if texts else "{}")
        given = {"image": [*request.image, *(upload.id for upload in uploads)]}
        request = SearchRequest.model_validate(request.model_dump(exclude_unset=True) | given)
    except ValidationError as error:
        why = reason_of(error.errors())
        raise QueryError(f"the form field 'query' is no search: {why}") from error
    return await search(http, request, parts)


@router.post(
    "/api/v1/uploads",
    response_model=schemas.UploadAnswer,
    status_code=201,
    tags=["search"],
    openapi_extra=schemas.takes_form(),
)
async def upload(http: Request, parts: Parts) -> Response:
    """Send a picture to search by, for an hour."""
    async with _form(http, most=1) as (files, _):
        return await _kept(http, parts, files[0].read)


@router.post(
    "/api/v1/uploads/url", response_model=schemas.UploadAnswer, status_code=201, tags=["search"]
)
async def upload_by_url(http: Request, request: schemas.UrlRequest, parts: Parts) -> Response:
    """Have a picture fetched from the web, where the server allows it."""
    if not parts.settings.allow_urls:
        message = "this server fetches no URLs: save the picture and upload it"
        raise ProblemError(403, "UrlsNotAllowed", message)
    async with parts.turn(http, "fetch"):  # so that others have threads, however slow the web is
        data = await parts.fetch(request.url)

        async def read() -> bytes:
            return data

        return await _kept(http, parts, read)


@router.post("/api/v1/explain", response_model=schemas.ExplainAnswer, tags=["search"])
async def explain(http: Request, request: schemas.ExplainRequest, parts: Parts) -> Response:
    """What scores are the sums of, synset by synset."""
    opening = http if request.opens_pictures else None
    query, found = await parts.work(lambda: parts.searching.explain(request), opening)
    return JSONResponse({"query": str(query), "explanations": [one.to_dict() for one in found]})


@router.post("/api/v1/facets", response_model=schemas.FacetsAnswer, tags=["search"])
async def facets(http: Request, request: schemas.FacetsRequest, parts: Parts) -> Response:
    """Count synsets, labels, formats and sizes of what a query matches, or of all."""
    opening = http if request.opens_pictures else None
    return JSONResponse(await parts.work(lambda: parts.searching.facets(request), opening))


@router.get("/api/v1/suggest", response_model=list[schemas.SuggestAnswer], tags=["search"])
async def suggest(word: Annotated[str, Query(max_length=100)], parts: Parts) -> Response:
    """How a word that is being typed may go on: texts to put in its place."""
    found = await parts.work(lambda: parts.index.suggest(word))
    return JSONResponse([asdict(one) for one in found])


@router.get("/api/v1/words", response_model=list[schemas.WordAnswer], tags=["index"])
async def taught_words(parts: Parts) -> Response:
    """The words that the index was taught."""
    return JSONResponse([asdict(word) for word in await parts.work(parts.index.words)])


@router.get("/api/v1/stats", tags=["index"])
async def stats(parts: Parts) -> Response:
    """Figures of the index, as `imgsearch stats --json` prints them."""
    return JSONResponse(await parts.work(parts.index.stats))


@router.get("/api/v1/documents/{name}", response_model=DocumentAnswer, tags=["documents"])
async def document(name: str, parts: Parts) -> Response:
    """What the index holds of a picture."""
    found = await parts.work(lambda: parts.pictures.document(name))
    return JSONResponse(schemas.described(found))


@router.get("/api/v1/documents/{name}/picture", tags=["documents"], **schemas.gives("image/*"))
async def original(http: Request, name: str, parts: Parts) -> Response:
    """The file of an indexed picture, if it is what was indexed."""
    found = await parts.work(lambda: parts.pictures.document(name))
    with parts.answers.room(client_of(http), found.bytes) as room:
        data = await parts.draw(lambda: parts.pictures.read(found))
        return sent(found, data, room.pop_all().close, {"Cache-Control": _ASK})


@router.get("/thumbnails/{name}/{size}", tags=["documents"], **schemas.gives("image/jpeg"))
async def thumbnail(
    http: Request, name: str, size: int, parts: Parts, v: str | None = None
) -> Response:
    """A small JPEG of an indexed or uploaded picture: 240, 480 or 1280 pixels."""
    if size not in SIZES:
        raise not_found()
    found = await parts.draw(lambda: parts.pictures.find(name))
    turn = parts.turn(http, "draw") if isinstance(found, Upload) else nullcontext()
    async with turn:  # so that drawing what a client sent keeps few threads
        data, etag, was_there = await parts.draw(lambda: parts.pictures.thumbnail(found, size))
    parts.metrics.thumbnails.labels("hit" if was_there else "miss").inc()
    headers = {"ETag": etag, "Cache-Control": _FOREVER if v and etag[1:].startswith(v) else _ASK}
    if http.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="image/jpeg", headers=headers)


@router.get("/api/v1/download", tags=["documents"], **schemas.gives("application/zip"))
async def download(
    http: Request,
    picture: Annotated[list[schemas.PictureId], Query(max_length=_MOST_FILES)],
    parts: Parts,
) -> Response:
    """The files of several pictures as one ZIP; what cannot be read is named in it."""
    ids = list(dict.fromkeys(picture))
    found = await parts.work(lambda: parts.pictures.documents(ids))
    wanted = [found[name] for name in ids if name in found]
    if not wanted:
        raise UnknownPictureError(ids[0])
    if sum(one.bytes for one in wanted) > _MOST_BYTES:
        message = f"these files have over {_MOST_BYTES // 1024**3} GB: download fewer at a time"
        raise ProblemError(413, "TooLarge", message)
    client = client_of(http)
    if client in parts.downloading or len(parts.downloading) >= _MOST_DOWNLOADS:
        whose = "yours" if client in parts.downloading else "others"
        message = f"a download of {whose} is under way: try again when it has ended"
        raise ProblemError(503, "Busy", message, RETRY_SOON)
    if IS_HEAD in http.scope:  # its size is known when it is made
        return StreamingResponse((), media_type="application/zip", headers=ATTACHED)
    parts.downloading.add(client)
    files = zipped(
        wanted,
        [name for name in ids if name not in found],
        lambda one: parts.draw(lambda: parts.pictures.read(one)),
    )
    return Download(files, lambda: parts.downloading.discard(client))


@router.get("/health", response_model=schemas.HealthAnswer, tags=["server"])
async def health(http: Request, parts: Parts) -> Response:
    """Whether the index answers; how much it has is told to those who may read."""
    try:
        count = await parts.work(parts.index.count)
    except ImgsearchError:
        return JSONResponse({"status": "unavailable"}, 503)
    parts.metrics.pictures.set(count)
    if not parts.settings.may_read(http.headers):
        return JSONResponse({"status": "ok"})
    return JSONResponse({"status": "ok", "pictures": count, "model": parts.model})


@router.get("/metrics", tags=["server"], **schemas.gives("text/plain"))
async def metrics(parts: Parts) -> Response:
    """Figures for Prometheus."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


# -- changing --


@changes.post(
    "/documents",
    status_code=201,
    openapi_extra=schemas.takes_form(
        schemas.AddRequest.model_json_schema(),
        label={"type": "array", "items": {"type": "string"}},
    ),
)
async def add(http: Request, parts: Parts) -> Response:
    """Add pictures: files and folders below the server's roots, or uploads.

    The answer is what `imgsearch index --json` prints.
    """
    form = http.headers.get("content-type", "").startswith("multipart/form-data")
    paths, options = await (_kept_uploads(http, parts) if form else _sources(http, parts))
    report = await _alone(parts, lambda: parts.index.add(paths, **options))
    return JSONResponse(report.to_dict(), 201)


@changes.patch("/documents/{name}", response_model=DocumentAnswer)
async def change(name: str, request: schemas.ChangeRequest, parts: Parts) -> Response:
    """Change the labels or the metadata of a picture."""

    def update() -> Document:
        found = parts.pictures.document(name)
        return parts.index.update(found.id, labels=request.labels, metadata=request.metadata)

    return JSONResponse(schemas.described(await _alone(parts, update)))


@changes.delete("/documents/{name}", response_model=schemas.RemovedAnswer)
async def remove(name: str, parts: Parts) -> Response:
    """Remove a picture from the index; its file stays."""
    removed = await _alone(parts, lambda: parts.index.remove(parts.pictures.document(name).id))
    return JSONResponse({"removed": removed})


@changes.post("/documents/remove", response_model=schemas.RemovedAnswer)
async def remove_several(request: schemas.RemoveRequest, parts: Parts) -> Response:
    """Remove several; those that the index does not have are passed over."""
    removed = await _alone(parts, lambda: parts.index.remove(request.pictures))
    return JSONResponse({"removed": removed})


@changes.post("/documents/label", response_model=schemas.LabeledAnswer)
async def label(request: schemas.LabelRequest, parts: Parts) -> Response:
    """Give several documents more labels, or take some away."""
    changed = await _alone(
        parts, lambda: parts.index.label(request.pictures, add=request.add, drop=request.drop)
    )
    return JSONResponse({"changed": changed})


@changes.post("/words", response_model=schemas.WordAnswer, status_code=201)
async def teach(request: schemas.TeachRequest, parts: Parts) -> Response:
    """Teach the index a word by pictures that it has; taught again, a word is learnt anew."""

    def taught() -> dict[str, Any]:
        like, unlike = (
            [parts.pictures.document(name).id for name in names]
            for names in (request.like, request.unlike)
        )
        return asdict(parts.index.teach(request.word, like, unlike))

    return JSONResponse(await _alone(parts, taught), 201)


@changes.delete("/words/{word:path}", response_model=schemas.ForgottenAnswer)
async def forget(word: str, parts: Parts) -> Response:
    """Take back a word that was taught."""
    changed = await _alone(parts, lambda: parts.index.forget(word))
    return JSONResponse({"word": word, "pictures": changed})


async def _alone(parts: Services, change: Callable[[], T]) -> T:
    """One change at a time, until its thread ends; who comes meanwhile is told so."""
    if parts.changing.locked():
        raise ProblemError(409, "Busy", "another change is under way: try again", RETRY_SOON)
    return await parts.change(change)


async def _sources(http: Request, parts: Services) -> tuple[list[str], dict[str, Any]]:
    """Files and folders of a request, all below the roots."""
    try:
        request = schemas.AddRequest.model_validate(await http.json())
    except ValidationError as error:
        raise QueryError(reason_of(error.errors())) from error
    except (ValueError, RecursionError) as error:
        raise QueryError("the body is no JSON in UTF-8, or nested too deeply") from error
    if not parts.settings.roots:
        message = "files are added from the folders of --root, and there is none"
        raise ProblemError(403, "NoRoots", message)
    for source in request.sources:
        to_uri(source)  # or an error that says why it is no path
        path = Path(source)
        if not path.is_absolute() or not await asyncio.to_thread(parts.pictures.is_allowed, path):
            raise SourceError(f"{source} is not an absolute path below the server's roots")
    return request.sources, {"labels": request.labels, "metadata": request.metadata}


async def _kept_uploads(http: Request, parts: Services) -> tuple[list[str], dict[str, Any]]:
    """Uploads as files in the folder that is for them, named by their content."""
    folder = parts.settings.upload_folder
    if folder is None:
        message = "uploads are added into the folder of --uploads: give one"
        raise ProblemError(403, "NoUploadFolder", message)
    place = folder.absolute()

    def keep(data: bytes) -> str:
        kind = parts.checker.check(data).format
        path = place / f"{hashlib.sha256(data).hexdigest()[:32]}.{kind.lower()}"
        if not path.exists():
            with replacing(path, wait=True) as draft:  # the index will name it
                draft.write_bytes(data)
        return str(path)

    async with _form(http, "label") as (files, labels):
        kept = [await parts.check(http, file.read, keep) for file in files]
    return kept, {"labels": labels or None}


async def _kept(http: Request, parts: Services, read: Callable[[], Awaitable[bytes]]) -> Response:
    kept = await parts.check(http, read, parts.uploads.add)
    answer = {name: getattr(kept, name) for name in ("id", "width", "height", "format")}
    answer |= {"bytes": len(kept.data), "expires_in_seconds": round(KEEP_SECONDS)}
    return JSONResponse(answer, 201)
