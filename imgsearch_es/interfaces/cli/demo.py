"""``imgsearch demo``: the whole way from photos to a gallery, in one command."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.index import show_progress
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, print_json, say
from imgsearch_es.interfaces.cli.search import print_hits


def demo(
    folder: Annotated[
        Path, typer.Option(metavar="DIR", help="Where photos, index and gallery go.")
    ] = Path("demo"),
    index: IndexOption = None,
    model: Annotated[str, typer.Option("--model", "-m", help="The classifier.")] = (
        "efficientnet-lite0"
    ),
    json: JsonOption = False,
) -> None:
    """Try it on some photos: index and search them.

    The photos are those that scikit-image carries, and variants made of them.

    Needs no network: the classifier's weights come with the installation.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.pictures.demo import QUERY_PICTURE, QUERY_WORDS, make_photos

    photos = make_photos(folder / "photos")
    with ImageIndex(index or str(folder / "photos.duckdb"), model=model) as target:
        with show_progress(quiet=json) as progress:
            report = target.add(photos, labels=_kind, progress=progress)
        by_picture = target.search(image=photos / QUERY_PICTURE, k=8)
        by_words = target.search(text=QUERY_WORDS, k=8)
        pages = [
            by_picture.to_html(folder / "by-picture.html"),
            by_words.to_html(folder / "by-words.html"),
        ]
        location = target.location
    if json:
        found = {"by_picture": by_picture.to_dict(), "by_words": by_words.to_dict()}
        print_json({"index": report.to_dict(), **found, "galleries": [str(p) for p in pages]})
        return
    say(f"{location}: {report}")
    for hits, title in ((by_picture, f"by picture: {QUERY_PICTURE}"), (by_words, "by words")):
        say("")
        say(title)
        print_hits(hits)
    say("")
    say("galleries, to open in a browser:")
    for page in pages:
        say(f"  {page}")
    say("")
    say("your own pictures:")
    command = _command()
    say(f"  {command} index FOLDER --index pets.duckdb --model {model}")
    say(f"  {command} search tabby cat --index pets.duckdb --html cats.html")


def _command() -> str:
    """How to call this program from here: by its name where that finds it, else by its path."""
    program = Path(sys.argv[0]).absolute()
    if shutil.which("imgsearch") or program.name != "imgsearch":
        return "imgsearch"
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)


def _kind(uri: str) -> str:
    """The part of a demo photo's name that says how it was made."""
    return Path(uri).stem.rpartition("-")[2] if "-" in Path(uri).stem else "original"
