"""Is an index whole? A store compares the forms of each document (``Store.inspect``).

Here documents are held against what a document may be, their files and their analyzer, and the
index against its sums.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np

from imgsearch_es.analysis.analyzer import Analyzer, Term
from imgsearch_es.analysis.terms import FLOOR, LEAST
from imgsearch_es.errors import (
    AnalyzerMismatchError,
    ImageError,
    ImgsearchError,
    IndexLockedError,
    IndexNotFoundError,
    IndexRebuiltError,
    NoRoomError,
    ServerError,
    StoreError,
)
from imgsearch_es.indexing.exchange.rows import RowError, to_document, to_row
from imgsearch_es.pictures.addresses import without_credentials
from imgsearch_es.pictures.files import content_hash, in_memory, picture_id
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.stores.base import IndexSettings, Store, known_settings
from imgsearch_es.stores.inspecting import Harm, Inspected, waits
from imgsearch_es.stores.settings import fitted

_MOST = 10_000
"""Harms that a report lists; all are counted."""
_TOGETHER = 500
"""Documents that are repaired in one write."""
_SAME_SCORE = 0.001
"""Runtimes agree to within 0.0001, and decoders of JPEG to within a little more."""
_SAME_TAUGHT = 1e-5
"""By how much a taught word's score may differ where another machine adds up."""
_SAME_DIRECTION = 0.999
"""The least cosine of a deep feature that was made again with the stored one."""

_NO_HARMS = (IndexLockedError, IndexNotFoundError, IndexRebuiltError, NoRoomError, ServerError)
_TAUGHT = "taught words"
_TEACHING_SECONDS = 2
"""On a server documents get a new word a second or so after the settings have it."""
_FINE = "it is finer than a millisecond, which stores compare in other ways; --repair cuts it"
_BUSY = "what others wrote meanwhile, which may be no harm: look again when nobody writes"
_CHANGED = "its entry is not as it was written; `imgsearch index --retry` makes it anew"
_LEAK = "its URL is stored with a password or a name, which --repair takes out"

VerifyProgress = Callable[[int, int], None]
"""Called now and then with the documents looked at and the documents of the index."""
Mend = Callable[[Inspected], Document | None]
"""What shall stand in the place of a harmed document; None leaves it."""


@dataclass(slots=True)
class VerifyReport:
    """What was found.

    Attributes:
        documents: how many were looked at.
        without_checksum: how many of them were written before there were checksums.
        files, sampled: pictures whose file was read, and that were analyzed again.
        harms: what is wrong, the first 10,000.
        counts: how many harms there are, by part.
        repaired: documents that were put right.
        left: ids and URIs of documents that nothing whole says how to put right.
        unchecked: what could not be checked, and why.
    """

    documents: int = 0
    without_checksum: int = 0
    files: int = 0
    sampled: int = 0
    harms: list[Harm] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts

    def add(self, harm: Harm) -> None:
        """Count a harm, and list it while there is room."""
        self.counts[harm.part] += 1
        if len(self.harms) < _MOST:
            self.harms.append(harm)

    def __str__(self) -> str:
        harms = ", ".join(f"{part} {count:,}" for part, count in self.counts.most_common())
        found = f"harmed ({harms})" if harms else "whole"
        also = f", {self.files:,} files" if self.files else ""
        also += f", {self.sampled:,} analyzed again" if self.sampled else ""
        old = f", {self.without_checksum:,} without checksum" if self.without_checksum else ""
        done = f"; {self.repaired:,} put right" if self.repaired else ""
        return f"{found}; {self.documents:,} documents{old}{also}{done}"

    def __repr__(self) -> str:
        return f"VerifyReport({self})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        looked_at = ("documents", "without_checksum", "files", "sampled")
        return {
            "whole": self.is_whole,
            **{name: getattr(self, name) for name in looked_at},
            "counts": dict(self.counts),
            "harms": [harm._asdict() for harm in self.harms],
            "repaired": self.repaired,
            "index_again": [{"id": key, "uri": uri} for key, uri in self.left],
            "unchecked": self.unchecked,
        }


