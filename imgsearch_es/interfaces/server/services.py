"""What routes work with: one object for each server, and how it makes searches of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, TypeVar
from weakref import WeakValueDictionary

from fastapi import Depends, Request, Response
from PIL import Image

from imgsearch_es.analysis.models import available_models
from imgsearch_es.errors import ImgsearchError, IndexNotFoundError, LogError, ServerError
from imgsearch_es.evaluation.clicks import InteractionLog, open_log
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing import DEFAULT_LIMITS
from imgsearch_es.interfaces.server.answers import ProblemError, log, problem_of
from imgsearch_es.interfaces.server.batching import Searchers, ServedIndex, in_hurry
from imgsearch_es.interfaces.server.connections import Bodies, owner_of
from imgsearch_es.interfaces.server.guard import Metrics, ServerSettings, unauthorized
from imgsearch_es.interfaces.server.pictures import Pictures, ThumbnailCache
from imgsearch_es.interfaces.server.readiness import LOOK_SECONDS, Readiness
from imgsearch_es.interfaces.server.schemas import ExplainRequest, FacetsRequest, What
from imgsearch_es.interfaces.server.uploads import WORKERS, Checker, Upload, Uploads, fetch
from imgsearch_es.pictures.places import cache_folder
from imgsearch_es.retrieval.conditions import WITHIN
from imgsearch_es.retrieval.facets import FACETS, MONTH, PLACE, YEAR, Facets
from imgsearch_es.retrieval.feedback import ROCCHIO, Rocchio
from imgsearch_es.retrieval.language import to_filters
from imgsearch_es.retrieval.queries import Query, asked_of
from imgsearch_es.retrieval.strategies import Fusion
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits
from imgsearch_es.search.query_building import LISTED_BY
from imgsearch_es.search.query_pictures import Opened, Prepared, QueryImage
from imgsearch_es.search.request import OPTIONS

_SHARE = 2 / 3
"""Of the time that an answer may take: who reads waits so long for the index's file."""

T = TypeVar("T")
_DRAWING_THREADS = 4
"""Thumbnails are made by so many threads, so that searching has others."""
_FETCHING_THREADS = 8
"""The same for pictures on the web, whose servers may be slow."""
_OPENING_THREADS = 2
"""The same for searches that open pictures and analyze them, of which each takes the model."""
_DRAWING_SECONDS = 10.0
"""How long decoding a picture for a thumbnail may take."""


class Searching:
    """Answers requests; no other pictures are ever opened than those named by id."""

    def __init__(self, index: ImageIndex, pictures: Pictures) -> None:
        self._index = index
        self._pictures = pictures

    def query(self, what: What, k: int = 10, offset: int = 0) -> Query:
        """The query of a request; pictures that the index does not know are analyzed."""
        given = {name: getattr(what, name) for name in OPTIONS if name in What.model_fields}
        given |= {
            "image": [self._picture(name, what.opens_pictures) for name in what.image],
            "like": [self._picture(name) for name in what.like],
            "dislike": [self._picture(name) for name in what.dislike],
            "rocchio": ROCCHIO if what.rocchio is None else Rocchio(*what.rocchio),
        }
        if what.fuse is not None:
            given["fuse"] = Fusion(what.fuse, what.fusion, what.rank_constant, what.window)
        return self._index.query(k=k, offset=offset, **given)

    def everything(
        self, where: Mapping[str, Any], k: int, offset: int, sort: str = LISTED_BY
    ) -> Query:
        """All pictures that meet conditions, the newest first or as they are sorted."""
        filters = to_filters(where, self._index.vocabulary)
        return Query((), filters=filters, k=k, offset=offset, sort=sort)

    def narrowed(self, query: Query, where: Mapping[str, Any]) -> Query:
        more = to_filters(where, self._index.vocabulary)
        return replace(query, filters=query.filters + more) if more else query

    def run(self, query: Query) -> Hits:
        return self._index.search_many([query])[0]

    def explain(self, request: ExplainRequest) -> tuple[Query, list[Explanation]]:
        """The query, and explanations of its best hits or of one picture."""
        wanted = request.picture
        if wanted is None:
            query = self.query(request, request.k)
        else:
            self._pictures.document(wanted)  # or an error that names it
            query = asked_of(self.query(request, k=1), wanted)
        hits = self.run(query)
        found = [hits.explain(i) for i, hit in enumerate(hits) if wanted in (None, hit.id)]
        return hits.query, found

    def facets(self, request: FacetsRequest) -> Facets:
        fields = request.fields if request.fields is not None else FACETS
        if not (request.text or request.image or request.like or request.vector or request.sort):
            return self._index.facets(None, fields, request.size, where=request.where)
        return self._index.facets(self.query(request), fields, request.size)

    def facets_to_choose(
        self, query: Query | None, where: Mapping[str, Any], fields: Sequence[str], size: int
    ) -> Facets:
        """Counts for choosing: a field with a choice shows its other values as well."""
        chosen_by = {PLACE: WITHIN, MONTH: YEAR}
        free = [field for field in fields if chosen_by.get(field, field) not in where]
        counted = self._index.facets(query, free, size, where=where) if free else {}
        for field in fields:
            if field not in counted:
                own = chosen_by.get(field, field)
                others = {name: value for name, value in where.items() if name != own}
                counted |= self._index.facets(query, [field], size, where=others)
        return {field: counted[field] for field in fields}

    def _picture(self, name: str, opened: bool = False) -> QueryImage:
        found = self._pictures.find(name)
        if not isinstance(found, Upload):
            return Opened(found.uri, self._pictures.opened(found)) if opened else found
        pixels = None if opened else self._pictures.uploads.pixels(found)
        return self._pictures.opened(found) if pixels is None else Prepared(found.id, pixels)


