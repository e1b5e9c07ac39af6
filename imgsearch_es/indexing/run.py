"""One run of the pipeline: the stages, each in threads of its own, and what holds them together.

    find -> look up -> read, hash, decode -> resolve -> analyze -> write

The thread that called feeds the model's; each arrow is a bounded queue. So all stages overlap, and
memory does not grow with the collection. On a Ray cluster only reading, decoding and analyzing are
done elsewhere, so that both engines make the same documents, the same ledger and the same counts.
"""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import ReconciliationError, StoreError
from imgsearch_es.indexing.find import Finder, Found, Options, look_up
from imgsearch_es.indexing.gone import missing, prune
from imgsearch_es.indexing.read import Channel, Readers, pump
from imgsearch_es.indexing.report import IndexReport, Progress
from imgsearch_es.indexing.resolve import Resolver
from imgsearch_es.indexing.write import WRITE_SIZE, BatchAnalyzer, Writer, check_store
from imgsearch_es.pictures.images import ImageSource, file_bytes
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.stores.base import Store
from imgsearch_es.stores.interrupts import RAISING, Ending, terminate

if TYPE_CHECKING:
    from imgsearch_es.indexing.ray_engine import RayReaders

_LOOKUP_SIZE = 512
"""Pictures per question to the store which of them it knows ..."""
_GROUP_SIZE = 64
"""... and which contents ..."""
_GROUP_SECONDS = 0.5
"""... for which the first of a group waits no longer for the others."""
_WRITE_SECONDS = 5.0
"""Documents of so many seconds at most wait to be written: what being killed can cost."""


class StoppedError(KeyboardInterrupt):
    """A run was asked to stop, and has written all that it had analyzed, as ``report`` says."""

    def __init__(self, report: IndexReport) -> None:
        super().__init__(
            f"stopped after {report.found} pictures ({report}); what was done is stored, "
            "run the command again to go on"
        )
        self.report = report


class _Stop:
    """Ctrl-C and SIGTERM: the first ends a run in good order, the second at once.

    When it shall end, each of ``tell`` is called, in the main thread between any two instructions.
    While there is ``nothing_to_lose`` the first ends it at once, too.
    """

    def __init__(self, tell: list[Callable[[], None]]) -> None:
        self.tell = tell
        self.requested = self.at_once = self.nothing_to_lose = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals that nobody else handles, or `Ending`; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        taken = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if isinstance(handler, Ending):
                self.tell.append(handler.ask)
            elif handler not in (*RAISING, signal.SIG_DFL, terminate):
                continue
            taken[number] = handler
            signal.signal(number, self._handle)
        asked = any(isinstance(each, Ending) and each.asked for each in taken.values())
        try:
            if asked and not self.requested:
                self._handle(signal.SIGTERM, None)
            yield
        finally:
            for number, handler in taken.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested or self.nothing_to_lose:
            self.at_once = True
            raise KeyboardInterrupt
        self.requested = True
        for tell in self.tell:
            tell()


