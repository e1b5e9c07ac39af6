"""What documents keep of their pictures beside the analysis, and what pictures get of theirs.

Thumbnails for Kibana are made when a picture is written; they, EXIF and XMP, and colors are read
again when an index is rebuilt; the text in pictures is read by RapidOCR (extra ``ocr``) when asked.
Synsets go into XMP sidecars for photo programs. No classifier runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.filters import whole_of
from imgsearch_es.analysis.terms import colors_of
from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    ImgsearchError,
    MissingDependencyError,
    needed,
)
from imgsearch_es.pictures.files import in_memory, reason, to_path
from imgsearch_es.pictures.images import open_image, photo_of
from imgsearch_es.pictures.photo import NO_PHOTO, Photo, kept
from imgsearch_es.pictures.sidecars import HIERARCHY, SUBJECT, SidecarError, tag
from imgsearch_es.pictures.thumbnails import kept_thumbnail
from imgsearch_es.pictures.turns import Turn
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document, without_thumbnails
from imgsearch_es.retrieval.ledger import reasons
from imgsearch_es.retrieval.traces import TRACE, most_trace
from imgsearch_es.stores.base import Store, known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary

_AT_ONCE = 4
"""Pictures that are decoded at once, as Pillow does beside other threads."""
_TOGETHER = 16
"""Pictures that are read before they are stored: some seconds' work."""
_LONGEST = 8_000
"""Characters of a picture's text, which a store takes in any writing."""
_THINNEST = 8
"""Times that a picture is as long as it is wide, at most: the shorter side is scaled to 736 pixels,
so one of 1 x 1,200 took all memory. Thinner ones get a white margin."""

Tell = Callable[[str, Sequence[str]], None]
"""Called with the path of a picture whose sidecar changes, and its words."""


def with_thumbnails(documents: Sequence[Document], side: int) -> list[Document]:
    """Documents with thumbnails of this longer side, made anew of pictures that can be read.

    0 takes them away.
    """
    if not side:
        return without_thumbnails(documents)
    with ThreadPoolExecutor(_AT_ONCE, "imgsearch-thumbnail") as pool:
        made = pool.map(lambda document: kept_thumbnail(document.uri, side), documents)
        return [
            replace(each, thumbnail=one or each.thumbnail)
            for each, one in zip(documents, made, strict=True)
        ]


def check_thumbnails(store: Store, side: int, location: str) -> None:
    """Refuse thumbnails that a person asks for and nobody would see, by the name of the index."""
    if side and not store.keeps_thumbnails:
        raise ConfigurationError(
            f"{location} cannot keep thumbnails: they are for Kibana, in an index on "
            "Elasticsearch that is not lean; leave thumbnails out"
        )


def read_again(
    documents: list[Document],
    *,
    photo: str | None,
    side: int | None,
    analyzer: Callable[[], Analyzer] | None,
    convert: Callable[[list[Document]], list[Document]] | None,
    unread: dict[str, str],
) -> list[Document]:
    """Documents with what is to be kept of their pictures; None leaves what they have.

    That is ``photo``, what of how they were taken, and thumbnails of a ``side``. By ``analyzer``
    colors are seen where a document has none; ``convert`` follows. ``unread`` gets by URI why a
    photo cannot be read again.
    """
    if photo is not None:
        documents = _with_photos(documents, photo, unread)
    if side is not None:
        documents = with_thumbnails(documents, side)
    if analyzer is not None:
        documents = _with_colors(documents, analyzer)
    return documents if convert is None else convert(documents)


def _with_photos(documents: list[Document], what: str, unread: dict[str, str]) -> list[Document]:
    """Read again where the file is as it was; the others keep what they have."""

    def again(document: Document) -> Photo:
        try:
            return photo_of(document.uri, document.sha256)
        except ImageError as error:
            unread[document.uri] = error.reason
        except MissingDependencyError as error:  # of a URL
            unread[document.uri] = str(error)
        return document.photo

    if what == "nothing":
        return [replace(document, photo=NO_PHOTO) for document in documents]
    return [replace(document, photo=kept(again(document), what)) for document in documents]


