"""What the page says of its index: pictures that it cannot show, and what is under way."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

from imgsearch_es.errors import ImgsearchError, IndexLockedError
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.pictures import Pictures
from imgsearch_es.retrieval.queries import Query

_SAMPLE = 1_000
"""Pictures that are looked for at the start."""
_GROWING_SECONDS = 60.0
"""An index that grew so lately is being filled."""
LOOK_SECONDS = 2.0
"""How often an index is looked at."""


class Notice(NamedTuple):
    """A sentence, a command that helps, and of what passes its state by a name."""

    text: str
    command: str = ""
    state: str = ""


class Readiness:
    """Looks at an index for what keeps pictures from being shown, and whether it grows."""

    def __init__(self, index: ServedIndex, pictures: Pictures) -> None:
        self._index = index
        self._pictures = pictures
        self._counted = self._looked = 0
        self._counted_at = self._grown_at = float("-inf")
        self._lock = threading.Lock()
        self.outside: tuple[int, int, Path] | None = None

    def look(self) -> None:
        """Count pictures whose files are outside the served folders, of the first so many."""
        self._looked = self._index.count()
        hits = self._index.search_many([Query((), k=_SAMPLE, sort="uri")])[0]
        places = [self._pictures.outside(hit.document) for hit in hits]
        found = [place.parent for place in places if place is not None]
        common = Path(os.path.commonpath(found)) if found else None
        self.outside = None if common is None else (len(found), len(hits), common)

    def now(self, model: str) -> list[Notice]:
        """What to say on the page now; the index is counted every few seconds at most.

        IndexLockedError where that waited in vain, as searching would again.
        """
        if self._lock.acquire(blocking=False):  # else somebody is counting
            try:
                if time.monotonic() - self._counted_at > LOOK_SECONDS:
                    self._count()
            except IndexLockedError:
                raise
            except ImgsearchError:  # which the page itself says
                pass
            finally:
                self._lock.release()
        found = []
        if self.outside is not None:
            lost, looked, _ = self.outside
            of = f"of the first {_SAMPLE:,}" if looked == _SAMPLE else f"of {looked:,}"
            text = (
                f"{lost:,} {of} pictures lie outside the folders that are served, or are links "
                "that lead out of them. To see them, start the server with"
            )
            found.append(Notice(text, "--root DIR"))
        if time.monotonic() - self._grown_at < _GROWING_SECONDS:
            text = f"Pictures are being added: {self._counted:,} so far."
            found.append(Notice(text, state=f"{self._counted}"))
        if model in ("loading", "downloading"):
            what = "downloaded" if model == "downloading" else "loaded"
            text = (
                f"The classifier is being {what}: search by words and by pictures of the index; "
                "your own pictures come when it is there."
            )
            found.append(Notice(text, state=model))
        return found

    def _count(self) -> None:
        try:
            count = self._index.count()
        finally:
            self._counted_at = time.monotonic()
        if 0 < self._counted < count:
            self._grown_at = self._counted_at
        self._counted = count
        if not self._looked <= count <= 2 * self._looked:
            self.look()
