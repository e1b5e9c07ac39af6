"""Reindexing: a new index is built beside the old one, and takes its place in one step.

Searches find the old index until then. The new one is brought up to date with the old one until
nothing was written to that in between. Interrupted, it stays, and the next run goes on with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from imgsearch_es.analysis.embedding_filters import EmbeddingFilter, run_embedding_filters
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import MissingPicturesError, SourceError, StoreError
from imgsearch_es.indexing import IndexReport
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.wanted_analyzer import are_alike
from imgsearch_es.pictures.files import in_memory, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import reasons
from imgsearch_es.stores.base import IndexSettings, Known, Store

_LOOKUP_SIZE = 1000
_ANALYZED_TOGETHER = 10_000
"""Pictures given to the pipeline at a time."""
_PASSES = 10
"""Over an index that is written to meanwhile."""

Analyze = Callable[[list[str], Callable[[str], Sequence[str]]], IndexReport]
"""Adds pictures, given by URI and with a function of their labels, to the new index."""
Convert = Callable[[list[Document]], list[Document]]
"""Makes documents of the new index from those of the old one."""
Teach = Callable[[Sequence[TaughtWord]], list[tuple[str, str]]]
"""Teaches the new index words; gives those that it could not be taught, and why."""
ReindexProgress = Callable[[int, int], None]
"""Called now and then with the documents done and the documents of the old index."""


@dataclass(slots=True)
class ReindexReport:
    """What reindexing did.

    Attributes:
        documents: how many the new index has.
        analyzed: pictures that were read and analyzed in this run.
        copied: documents taken over, because the analyzer is the same, or only has more filters
            of deep features.
        missing: (uri, reason) of pictures that could not be read again and were left out.
        lost_words: (word, reason) of taught words that could not be taught again.
        without_colors: documents copied without colors: their pictures could not be read again.
        unread: (uri, reason) of pictures whose EXIF and XMP could not be read again: their
            documents keep what they had.
    """

    documents: int = 0
    analyzed: int = 0
    copied: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)
    lost_words: list[tuple[str, str]] = field(default_factory=list)
    without_colors: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        lost = [{"word": word, "reason": reason} for word, reason in self.lost_words]
        pictures = {name: reasons(getattr(self, name)) for name in ("missing", "unread")}
        return {**asdict(self), **pictures, "lost_words": lost}


class Rebuild:
    """One run; ``old`` is only read, and ``settings`` are those of the new index.

    Without ``analyze`` documents are copied, after ``convert`` where it is given; ``teach`` where
    deep features change, and so the words that were taught by them.
    """

    def __init__(
        self,
        old: Store,
        new: Store,
        settings: IndexSettings,
        analyze: Analyze | None,
        *,
        convert: Convert | None = None,
        teach: Teach | None = None,
        allow_missing: bool = False,
        progress: ReindexProgress | None = None,
    ) -> None:
        self._old, self._new = old, new
        self._settings, self._allow_missing = settings, allow_missing
        self._analyze, self._convert = analyze, convert or (lambda documents: documents)
        self._teach = teach
        self._progress = progress or (lambda done, total: None)
        self._report = ReindexReport()
        self._missing: dict[str, str] = {}

    def run(self, *, keep: bool) -> ReindexReport:
        """Build the new index and put it in the old one's place; see ``ImageIndex.reindex``."""
        left = self._new.stored_settings()  # by a run that was interrupted
        wanted = self._settings
        names = ("visual_words", "photo", "thumbnails", "schema_version", "taught", "vocabulary")
        if left and self._teach:
            left = left.with_taught(())  # as they are taught again
        are_same = left and are_alike(left, wanted)
        are_same = are_same and all(getattr(left, n) == getattr(wanted, n) for n in names)
        if left and not are_same:
            self._new.delete()
        if not are_same:
            self._new.create(wanted)
        taught = self._taught()
        for _ in range(_PASSES):
            mark = self._old.mark()
            if self._taught() != taught:
                raise StoreError(
                    f"{self._old.location} was taught a word, or forgot one, meanwhile: run this "
                    "again"
                )
            self._bring_up_to_date()
            if self._missing and not self._allow_missing:
                raise self._refusal()
            if self._teach:
                self._report.lost_words, self._teach = self._teach(taught), None
            self._report.documents = self._new.count()
            if self._old.replace(self._new, mark, keep=keep):
                self._report.missing = list(self._missing.items())
                return self._report
        raise StoreError(
            f"{self._old.location} is written to all the time: stop what writes to it, and run "
            "this again; what was analyzed is kept"
        )

    def _taught(self) -> tuple[TaughtWord, ...]:
        stored = self._old.stored_settings()
        return stored.taught if stored else ()

    def _bring_up_to_date(self) -> None:
        self._missing = {}
        total, done = self._old.count(), 0
        waiting: list[Document] = []
        for block in chunks(self._old.documents(), _LOOKUP_SIZE):
            known = self._new.known([document.id for document in block])
            waiting += [
                d for d in block if Known(d.sha256, d.labels, d.metadata, d.text) != known.get(d.id)
            ]
            if self._analyze is None or len(waiting) >= _ANALYZED_TOGETHER:
                self._take(waiting)
                waiting = []
            done += len(block)
            self._progress(done - len(waiting), total)
        self._take(waiting)
        self._new.finish()
        gone: list[str] = []  # from the old index since an earlier pass
        for others in chunks(self._new.fingerprints(embeddings=False), _LOOKUP_SIZE):
            there = self._old.known([item.id for item in others])
            gone += [item.id for item in others if item.id not in there]
        if gone:
            self._new.remove(gone)
        self._take_ledger()
        self._new.finish()
        self._progress(total, total)

    def _take(self, documents: list[Document]) -> None:
        if documents and self._analyze is None:
            converted = self._convert(documents)
            report = self._new.write(converted)
            if self._settings.vocabulary.has_colors:
                lacking = sum(bool(d.terms) and not d.colors for d in converted)
                self._report.without_colors += lacking
            self._report.copied += report.stored
            self._missing |= dict(report.rejected)
        elif documents and self._analyze is not None:
            self._read_again(documents, self._analyze)

    def _read_again(self, documents: list[Document], analyze: Analyze) -> None:
        """Analyze pictures anew, and take over what people said of them."""
        by_uri = {document.uri: document for document in documents}
        there = [uri for uri in by_uri if self._is_there(uri)]
        try:
            report = analyze(there, lambda uri: by_uri[uri].labels)
        except SourceError:  # a file vanished since it was looked for
            there = [uri for uri in there if self._is_there(uri)]
            report = analyze(there, lambda uri: by_uri[uri].labels)
        self._report.analyzed += report.added + report.updated
        self._missing |= {item.uri: item.reason for item in report.rejected}
        old = {by_uri[uri].id: by_uri[uri] for uri in there}
        others = [
            key
            for key, new in self._new.known(list(old)).items()
            if (new.metadata, new.text) != (old[key].metadata, old[key].text)
        ]
        changed = [
            _with_what_was_said(document, old[key])
            for key, document in self._new.get(others).items()
        ]
        if changed:
            self._missing |= dict(self._new.write(changed).rejected)

    def _is_there(self, uri: str) -> bool:
        path = to_path(uri)
        if in_memory(uri):
            self._missing[uri] = "came from memory and cannot be read again"
        elif path is not None and not os.path.isfile(path):  # noqa: PTH113 - no error for odd names
            self._missing[uri] = "the file is gone"
        return uri not in self._missing

    def _take_ledger(self) -> None:
        """Take over which pictures were rejected, but those that could be analyzed now.

        On Elasticsearch old and new have one ledger, which keeps all its entries.
        """
        entries = {entry.id: entry for entry in self._old.ledger.read()}
        for entry in self._new.ledger.read(list(entries)):
            del entries[entry.id]
        analyzed = self._new.known(list(entries)) if self._analyze is not None else {}
        self._new.ledger.write([e for key, e in entries.items() if key not in analyzed])

    def _refusal(self) -> MissingPicturesError:
        (uri, reason), count = next(iter(self._missing.items())), len(self._missing)
        others = f" and {count - 1} more" if count > 1 else ""
        return MissingPicturesError(
            f"{self._old.location} is as it was: {uri} cannot be read again ({reason}){others}. "
            "Bring the pictures back, or leave them out by allow_missing=True (--allow-missing); "
            "what was analyzed is kept for the next run",
            list(self._missing.items()),
        )


def _with_what_was_said(document: Document, old: Document) -> Document:
    """The document with the older one's metadata, and with its text if the file is the same."""
    text = old.text if document.sha256 == old.sha256 else None
    return replace(document, metadata=old.metadata, text=text)


def with_filters(filters: tuple[EmbeddingFilter, ...]) -> Convert:
    """Documents whose stored deep features have passed through more filters."""

    def convert(documents: list[Document]) -> list[Document]:
        vectors = [d.embedding for d in documents if d.embedding is not None]
        if not vectors:
            return documents
        changed = iter(run_embedding_filters(filters, np.stack(vectors)))
        return [
            d if d.embedding is None else replace(d, embedding=next(changed)) for d in documents
        ]

    return convert
