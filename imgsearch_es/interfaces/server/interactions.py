"""What the page shows and people click, kept in a file for those who asked for it."""

from __future__ import annotations

from pathlib import Path

from imgsearch_es.errors import LogError
from imgsearch_es.evaluation.clicks import open_log
from imgsearch_es.interfaces.server.answers import log
from imgsearch_es.search.hits import Hits


class Interactions:
    """A log that never stands in the way: if it cannot be written, the page goes on without.

    Args:
        path: of the log; by default IMGSEARCH_LOG, and without that nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._log = open_log(path)

    def shown(self, hits: Hits) -> str | None:
        """Note a page of hits; gives the name of the search, None where nothing was kept."""
        if self._log is None:
            return None
        try:
            return self._log.shown(hits)
        except LogError as error:
            log.warning("what was shown is not kept: %s", error)
            return None

    def clicked(self, search: str, picture: str) -> None:
        """Note a click on a picture of a search that was shown."""
        if self._log is None:
            return
        try:
            self._log.clicked(search, picture)
        except LogError as error:
            log.warning("a click is not kept: %s", error)
