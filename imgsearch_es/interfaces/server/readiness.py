"""What a person must know before a page is of use, and what to do, also in the terminal."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imgsearch_es.errors import ImgsearchError, IndexNotFoundError, ServerError
from imgsearch_es.interfaces.server.batching import ServedIndex
from imgsearch_es.interfaces.server.pictures import Pictures
from imgsearch_es.retrieval.queries import Query

SAMPLE = 1_000
"""Pictures that are looked for at the start."""
_GROWING_SECONDS = 60.0
"""An index that grew so lately is being filled."""
_LOOK_SECONDS = 2.0

WAITS = {
    "IndexNotFoundError": "There is no index yet",
    "IndexLockedError": "The index is being written",
    "ServerError": "The index does not answer",
}
"""Problems that pass: the page waits, and looks again by itself."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence, a command that helps, and whether it passes; then its state by a name."""

    text: str
    command: str = ""
    state: str = ""

    @property
    def passes(self) -> bool:
        """Whether the page should look again."""
        return bool(self.state)


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
        hits = self._index.search_many([Query((), k=SAMPLE, sort="uri")])[0]
        places = [self._pictures.outside(hit.document) for hit in hits]
        found = [place.parent for place in places if place is not None]
        common = Path(os.path.commonpath(found)) if found else None
        self.outside = None if common is None else (len(found), len(hits), common)

    def now(self, model: str) -> list[Notice]:
        """What to say on the page now; the index is counted every few seconds at most."""
        with self._lock:
            if time.monotonic() - self._counted_at > _LOOK_SECONDS:
                with suppress(ImgsearchError):  # which the page itself says
                    self._count(self._index.count())
        return self._notices(model)

    def _count(self, count: int) -> None:
        """Note how many pictures there are now; where they are many more, look again."""
        self._counted_at = time.monotonic()
        if 0 < self._counted < count:
            self._grown_at = self._counted_at
        self._counted = count
        if count > 2 * self._looked:
            self.look()

    def _notices(self, model: str) -> list[Notice]:
        found = []
        if self.outside is not None:
            lost, looked, _ = self.outside
            of = f"of the first {SAMPLE:,}" if looked == SAMPLE else f"of {looked:,}"
            found.append(
                Notice(
                    f"{lost:,} {of} pictures lie outside the folders that are served, or are links "
                    "that lead out of them. To see them, start the server with",
                    "--root DIR",
                )
            )
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

    def told(self) -> list[str]:
        """What to say in the terminal, now that there is an index."""
        if self.outside is None:
            return []
        lost, looked, common = self.outside
        return [
            f"{lost:,} of {looked:,} pictures lie outside the folders that are served: to show "
            f"them, start with --root {common}"
        ]


async def until_there(index: ServedIndex, say: Callable[[str], None] | None) -> None:
    """Wait for an index that does not exist yet, or whose server does not answer yet."""
    is_told = False
    while True:
        try:
            await asyncio.to_thread(index.count)
        except (IndexNotFoundError, ServerError) as error:
            if say is not None and not is_told:
                say(waiting_for(index.location, error))
            is_told = True
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            return


def waiting_for(location: str, error: ImgsearchError) -> str:
    """What is waited for, and what to do."""
    if isinstance(error, IndexNotFoundError):
        return f"waiting for {location}: make it by `imgsearch index FOLDER --index {location}`"
    return f"waiting for {location}: {error}"
