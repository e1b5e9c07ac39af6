"""One run of the pipeline: the stages, each in threads of its own, and what holds them together.

    find -> look up -> read, hash, decode -> resolve -> analyze -> write

The thread that called feeds the model's; each arrow is a bounded queue. So all stages overlap, and
memory does not grow with the collection.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.errors import ReconciliationError, StoreError
from imgsearch_es.indexing.analyze import BatchAnalyzer, relabeled
from imgsearch_es.indexing.channel import Channel, pump
from imgsearch_es.indexing.engines import Engine, Reader, local_engine
from imgsearch_es.indexing.find import LOOKUP_SIZE, WALK_AHEAD, Finder, Found, look_up
from imgsearch_es.indexing.options import Options
from imgsearch_es.indexing.prune import prune
from imgsearch_es.indexing.read import Failed, Outcome, Ready
from imgsearch_es.indexing.report import IndexReport, Progress
from imgsearch_es.indexing.resolve import GROUP_SECONDS, GROUP_SIZE, Resolver
from imgsearch_es.indexing.stopping import Stop, StoppedError
from imgsearch_es.indexing.write import WRITE_SECONDS, WRITE_SIZE, Finished, Writer, check_store
from imgsearch_es.pictures.images import ImageSource, Picture
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.stores.base import Store


class Indexer:
    """One run of the pipeline.

    Args:
        store: an index; it need not exist.
        analyzer: gives the analyzer; called only when a picture has to be decoded.
        create: creates the index; called before the first picture is analyzed, so that a run that
            finds no picture leaves nothing behind.
        options: how to run.
        progress: told how far the run is.
        engine: where pictures are read, decoded and analyzed.
    """

    def __init__(
        self,
        store: Store,
        analyzer: Callable[[], Analyzer],
        create: Callable[[], None],
        options: Options,
        progress: Progress | None = None,
        engine: Engine = local_engine,
    ) -> None:
        self._engine = engine
        self._store = store
        self._analyzer = analyzer
        self._create = create
        self._options = options
        self._progress = progress or (lambda report, total: None)
        self.report = IndexReport()
        self._groups: Channel[list[Outcome]] = Channel(1)
        self._finished: Channel[Finished] = Channel(2 * WRITE_SIZE)
        self._writer = Writer(store, self.report)

    def run(self, sources: Sequence[ImageSource | PictureList]) -> IndexReport:
        """Bring the index up to date with these pictures.

        What was analyzed before an error or an interruption is stored, but for the last batch or
        two; the next run goes on after it.

        Raises:
            SourceError: a file or folder named does not exist; or pruning would be a mistake.
            StoppedError: the run was asked to stop.
            StoreError: the index cannot be written, or holds less at the end than was written.
        """
        started = time.perf_counter()
        finder = Finder(sources, self._open, self.report.stages)
        is_there = self._store.settings() is not None  # tells at once where no server is
        with self._store.patient() as end_waiting:
            stop = Stop(self._groups.close, end_waiting)
            with stop.listening():
                try:
                    # Another run may have created it just now, and no shard be ready.
                    before = self._store.count() if is_there else 0
                    self._run(finder, stop, is_new=before == 0)
                finally:
                    self.report.seconds = time.perf_counter() - started
                if self._store.settings() is not None:
                    self._store.finish()
                    expected = before + self.report.added - self.report.removed
                    check_store(self._store, expected, self._writer.written, "run the command")
                if stop.requested:
                    raise StoppedError(self.report)
                self._check_found(finder)
                if self._options.prune:
                    self.report.removed += prune(self._store, sources)
        self.report.seconds = time.perf_counter() - started
        self._progress(self.report, finder.total)
        return self.report

    def _run(self, finder: Finder, stop: Stop, *, is_new: bool) -> None:
        options, stages = self._options, self.report.stages
        threads = ThreadPoolExecutor(4, "imgsearch-index")
        readers = self._engine(self._analyzer, options, stages)
        items: Channel[Found] = Channel(WALK_AHEAD)
        outcomes: Channel[Outcome] = Channel(GROUP_SIZE)
        try:
            pump(threads, finder.items(), items)
            pictures = look_up(self._store, items.batches(LOOKUP_SIZE), stages)
            pump(threads, readers.read(pictures), outcomes)
            resolver = Resolver(self._store, options.labels, options.metadata, is_new=is_new)
            groups = outcomes.batches(GROUP_SIZE, GROUP_SECONDS)
            pump(threads, resolver.resolve(groups), self._groups)
            batches = self._finished.batches(WRITE_SIZE, WRITE_SECONDS)
            writing = threads.submit(self._writer.write, batches)
            writing.add_done_callback(lambda done: self._finished.close(done.exception()))
            try:
                self._analyze(readers, finder, stop)
            finally:
                self._finished.end()
                if not stop.at_once:
                    wait([writing])
            writing.result()
            if self._writer.has_unrecorded() and not stop.requested:
                self._ensure_index()  # all are rejected: its ledger says so
                self._writer.write([[]])
        finally:
            items.close()
            outcomes.close()
            self._groups.close()
            readers.close(wait=not stop.at_once)
            threads.shutdown(wait=not stop.at_once)

    def _analyze(self, readers: Reader, finder: Finder, stop: Stop) -> None:
        """The stage of the calling thread: feed the model, and hand all that is done to the writer.

        For how long the model had nothing to do tells the readers whether another worker is worth
        its memory.
        """
        analyzer = BatchAnalyzer(self._analyzer, self._options.batch_size, self.report.stages)
        try:
            asked = time.perf_counter()
            for (group,) in self._groups.batches(1):
                for each in group:
                    if stop.requested:
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
            analyzer.close(wait=not stop.at_once)

    def _advance(self, each: Outcome, analyzer: BatchAnalyzer) -> Iterator[Finished]:
        """What is done once this picture has come: itself, a whole batch, or nothing yet."""
        if isinstance(each, Failed):
            self.report.rejected.append(each.entry)
            self.report.as_before += each.again
            yield each
        elif isinstance(each, Ready):
            self._ensure_index()
            yield from analyzer.add(each)
        elif (made := relabeled(each.found)) is not None:
            yield made
        else:
            self.report.unchanged += 1
            yield each

    def _open(self, source: ImageSource) -> Picture:
        return self._analyzer().open(source, limits=self._options.limits)

    def _ensure_index(self) -> None:
        if self._store.settings() is not None:
            return
        try:
            self._create()
        except StoreError:
            settings = self._store.settings()
            if settings is None:
                raise
            # Another program created it just now; it must have done so for the same analyzer.
            location = self._store.location
            self._analyzer().check_is(settings.analyzer, settings.weights, location)

    def _check_found(self, finder: Finder) -> None:
        """Every picture found must be counted once."""
        if finder.found != self.report.found:
            raise ReconciliationError(
                f"{finder.found} pictures were found, but {self.report.found} accounted for "
                f"({self.report}); please report this, and run the command again"
            )