class Verifier:
    """Looks at one index; see ``ImageIndex.verify``."""

    def __init__(
        self,
        store: Store,
        analyzer: Callable[[], Analyzer],
        *,
        files: bool = False,
        sample: int = 0,
        progress: VerifyProgress | None = None,
    ) -> None:
        self._store, self._analyzer = store, analyzer
        self._files, self._sample = files, sample
        self._progress = progress or (lambda done, total: None)

    def run(self, *, repair: bool = False) -> VerifyReport:
        """Look at everything, and put right what can be.

        What nothing whole says how to put right loses what the analyzer said of it, so that the
        next run of indexing takes it for changed.
        """
        report = self._look(attrgetter("document") if repair else None)
        if repair and not report.is_whole:
            first, report = report, self._look(_right_or_marked)
            report.repaired = first.repaired
            self._check_lost(first.left, report)
        return report

    def _check_lost(self, left: Sequence[tuple[str, str]], report: VerifyReport) -> None:
        """Name what was there under another's id, and is no more as the other one was put right."""
        uris = {picture_id(uri): uri for _, uri in {*left}.difference(report.left)}
        for key in uris.keys() - self._store.known(list(uris)).keys():
            report.add(Harm("document", "it is lost: index its picture again", key, uris[key]))
            report.left.append((key, uris[key]))

    def _look(self, mend: Mend | None) -> VerifyReport:
        settings, report = known_settings(self._store), VerifyReport()
        self._check_settings(settings, report)
        if mend and not report.is_whole:  # by wrong settings every document would be wrong
            report.unchecked.append("what can be repaired: first the settings must be right")
            mend = None
        try:
            self._check_whole(report, repair=mend is not None)
            self._check_documents(settings, report, mend)
            for document in self._store.sample(self._sample) if self._sample else ():
                report.sampled += 1
                for what in self._analyzed_again(document):
                    report.add(Harm("analysis", what, document.id, document.uri))
        except _NO_HARMS:
            raise
        except StoreError as error:  # as of a damaged page
            report.add(Harm("index", str(error)))
        if report.counts["settings"]:
            report.left = []
        return report

    def _check_settings(self, settings: IndexSettings, report: VerifyReport) -> None:
        if settings.checksum not in ("", settings.right_checksum()):
            report.add(Harm("settings", "they are not those that were written"))
        if not settings.has_model:
            return
        try:
            if self._analyzer().vocabulary.with_colors() != settings.vocabulary.with_colors():
                report.add(Harm("settings", "the analyzer has another vocabulary"))
        except AnalyzerMismatchError as error:
            report.add(Harm("settings", str(error)))
        except ImgsearchError as error:
            report.unchecked.append(f"the analyzer: {error}")

    def _check_whole(self, report: VerifyReport, *, repair: bool) -> None:
        report.unchecked += filter(None, [self._store.not_compared])
        harms = self._store.glance()
        if repair and harms:
            self._store.mend()
            report.repaired += max(0, len(harms) - len(self._store.glance()))
        entries = self._store.ledger.read()
        ids = list({entry.id for entry in entries})
        is_right = len(entries) == len(ids) == len(self._store.ledger.read(ids))
        if not is_right and entries == self._store.ledger.read():  # nobody writes just now
            harms.append(Harm("ledger", "an entry is there twice, or has another picture's id"))
        for entry in entries:
            if not entry.is_whole:
                harms.append(Harm("ledger", _CHANGED, entry.id, entry.uri))
            if (uri := without_credentials(entry.uri)) == entry.uri:
                continue
            harms.append(Harm("ledger", _LEAK, picture_id(uri), uri))
            if repair:
                self._store.ledger.write([replace(entry, uri=uri)])
                self._store.ledger.remove([entry.id])
        for harm in harms:
            report.add(harm)

    def _check_documents(
        self, settings: IndexSettings, report: VerifyReport, mend: Mend | None
    ) -> None:
        mark, total = self._store.mark(), self._store.count()
        waiting: list[tuple[Inspected, Document]] = []
        held: list[tuple[Inspected, Document]] = []  # ids that two may have: a write replaces both
        documents, length, frequencies = 0, 0.0, Counter[str]()
        for item in self._store.inspect():
            report.documents += 1
            report.without_checksum += not item.has_checksum
            if item.document is not None:
                documents, length = documents + 1, length + item.document.length
                frequencies.update(term.key for term in item.document.postings)
            item = _judged(item, settings)
            for part, what in item.harms:
                report.add(Harm(part, what, item.id, item.uri))
            if item.harms and item.document is None and len(report.left) < _MOST:
                report.left.append((item.id, item.uri))
            if self._files and item.document and item.document.is_read:
                self._check_file(item.document, report)
            if mend and (item.harms or not item.has_checksum):
                is_named = all(part != "id" for part, _ in item.harms)
                right = mend(item) or (None if is_named else item.to_be_indexed())
                if right:
                    is_named = is_named and right.id == item.id
                    (waiting if is_named else held).append((item, right))
            if report.documents % _TOGETHER == 0:
                report.repaired += self._write(waiting)
                waiting = []
                self._progress(report.documents, total)
        held.sort(key=lambda each: each[0].document is not None)  # of two the last one is kept
        report.repaired += self._write(waiting) + self._write(held)
        self._progress(report.documents, report.documents)
        if not report.is_whole and not report.repaired:
            if report.counts[_TAUGHT]:
                time.sleep(_TEACHING_SECONDS)
            is_other = mark != self._store.mark() or settings != known_settings(self._store)
            report.unchecked += [_BUSY] if is_other else []
        keys = settings.vocabulary.keys
        found = self._store.statistics(keys) if report.is_whole else None
        if found is not None and mark == self._store.mark():
            wanted = Statistics(documents, length / max(documents, 1), frequencies)
            for what in _differences(found, wanted, keys):
                report.add(Harm("statistics", what))

    def _write(self, items: Sequence[tuple[Inspected, Document]]) -> int:
        written = self._store.repair(items) if items else 0
        if written:
            self._store.finish()
        return written

    def _check_file(self, document: Document, report: VerifyReport) -> None:
        if in_memory(document.uri):
            return
        report.files += 1
        try:
            if content_hash(document.uri) == document.sha256:
                return
            what = "it has changed since it was indexed"
        except ImageError as error:
            what = error.reason
        report.add(Harm("file", what, document.id, document.uri))

    def _analyzed_again(self, document: Document) -> Iterator[str]:
        analyzer = self._analyzer()
        try:
            picture = analyzer.open(document.uri)
        except ImageError as error:
            yield error.reason
            return
        if picture.sha256 != document.sha256:
            yield "the file has changed since it was indexed"
            return
        made = analyzer.analyze(picture.image)
        base = analyzer.vocabulary.base  # taught words follow from the deep feature
        stored, again = (
            tuple(t for t in terms if t.key in base) for terms in (document.terms, made.terms)
        )
        if not _are_alike(stored, again):
            yield "its synsets or their scores are others than those stored"
        elif not _seen_alike(stored, again, lambda: analyzer.view_scores(picture.image)):
            yield "its synsets score best in other views than those stored"
        if document.colors and not _are_alike(document.colors, made.colors, LEAST):
            yield "its colors are others than those stored"
        if (made.embedding is None) != (document.embedding is None):
            yield "the analyzer and the index do not both have a deep feature of it"
        elif made.embedding is not None and document.embedding is not None:
            one, other = made.embedding.astype(float), document.embedding.astype(float)
            norms = float(np.linalg.norm(one) * np.linalg.norm(other))
            if one.shape != other.shape or one @ other < _SAME_DIRECTION * norms:
                yield "its deep feature is another than the one stored"


