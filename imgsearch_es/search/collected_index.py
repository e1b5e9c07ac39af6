"""An index as a collection of documents: how many, which, in it or not, elsewhere, or out of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgsearch_es.analysis.terms import to_word_count
from imgsearch_es.errors import QueryError
from imgsearch_es.indexing import Rejected, as_labels
from imgsearch_es.indexing.exchange.documents import (
    ExportReport,
    FeatureExport,
    ImportReport,
    export_documents,
    export_features,
    import_documents,
    import_features,
)
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.kept_index import KeptIndex, PathLike
from imgsearch_es.indexing.photos import TagReport, Tell, write_sidecars
from imgsearch_es.indexing.relocating import relocate
from imgsearch_es.indexing.wanted_analyzer import WantedAnalyzer, settings_of
from imgsearch_es.pictures.files import whole
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.duplicates import DuplicateGroup, duplicate_groups, to_threshold
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.retrieval.ledger import check_own
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.query_pictures import Named, each_of, name_of, named, to_id
from imgsearch_es.search.suggesting import LIMIT, Suggestion, suggestions
from imgsearch_es.vocabulary.synsets import Vocabulary
from imgsearch_es.vocabulary.wordnet import read_lexicon

_TOGETHER = 2000
"""Pictures that are labeled in one write."""


class CollectedIndex(KeptIndex):
    """What an ``ImageIndex`` does as a collection, and the words by which it is known."""

    def __init__(
        self, location: str, wanted: WantedAnalyzer, store_options: Mapping[str, Any]
    ) -> None:
        given = dict(store_options)
        lexicon = given.pop("lexicon", None) or os.environ.get("IMGSEARCH_LEXICON")
        super().__init__(location, wanted, given)
        self._lexicon = read_lexicon(lexicon) if lexicon else ()
        if lexicon:
            given = {**given, "lexicon": Path(lexicon).expanduser().resolve()}
            self.opened_as = self.opened_as[0], given
        self._spoken: tuple[Vocabulary, Vocabulary] | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The synsets that pictures of this index may have, with the words of a lexicon."""
        own, spoken = super().vocabulary, self._spoken
        if not self._lexicon:
            return own
        if spoken is None or spoken[0] is not own:
            self._spoken = spoken = own, own.with_lexicon(self._lexicon)
        return spoken[1]

    def __len__(self) -> int:
        self._settings()
        return self._of_one_index(self.store.count)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Document]:
        """Every document, in no certain order."""
        self._settings()
        return self.store.documents()

    def __contains__(self, picture: Named) -> bool:
        """Whether a picture is indexed, given by id, URI, path or hit."""
        self._settings()
        return bool(self.store.known([to_id(picture)]))

    def remove(self, pictures: Named | Iterable[Named] = (), *, query: Query | None = None) -> int:
        """Remove documents by id, URI, path, folder or pattern (``*``, ``?``); files stay.

        And all that a query matches. Gives how many were removed; those that the index does not
        have are ignored.

        >>> index.remove("photos/*.webp"), len(index)
        (19, 57)
        """
        self._settings()
        if query is not None and not isinstance(query, Query):
            raise QueryError("query= is a built one: index.query(text=...)")
        if query is not None and query.fusion is not None:
            raise QueryError("a fused query ranks: remove by words, a picture or conditions")
        if query is not None and query.min_score is not None:
            raise QueryError("min_score ranks: remove by a condition such as score(dog)>0.5")
        ids = named(self.store, each_of(pictures))
        if query is not None:
            ids += self.store.matching(query)
        return self.store.remove(list(dict.fromkeys(ids))) if ids else 0

    def suggest(self, typed: str, limit: int = LIMIT) -> list[Suggestion]:
        """How a word that is being typed may go on: words with their counts, labels, files, fields.

        Words that the index has most of come first; where nothing goes on so, similar words.

        >>> [(found.text, found.count) for found in index.suggest("espr")]
        [('espresso', 4), ('espresso maker', 0)]
        """
        self._settings()
        return suggestions(self.store, self.vocabulary, typed, limit)

    def label(
        self,
        pictures: Named | Iterable[Named],
        *,
        add: Sequence[str] | str = (),
        drop: Sequence[str] | str = (),
    ) -> int:
        """Give several pictures more labels, or take some away; gives how many have changed.

        They are given by id, URI, path or hit; those that the index does not have are ignored.

        >>> index.label(hits, add=["bikes"])
        3
        >>> index.search(where="label=bikes").total
        3

        Raises:
            ConfigurationError: a label cannot be stored (see docs/exchange.md).
        """
        add, drop = as_labels(add), as_labels(drop)
        check_own(add, {})
        self._settings()
        ids, count = list({to_id(picture): None for picture in each_of(pictures)}), 0

        def labeled(labels: Sequence[str]) -> tuple[str, ...]:
            kept = (one for one in labels if as_labels(one)[0] not in drop)
            return tuple(dict.fromkeys([*kept, *add]))

        def changed(document: Document) -> Document:
            labels = labeled(document.labels)
            return document if labels == document.labels else replace(document, labels=labels)

        with self._for_one_index():
            for known in self.store.known(ids).values():
                check_own(labeled(known.labels), {})  # before any is written
            for part in chunks(ids, _TOGETHER):
                report = self.store.change(part, changed)
                for _, reason in report.rejected:
                    raise QueryError(f"a picture cannot be labeled: {reason}")
                count += report.stored
            if count:
                self.store.finish()
        return count

    def relocate(self, old: PathLike, new: PathLike) -> int:
        """Say that the pictures below a folder are below another one now; gives how many.

        Nothing is read or analyzed; labels, metadata and all else stay. Also of one file, or of the
        beginning of a URL.

        >>> Path("elsewhere").mkdir()
        >>> index.relocate("photos", "elsewhere")
        76

        Raises:
            SourceError: the new place does not exist.
        """
        self._settings()
        with self._for_one_index():
            return relocate(self.store, old, new)

    def tag(
        self,
        *,
        where: Where | None = None,
        dry_run: bool = False,
        tell: Tell = lambda path, words: None,
    ) -> TagReport:
        """Write the synsets that pictures have more of than a trace into XMP sidecars.

        ``IMG.jpg.xmp`` beside ``IMG.jpg``, which digiKam and darktable read; where a RAW file has
        Lightroom's ``IMG.xmp`` alone, that. As ``dc:subject``, and below their hypernyms as
        ``lr:hierarchicalSubject``. A sidecar that has anything else keeps it: words are added to
        it, and none is taken out. Photos are never touched.

        >>> index.tag(where="name:coffee.jpg", dry_run=True).written
        1

        Args:
            where: conditions, as of ``search``; by default every picture.
            dry_run: write nothing.
            tell: called with the path and the words of each picture whose sidecar changes.
        """
        self._settings()
        filters = to_filters(where, self.vocabulary)
        return write_sidecars(self.store, filters, dry_run=dry_run, tell=tell)

    def get(self, picture: Named) -> Document:
        """The stored document of a picture, by id, URI, path or hit; else a QueryError.

        >>> index.get("photos/chelsea.jpg").width
        451
        """
        self._settings()
        key = to_id(picture)
        found = self._of_one_index(lambda: self.store.get([key]))
        if key not in found:
            raise QueryError(f"{self.location} has no picture {name_of(picture)}")
        return found[key]

    def count(self) -> int:
        """How many pictures the index has.

        >>> index.count()
        76
        """
        return len(self)

    def stats(self) -> dict[str, Any]:
        """Figures of the index, and of the analyzer that built it, as JSON values.

        >>> index.stats()["documents"]
        76
        """
        settings = self._settings()
        figures = self._of_one_index(self.store.stats)
        return {**figures, "analyzer": dict(settings.analyzer), "weights": settings.weights}

    def update(
        self,
        picture: Named,
        *,
        labels: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Document:
        """Change labels or metadata of an indexed picture, given by id, URI, path or hit.

        >>> index.update("photos/coffee.jpg", labels="breakfast", metadata={"year": 2024}).labels
        ('breakfast',)

        Raises:
            ConfigurationError: they cannot be stored (see docs/exchange.md).
        """
        given: dict[str, Any] = {} if labels is None else {"labels": as_labels(labels)}
        check_own(given.get("labels", ()), metadata or {})
        key = self.get(picture).id
        if metadata is not None:
            given["metadata"] = dict(metadata)

        def changed(document: Document) -> Document:
            new = replace(document, **given)
            return document if new.checksum == document.checksum else new

        with self._for_one_index():
            for uri, reason in self.store.change([key], changed).rejected:
                raise QueryError(f"{uri} cannot be updated: {reason}")
            self.store.finish()
        return self.get(key)

    def rejected(self) -> list[Rejected]:
        """The pictures that could not be indexed, and why; one is struck out when it can be.

        >>> index.rejected()
        []
        """
        self._settings()
        return self.store.ledger.read()

    def duplicates(self, near: float | bool | None = None) -> list[DuplicateGroup]:
        """Groups of pictures that are the same, largest first, ties by the first picture's URI.

        >>> [len(group.pictures) for group in index.duplicates(0.95)][:2]
        [3, 3]

        Args:
            near: None finds files with the same bytes. A number also finds pictures whose deep
                features have at least this cosine; True takes 0.95. Groups are connected
                components, and no pair is missing: a bound rules out most pairs, the others are
                compared exactly. 200,000 pictures take two minutes of a processor's time, twice as
                many four times as long. QueryError where it is not above 0 and at most 1, or the
                index has no deep features.
        """
        settings, threshold = self._settings(), to_threshold(near)
        if threshold is not None and not settings.embedding_dimensions:
            raise QueryError(f"{self.location} has no deep features to find near duplicates by")
        prints = self.store.fingerprints(embeddings=threshold is not None)
        return duplicate_groups(prints, threshold, self.store.get)

    def export(
        self,
        path: PathLike,
        *,
        pictures: bool = False,
        where: Where | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> ExportReport:
        """Write the documents, and the index's settings, into a file that is there whole or not.

        >>> index.export("photos.jsonl").documents
        76

        Args:
            path: ``.jsonl``, ``.jsonl.gz`` or ``.parquet``; or ``.ciff``, ``.ciff.gz``, the terms
                alone as an inverted index for other search engines.
            pictures: put the bytes of the pictures into it, too.
            where: conditions, as of ``search``; by default every document.
            force: overwrite a file that exists; without it, an ExchangeError.
            progress: called with the number of documents so far.
        """
        return export_documents(
            self.store,
            whole(path),
            pictures=pictures,
            filters=to_filters(where, self.vocabulary),
            force=force,
            progress=progress,
        )

    def import_(
        self,
        path: PathLike,
        *,
        pictures: PathLike | None = None,
        progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Add the documents of a file, which ``export`` or another tool wrote.

        A new index gets the settings of the file. A row that is no document is reported, and the
        others go on. Pictures in the file go into the folder ``pictures``, if given.

        >>> _ = index.export("photos.jsonl")
        >>> ImageIndex("again.duckdb").import_("photos.jsonl").added
        76

        Raises:
            ExchangeError: the file cannot be read or does not say which analyzer made it.
            AnalyzerMismatchError: the index was built with another analyzer.
            ReconciliationError: the index does not hold what was written to it.
        """
        folder = None if pictures is None else whole(pictures)
        self._check_analyzer()
        with self._for_one_index(), self.store.patient():
            return import_documents(self.store, whole(path), pictures=folder, progress=progress)

    def export_features(
        self,
        path: PathLike,
        *,
        where: Where | None = None,
        force: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> FeatureExport:
        """Write deep features into ``.csv``, ``.h5``, ``.parquet`` or a folder of NumPy files.

        >>> index.export_features("features.csv")
        FeatureExport(path='features.csv', features=76, dimensions=1280, without_feature=0)
        """
        filters = to_filters(where, self.vocabulary)
        return export_features(
            self.store, whole(path), filters=filters, force=force, progress=progress
        )

    def import_features(
        self,
        path: PathLike,
        *,
        folder: PathLike | None = None,
        progress: Callable[[ImportReport], None] | None = None,
    ) -> ImportReport:
        """Add deep features of a file, wherever they come from; they are searched at once.

        A new index for which no model or analyzer is named has features alone: it is searched by
        its pictures and by vectors, with the strategies dense-*. Documents that the index has keep
        all but their deep feature. Relative paths start at ``folder``, by default the current one.

        >>> _ = index.export_features("features.csv")
        >>> ImageIndex("features.duckdb").import_features("features.csv").added
        76

        Raises:
            ExchangeError: the file cannot be read, is of another form, or has no row that fits.
            ReconciliationError: the index does not hold what was written to it.
        """
        self._check_analyzer()
        named = self._wanted.is_asked_for or self._wanted.weights is not None
        settings = (lambda: settings_of(self.analyzer)) if named else None
        words = to_word_count(self._wanted.visual_words or False)
        with self._for_one_index(), self.store.patient():
            return import_features(
                self.store, whole(path), settings=settings, words=words, progress=progress,
                folder=None if folder is None else whole(folder),
            )  # fmt: skip
