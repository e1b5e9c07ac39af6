"""An index as a whole: opened with its analyzer, rebuilt and verified."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.configuration import is_same_analyzer, relative_to
from imgsearch_es.analysis.terms import TaughtWord, to_word_count
from imgsearch_es.errors import ConfigurationError, IndexRebuiltError
from imgsearch_es.indexing import Indexer, IndexReport, Options
from imgsearch_es.indexing.photos import check_thumbnails, read_again
from imgsearch_es.indexing.reindexing import Rebuild, ReindexProgress, ReindexReport, with_filters
from imgsearch_es.indexing.verifying import Verifier, VerifyProgress, VerifyReport
from imgsearch_es.indexing.wanted_analyzer import (
    Seen,
    WantedAnalyzer,
    check_fits,
    settings_of,
    signed,
    with_more_filters,
)
from imgsearch_es.retrieval.documents import SCHEMA_VERSION
from imgsearch_es.stores import open_store
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack  # in typing since Python 3.11

T = TypeVar("T")
Kept = TypeVar("Kept", bound="KeptIndex")
PathLike = str | os.PathLike[str]
_ATTEMPTS = 5
"""To search an index that is being rebuilt just then."""


class KeptIndex:
    """What is done to an ``ImageIndex`` as a whole, whatever its pictures are searched for."""

    def __init__(
        self, location: str, wanted: WantedAnalyzer, store_options: Mapping[str, Any]
    ) -> None:
        if not location:
            raise ConfigurationError(
                "which index? Give the path of a file, a URL such as http://localhost:9200/pets, "
                "or set IMGSEARCH_INDEX"
            )
        self._wanted = wanted
        self.store: Store = open_store(location, **store_options)
        is_url = self.location.startswith(("http://", "https://"))  # without credentials
        self.opened_as = location if is_url else self.location, store_options
        self._analyzer: Analyzer | None = None
        self._checked_with: IndexSettings | None = None
        self._writing = 0
        self._lock = threading.RLock()

    @property
    def location(self) -> str:
        """The path or URL, without credentials."""
        return self.store.location

    @property
    def exists(self) -> bool:
        """Whether the index was created."""
        self._renew()
        return self.store.settings() is not None

    @property
    def vocabulary(self) -> Vocabulary:
        """The synsets that pictures of this index may have."""
        return self._settings().vocabulary

    @property
    def analyzer(self) -> Analyzer:
        """The analyzer of this index; the model itself is loaded when first used.

        Raises:
            AnalyzerMismatchError: the index was built with another analyzer or other weights.
        """
        with self._lock:
            settings = self.store.settings()
            if self._analyzer is None or not self._is_of_index(self._analyzer, settings):
                analyzer = self._wanted.build(settings)
                if settings is not None:
                    check_fits(analyzer, settings, self.location)
                self._analyzer, self._checked_with = analyzer, settings
            taught = settings.taught if settings is not None else ()
            if self._analyzer.taught is not taught:
                self._analyzer = self._analyzer.with_taught(taught)
            return self._analyzer

    def create(self) -> None:
        """Create the index, empty; ``add`` does it when needed. StoreError where it exists.

        >>> new = ImageIndex("new.duckdb", model="efficientnet-lite0")
        >>> new.create()
        >>> len(new)
        0
        """
        check_thumbnails(self.store, self.analyzer.thumbnails, self.location)
        self.store.create(settings_of(self.analyzer))

    def verify(
        self,
        *,
        files: bool = False,
        sample: int = 0,
        repair: bool = False,
        progress: VerifyProgress | None = None,
    ) -> VerifyReport:
        """Whether the index is whole: all that it keeps is compared with all else that it keeps.

        >>> index.verify().is_whole
        True

        Args:
            files: also read every picture's file and compare its hash.
            sample: also analyze so many pictures again.
            repair: put right what something whole says how; then look again, and report the rest.
            progress: called with the documents looked at and all documents.
        """
        self._renew()
        verifier = Verifier(
            self.store, lambda: self.analyzer, files=files, sample=sample, progress=progress
        )
        return verifier.run(repair=repair)

    @signed(Seen)
    def reindex(
        self,
        *,
        model: str | None = None,
        analyzer: Analyzer | Mapping[str, Any] | str | Path | None = None,
        weights: PathLike | None = None,
        allow_missing: bool = False,
        keep_old: bool = False,
        progress: ReindexProgress | None = None,
        **seen: Unpack[Seen],
    ) -> ReindexReport:
        """Build the index anew and put the new one in its place in one step.

        The pictures are read again; labels, metadata and the list of rejected pictures stay.
        Documents are copied, and only pictures without colors are read, where the analyzer stays
        (with other ``shards``, ``vectors`` and the like) or gets more embedding filters, other
        ``query_terms`` or visual words. Taught words are learnt again where deep features change.

        >>> index.reindex(query_terms=5).copied
        76

        Args:
            model: as for a new index, like the next three.
            analyzer: instead of a model.
            weights: of the model.
            seen: ``terms``, ``views``, ``visual_words``, ``exif``, ``thumbnails`` and the like.
            allow_missing: leave out what cannot be read any more, whose labels and metadata come
                back with it; else the index stays as it was.
            keep_old: keep the replaced index, as ``<name>.old`` or under its number.
            progress: called with the documents done and all documents.

        Raises:
            MissingPicturesError: pictures cannot be read any more.
            StoppedError: a KeyboardInterrupt, as of ``add``; the next run goes on.
        """
        runtime = None if isinstance(analyzer, Analyzer) else self._wanted.runtime
        return self._rebuild(
            WantedAnalyzer(model, analyzer, weights, runtime, **seen),
            allow_missing=allow_missing,
            keep_old=keep_old,
            progress=progress,
        )

    def close(self) -> None:
        """Let go of files and connections; the index opens again when needed.

        >>> index.close()
        >>> index.count()  # opens it again
        76
        """
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ImageIndex({self.location!r})"

    def __reduce__(self) -> tuple[Callable[[], KeptIndex], tuple[()]]:
        """An index that is unpickled opens anew, as this one was opened."""
        options: dict[str, Any] = asdict(replace(self._wanted, analyzer=None))
        folder = options.pop("folder")
        analyzer = self._wanted.analyzer
        options["analyzer"] = analyzer.config if isinstance(analyzer, Analyzer) else analyzer
        place, more = self.opened_as
        return partial(_opened_in, folder, type(self), place, {**options, **more}), ()

    def _settings(self) -> IndexSettings:
        self._renew()
        settings = known_settings(self.store)
        self._wanted.check_kept(settings, self.location)
        if self._wanted.is_asked_for and self._checked_with is not settings:
            _ = self.analyzer  # raises when it is another than the index's
        return settings

    def _check_analyzer(self) -> None:
        """Raise when another analyzer was asked for than the index has, if it exists."""
        if self.exists:
            self._settings()

    def _renew(self) -> None:
        """Notice that the index was rebuilt, except while documents are written to it."""
        if not self._writing:
            self.store.renew()

    @contextmanager
    def _for_one_index(self) -> Iterator[None]:
        """While documents are analyzed and written: should the index be rebuilt, it is an error."""
        with self._lock:
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                self._writing -= 1

    def _of_one_index(self, ask: Callable[[], T]) -> T:
        """The answer to a query that was built for the index that answered it."""
        for _ in range(_ATTEMPTS):
            self._renew()
            before = self.store.settings()
            try:
                answer = ask()
            except IndexRebuiltError:
                continue
            if self.store.settings() is before:
                return answer
        raise IndexRebuiltError(f"{self.location} is rebuilt again and again; try later")

    def _is_of_index(self, analyzer: Analyzer, settings: IndexSettings | None) -> bool:
        if settings is None or settings is self._checked_with:
            return True
        mine = analyzer.config, analyzer.fingerprint()
        if is_same_analyzer(*mine, settings.analyzer, settings.weights):
            self._checked_with = settings
        return self._checked_with is settings

    def _rebuild(
        self,
        wanted: WantedAnalyzer,
        *,
        allow_missing: bool,
        keep_old: bool,
        progress: ReindexProgress | None,
    ) -> ReindexReport:
        """Build the index anew, with the analyzer that is wanted; copy documents where it can."""
        self._renew()
        stored = self.store.stored_settings() or known_settings(self.store)
        reads_photos, asked_side = wanted.photo is not None, wanted.thumbnails
        asked = reads_photos or asked_side is not None or wanted.visual_words is not None
        wanted = wanted.kept_as(stored)
        analyzer = wanted.build_other(stored)
        settings = replace(stored, schema_version=SCHEMA_VERSION).with_colors()
        new, analyze, convert, unread = self.store.beside(), None, None, dict[str, str]()
        if wanted.visual_words is not None:
            settings = settings.with_visual_words(to_word_count(wanted.visual_words))
        side = stored.thumbnails if new.keeps_thumbnails else 0
        if asked_side is not None:
            check_thumbnails(new, asked_side, self.location)
            side = asked_side
        photo = analyzer.photo if analyzer else wanted.photo or stored.photo
        added = analyzer.filters_added_to(stored.analyzer, stored.weights) if analyzer else ()
        teach = partial(self._teach_again, new, analyzer) if analyzer and added != () else None
        if analyzer is not None and added is not None:
            settings, convert = with_more_filters(settings, analyzer, added), with_filters(added)
        elif analyzer is not None:
            settings = settings_of(analyzer).with_thumbnails(side)

            def analyze(uris: list[str], labels: Callable[[str], Sequence[str]]) -> IndexReport:
                made = partial(new.create, settings), Options(labels=labels, retry=True)
                return Indexer(new, lambda: analyzer, *made).run(uris)

        if analyze is None:
            sees = cache(lambda: analyzer or wanted.build(stored)) if stored.has_model else None
            kept = photo if reads_photos else None
            convert = partial(
                read_again,
                photo=kept,
                side=asked_side,
                analyzer=sees,
                convert=convert,
                unread=unread,
            )
        with self._for_one_index(), self.store.patient():
            report = Rebuild(
                self.store, new, settings.with_photo(photo).with_thumbnails(side), analyze,
                convert=convert, teach=teach, allow_missing=allow_missing, progress=progress,
            ).run(stored.taught, keep=keep_old)  # fmt: skip
        report.unread = list(unread.items())
        if analyzer is not None or asked:  # else of the old index
            self._wanted = WantedAnalyzer(runtime=self._wanted.runtime)
            self._analyzer, self._checked_with = analyzer, None
        return report

    def _teach_again(
        self, store: Store, analyzer: Analyzer, words: Sequence[TaughtWord]
    ) -> list[tuple[str, str]]:
        """Teach words by other deep features; gives those lost, and why."""
        raise NotImplementedError


def _opened_in(folder: Path, kind: Callable[..., Kept], place: str, options: Any) -> Kept:
    with relative_to(folder):
        return kind(place, **options)