def _right_or_marked(item: Inspected) -> Document | None:
    """Of a document that was found right nothing is lost, as another program may just change it."""
    return item.document or item.to_be_indexed()


def _differences(found: Statistics, right: Statistics, keys: Sequence[str]) -> Iterator[str]:
    if found.documents != right.documents:
        yield f"there are {found.documents:,} documents, {right.documents:,} were looked at"
    if not math.isclose(found.average_length, right.average_length, rel_tol=1e-7):  # a float32
        yield f"the mean length is {found.average_length}, not {right.average_length}"
    for key in keys:
        count, known = found.frequencies.get(key, 0), right.frequencies.get(key, 0)
        if count != known:
            yield f"{count:,} documents are found by {key}, not {known:,}"


def _judged(item: Inspected, settings: IndexSettings) -> Inspected:
    """With what is wrong with a document that agrees with itself."""
    if item.document is None:
        return item
    if (uri := without_credentials(item.document.uri)) != item.document.uri:
        clean = replace(item.document, uri=uri, id=picture_id(uri))
        return replace(item, uri=uri, harms=[*item.harms, ("URI", _LEAK)], document=clean)
    try:
        indexed_at = to_document(to_row(item.document, None), settings).indexed_at
        if not waits(item.document):
            right = replace(item.document, indexed_at=indexed_at)
            if right.indexed_at != item.document.indexed_at:
                item = replace(item, harms=[*item.harms, ("indexed_at", _FINE)], document=right)
            return _taught_judged(item, right, settings)
        what = "it waits to be indexed again"
    except RowError as error:
        what = str(error)
    return replace(item, harms=[*item.harms, ("document", what)], stored=None, document=None)


