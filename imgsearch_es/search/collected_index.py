"""An index as a collection of documents: how many, which, in it or not, elsewhere, or out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from imgsearch_es.errors import QueryError
from imgsearch_es.indexing.kept_index import KeptIndex, PathLike
from imgsearch_es.indexing.relocating import relocate
from imgsearch_es.indexing.tagging import TagReport, Tell, write_sidecars
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import Where, to_filters
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hit import Hit
from imgsearch_es.search.query_pictures import Named, named, to_id


class CollectedIndex(KeptIndex):
    """What an ``ImageIndex`` does as a collection."""

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
