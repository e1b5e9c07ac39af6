"""What is done with several pictures at once: labels for all of them, and their files as one."""

from __future__ import annotations

import re
import time
import zipfile
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from itertools import chain, count
from typing import Annotated

import anyio
from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from imgsearch_es.errors import ImageError, ImgsearchError
from imgsearch_es.interfaces.server import schemas
from imgsearch_es.interfaces.server.answers import RETRY_SOON, ProblemError, log
from imgsearch_es.interfaces.server.api import alone, changes, router
from imgsearch_es.interfaces.server.connections import owner_of
from imgsearch_es.interfaces.server.guard import IS_HEAD
from imgsearch_es.interfaces.server.services import Parts, Services
from imgsearch_es.interfaces.server.uploads import UnknownPictureError
from imgsearch_es.retrieval.documents import Document

_MOST_FILES, _MOST_BYTES = 200, 2 * 1024**3
"""Of one download."""
_MOST_DOWNLOADS = 4
"""At once, of all clients: each has a picture in memory. One client has one."""
_BLOCK, _BLOCK_SECONDS = 1024**2, 60.0
"""What is sent at once, and how long a client may take for it: it has one of a few places."""
_LEFT_OUT = "left out.txt"
_ATTACHED = {"Content-Disposition": 'attachment; filename="pictures.zip"'}

ROUTERS = (changes, router)
"""Those of the API, with what is here."""


@changes.post("/documents/label", response_model=schemas.LabeledAnswer)
async def label(request: schemas.LabelRequest, parts: Parts) -> Response:
    """Give several documents more labels, or take some away."""
    asked = request
    changed = await alone(
        parts, lambda: parts.index.label(asked.pictures, add=asked.add, drop=asked.drop)
    )
    return JSONResponse({"changed": changed})


@router.get("/api/v1/download", tags=["documents"])
async def download(
    http: Request,
    picture: Annotated[list[schemas.PictureId], Query(max_length=_MOST_FILES)],
    parts: Parts,
) -> Response:
    """The files of several pictures as one ZIP; what cannot be read is named in it."""
    ids = list(dict.fromkeys(picture))
    found = await parts.work(lambda: _documents(parts, ids))
    wanted = [found[name] for name in ids if name in found]
    if not wanted:
        raise UnknownPictureError(ids[0])
    if sum(one.bytes for one in wanted) > _MOST_BYTES:
        message = f"these files have over {_MOST_BYTES // 1024**3} GB: download fewer at a time"
        raise ProblemError(413, "TooLarge", message)
    client = owner_of(http.client.host if http.client else "unknown")
    if client in parts.downloading or len(parts.downloading) >= _MOST_DOWNLOADS:
        whose = "yours" if client in parts.downloading else "others"
        message = f"a download of {whose} is under way: try again when it has ended"
        raise ProblemError(503, "Busy", message, RETRY_SOON)
    if IS_HEAD in http.scope:  # its size is known when it is made
        return StreamingResponse((), media_type="application/zip", headers=_ATTACHED)
    parts.downloading.add(client)
    return _Download(parts, wanted, [name for name in ids if name not in found], client)


def _documents(parts: Services, ids: Sequence[str]) -> dict[str, Document]:
    parts.index.count()  # an error where there is no index; another one than before is noticed
    return parts.index.store.get(ids)


class _Download(StreamingResponse):
    """A ZIP as it is made; when it ends, however it does, its client may have another."""

    def __init__(
        self, parts: Services, documents: Sequence[Document], unknown: Sequence[str], client: str
    ) -> None:
        self._zipped = _zipped(parts, documents, unknown)
        super().__init__(self._zipped, media_type="application/zip", headers=_ATTACHED)
        self._end = partial(parts.downloading.discard, client)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def in_time(message: Message) -> None:
            with anyio.fail_after(_BLOCK_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        except TimeoutError:
            log.warning("a download was given up: its client takes it too slowly")
        finally:
            self._end()
            await self._zipped.aclose()  # before its ZIP is, by the garbage collector


async def _zipped(
    parts: Services, documents: Sequence[Document], unknown: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    """A ZIP of files as they are, one in memory at a time."""
    sink, left_out = _Sink(), [f"{name}: is not in the index" for name in unknown]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for document, name in zip(documents, _names(documents), strict=True):
            try:
                data = await parts.draw(partial(parts.pictures.read, document))
            except ImgsearchError as error:
                reason = error.reason if isinstance(error, ImageError) else error
                left_out.append(f"{document.filename}: {reason}")
                continue
            about = zipfile.ZipInfo(name, time.localtime()[:6])
            about.file_size = len(data)
            with archive.open(about, "w") as file, memoryview(data) as view:
                for start in range(0, len(data), _BLOCK):
                    file.write(view[start : start + _BLOCK])
                    yield sink.taken()
            del data, view  # before the next one is read
        if left_out:
            archive.writestr(_LEFT_OUT, "\n".join([*left_out, ""]))
    yield sink.taken()


def _names(documents: Sequence[Document]) -> list[str]:
    """A name for each file, safe on every system and different from the others."""
    taken = {_LEFT_OUT: ""}
    for document in documents:
        name = re.sub(r'[\x00-\x1f\\/:*?"<>|]', "_", document.filename).strip(". ") or "picture"
        stem, dot, ending = name.rpartition(".")
        ways = chain([name], (f"{stem or ending} ({n}){dot}{ending}" for n in count(2)))
        free = next(way for way in ways if way.lower() not in taken)
        taken[free.lower()] = free
    return list(taken.values())[1:]


class _Sink:
    """What is written is taken away piece by piece; it cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """There is nothing to wait for."""

    close = flush

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
