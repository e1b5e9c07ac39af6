"""An index as a collection of documents: how many, which, in it or not, elsewhere, or out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import QueryError
from imgsearch_es.indexing.kept_index import KeptIndex, PathLike
from imgsearch_es.indexing.relocating import relocate
from imgsearch_es.indexing.tagging import TagReport, Tell, write_sidecars
from imgsearch_es.indexing.wanted_analyzer import WantedAnalyzer
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.retrieval.limits import check_own
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hit import Hit
from imgsearch_es.search.query_pictures import Named, named, to_id
from imgsearch_es.search.suggesting import LIMIT, Suggestion, suggestions
from imgsearch_es.vocabulary.lmf import read_lexicon
from imgsearch_es.vocabulary.synsets import Vocabulary


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
        """
        self._settings()
        if query is not None and not isinstance(query, Query):
            raise QueryError("query= is a built one: index.query(text=...)")
        if query is not None and query.fusion is not None:
            raise QueryError("a fused query ranks: remove by words, a picture or conditions")
        if query is not None and query.min_score is not None:
            raise QueryError("min_score ranks: remove by a condition such as score(dog)>0.5")
        if isinstance(pictures, str | os.PathLike | Hit | Document):
            pictures = [pictures]
        ids = named(self.store, pictures)
        if query is not None:
            ids += self.store.matching(query)
        return self.store.remove(list(dict.fromkeys(ids))) if ids else 0

    def suggest(self, typed: str, limit: int = LIMIT) -> list[Suggestion]:
        """How a word that is being typed may go on: words with their counts, labels, files, fields.

        Words that the index has most of come first; where nothing goes on so, similar words.
        """
        self._settings()
        return suggestions(self.store, self.vocabulary, typed, limit)

    def label(
        self, pictures: Iterable[Named], *, add: Sequence[str] = (), drop: Sequence[str] = ()
    ) -> int:
        """Give several pictures more labels, or take some away; gives how many have changed.

        They are given by id, URI, path or hit; those that the index does not have are ignored.

        Raises:
            ConfigurationError: a label cannot be stored (see docs/exchange.md).
        """
        check_own(tuple(add), {})
        self._settings()
        with self._for_one_index():
            found = self.store.get([to_id(picture) for picture in pictures])
            changed = []
            for document in found.values():
                kept = (label for label in document.labels if label not in drop)
                labels = tuple(dict.fromkeys([*kept, *add]))
                if labels != document.labels:
                    check_own(labels, {})  # before any is written
                    changed.append(replace(document, labels=labels))
            if changed:
                for _, reason in self.store.write(changed).rejected:
                    raise QueryError(f"a picture cannot be labeled: {reason}")
                self.store.finish()
        return len(changed)

    def relocate(self, old: PathLike, new: PathLike) -> int:
        """Say that the pictures below a folder are below another one now; gives how many.

        Nothing is read or analyzed; labels, metadata and all else stay. Also of one file, or of the
        beginning of a URL.

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

        Args:
            where: conditions, as of ``search``; by default every picture.
            dry_run: write nothing.
            tell: called with the path and the words of each picture whose sidecar changes.
        """
        self._settings()
        filters = to_filters(where, self.vocabulary)
        return write_sidecars(self.store, filters, dry_run=dry_run, tell=tell)
