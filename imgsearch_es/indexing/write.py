"""The last stages: batches of pictures become documents, which go to the store in bulk."""

from __future__ import annotations

import stat
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from imgsearch_es.analysis.analyzer import Analysis, Analyzer
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.analysis.filters import count_of
from imgsearch_es.errors import DamagedIndexError, ReconciliationError, ServerError
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.photos import with_thumbnails
from imgsearch_es.indexing.report import IndexReport, Stages
from imgsearch_es.pictures.archives import split_uri
from imgsearch_es.pictures.files import picture_id, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected, naming
from imgsearch_es.stores.base import IndexSettings, Known, Store

BATCH_SIZE = 32
"""Pictures per forward pass, unless told; views, where a picture has several."""
_AT_ONCE = 2
"""Batches that the model works on while the next one fills, so that no core waits for a batch to
end."""
_COPIES = 8
"""A batch waits for no more than so many times its size, however few contents these pictures have:
a folder may hold one picture a hundred thousand times."""
_RECENT = 2048
"""Analyses kept for copies that come soon after; older ones are asked of the store."""
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)
WRITE_SIZE = 512
"""Documents per write."""
_ID_BYTES = 16


class _Batch(NamedTuple):
    """Pictures, of which the model sees each content once."""

    contents: dict[str, Decoded]
    waiting: list[tuple[Found, Decoded]]