class Services:
    """The parts of a server of an index."""

    def __init__(self, index: ServedIndex, settings: ServerSettings) -> None:
        self.index = index
        self.settings = settings
        self.metrics = Metrics()
        self.model = "not loaded"
        """That, "loading", "downloading", "ready", or why it cannot be used."""
        folder = settings.cache_folder or cache_folder("thumbnails")
        cache = ThumbnailCache(folder, settings.cache_bytes)
        self.checker = Checker(settings.upload_limits, self._analyzer)
        self._drawer = Checker(replace(DEFAULT_LIMITS, max_seconds=_DRAWING_SECONDS))
        self.uploads = Uploads(self.checker)
        roots = settings.roots
        if roots and settings.upload_folder is not None:
            roots = (*roots, settings.upload_folder)
        self.pictures = Pictures(index, self.uploads, cache, self._drawer, roots)
        self.searching = Searching(index, self.pictures)
        self.readiness = Readiness(index, self.pictures)
        self.index.observe = self.metrics.batches.observe
        self.changing = asyncio.Lock()
        self.downloading: set[str] = set()
        self.answers = Bodies()
        self._log = open_log(settings.log)
        self.searchers = Searchers(Services, index, settings)
        hurry = in_hurry, (settings, _SHARE)
        self._searches = ThreadPoolExecutor(settings.threads, "imgsearch-search", *hurry)
        self._drawings = ThreadPoolExecutor(_DRAWING_THREADS, "imgsearch-draw", *hurry)
        self._changes = ThreadPoolExecutor(1, "imgsearch-change")
        self._openings = ThreadPoolExecutor(_OPENING_THREADS, "imgsearch-open", *hurry)
        self._fetches = ThreadPoolExecutor(_FETCHING_THREADS, "imgsearch-fetch")
        self._checks = ThreadPoolExecutor(WORKERS, "imgsearch-check", *hurry)
        self._places = asyncio.Semaphore(WORKERS)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def _analyzer(self) -> Mapping[str, Any]:
        found = self.index.store.settings() if self.index.exists else None  # of today's index
        return found.analyzer if found else {}

    async def work(self, call: Callable[[], T], opening: Request | None = None) -> T:
        """Do something in a thread, while others are served.

        What was given up before it began is never done; what was given up later keeps its thread
        until it ends, so that there are never more. ``opening`` is the request where pictures are
        opened and analyzed: that has few threads, and one of a client's waits for the one before.
        """
        if opening is None:
            return await asyncio.wrap_future(self._searches.submit(call))
        async with self.turn(opening, "open"):
            return await asyncio.wrap_future(self._openings.submit(call))

    def turn(self, request: Request, what: str) -> asyncio.Lock:
        """For work of a kind of which each client has one at a time."""
        return self._turns.setdefault((what, client_of(request)), asyncio.Lock())

    async def answer(
        self, work: Callable[[Services, T], Response], given: T, opening: Request | None = None
    ) -> Response:
        """``work`` for an answer, which another process may give where nothing is opened."""
        if opening is None and (asked := self.searchers.submit(work, given)) is not None:
            with suppress(BrokenProcessPool):
                if (found := await asyncio.wrap_future(asked)) is not None:
                    return found
        return await self.work(lambda: work(self, given), opening)

    async def draw(self, call: Callable[[], T]) -> T:
        return await asyncio.wrap_future(self._drawings.submit(call))

    async def change(self, call: Callable[[], T]) -> T:
        """Change the index: by a thread that may wait long for its file, and nobody meanwhile."""
        await self.changing.acquire()
        going_on = asyncio.wrap_future(self._changes.submit(call))  # whatever becomes of who asked
        going_on.add_done_callback(lambda _: self.changing.release())
        try:
            return await asyncio.shield(going_on)
        except ServerError as error:
            problem = problem_of(error, self.index.location)
            message = f"{problem.message}. The change may be made, or a part of it: make it again"
            raise ProblemError(problem.status, problem.kind, message, problem.headers) from error

    async def fetch(self, url: str) -> bytes:
        """The picture at a URL, by a thread that is only for this."""
        asked = self._fetches.submit(fetch, url, self.settings.upload_limits)
        return await asyncio.wrap_future(asked)

    async def check(
        self, request: Request, read: Callable[[], Awaitable[bytes]], use: Callable[[bytes], T]
    ) -> T:
        """Look at a picture that a client sends, in a thread, one of each client's at a time.

        So however many one sends, another waits for one of them at most. Until it is its turn, a
        picture stays where it was received, and takes no memory and no thread.
        """
        async with self.turn(request, "check"), self._places:
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

    async def get_ready(self, *, warm_up: bool, say: Callable[[str], None]) -> None:
        """Wait for the index, say what keeps its pictures from being shown, load its model."""
        try:
            await self._until_there(say)
            await self.draw(self.readiness.look)
            if self.readiness.outside is not None:
                lost, looked, common = self.readiness.outside
                say(
                    f"{lost:,} of {looked:,} pictures lie outside the folders that are served: to "
                    f"show them, start with --root {common}"
                )
        except ImgsearchError as error:
            log.warning("the pictures cannot be looked at: %s", error)
        if warm_up:
            await self.warm_up()

    async def _until_there(self, say: Callable[[str], None]) -> None:
        """Wait for an index that does not exist yet, or whose server does not answer yet."""
        is_told = False
        while True:
            try:
                await asyncio.to_thread(self.index.count)
                return
            except (IndexNotFoundError, ServerError) as error:
                if not is_told:
                    place, what = self.index.location, str(error)
                    if isinstance(error, IndexNotFoundError):
                        what = f"make it by `imgsearch index FOLDER --index {place}`"
                    say(f"waiting for {place}: {what}")
                is_told = True
                await asyncio.sleep(LOOK_SECONDS)

    def _must_download(self) -> bool:
        model = self._analyzer().get("model", {}).get("name")
        return any(one.name == model and one.available is False for one in available_models())

    async def warm_up(self) -> None:
        """Load the model before the first person waits for it."""
        self.model = "loading"
        try:
            if await self.work(self._must_download):
                self.model = "downloading"
            await self.work(lambda: self.index.analyze(Image.new("RGB", (64, 64))))
            self.model = "ready"
        except ImgsearchError as error:
            log.warning("searching by new pictures is not possible: %s", error)
            self.model = f"unavailable: {type(error).__name__}"

    def close(self) -> None:
        looking = (self._drawings, self._openings, self._checks)
        for threads in (self._searches, self._changes, self._fetches, *looking):
            threads.shutdown(wait=False, cancel_futures=True)
        self.searchers.close()
        self.checker.close()
        self._drawer.close()
        self.index.close()


def client_of(request: Request) -> str:
    """Whose request it is."""
    return owner_of(request.client.host if request.client else "unknown")


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
