"""``%imgsearch`` in IPython and Jupyter: a search on one line, its gallery below.

%load_ext imgsearch_es
%imgsearch "tabby cat" --index pets.duckdb -k 8
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser, argument, magic_arguments

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.retrieval.tokens import complete

DEFAULT = "index"
"""The variable that is searched unless --index says otherwise."""
_EXCLUDED = re.compile(r"-(?!-|[iks]$|k\d+$)\D")
"""A word to leave out, not an option; with a space before it argparse takes it for a word."""


@magics_class
class ImgsearchMagics(Magics):
    """The magic, and the indexes that it opened by their location."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell=shell)
        self._opened: dict[tuple[str, Path], ImageIndex] = {}

    @magic_arguments()
    @argument("words", nargs="*", help="Words and conditions: tabby cat, 'dog -poodle width:>800'")
    @argument(
        "-i",
        "--index",
        help="A variable that holds an ImageIndex, the path of an index, or its URL. By default "
        "the variable `index`, else IMGSEARCH_INDEX.",
    )
    @argument(
        "--image",
        action="append",
        help="A picture: a path, a URL, an indexed one's id, or a variable. May be repeated.",
    )
    @argument("-k", "--k", type=int, default=10, help="How many hits; 10 by default.")
    @argument("--offset", type=int, default=0, help="Leave out this many of the best.")
    @argument("-s", "--strategy", default="auto", help="How to score: cosine, bm25, dense-cosine.")
    @argument(
        "--exclude-self",
        action="store_true",
        default=None,
        help="Leave out the query's own pictures; the default for a picture with words.",
    )
    @argument("--browse", action="store_true", help="Show the hits in a search box instead.")
    @line_cell_magic
    def imgsearch(self, line: str, cell: str | None = None) -> Any:
        """Search an index of pictures by words, by a picture, or by both.

        As ``%%imgsearch`` the words are the rest of the cell, as they are: there quotation marks
        and minus signs need no quotation marks of their own.
        """
        try:
            arguments = shlex.split(line)
        except ValueError as error:
            where = "put a quotation mark at the end of the phrase, too"
            raise UsageError(f"{str(error).lower()}: {where}") from error
        if {"-h", "--help"} & {*arguments}:
            print(_parser().format_help())
            return None
        options = _parser().parse_intermixed_args(
            [f" {each}" if _EXCLUDED.match(each) else each for each in arguments]
        )
        words = " ".join([*options.words, cell or ""]).strip()
        try:
            index = self._index(options.index)
            if options.browse:
                return index.browse(words, k=options.k, strategy=options.strategy)
            images = [self._variable(image, image) for image in options.image or ()]
            if not words and not images:
                what = 'what to search for? Give words, --image, or both: %imgsearch "tabby cat"'
                raise UsageError(what)
            return index.search(
                image=images or None,
                text=words or None,
                k=options.k,
                offset=options.offset,
                strategy=options.strategy,
                exclude_self=options.exclude_self,
            )
        except ImgsearchError as error:
            raise UsageError(str(error)) from error

    def _index(self, name: str | None) -> ImageIndex:
        """The index of a variable, else of a location, which stays open for the next search."""
        found = self._variable(name or DEFAULT)
        if isinstance(found, ImageIndex):
            return found
        if name is not None and found is not None:
            kind = type(found).__name__
            raise UsageError(f"the variable {name} holds {kind}, not an ImageIndex")
        place = name or os.environ.get("IMGSEARCH_INDEX", ""), Path.cwd()
        if place not in self._opened:
            self._opened[place] = ImageIndex(name)
        return self._opened[place]

    def _variable(self, name: str, default: Any = None) -> Any:
        names: dict[str, Any] = {} if self.shell is None else self.shell.user_ns
        return names.get(name, default) if name.isidentifier() else default

    def complete(self, shell: InteractiveShell, event: Any) -> list[str]:
        """What may follow on the line: options, strategies, words that synsets have."""
        from imgsearch_es.vocabulary.synsets import imagenet

        line = str(event.line)
        before, _, typed = line.rpartition(" ")
        if before.endswith((" -s", " --strategy")):
            return [name for name in STRATEGIES if name.startswith(typed)]
        if typed.startswith("-"):
            names = (name for name in _parser()._option_string_actions if name[:2] == "--")
            return sorted(name for name in names if name.startswith(typed))
        try:
            named = line.partition("--index ")[2].split()
            vocabulary = self._index(named[0] if named else None).vocabulary
        except (ImgsearchError, UsageError):
            vocabulary = imagenet()
        words = line.partition(" ")[2].lstrip()  # of phrases their rest
        start = len(words) - len(typed)
        found = (whole[start:] for whole in complete(vocabulary, words) if len(whole) > start)
        return list(dict.fromkeys(rest for rest in found if rest.startswith(typed.lstrip('"'))))

    def close(self) -> None:
        for index in self._opened.values():
            index.close()
        self._opened.clear()


def load(shell: InteractiveShell) -> None:
    """Register the magic and its completion; ``%load_ext imgsearch_es`` calls it."""
    magics = ImgsearchMagics(shell)
    shell.register_magics(magics)
    shell.set_hook("complete_command", magics.complete, re_key=r"%{1,2}imgsearch\b")


def unload(shell: InteractiveShell) -> None:
    """Close what was opened, and take the magic back."""
    magics = shell.magics_manager.registry.pop("ImgsearchMagics", None)
    if magics is not None:
        magics.close()
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("imgsearch", None)


def _parser() -> MagicArgumentParser:
    parser: MagicArgumentParser = ImgsearchMagics.imgsearch.parser
    return parser
