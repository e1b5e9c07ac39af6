"""Titles, sums and links as people read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.interfaces.html import words
from imgsearch_es.pictures.files import filename

if TYPE_CHECKING:
    from PIL import Image

    from imgsearch_es.retrieval.queries import Query
    from imgsearch_es.search.hits import Hits


def title(query: Query) -> str:
    """A line for a person; synsets given as such have no words, and are named themselves."""
    shown = str(query).removeprefix("words: ")
    return shown or ", ".join(words(term.key) for term in query.terms[:3])


def link(uri: str) -> str | None:
    """A link to a file or web page; None for a URI that a browser should not be sent to."""
    if uri.lower().startswith(("http://", "https://", "file://")):
        return uri
    return Path(uri).as_uri() if Path(uri).is_absolute() else None


def basename(source: str | Image.Image) -> str:
    """The file name of a picture; empty for one in memory."""
    return filename(source) if isinstance(source, str) else ""


def matches(hits: Hits) -> str:
    """How many pictures match, for people; "or more" where counting was ended early."""
    more = "" if hits.total_is_exact else " or more"
    return f"{hits.total:,}{more} match{'' if hits.total == 1 else 'es'}"


def summary(hits: Hits, shown: int) -> str:
    """How many pictures match, and how they were found."""
    took = f"{hits.took_ms:.1f}" if hits.took_ms < 100 else f"{hits.took_ms:,.0f}"
    parts = (
        matches(hits) if shown >= hits.total else f"{shown:,} of {matches(hits)}",
        hits.strategy,
        "exact" if hits.exact else "approximate",
        f"{took} ms",
    )
    return " · ".join(part for part in parts if part)
