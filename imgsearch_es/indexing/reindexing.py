"""Reindexing: a new index is built beside the old one, and takes its place in one step.

Searches find the old index until then. The new one is brought up to date with the old one until
nothing was written to that in between. Interrupted, it stays, and the next run goes on with what
was analyzed.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from imgsearch_es.analysis.embedding_filters import EmbeddingFilter, run_embedding_filters
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import (
    IndexNotFoundError,
    IndexRebuiltError,
    MissingPicturesError,
    SourceError,
    StoreError,
)
from imgsearch_es.indexing import IndexReport
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.wanted_analyzer import are_alike
from imgsearch_es.pictures.files import in_memory, picture_id, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected, naming, reasons
from imgsearch_es.stores.base import IndexSettings, Known, Store, known_settings

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


class _Copied:
    """Which documents were copied, and as they were: 16 bytes for each."""

    def __init__(self) -> None:
        self._ids, self._sums = array("Q"), array("Q")

    def add(self, documents: Iterable[Document]) -> None:
        """These were copied."""
        for document in documents:
            self._ids.append(int(document.id[:16], 16))
            self._sums.append(int(document.checksum[:16], 16))

    def forget(self, ids: Sequence[str]) -> None:
        """These were removed again."""
        self._ids.extend(int(key[:16], 16) for key in ids)
        self._sums.extend([0] * len(ids))

    def settle(self) -> None:
        """From now on ``others`` knows what came until now; of one document the last."""
        order = np.argsort(np.array(self._ids, np.uint64), kind="stable")
        ids, sums = (np.array(each, np.uint64)[order] for each in (self._ids, self._sums))
        is_last = np.ones(len(ids), bool)
        is_last[:-1] = ids[1:] != ids[:-1]
        self._known = ids[is_last], sums[is_last]

    def others(self, documents: Sequence[Document]) -> list[Document]:
        """Those that were not copied as they are."""
        ids, sums = self._known
        if not len(ids):
            return list(documents)
        asked = np.array([int(document.id[:16], 16) for document in documents], np.uint64)
        wanted = np.array([int(document.checksum[:16], 16) for document in documents], np.uint64)
        places = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
        are_known = (ids[places] == asked) & (sums[places] == wanted)
        return [each for each, is_known in zip(documents, are_known, strict=True) if not is_known]


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
        self._copied = _Copied()

    def run(self, taught: tuple[TaughtWord, ...], *, keep: bool) -> ReindexReport:
        """Build the new index and put it in the old one's place; see ``ImageIndex.reindex``.

        ``taught`` are the words of the old index when the settings of the new one were made.
        """
        try:
            return self._run(taught, keep=keep)
        except IndexNotFoundError as error:
            self._old.count()  # raises where it is gone
            raise IndexRebuiltError(
                f"{self._old.location} was rebuilt by another program meanwhile; run this again if "
                "it is still wanted"
            ) from error

    def _run(self, taught: tuple[TaughtWord, ...], *, keep: bool) -> ReindexReport:
        left = self._new.stored_settings()
        if left and not self._can_go_on(left, taught):
            self._new.delete()
            left = None
        if not left:
            self._new.create(self._settings)
            known_settings(self._new)  # from now on one that another program makes is another one
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

    def _can_go_on(self, left: IndexSettings, taught: tuple[TaughtWord, ...]) -> bool:
        """Whether a run that was interrupted left analyses to go on with.

        Copies are made anew: nothing tells of what they were made.
        """
        if self._analyze is None:
            return False
        if self._teach:  # all words are taught again
            if not {word.name for word in left.taught} <= {word.name for word in taught}:
                return False
            left = left.with_taught(())
        names = ("visual_words", "photo", "thumbnails", "schema_version", "taught", "vocabulary")
        wanted = self._settings
        same = (getattr(left, name) == getattr(wanted, name) for name in names)
        return are_alike(left, wanted) and all(same)

    def _taught(self) -> tuple[TaughtWord, ...]:
        stored = self._old.stored_settings()
        return stored.taught if stored else ()

    def _bring_up_to_date(self) -> None:
        self._missing = {}
        self._copied.settle()
        total, done = self._old.count(), 0
        waiting: list[Document] = []
        for block in chunks(self._old.documents(), _LOOKUP_SIZE):
            waiting += self._changed(block)
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
            self._copied.forget(gone)
        self._take_ledger()
        self._new.finish()
        self._progress(total, total)

    def _changed(self, block: Sequence[Document]) -> list[Document]:
        """Documents of the old index that the new one does not have, or has as they were."""
        if self._analyze is None:
            return self._copied.others(block)
        known = self._new.known([document.id for document in block])
        return [
            d for d in block if Known(d.sha256, d.labels, d.metadata, d.text) != known.get(d.id)
        ]

    def _take(self, documents: list[Document]) -> None:
        if documents and self._analyze is None:
            converted = self._convert(documents)
            report = self._new.write(converted)
            if self._settings.vocabulary.has_colors:
                lacking = sum(bool(d.terms) and not d.colors for d in converted)
                self._report.without_colors += lacking
            self._report.copied += report.stored
            rejected = dict(report.rejected)
            self._copied.add(document for document in documents if document.uri not in rejected)
            self._missing |= rejected
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
        analyzed = self._new.known(list(entries)) if self._analyze is not None else {}
        self._new.ledger.write([e for key, e in entries.items() if key not in analyzed])
        there = self._new.ledger.read()
        outdated = (e.id for e in there if e.id not in entries and e.uri not in self._missing)
        self._new.ledger.remove(list(outdated))
        for part in chunks(self._missing.items() if self._allow_missing else (), _LOOKUP_SIZE):
            self._keep_what_was_said({picture_id(uri): Rejected(uri, why) for uri, why in part})

    def _keep_what_was_said(self, missing: dict[str, Rejected]) -> None:
        """Of pictures that are left out the ledger has it, until they can be read again."""
        missing |= {entry.id: entry for entry in self._new.ledger.read(list(missing))}
        given = {
            key: naming(known.labels, known.metadata)
            for key, known in self._old.known(list(missing)).items()
        }
        said = [replace(missing[key], given=what) for key, what in given.items() if what]
        self._new.ledger.write([entry for entry in said if entry.can_be_named])

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
