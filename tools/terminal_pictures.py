"""Makes the documentation's pictures of the terminal, and of a plot, from the demo's index.

    python tools/terminal_pictures.py

Writes docs/images/terminal-search.svg, terminal-explain.svg and plot-explain.png: what the
commands really print, as a terminal shows it. Run it again when the output looks different.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.demo import make_photos

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
QUERY = ("--image", "demo/photos/motorcycle_left.jpg", "helmet")
COMMANDS = {
    "terminal-search.svg": ("search", *QUERY, "-k", "5"),
    "terminal-explain.svg": ("explain", *QUERY, "-k", "1"),
}
WIDTH = 112
"""Columns of the terminal."""
_WEB_FONT = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = make_photos(folder / "demo" / "photos")
        with ImageIndex(folder / "photos.duckdb", model="efficientnet-lite0") as index:
            index.add(photos)
            hits = index.search(image=photos / "motorcycle_left.jpg", text="helmet")
            hits.explain(0).plot().savefig(IMAGES / "plot-explain.png", dpi=80)
        for target, arguments in COMMANDS.items():
            printed = output(folder, arguments)
            (IMAGES / target).write_text(picture(arguments, printed), encoding="utf-8")
    print(*(IMAGES / name for name in (*COMMANDS, "plot-explain.png")), sep="\n")


def output(folder: Path, arguments: tuple[str, ...]) -> str:
    """What a command prints on a terminal, with its colors."""
    settings = {"FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "IMGSEARCH_INDEX": "photos.duckdb"}
    done = subprocess.run(
        [sys.executable, "-m", "imgsearch_es", *arguments],
        cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.replace(f"{folder}/", "")


def picture(arguments: tuple[str, ...], printed: str) -> str:
    """The terminal as SVG, with the reader's own fonts instead of fetched ones."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"$ imgsearch {' '.join(arguments)}\n{printed.rstrip()}"))
    svg = console.export_svg(title="imgsearch", theme=MONOKAI, unique_id="terminal")
    plain = _WEB_FONT.sub("", svg).replace("Fira Code, ", "")
    return re.sub(r"[ \t]+$", "", plain, flags=re.MULTILINE).rstrip() + "\n"


if __name__ == "__main__":
    main()