class BatchAnalyzer:
    """Collects pictures until a batch is full; the model works on it while the next one fills.

    The analyzer is asked for when the first picture needs it, and adds its time to ``stages``.
    """

    def __init__(
        self, analyzer: Callable[[], Analyzer], batch_size: int | None, stages: Stages
    ) -> None:
        self._analyzer = analyzer
        self._size = batch_size or BATCH_SIZE
        self._stages = stages
        self._model: ThreadPoolExecutor | None = None
        self._given: deque[tuple[Future[list[Analysis]], _Batch]] = deque()
        self._next = _Batch({}, [])
        self._recent: OrderedDict[str, Analysis] = OrderedDict()
        self._lock = threading.Lock()
        self._busy = 0
        self._ended = self._idle = 0.0

    def add(self, found: Found, decoded: Decoded) -> Iterator[Found]:
        """Take a picture; give those that have their document with it, often none."""
        sha256, stored = decoded.sha256, found.stored
        known = self._recent.get(sha256)
        if stored is not None:
            known = Analysis(stored.terms, stored.embedding, stored.colors)
        if known is not None:
            yield self._complete(found, decoded, known, reused=True)
            return
        if found.analysis is not None:  # elsewhere
            yield self._complete(found, decoded, found.analysis, reused=False)
            return
        batch = next((each for _, each in self._given if sha256 in each.contents), self._next)
        batch.waiting.append((found, decoded))
        batch.contents.setdefault(sha256, decoded)
        is_long = len(batch.waiting) >= _COPIES * self._size
        if batch is not self._next:
            if is_long:
                yield from self._take(0)
        elif is_long or len(batch.contents) >= max(1, self._size // count_of(decoded.pixels)):
            self._give()
            yield from self._take(_AT_ONCE)

    def flush(self) -> Iterator[Found]:
        """Analyze what waits, although the batch is not full."""
        self._give()
        yield from self._take(0)

    def idle(self) -> float:
        """For how many seconds the model had nothing to do since this was last asked."""
        with self._lock:
            idle, self._idle = self._idle, 0.0
        return idle

    def close(self, *, wait: bool = True) -> None:
        """End the model's threads, perhaps without waiting for the batches that it works on."""
        if self._model is not None:
            self._model.shutdown(wait=wait, cancel_futures=True)

    def _give(self) -> None:
        if not self._next.waiting:
            return
        if self._model is None:  # one thread for a model that need not be safe in many
            is_safe = getattr(self._analyzer().model, "is_safe_in_threads", False)
            self._model = ThreadPoolExecutor(_AT_ONCE if is_safe else 1, "imgsearch-model")
        analyses = self._model.submit(self._analyze, list(self._next.contents.values()))
        self._given.append((analyses, self._next))
        self._next = _Batch({}, [])

    def _take(self, left: int) -> Iterator[Found]:
        """Take batches from the model, until so many are left with it."""
        while len(self._given) > left:
            future, batch = self._given[0]
            analyses = dict(zip(batch.contents, future.result(), strict=True))
            self._given.popleft()
            self._recent.update(analyses)
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            for found, decoded in batch.waiting:
                sha256 = decoded.sha256
                reused = decoded is not batch.contents[sha256]
                yield self._complete(found, decoded, analyses[sha256], reused=reused)

    def _analyze(self, batch: Sequence[Decoded]) -> list[Analysis]:
        """In a thread of the model: the analyses; adds the seconds that they took alone."""
        analyzer = self._analyzer()
        with self._lock:
            started = time.perf_counter()
            if self._ended and not self._busy:
                self._idle += started - self._ended
            self._busy += 1
        try:
            analyses = analyzer.analyze_prepared([decoded.pixels for decoded in batch])
        finally:
            with self._lock:
                self._busy -= 1
                now = time.perf_counter()
                seconds = now - max(started, self._ended)
                self._ended = now
        self._stages.add("analyze", seconds, len(batch))
        return analyses

    def _complete(
        self, found: Found, decoded: Decoded, analysis: Analysis, *, reused: bool
    ) -> Found:
        found.document = Document.from_picture(
            decoded,
            analysis,
            labels=found.labels or (),
            metadata=found.metadata,
            photo=self._analyzer().photo,
        )
        found.decoded, found.analysis = replace(decoded, pixels=_NO_PIXELS), analysis
        found.reused = reused
        return found


class Writer:
    """Writes documents and keeps the ledger; ``written`` are all ids, one after the other."""

    def __init__(self, store: Store, report: IndexReport) -> None:
        self._store = store
        self._report = report
        self._unrecorded: list[Rejected] = []
        self._archives = set[str]()
        self.written = bytearray()

    def write(self, batches: Iterable[Sequence[Found]]) -> None:
        """Write batch after batch, until their end; an unchanged picture leaves the ledger."""
        for batch in batches:
            with self._report.stages.measure("write"):
                self._write(batch)

    def has_unrecorded(self) -> bool:
        """Whether pictures were rejected that only an index that does not exist could note."""
        return any(entry.can_be_named for entry in self._unrecorded)

    def _write(self, batch: Sequence[Found]) -> None:
        now = self._leaving(batch)
        documents = [found.document for found in batch if found.document]
        settings = self._store.settings() if documents else None
        if settings is not None and settings.thumbnails:
            documents = with_thumbnails(documents, settings.thumbnails)
        refused = dict(self._put(documents, {found.id: found for found in batch}))
        moved, stale = dict[str, str](), list[str]()
        for found in batch:
            given = found.before.given if found.before else ""
            if (entry := found.rejected) is not None:
                # A document of a file that holds no picture any more; one that could not be read
                # just now may be what it was.
                if found.known and (entry.sha256 or is_no_file(entry.uri)):
                    stale.append(found.id)
                elif found.as_before:
                    continue
                if known := now.get(found.id, found.known):
                    given = naming(known.labels, known.metadata)
                self._unrecorded.append(replace(entry, given=given))
            elif found.document and (why := refused.get(found.document.uri)) is not None:
                entry = Rejected(found.document.uri, why, given=given)
                self._report.rejected.append(entry)
                self._unrecorded.append(entry)
            elif found.document:
                self.written += bytes.fromhex(found.document.id)
                self._report.reused += found.reused
                moved |= {found.moved: found.uri} if found.moved else {}
                if found.known:
                    self._report.updated += 1
                else:
                    self._report.added += 1
        if moved:
            move_examples(self._store, moved, self._report.kept.append)
            self._report.moved += self._store.remove(list(moved))
        if self._store.settings():
            self._record(batch)
        if stale:  # when the ledger has what a person gave them
            self._report.removed += self._store.remove(stale)

    def _leaving(self, batch: Sequence[Found]) -> dict[str, Known]:
        """What people say just now of documents that leave: what comes after them keeps it."""
        leave = [each for each in batch if each.moved or (each.known and each.rejected)]
        now = self._store.known([each.moved or each.id for each in leave]) if leave else {}
        for found in batch:
            if found.document and found.moved in now:
                found.document = found.instead(now[found.moved], found.document)
        return now

    def _put(
        self, documents: Sequence[Document], batch: Mapping[str, Found]
    ) -> Iterator[tuple[str, str]]:
        """Write documents, over what is there now if anything is; gives those refused."""
        made, there = {document.id: document for document in documents}, set[str]()
        old = self._store.known(list(made)) if made else {}
        for found in (batch[key] for key in old if not batch[key].known):
            # Another program has added it meanwhile, and people may have said something of it.
            found.known, found.joins = old[found.id], found.keeps

        def changed(now: Document) -> Document:
            there.add(now.id)
            return batch[now.id].instead(now, made[now.id])

        if old:
            try:
                yield from self._store.change(list(old), changed).rejected
            except DamagedIndexError:
                there.clear()  # and written over
        if new := [document for document in documents if document.id not in there]:
            yield from self._store.write(new).rejected

    def _record(self, batch: Sequence[Found]) -> None:
        entries = [entry for entry in self._unrecorded if entry.can_be_named]
        self._unrecorded = []
        if entries:
            self._store.ledger.write(entries)
        failing = {entry.id for entry in entries}
        stricken = [found.id for found in batch if found.before and not found.rejected]
        stricken += self._readable(batch)
        if stricken := [key for key in stricken if key not in failing]:
            self._store.ledger.remove(stricken)

    def _readable(self, batch: Sequence[Found]) -> list[str]:
        """The ids of tar files in the ledger that were read now, with nothing to say of them."""
        inside = {parts[1] for found in batch if (parts := split_uri(found.uri))}
        new = inside - self._archives
        self._archives |= new
        ids = set(map(picture_id, new)) - {entry.id for entry in self._report.rejected}
        return [entry.id for entry in self._store.ledger.read(list(ids))] if ids else []


def examples_of(store: Store) -> dict[str, str]:
    """The URIs of the examples of all taught words, by the ids of their documents."""
    settings = store.settings()
    taught = settings.taught if settings else ()
    return {picture_id(uri): uri for word in taught for uri in (*word.like, *word.unlike)}


def move_examples(store: Store, places: Mapping[str, str], tell: Callable[[str], None]) -> None:
    """Another model learns taught words again from their examples: say where these are now.

    ``places`` are URIs by ids; ``tell`` takes a sentence where a role may write documents alone.
    """

    def place(uri: str) -> str:
        return places.get(picture_id(uri), uri)

    def moved(settings: IndexSettings) -> IndexSettings:
        return settings.with_taught(
            replace(word, like=tuple(map(place, word.like)), unlike=tuple(map(place, word.unlike)))
            for word in settings.taught
        )

    if not places or examples_of(store).keys().isdisjoint(places):
        return
    try:
        store.change_taught(moved)
    except ServerError as error:
        tell(f"examples of taught words stay noted where they were: {error}")


def check_store(store: Store, expected: int, written: bytearray, again: str) -> None:
    """The index must have as many documents as expected, or, where others write, those written."""
    if store.count() == expected:
        return
    size, lost = _ID_BYTES * WRITE_SIZE, 0
    for start in range(0, len(written), size):
        part = written[start : start + size]
        ids = {part[i : i + _ID_BYTES].hex() for i in range(0, len(part), _ID_BYTES)}
        lost += len(ids) - len(store.known(list(ids)))
    if lost:
        raise ReconciliationError(
            f"{lost} of the {len(written) // _ID_BYTES} documents written to {store.location} are "
            f"not there: another program removed them, or the index lost them; {again} again"
        )


def is_no_file(uri: str) -> bool:
    """Whether a folder, a FIFO or the like is where a picture's URI says that its file is."""
    path = to_path(uri)
    try:
        return path is not None and not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
