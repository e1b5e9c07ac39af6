"""Judging in a notebook: the query, one picture, and a key or a button for an answer.

What a person sees is in ``judging.js``; it sends what was said, and of which picture. An
answer to a picture that is no longer the current one (a key pressed twice) is not taken: nobody
judges what they have not seen.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.evaluation.judging import GRADES, Judging
from imgsearch_es.pictures.thumbnails import embed

_PICTURE, _QUERY = (420, 1_000_000), (200, 300_000)
"""Pixels, and the most bytes."""


class JudgingWidget(anywidget.AnyWidget):
    """Shows what is asked, and judges by keys: r, p, n (or 2, 1, 0), s for skip, u for undo."""

    _esm = (files("imgsearch_es.interfaces.notebook") / "judging.js").read_text(encoding="utf-8")
    _css = (files("imgsearch_es.interfaces.notebook") / "judging.css").read_text(encoding="utf-8")
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, judging: Judging) -> None:
        super().__init__()
        self._judging = judging
        self._session = judging.session
        self._queries: dict[str, dict[str, Any]] = {}
        self.on_msg(self._said)
        self._show("")

    def act(self, action: str, asked: int) -> None:
        """Do what a person said of the question ``asked``: one of GRADES, "skip" or "undo"."""
        if asked != self.state["asked"]:
            return
        message = ""
        try:
            if action == "undo":
                message = "Taken back." if self._session.undo() else "Nothing to take back."
            elif self._session.current is None:
                return
            elif action == "skip":
                self._session.skip()
            elif action in GRADES:
                self._session.judge(action)
            else:
                return
        except ImgsearchError as error:
            message = str(error)
        self._show(message)

    def _said(self, widget: Any, content: Any, buffers: Any) -> None:
        if isinstance(content, dict):
            self.act(str(content.get("action")), content.get("asked", -1))

    def _show(self, message: str) -> None:
        current, progress = self._session.current, self._session.progress
        state: dict[str, Any] = {
            "asked": self.state.get("asked", 0) + 1,
            "message": message,
            "judged": progress.judged,
            "skipped": progress.skipped,
            "total": progress.total,
            "file": str(self._session.file.path),
        }
        if current is not None:
            uri = self._judging.uri(current.document)
            state |= {
                "where": f"Picture {progress.place} of {progress.of_query}, query "
                f"{progress.query_place} of {progress.queries}",
                "query": self._query(current.query),
                "picture": _shown(uri, *_PICTURE),
                "name": self._judging.collection.name(current.document),
            }
        self.state = state

    def _query(self, query: str) -> dict[str, Any]:
        if query not in self._queries:
            uri = self._judging.query_picture(query)
            picture = None if uri is None else _shown(uri, *_QUERY)
            self._queries[query] = {"text": self._judging.query_text(query), "picture": picture}
        return self._queries[query]


def _shown(uri: str, pixels: int, limit: int) -> dict[str, str]:
    """A picture as a data URI, or why it cannot be shown."""
    (thumb,) = embed([uri], pixels, limit)
    return {"data": thumb.data, "problem": thumb.problem}
