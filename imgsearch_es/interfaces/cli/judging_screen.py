"""Judging on a terminal: the picture in colored half blocks, its path, one key for an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
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

KEYS: Mapping[str, str] = MappingProxyType(
    {
        **{"r": "relevant", "p": "partly", "n": "not", "2": "relevant", "1": "partly", "0": "not"},
        **{"s": "skip", "u": "undo", "o": "open", "q": "quit"},
    }
)
HELP = "r relevant  p partly  n not  s skip  u undo  o open  q quit"
WIDEST, NARROWEST = 56, 16
"""Columns of a preview."""


class TerminalJudge:
    """Asks a person at a terminal.

    Args:
        judging: what is judged.
        console: of Rich, to print on.
        read_key: waits for a key and gives it.
        open_picture: shows a picture, given by path or URL, in a program of its own.
    """

    def __init__(
        self,
        judging: Judging,
        console: Console,
        read_key: Callable[[], str],
        open_picture: Callable[[str], object],
    ) -> None:
        self._judging = judging
        self._session = judging.session
        self._console = console
        self._read_key = read_key
        self._open = open_picture
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
                action = KEYS.get(self._read_key().lower())
            except (KeyboardInterrupt, EOFError):
                return
            if action == "quit":
                return
            if self._act(action, asked):
                shown = None

    def _act(self, action: str | None, asked: Candidate) -> bool:
        """Do what a key says; gives whether the picture should be shown again."""
        if action is None:
            self._say(HELP)
        elif action == "open":
            self._open(self._judging.uri(asked.document))
        elif action == "skip":
            self._session.skip()
            self._say("skipped")
        elif action == "undo":
            undone = self._session.undo()
            self._say("taken back" if undone else "nothing to take back in this session")
            return undone
        else:
            self._session.judge(action)
            self._say(action)
        return False

    def _show(self, asked: Candidate) -> None:
        if asked.query != self._query:
            self._query = asked.query
            self._show_query(asked.query)
        progress = self._session.progress
        self._console.print(
            f"{progress.judged:,} of {progress.total:,} judged; picture {progress.place} of "
            f"{progress.of_query}, query {progress.query_place} of {progress.queries}",
            style="dim",
        )
        self._show_picture(self._judging.uri(asked.document))
        self._say(HELP)

    def _show_query(self, query: str) -> None:
        from rich.rule import Rule
        from rich.text import Text

        picture = self._judging.query_picture(query)
        text = Text(printable(self._judging.query_text(query)), "bold")
        self._console.print(Rule(Text("Query: ") + text))
        if picture is not None:
            self._show_picture(picture)

    def _show_picture(self, uri: str) -> None:
        from rich.text import Text

        if self._console.is_terminal:
            self._console.print(preview(uri, min(WIDEST, self._console.width)))
        target = uri if "://" in uri else Path(uri).as_uri()
        self._console.print(Text(printable(uri), f"link {target}"), soft_wrap=True)

    def _say(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)


def preview(uri: str, columns: int) -> RenderableType:
    """A picture in half blocks, two pixels to a character; or why it cannot be shown."""
    from rich.text import Text

    width = max(columns, NARROWEST)
    try:
        return _blocks(shrink(uri, width))
    except (ImgsearchError, OSError, ValueError) as error:
        why = reason(error) if isinstance(error, ImgsearchError) else str(error)
        return Text(f"(no preview: {printable(why)})", "dim")


def _blocks(image: Image.Image) -> Text:
    from rich.text import Text

    if image.height % 2:
        image = image.crop((0, 0, image.width, image.height + 1))
    pixels = image.tobytes()
    text, row = Text(no_wrap=True), 3 * image.width

    def color(at: int) -> str:
        return f"#{pixels[at]:02x}{pixels[at + 1]:02x}{pixels[at + 2]:02x}"

    for top in range(0, len(pixels), 2 * row):
        for at in range(top, top + row, 3):
            text.append("▀", f"{color(at)} on {color(at + row)}")
        text.append("\n")
    return text