def _with_colors(documents: list[Document], analyzer: Callable[[], Analyzer]) -> list[Document]:
    """Where they have none and the file is as it was."""

    def colored(document: Document) -> Document:
        if document.colors or not document.is_read or in_memory(document.uri):
            return document
        with Turn() as turn:
            try:
                picture = analyzer().open(document.uri, admit=turn.admit)
            except ImgsearchError:  # nor may an analyzer be here, whose index can still be copied
                return document
            if picture.sha256 != document.sha256:
                return document
            pixels = analyzer().prepare(picture.image)
        return replace(document, colors=colors_of(whole_of(pixels)))

    with ThreadPoolExecutor(_AT_ONCE, "imgsearch-colors") as threads:
        return list(threads.map(colored, documents))


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
        return {**asdict(self), "rejected": reasons(self.rejected)}


def read_texts(
    store: Store, filters: Sequence[Filter], progress: Callable[[int, int], None]
) -> TextReport:
    """Read the text in all pictures that meet conditions and whose text is not known.

    What was read is stored every few pictures, so a run that is interrupted goes on where it was.
    """
    rapidocr = needed("rapidocr", "reading the text in pictures needs rapidocr", "ocr")
    report, engine = TextReport(), rapidocr.RapidOCR(params={"Global.log_level": "critical"})
    unread = [item.id for item in store.documents(filters) if item.text is None and item.is_read]
    for done in range(0, len(unread), _TOGETHER):
        progress(done, len(unread))
        read = {}
        for document in store.get(unread[done : done + _TOGETHER]).values():
            try:
                read[document.id] = document.sha256, _text_of(document, engine)
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


def _text_of(document: Document, engine: Any) -> str:
    """The lines of text in its picture, from top to bottom; "" where there are none."""
    if in_memory(document.uri):
        raise ImageError(document.uri, "it came from memory and cannot be read again")
    picture = open_image(document.uri)
    if picture.sha256 != document.sha256:
        raise ImageError(document.uri, "the file is another one than was indexed: index it again")
    image = picture.image
    least = -(-max(image.size) // _THINNEST)
    if min(image.size) < least:
        whole = Image.new("RGB", (max(image.width, least), max(image.height, least)), "white")
        whole.paste(image)
        image = whole
    try:
        found = engine(np.asarray(image)[:, :, ::-1])  # it takes the order of OpenCV
    except Exception as error:  # RapidOCR has its own kinds, as of thin pictures
        raise ImageError(document.uri, f"RapidOCR cannot read it: {reason(error)}") from error
    return "\n".join(found.txts or ())[:_LONGEST]


@dataclass(slots=True)
class TagReport:
    """What was written.

    Attributes:
        pictures: how many were looked at.
        written: sidecars that changed, or would change.
        refused: (uri, reason) of pictures that got none.
    """

    pictures: int = 0
    written: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "refused": reasons(self.refused)}


def write_sidecars(
    store: Store, filters: Sequence[Filter], *, dry_run: bool, tell: Tell
) -> TagReport:
    """See ``ImageIndex.tag``."""
    settings = known_settings(store)
    vocabulary, report = settings.vocabulary, TagReport()
    trace = TRACE if settings.has_posteriors else 0.0
    for document in store.documents(filters):
        report.pictures += 1
        path = to_path(document.uri)
        if path is None or not path.is_file():
            why = "no file of this machine" if path is None else "the file is gone"
            report.refused.append((document.uri, why))
            continue
        words = words_of(document, vocabulary, trace)
        try:
            if tag(path, words, is_raw=document.format == "RAW", dry_run=dry_run):
                report.written += 1
                tell(str(path), words[SUBJECT])
        except SidecarError as error:
            report.refused.append((document.uri, str(error)))
    return report


def words_of(document: Document, vocabulary: Vocabulary, trace: float) -> dict[str, list[str]]:
    """What a picture has more of than a trace, best first: the words, and what is above each."""
    keys = [
        term.key
        for term in sorted(document.terms, key=lambda term: -term.score)
        if term.key in vocabulary and term.score > most_trace(vocabulary, [term.key], trace)
    ]
    paths = (_path(key, vocabulary) for key in keys)
    return {
        SUBJECT: [vocabulary[key].title for key in keys],
        HIERARCHY: ["|".join(path) for path in paths if len(path) > 1],
    }


def _path(key: str, vocabulary: Vocabulary) -> list[str]:
    """A synset below its hypernyms, but those that stand above half of the vocabulary."""
    known = {synset.key: synset for synset in (vocabulary[key], *vocabulary.hypernyms(key))}
    path = [key]
    while (above := vocabulary.parents.get(path[-1])) and 2 * len(
        vocabulary.hyponyms(above[0])
    ) < len(vocabulary):
        path.append(above[0])
    return [known[each].title.replace("|", "/") for each in reversed(path)]
