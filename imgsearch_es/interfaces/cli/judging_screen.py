"""Judging on a terminal: the picture in colored half blocks, its path, one key for an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.evaluation.judging import Candidate
from imgsearch_es.interfaces.cli.output import printable
from imgsearch_es.pictures.thumbnails import reason, shrink

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import Console, RenderableType
    from rich.text import Text

    from imgsearch_es.evaluation.judging import Judging

_GRADES = {"r": "relevant", "p": "partly", "n": "not", "2": "relevant", "1": "partly", "0": "not"}
_KEYS = {**_GRADES, "s": "skip", "u": "undo", "o": "open", "q": "quit"}
_HELP = "r relevant  p partly  n not  s skip  u undo  o open  q quit"
_WIDEST, _NARROWEST = 56, 16
"""Columns of a preview."""


class TerminalJudge:
    """Asks a person at a terminal: ``read_key`` waits for a key, ``open_picture`` shows a file."""

    def __init__(
        self,
        judging: Judging,
        console: Console,
        read_key: Callable[[], str],
        open_picture: Callable[[str], object],
    ) -> None:
        self._judging, self._session = judging, judging.session
        self._console, self._read_key, self._open = console, read_key, open_picture
        self._query: str | None = None

    def run(self) -> None:
        """Ask until all is judged or the person stops (q, Ctrl-C, Ctrl-D).

        Raises:
            EvaluationError: a judgement cannot be saved.
        """
        shown: Candidate | None = None
        while (asked := self._session.current) is not None:
            if asked != shown:
                self._show(asked)
                shown = asked
            try:
                action = _KEYS.get(self._read_key().lower())
            except (KeyboardInterrupt, EOFError):
                return
            if action == "quit":
                return
            if action == "open":
                self._open(self._judging.uri(asked.document))
            elif action == "undo" and self._session.undo():
                self._say("taken back")
                shown = None
            else:
                self._say(self._answered(action))

    def _answered(self, action: str | None) -> str:
        """Do what a key says; gives what is said then."""
        if action is None:
            return _HELP
        if action == "undo":
            return "nothing to take back in this session"
        if action == "skip":
            self._session.skip()
            return "skipped"
        self._session.judge(action)
        return action

    def _show(self, asked: Candidate) -> None:
        from rich.rule import Rule
        from rich.text import Text

        if asked.query != self._query:
            self._query = asked.query
            text = Text(printable(self._judging.query_text(asked.query)), "bold")
            self._console.print(Rule(Text("Query: ") + text))
            if (picture := self._judging.query_picture(asked.query)) is not None:
                self._show_picture(picture)
        progress = self._session.progress
        self._say(
            f"{progress.judged:,} of {progress.total:,} judged; picture {progress.place} of "
            f"{progress.of_query}, query {progress.query_place} of {progress.queries}"
        )
        self._show_picture(self._judging.uri(asked.document))
        self._say(_HELP)

    def _show_picture(self, uri: str) -> None:
        from rich.text import Text

        if self._console.is_terminal:
            self._console.print(preview(uri, min(_WIDEST, self._console.width)))
        target = uri if "://" in uri else Path(uri).as_uri()
        self._console.print(Text(printable(uri), f"link {target}"), soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)


def preview(uri: str, columns: int) -> RenderableType:
    """A picture in half blocks, two pixels to a character; or why it cannot be shown."""
    from rich.text import Text

    try:
        return _blocks(shrink(uri, max(columns, _NARROWEST)))
    except (ImgsearchError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, ImgsearchError) else str(error)
        return Text(f"(no preview: {printable(why)})", "dim")


def _blocks(image: Image.Image) -> Text:
    from rich.text import Text

    if image.height % 2:
        image = image.crop((0, 0, image.width, image.height + 1))
    pixels = image.tobytes()
    text, row = Text(no_wrap=True), 3 * image.width
    for top in range(0, len(pixels), 2 * row):
        for at in range(top, top + row, 3):
            upper, lower = pixels[at : at + 3], pixels[at + row : at + row + 3]
            text.append("▀", f"#{upper.hex()} on #{lower.hex()}")
        text.append("\n")
    return text
