"""What routes work with: one object for each server, made when it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, Request
from PIL import Image

from imgsearch_es.errors import ImgsearchError, LogError
from imgsearch_es.evaluation.clicks import InteractionLog, open_log
from imgsearch_es.indexing import DEFAULT_LIMITS
from imgsearch_es.interfaces.server.answers import ProblemError, log
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.fetching import fetch
from imgsearch_es.interfaces.server.guard import Metrics, unauthorized
from imgsearch_es.interfaces.server.pictures import Pictures, ThumbnailCache, default_folder
from imgsearch_es.interfaces.server.searching import Searching
from imgsearch_es.interfaces.server.settings import ServerSettings
from imgsearch_es.interfaces.server.uploads import WORKERS, Checker, Uploads

T = TypeVar("T")
_DRAWING_THREADS = 4
"""Thumbnails are made by so many threads, so that searching has others."""
_FETCHING_THREADS = 8
"""The same for pictures on the web, whose servers may be slow."""
_DRAWING_SECONDS = 10.0
"""How long decoding a picture for a thumbnail may take."""


class Services:
    """The parts of a server of an index.

    Attributes:
        metrics: its figures.
        model: "loading", "ready", "not loaded", or why it cannot be used.
    """

    def __init__(self, index: ServedIndex, settings: ServerSettings) -> None:
        self.index = index
        self.settings = settings
        self.metrics = Metrics()
        self.model = "not loaded"
        cache = ThumbnailCache(settings.cache_folder or default_folder(), settings.cache_bytes)
        self.checker = Checker(settings.upload_limits, self._image_filters)
        self._drawer = Checker(replace(DEFAULT_LIMITS, max_seconds=_DRAWING_SECONDS))
        self.uploads = Uploads(self.checker)
        roots = settings.roots
        if roots and settings.upload_folder is not None:
            roots = (*roots, settings.upload_folder)
        self.pictures = Pictures(index, self.uploads, cache, self._drawer, roots)
        self.searching = Searching(index, self.pictures)
        self.index.observe = self.metrics.batches.observe
        self.changing = asyncio.Lock()
        self._log = open_log(settings.log)
        self._searches = ThreadPoolExecutor(settings.threads, "imgsearch-search")
        self._drawings = ThreadPoolExecutor(_DRAWING_THREADS, "imgsearch-draw")
        self._fetches = ThreadPoolExecutor(_FETCHING_THREADS, "imgsearch-fetch")
        self._checks = ThreadPoolExecutor(WORKERS, "imgsearch-check")
        self._places = asyncio.Semaphore(WORKERS)
        self._clients: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def _image_filters(self) -> list[dict[str, Any]]:
        """Those of the index's model; none where it has no model."""
        found = self.index.store.settings()
        return found.analyzer["image_filters"] if found else []

    async def work(self, call: Callable[[], T]) -> T:
        """Do something in a thread, while others are served.

        What was given up before it began is never done; what was given up later keeps its thread
        until it ends, so that there are never more.
        """
        return await asyncio.wrap_future(self._searches.submit(call))

    async def draw(self, call: Callable[[], T]) -> T:
        """The same, for thumbnails."""
        return await asyncio.wrap_future(self._drawings.submit(call))

    async def fetch(self, url: str) -> bytes:
        """The picture at a URL, by a thread that is only for this."""
        limits = self.settings.upload_limits
        return await asyncio.wrap_future(self._fetches.submit(fetch, url, limits))

    async def check(
        self, request: Request, read: Callable[[], Awaitable[bytes]], use: Callable[[bytes], T]
    ) -> T:
        """Look at a picture that a client sends, in a thread, one of each client's at a time.

        So however many one sends, another waits for one of them at most. Until it is its turn, a
        picture stays where it was received, and takes no memory and no thread.
        """
        name = request.client.host if request.client else "unknown"
        turn = self._clients.setdefault(name, asyncio.Lock())
        async with turn, self._places:
            return await asyncio.wrap_future(self._checks.submit(use, await read()))

    def keep(self, what: str, note: Callable[[InteractionLog], T]) -> T | None:
        """Note something in the log of what people see and click, if they asked for one.

        It never stands in the way: if it cannot be written, the page goes on without.
        """
        if self._log is not None:
            try:
                return note(self._log)
            except LogError as error:
                log.warning("%s is not kept: %s", what, error)
        return None

    async def warm_up(self) -> None:
        """Load the model before the first person waits for it."""
        self.model = "loading"
        try:
            await self.work(lambda: self.index.analyze(Image.new("RGB", (64, 64))))
            self.model = "ready"
        except ImgsearchError as error:
            log.warning("searching by new pictures is not possible: %s", error)
            self.model = f"unavailable: {type(error).__name__}"

    def close(self) -> None:
        """End the processes and threads of the server."""
        for threads in (self._searches, self._drawings, self._fetches, self._checks):
            threads.shutdown(wait=False, cancel_futures=True)
        self.checker.close()
        self._drawer.close()
        self.index.close()


def services_of(request: Request) -> Services:
    """The parts of the server that a request came to."""
    found: Services = request.app.state.services
    return found


Parts = Annotated[Services, Depends(services_of)]


def check_may_change(request: Request) -> None:
    """Let nobody change the index without the token."""
    settings = services_of(request).settings
    if settings.token is None:
        message = "this server does not change the index: start it with a token in IMGSEARCH_TOKEN"
        raise ProblemError(403, "ReadOnly", message)
    if not settings.carries_token(request.headers):
        raise unauthorized()