def _taught_judged(item: Inspected, document: Document, settings: IndexSettings) -> Inspected:
    """With what is wrong with the terms of taught words, which follow from the deep feature."""
    taught = {word.key for word in settings.taught}
    if not taught:
        return item
    (right,) = fitted([document], settings)
    stored, wanted = (
        {term.key: term.score for term in each.terms if term.key in taught}
        for each in (document, right)
    )
    near = FLOOR * (1 + _SAME_TAUGHT)
    if all(
        (
            math.isclose(stored.get(key, FLOOR), wanted.get(key, FLOOR), rel_tol=_SAME_TAUGHT)
            and (key in stored) == (key in wanted)
        )
        or max(stored.get(key, 0), wanted.get(key, 0)) <= near
        for key in stored.keys() | wanted.keys()
    ):
        return item
    return replace(item, harms=[*item.harms, (_TAUGHT, "they are not those of its deep feature")])


def _are_alike(stored: tuple[Term, ...], made: tuple[Term, ...], most: float = _SAME_SCORE) -> bool:
    """Whether scores differ by less than runtimes do; the last of a list may be another's."""
    one, other = ({term.key: term.score for term in terms} for terms in (stored, made))
    floors = [min(scores.values(), default=0.0) for scores in (one, other)]
    return all(
        abs(one.get(key, floors[0]) - other.get(key, floors[1])) <= most
        for key in one.keys() | other.keys()
    )


def _seen_alike(
    stored: Sequence[Term], made: Sequence[Term], scores: Callable[[], Mapping[str, Any]]
) -> bool:
    """Whether views are the same, or one scores as well as another but for runtimes."""
    found = {term.key: term.view for term in made}
    others = [term for term in stored if found.get(term.key, term.view) != term.view]
    if any(term.view is None or found[term.key] is None for term in others):
        return False
    known = scores() if others else {}
    return all(
        known[t.key].max() - known[t.key][t.view : t.view + 1].max(initial=0) <= _SAME_SCORE
        for t in others
        if t.view is not None
    )
