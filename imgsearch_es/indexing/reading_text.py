"""A second pass over an index: the text in its pictures is read, and stored with them.

By RapidOCR, whose models come in its package (extra ``ocr``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from imgsearch_es.errors import ImageError, MissingDependencyError, needed
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.files import in_memory, reason
from imgsearch_es.pictures.images import open_image
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import reasons
from imgsearch_es.stores.base import Store

_TOGETHER = 16
"""Pictures that are read before they are stored: some seconds' work."""
_LONGEST = 8_000
"""Characters of a picture's text, which a store takes in any writing."""
_THINNEST = 8
"""Times that a picture is as long as it is wide, at most: the shorter side is scaled to 736 pixels,
so one of 1 x 1,200 took all memory. Thinner ones get a white margin."""


@dataclass(slots=True)
class TextReport:
    """What became of pictures that nobody had looked at: how many have text, and how many none.

    ``rejected`` are those that could not be read, as (uri, reason); the next run tries them again.
    """

    with_text: int = 0
    without_text: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        counts = {"with_text": self.with_text, "without_text": self.without_text}
        return {**counts, "rejected": reasons(self.rejected)}


def read_texts(
    store: Store, filters: Sequence[Filter], progress: Callable[[int, int], None]
) -> TextReport:
    """Read the text in all pictures that meet conditions and whose text is not known.

    What was read is stored every few pictures, so a run that is interrupted goes on where it was.
    """
    report, reader = TextReport(), TextReader()
    unread = [item.id for item in store.documents(filters) if item.text is None and item.is_read]
    for done, ids in enumerate(chunks(unread, _TOGETHER)):
        progress(done * _TOGETHER, len(unread))
        read = {}
        for document in store.get(ids).values():
            try:
                read[document.id] = document.sha256, _text_of(document, reader)
            except ImageError as error:
                report.rejected.append((document.uri, error.reason))
            except MissingDependencyError as error:  # of a URL
                report.rejected.append((document.uri, str(error)))
        _store(store, read, report)
    store.finish()
    progress(len(unread), len(unread))
    return report


def _store(store: Store, read: Mapping[str, tuple[str, str]], report: TextReport) -> None:
    """Give documents the texts that were read of pictures with these hashes."""
    texts: dict[str, str] = {}

    def changed(document: Document) -> Document:
        sha256, text = read[document.id]
        if document.sha256 != sha256:
            return document
        texts[document.id] = text
        return document if document.text == text else replace(document, text=text)

    report.rejected += store.change(list(read), changed).rejected
    with_text = sum(map(bool, texts.values()))
    report.with_text += with_text
    report.without_text += len(texts) - with_text


class TextReader:
    """Reads what stands in pictures.

    Raises:
        MissingDependencyError: RapidOCR is not installed.
    """

    def __init__(self) -> None:
        rapidocr = needed("rapidocr", "reading the text in pictures needs rapidocr", "ocr")
        self._engine = rapidocr.RapidOCR(params={"Global.log_level": "critical"})

    def read(self, image: Image.Image) -> str:
        """The lines of text in an RGB picture, from top to bottom; "" where there are none."""
        least = -(-max(image.size) // _THINNEST)
        if min(image.size) < least:
            whole = Image.new("RGB", (max(image.width, least), max(image.height, least)), "white")
            whole.paste(image)
            image = whole
        found = self._engine(np.asarray(image)[:, :, ::-1])  # it takes the order of OpenCV
        return "\n".join(found.txts or ())[:_LONGEST]


def _text_of(document: Document, reader: TextReader) -> str:
    if in_memory(document.uri):
        raise ImageError(document.uri, "it came from memory and cannot be read again")
    picture = open_image(document.uri)
    if picture.sha256 != document.sha256:
        raise ImageError(document.uri, "the file is another one than was indexed: index it again")
    try:
        return reader.read(picture.image)
    except Exception as error:  # RapidOCR has its own kinds, as of thin pictures
        raise ImageError(document.uri, f"RapidOCR cannot read it: {reason(error)}") from error
