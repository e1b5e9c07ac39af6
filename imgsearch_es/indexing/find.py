"""The first stage: find pictures, and ask the store what it knows of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgsearch_es.errors import ImageError
from imgsearch_es.indexing.report import Stages
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.pictures.images import ImageSource, Picture
from imgsearch_es.pictures.manifests import PictureList, find_entries
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.base import Known, Store

LOOKUP_SIZE = 512
"""Pictures per question to the store which of them it knows."""
WALK_AHEAD = 65_536
"""Names found before they are needed, so that the number of pictures is soon known."""


@dataclass(slots=True, eq=False)
class Found:
    """A picture to look at, and what is found out about it on its way through the stages.

    Attributes:
        uri: what to read.
        picture: a picture from memory, opened already.
        error: why there is nothing to read.
        labels: what its source calls it, None where it says nothing; once resolved, what its
            document shall have.
        metadata: likewise what else its source says of it.
        known: its document, in short.
        before: its entry in the ledger.
        stored: the document to change or to copy the analysis from; None when there is none.
    """

    uri: str
    picture: Picture | None = None
    error: str | None = None
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    known: Known | None = None
    before: Rejected | None = None
    stored: Document | None = None

    @property
    def id(self) -> str:
        """The id of its document."""
        return picture_id(self.uri)


class Finder:
    """Finds pictures and counts them.

    Args:
        sources: files, folders, URLs, tar files, lists and pictures in memory.
        open_memory: opens a picture in memory.
        stages: where to add the time.

    Raises:
        SourceError: a file or folder named does not exist.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource | PictureList],
        open_memory: Callable[[ImageSource], Picture],
        stages: Stages,
    ) -> None:
        places = [source for source in sources if isinstance(source, str | os.PathLike)]
        self._errors: list[ImageError] = []
        lists = [source for source in sources if isinstance(source, PictureList)]
        self._entries = find_entries(places, lists, on_error=self._errors.append)
        self._in_memory = [s for s in sources if not isinstance(s, str | os.PathLike | PictureList)]
        self._open_memory = open_memory
        self._stages = stages
        self.found = 0
        self.is_done = False

    @property
    def total(self) -> int | None:
        """How many pictures there are; None until the end of the walk."""
        return self.found if self.is_done else None

    def items(self) -> Iterator[Found]:
        """The pictures, as they are found; reads no file.

        Raises:
            SourceError: a folder named cannot be listed.
        """
        for item in self._timed(self._find()):
            self.found += 1
            yield item
        self.is_done = True

    def _find(self) -> Iterator[Found]:
        for entry in self._entries:
            yield from self._broken()
            yield Found(entry.uri, error=entry.error, labels=entry.labels, metadata=entry.metadata)
        yield from self._broken()
        seen: set[str] = set()
        for source in self._in_memory:
            try:
                picture = self._open_memory(source)
            except ImageError as error:
                yield Found(error.uri, error=error.reason)
                continue
            if picture.uri not in seen:
                seen.add(picture.uri)
                yield Found(picture.uri, picture)

    def _broken(self) -> Iterator[Found]:
        while self._errors:
            error = self._errors.pop(0)
            yield Found(error.uri, error=error.reason)

    def _timed(self, items: Iterator[Found]) -> Iterator[Found]:
        while True:
            with self._stages.measure("find"):
                item = next(items, None)
            if item is None:
                return
            yield item


def look_up(store: Store, groups: Iterable[Sequence[Found]], stages: Stages) -> Iterator[Found]:
    """Ask the store what it knows of each picture, many at a time."""
    for group in groups:
        with stages.measure("find"):
            if store.settings():
                ids = [found.id for found in group]
                known = store.known(ids)
                before = {entry.id: entry for entry in store.ledger.read(ids)}
                for key, found in zip(ids, group, strict=True):
                    found.known, found.before = known.get(key), before.get(key)
        yield from group