class Indexer:
    """One run of the pipeline.

    ``analyzer`` is called only when a picture has to be decoded, ``create`` if there is no index
    when the first one is to be analyzed.
    """

    def __init__(
        self,
        store: Store,
        analyzer: Callable[[], Analyzer],
        create: Callable[[], None],
        options: Options,
        progress: Progress | None = None,
    ) -> None:
        self._store = store
        self._analyzer = analyzer
        self._create = create
        self._options = options
        self._progress = progress or (lambda report, total: None)
        self.report = IndexReport()
        self._groups: Channel[list[Found]] = Channel(1)
        self._finished: Channel[Found] = Channel(2 * WRITE_SIZE)
        self._writer = Writer(store, self.report)
        self._stop = _Stop([self._groups.close])

    def run(self, sources: Sequence[ImageSource | PictureList]) -> IndexReport:
        """Bring the index up to date with these pictures; see ``ImageIndex.add``.

        What was analyzed before an error or an interruption is stored, but for the last batch or
        two; the next run goes on after it.
        """
        started = time.perf_counter()
        finder = Finder(sources, self._open, self.report, videos=self._options.video)
        is_there = self._store.settings() is not None  # tells at once where no server is
        with self._store.patient() as end_waiting:
            self._stop.tell.append(end_waiting)
            with self._stop.listening():
                try:
                    # Another run may have created it just now, and no shard be ready.
                    before = self._store.count() if is_there else 0
                    absent = missing(self._store, sources) if self._options.prune else ()
                    self._run(finder, is_new=before == 0)
                finally:
                    self.report.seconds = time.perf_counter() - started
                if self._store.settings() is not None:
                    self._store.finish()
                    gone = self.report.removed + self.report.moved
                    expected = before + self.report.added - gone
                    check_store(self._store, expected, self._writer.written, "run the command")
                if self._stop.requested:
                    raise StoppedError(self.report)
                if finder.found != self.report.found:
                    raise ReconciliationError(
                        f"{finder.found} pictures were found, but {self.report.found} accounted "
                        f"for ({self.report}); please report this, and run the command again"
                    )
                if self._options.prune:
                    uris, tell = (e.uri for e in self.report.rejected), self.report.kept.append
                    self.report.removed += prune(self._store, sources, absent, uris, tell)
        self.report.seconds = time.perf_counter() - started
        self._progress(self.report, finder.total)
        return self.report

    def _run(self, finder: Finder, *, is_new: bool) -> None:
        options, stages, stop = self._options, self.report.stages, self._stop
        threads = ThreadPoolExecutor(4, "imgsearch-index")
        readers = self._readers()
        items: Channel[Found] = Channel(finder.ahead)
        outcomes: Channel[Found] = Channel(_GROUP_SIZE)
        try:
            pump(threads, finder.items(), items)
            found = items.batches(min(_LOOKUP_SIZE, finder.ahead))
            pictures = look_up(self._store, found, stages)
            pump(threads, readers.read(pictures), outcomes)
            resolver = Resolver(self._store, options.labels, options.metadata, is_new=is_new)
            groups = outcomes.batches(_GROUP_SIZE, _GROUP_SECONDS)
            pump(threads, resolver.resolve(groups), self._groups)
            batches = self._finished.batches(WRITE_SIZE, _WRITE_SECONDS)
            writing = threads.submit(self._writer.write, batches)
            writing.add_done_callback(lambda done: self._finished.close(done.exception()))
            try:
                self._analyze(readers, finder)
            finally:
                self._finished.end()
                if not stop.at_once:
                    wait([writing])
            writing.result()
            if self._writer.has_unrecorded() and not stop.requested:
                self._ensure_index()  # all are rejected: its ledger says so
                self._writer.write([[]])
            resolver.settle()
        finally:
            items.close()
            outcomes.close()
            self._groups.close()
            readers.close(wait=not stop.at_once)
            threads.shutdown(wait=not stop.at_once)

    def _readers(self) -> Readers | RayReaders:
        arguments = self._analyzer, self._options, self.report.stages
        if self._options.engine == "local":
            return Readers(*arguments)
        from imgsearch_es.indexing.ray_engine import RayReaders

        return RayReaders(*arguments)

    def _analyze(self, readers: Readers | RayReaders, finder: Finder) -> None:
        """The stage of the calling thread: feed the model, and hand all that is done to the writer.

        For how long the model had nothing to do tells the readers whether another worker is worth
        its memory.
        """
        analyzer = BatchAnalyzer(self._analyzer, self._options.batch_size, self.report.stages)
        try:
            asked = time.perf_counter()
            for (group,) in self._groups.batches(1):
                for each in group:
                    if self._stop.requested:
                        break
                    for finished in self._advance(each, analyzer):
                        self._finished.put(finished)
                    self._progress(self.report, finder.total)
                done = time.perf_counter()
                readers.waited(analyzer.idle() / (done - asked))
                asked = done
            for finished in analyzer.flush():
                self._finished.put(finished)
        finally:
            analyzer.close(wait=not self._stop.at_once)

    def _advance(self, found: Found, analyzer: BatchAnalyzer) -> Iterator[Found]:
        """What is done once this picture has come: itself, a whole batch, or nothing yet."""
        if found.decoded is not None:
            self._ensure_index()
            yield from analyzer.add(found, found.decoded)
            return
        if found.rejected is not None:
            self.report.rejected.append(found.rejected)
            self.report.as_before += found.as_before
        elif found.stored is not None:  # it has new labels or metadata
            labels = found.labels or ()
            found.document = replace(found.stored, labels=labels, metadata=found.metadata)
        else:
            self.report.unchanged += 1
        yield found

    def _open(self, source: ImageSource) -> Found:
        limits = self._options.limits
        if isinstance(source, Image.Image | np.ndarray):
            picture = self._analyzer().open(source, limits=limits)
            return Found(picture.uri, picture)
        data = file_bytes(source, limits)
        return Found(f"sha256:{hashlib.sha256(data).hexdigest()}", data=data)

    def _ensure_index(self) -> None:
        if self._store.settings() is not None:
            return
        self._stop.nothing_to_lose = True  # weights may have to be downloaded first
        self._analyzer().fingerprint()
        self._stop.nothing_to_lose = False
        try:
            self._create()
        except StoreError:
            settings = self._store.settings()
            if settings is None:
                raise
            # Another program created it just now; it must have done so for the same analyzer.
            location = self._store.location
            self._analyzer().check_is(settings.analyzer, settings.weights, location)
