"""The API for changing: add, label and remove, only with the token, one at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import ValidationError

from imgsearch_es.errors import QueryError, SourceError
from imgsearch_es.interfaces.server.answers import Problem, reason_of
from imgsearch_es.interfaces.server.api import ERRORS
from imgsearch_es.interfaces.server.forms import form_content, pictures_of
from imgsearch_es.interfaces.server.schemas import (
    AddRequest,
    ChangeRequest,
    DocumentAnswer,
    RemovedAnswer,
    RemoveRequest,
)
from imgsearch_es.interfaces.server.searching import document_dict
from imgsearch_es.interfaces.server.services import Parts, ProblemError, Services, check_may_change
from imgsearch_es.pictures.files import replacing, to_uri

_TOKEN = HTTPBearer(auto_error=False, description="The token of IMGSEARCH_TOKEN.")

router = APIRouter(
    prefix="/api/v1",
    tags=["changing (needs the token)"],
    dependencies=[Depends(_TOKEN), Depends(check_may_change)],
    responses=ERRORS,
)


@router.post(
    "/documents",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": AddRequest.model_json_schema()},
                **form_content(label={"type": "array", "items": {"type": "string"}}),
            },
        }
    },
)
async def add(http: Request, parts: Parts) -> Response:
    """Add pictures: files and folders below the server's roots, or uploads.

    The answer is what `imgsearch index --json` prints.
    """
    form = http.headers.get("content-type", "").startswith("multipart/form-data")
    paths, options = await (_kept_uploads(http, parts) if form else _sources(http, parts))
    async with _alone(parts):
        report = await parts.work(lambda: parts.index.add(paths, **options))
    return JSONResponse(report.to_dict(), 201)


@router.patch("/documents/{name}", response_model=DocumentAnswer)
async def change(name: str, request: ChangeRequest, parts: Parts) -> Response:
    """Change the labels or the metadata of a picture."""
    async with _alone(parts):
        found = await parts.work(lambda: parts.pictures.document(name))
        changed = await parts.work(
            lambda: parts.index.update(found.id, labels=request.labels, metadata=request.metadata)
        )
    return JSONResponse(document_dict(changed))


@router.delete("/documents/{name}", response_model=RemovedAnswer)
async def remove(name: str, parts: Parts) -> Response:
    """Remove a picture from the index; its file stays."""
    async with _alone(parts):
        found = await parts.work(lambda: parts.pictures.document(name))
        removed = await parts.work(lambda: parts.index.remove(found.id))
    return JSONResponse({"removed": removed})


@router.post("/documents/remove", response_model=RemovedAnswer)
async def remove_several(request: RemoveRequest, parts: Parts) -> Response:
    """Remove several; those that the index does not have are passed over."""
    async with _alone(parts):
        removed = await parts.work(lambda: parts.index.remove(request.pictures))
    return JSONResponse({"removed": removed})


@asynccontextmanager
async def _alone(parts: Services) -> AsyncIterator[None]:
    """One change at a time; who comes meanwhile is told so."""
    if parts.changing.locked():
        raise ProblemError(
            Problem(409, "Busy", "another change is under way: try again", (), {"Retry-After": "5"})
        )
    async with parts.changing:
        yield


async def _sources(http: Request, parts: Services) -> tuple[list[str], dict[str, Any]]:
    """Files and folders of a request, all below the roots."""
    try:
        request = AddRequest.model_validate(await http.json())
    except ValidationError as error:
        raise QueryError(reason_of(error.errors())) from error
    except (ValueError, RecursionError) as error:
        raise QueryError("the body is no JSON in UTF-8, or nested too deeply") from error
    if not parts.settings.roots:
        raise ProblemError(
            Problem(403, "NoRoots", "files are added from the folders of --root, and there is none")
        )
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
        raise ProblemError(
            Problem(
                403, "NoUploadFolder", "uploads are added into the folder of --uploads: give one"
            )
        )
    async with pictures_of(http, "label") as (files, labels):
        kept = [
            await parts.check(http, file.read, lambda data: _keep(parts, folder, data))
            for file in files
        ]
    return kept, {"labels": labels or None}


def _keep(parts: Services, folder: Path, data: bytes) -> str:
    kind = parts.checker.check(data).format
    path = folder.absolute() / f"{hashlib.sha256(data).hexdigest()[:32]}.{kind.lower()}"
    if not path.exists():
        with replacing(path) as draft:
            draft.write_bytes(data)
    return str(path)
