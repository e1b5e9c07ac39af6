"""How hits leave the command line: the ranked table, paths, CSV, files in a folder."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.interfaces.cli.output import answer, print_line, print_table, say

if TYPE_CHECKING:
    from imgsearch_es.retrieval.queries import Query
    from imgsearch_es.search.hit import Hit
    from imgsearch_es.search.hits import Hits


@dataclass(frozen=True)
class Taken:
    """How hits leave.

    Output:
        --html FILE: Write a gallery page.
        --paths: Print nothing but the path of each picture, or its URI, a line each.
        --null, -0: The same with a null character after each, as xargs -0 reads them.
        --csv: Print the hits as CSV, which `imgsearch index --from` reads.
        --copy-to FOLDER: Copy the pictures into a folder; nothing is written over.
        --link-to FOLDER: Put symbolic links to the pictures into a folder.
    """

    html: str | None = None
    paths: bool = False
    null: bool = False
    csv: bool = False
    copy_to: str | None = None
    link_to: str | None = None

    @property
    def prints(self) -> bool:
        """Whether hits are printed for programs, in place of the table."""
        return self.paths or self.null or self.csv

    def print_path(self, hit: Hit) -> None:
        """The path as the system has it: its bytes may be no text."""
        end = b"\0" if self.null else b"\n"
        sys.stdout.buffer.write(os.fsencode(hit.path or hit.uri) + end)

    def take(self, hits: Hits) -> list[str]:
        """Write the page, copy and link; gives what to say of it."""
        said = []
        for folder, put in ((self.copy_to, hits.copy_to), (self.link_to, hits.link_to)):
            if folder is not None:
                said.append(f"{len(put(folder))} pictures in {folder}")
        return said if self.html is None else [*said, f"gallery: {hits.to_html(self.html)}"]

    def print(self, hits: Hits) -> None:
        """Print hits for programs."""
        if self.csv:
            sys.stdout.write(hits.to_csv())
            return
        sys.stdout.flush()
        for hit in hits:
            self.print_path(hit)
        sys.stdout.buffer.flush()


def print_hit(hit: Hit, query: Query) -> None:
    """A line as hits come."""
    from imgsearch_es.interfaces.gallery import number

    if not answer(hit, indent=None):
        second = number(hit.score) if query.sort is None else _sorted_by(hit, query.sort)
        print_line(f"{hit.rank:>7}  {second:>7}  {short(hit.path or hit.uri)}")


def print_hits(hits: Hits) -> None:
    """Print the ranked table."""
    from imgsearch_es.interfaces.gallery import number, traces

    if len(hits):
        sort = hits.query.sort
        rows = [
            (
                hit.rank,
                number(hit.score) if sort is None else _sorted_by(hit, sort),
                short(hit.path or hit.uri),
                _telling(hit, hits.query),
            )
            for hit in hits
        ]
        second = "score" if sort is None else sort.removeprefix("-")
        print_table(("rank", second, "picture", "synsets"), rows, right=("rank", "score"))
        exact = ", exact" if hits.exact else ", not exact"
        more = "" if hits.total_is_exact else " or more"
        shown = f"{len(hits)} of " if len(hits) < hits.total else ""
        follow = f"; {traces(hits)}" if traces(hits) else ""
        say(f"{shown}{hits.total:,}{more} for {hits.query}{follow}  ({hits.took_ms:.0f} ms{exact})")
    else:
        say(f"no picture matches {hits.query}")
    say(*(f"hint: {hint}" for hint in hits.query.hints))


def _sorted_by(hit: Hit, sort: str) -> str:
    from imgsearch_es.retrieval.conditions import METADATA, order

    field, _ = order(sort)
    if field.startswith(METADATA):
        return str(hit.metadata.get(field.removeprefix(METADATA), ""))
    value = hit.photo.taken_at if field == "taken_at" else getattr(hit.document, field)
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else str(value or "")


def _telling(hit: Hit, query: Query) -> str:
    """The three synsets that make most of the score, then the picture's best."""
    weights = {term.key: term.score for term in query.terms}
    terms = sorted(hit.synsets, key=lambda t: (-weights.get(t.key, 0.0) * t.score, -t.score))
    return ", ".join(f"{term.key} {term.score:.2f}" for term in terms[:3])


def short(place: Path | str) -> str:
    """A path as seen from here, when it is below here."""
    if isinstance(place, Path) and place.is_relative_to(Path.cwd()):
        place = place.relative_to(Path.cwd())
    return str(place)
