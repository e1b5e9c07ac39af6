"""Numbers, names and titles as people read them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.interfaces.gallery.protocols import QueryLike
from imgsearch_es.pictures.files import filename

if TYPE_CHECKING:
    from PIL import Image


def number(value: float) -> str:
    """A score for reading: three decimals, fewer for large ones, exponent for tiny ones."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}".replace("-", "−")


def words(key: str) -> str:
    """A synset's key for reading: ``golden_retriever`` is "golden retriever"."""
    return key.replace("_", " ")


def title(query: QueryLike) -> str:
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
