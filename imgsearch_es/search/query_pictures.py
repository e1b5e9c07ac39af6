"""Pictures in queries: read from the index where they are, else opened and analyzed together."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgsearch_es.analysis.analyzer import Analyzer
from imgsearch_es.analysis.embedding_filters import run_embedding_filters
from imgsearch_es.analysis.filters import Preparation, Resize, whole_of
from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.indexing import BATCH_SIZE
from imgsearch_es.indexing.relocating import below
from imgsearch_es.pictures.files import (
    beginnings,
    in_memory,
    picture_id,
    read_bytes,
    to_path,
    to_uri,
)
from imgsearch_es.pictures.images import ImageSource, Picture, open_image
from imgsearch_es.pictures.sources import is_picture, is_picture_name, is_table
from imgsearch_es.pictures.turns import Turn
from imgsearch_es.retrieval.conditions import Filter, parse_filters
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.feedback import (
    Example,
    Region,
    crop,
    mean_embedding,
    mean_terms,
    views_of,
)
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.spans import wildcard_matches
from imgsearch_es.search.hit import Hit
from imgsearch_es.stores.base import Store, known_settings


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A picture whose pixels are ready for the model, as `Analyzer.prepare` gives them."""

    uri: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A picture by its URI that somebody has read: its bytes or pixels."""

    uri: str
    source: bytes | NDArray[np.uint8]


QueryImage = ImageSource | Hit | Document | Prepared | Opened
"""A picture in a query: a source of one, a path, the id or URI of one in the index, or a hit."""
QueryImages = QueryImage | Iterable[QueryImage]
"""One or several."""

Named: TypeAlias = str | os.PathLike[str] | Hit | Document
"""A picture of the index: by id, URI, path or hit."""

_Shots: TypeAlias = tuple[str, str | Image.Image, list[NDArray[np.uint8]]]
"""A picture's URI, what is shown of it, and the pixels of its views."""

_SIDE, _SHOWN = 4096, 1024
"""A query picture with a longer side is large: views are made of one of this side at most, and hits
keep one of the second to show."""
_ID = re.compile(r"[0-9a-f]{32}")
_SYNTAX = re.compile(r'[:"*?^<>]')
"""What only the query language has, and no name of a picture."""


class PictureReader:
    """Reads the pictures of a query; only where one has to be analyzed it asks for the analyzer."""

    def __init__(self, store: Store, analyzer: Callable[[], Analyzer]) -> None:
        self._store = store
        self._analyzer = analyzer

    def read(
        self,
        images: Sequence[QueryImage],
        region: Region | None = None,
        views: Sequence[str] = (),
    ) -> list[Example]:
        """Read query pictures: from the index where they are, else some together by the analyzer.

        Parts and views are of pixels, so with them every picture is analyzed. Pictures have the
        terms that they ask with.
        """
        keys = {
            i: to_id(image)
            for i, image in enumerate(images)
            if isinstance(image, str | os.PathLike | Hit | Document)
        }
        stored = self._store.get(list(dict.fromkeys(keys.values()))) if keys else {}
        examples: dict[int, Example] = {}
        opened: dict[int, _Shots] = {}
        for i, image in enumerate(images):
            if sum(len(shots) for *_, shots in opened.values()) >= BATCH_SIZE:
                examples |= self._analyzed(opened)
                opened.clear()  # so that no more pixels are kept, however many pictures there are
            if isinstance(image, Prepared):
                pixels = whole_of(image.pixels)
                opened[i] = image.uri, Image.fromarray(pixels), [image.pixels]
                continue
            known = stored.get(keys.get(i, ""))
            named = isinstance(image, str | os.PathLike)
            plain = region is None and not views
            if known and plain and (not named or _is_unchanged(known)):
                examples[i] = Example(known.uri, known.terms, known.embedding, known.uri)
                continue
            with Turn() as turn:
                picture = self._open(image, known, turn, whole=not plain)
                part = picture.image if region is None else crop(picture.image, region)
                part = _bounded(part, _SIDE) if views else part
                by_name = region is None and i in keys
                shots = [self._analyzer().prepare(shot) for shot in views_of(part, views)]
                uri = image.uri if isinstance(image, Opened) else picture.uri
                opened[i] = uri, picture.uri if by_name else _bounded(part, _SHOWN), shots
                del picture, part
        examples |= self._analyzed(opened)
        found = [examples[i] for i in range(len(images))]
        return known_settings(self._store).asking(found) if found else []

    def _analyzed(self, opened: Mapping[int, _Shots]) -> dict[int, Example]:
        """What the model sees in pictures: of each the mean of its views."""
        every = [shot for *_, group in opened.values() for shot in group]
        analyses = (
            analysis
            for first in range(0, len(every), BATCH_SIZE)
            for analysis in self._analyzer().analyze_prepared(every[first : first + BATCH_SIZE])
        )
        examples = {}
        for i, (uri, shown, group) in opened.items():
            mine = [next(analyses) for _ in group]
            vectors = [one.embedding for one in mine if one.embedding is not None]
            embedding = mean_embedding(vectors) if vectors else None
            terms = mean_terms([one.terms for one in mine])
            examples[i] = Example(uri, terms, embedding, shown)
        return examples

    def text_feature(self, text: str) -> NDArray[np.float32]:
        """A free text as a deep feature of this index, whose model reads texts."""
        analyzer = self._analyzer()
        vectors = cast(Any, analyzer.model).text_features([text])
        vectors = run_embedding_filters(analyzer.embedding_filters, vectors)
        return np.asarray(vectors[0], np.float32)

    def _open(
        self,
        image: ImageSource | Hit | Document | Opened,
        known: Document | None,
        turn: Turn,
        *,
        whole: bool,
    ) -> Picture:
        """A query picture, decoded as the documents were; regions and views are of the whole."""
        source: ImageSource
        if isinstance(image, Hit | Document):
            source = image.uri
        else:
            source = image.source if isinstance(image, Opened) else image
        if isinstance(source, str) and _ID.fullmatch(source) and not Path(source).exists():
            if known is None:
                raise QueryError(f"{self._store.location} has no picture with the id {source}")
            source = known.uri
        if isinstance(source, str) and in_memory(source):
            raise QueryError(
                f"{source} was added from memory and the index keeps no pixels: give the picture"
            )
        settings = None if whole else self._store.settings()  # which, unlike a model, are at hand
        at_least = Preparation.of(settings.analyzer).decode_size if settings else None
        return open_image(source, at_least=at_least, admit=turn.admit)


def _bounded(image: Image.Image, side: int) -> Image.Image:
    """A picture of which several copies are made or kept: a large one gets smaller."""
    if max(image.size) <= _SIDE:
        return image
    return Resize(longer_side=side, interpolation="bilinear")(image)


def several(pictures: QueryImages | None) -> list[QueryImage]:
    """One picture or several, or none, as a list."""
    if pictures is None:
        return []
    if is_table(pictures):  # of Hugging Face
        return [cast(QueryImage, pictures)]
    if hasattr(pictures, "to_list"):  # a Series
        return list(pictures.to_list())
    if getattr(getattr(pictures, "dtype", None), "kind", None) in ("O", "S", "U"):
        return list(cast(Any, pictures).ravel().tolist())  # an array of paths
    alone = (str, os.PathLike, bytes, bytearray, Hit, Document, Prepared, Opened)
    one = isinstance(pictures, alone) or hasattr(pictures, "read") or hasattr(pictures, "shape")
    if one or not isinstance(pictures, Iterable):
        return [cast(QueryImage, pictures)]
    return list(cast(Iterable[QueryImage], pictures))


def told_apart(store: Store, given: QueryImages) -> tuple[list[QueryImage], str | None]:
    """What is a picture of that which a person asks for without saying so, and what is words.

    A string that is a file, a URL, or a picture of the index by its id or path is a picture; other
    strings are words.
    """
    if isinstance(given, Mapping | Query):
        raise QueryError(
            f"a {type(given).__name__} is neither pictures nor words: give image=, text= or both"
            + ("; search_many runs built queries" if isinstance(given, Query) else "")
        )
    pictures, words = list[QueryImage](), list[str]()
    for item in several(given):
        if isinstance(item, str) and not _is_picture(store, item):
            words.append(item)
        else:
            pictures.append(item)
    return pictures, " ".join(words) if words else None


def _is_picture(store: Store, text: str) -> bool:
    if _ID.fullmatch(text):
        return True
    path = to_path(text)
    if path is None and not in_memory(text):
        return True
    named = is_picture_name(text) and not _SYNTAX.search(text)
    if path is not None and os.path.isfile(os.path.expanduser(path)):  # noqa: PTH111, PTH113
        return named or "/" in text or is_picture(os.fspath(path))
    if (named or "/" in text or path is None) and store.known([to_id(text)]):
        return True
    if named:
        wanted = (Filter("filename", "in", (text,)),)
        if store.search(Query((), filters=wanted, sort="uri", k=1)).total:
            return False  # a word of the query language, by which it is found
        raise QueryError(
            f"{text} is no file here and no picture of {store.location}: name a picture by "
            "image=, words by text="
        )
    return False


def name_of(picture: Named) -> str:
    """How to call a picture."""
    return picture.uri if isinstance(picture, Hit | Document) else os.fspath(picture)


def to_id(picture: Named) -> str:
    """The id of a picture given by id, URI, path or hit."""
    if isinstance(picture, Hit | Document):
        return picture.id
    if isinstance(picture, str) and _ID.fullmatch(picture):
        return picture
    return picture_id(to_uri(picture))


def each_of(pictures: Named | Iterable[Named]) -> Iterable[Named]:
    """Pictures, also one alone."""
    return [pictures] if isinstance(pictures, str | os.PathLike | Hit | Document) else pictures


def named(store: Store, pictures: Iterable[Named]) -> list[str]:
    """The ids of what paths and URIs name: pictures, those of folders, and of patterns."""
    own = {name_of(picture): to_id(picture) for picture in pictures}
    known, found = store.known(list(own.values())), dict[str, None]()
    for text, key in own.items():
        inside: Iterable[str] = (key,)
        if key not in known and text != key and set("*?") & set(text):
            inside = below(store, text) or _matching(store, text)
        elif key not in known and text != key and not is_picture_name(text):
            inside = below(store, text)
        found |= dict.fromkeys(inside)
    return list(found)


def _matching(store: Store, pattern: str) -> Iterable[str]:
    """The ids of what a pattern names; ``*`` and ``?`` in the current folder's name are none."""
    if to_path(to_uri(pattern)) is None:
        wanted = parse_filters({"uri": {"wildcard": to_uri(pattern)}})
        return store.matching(Query((), filters=wanted, sort="uri"))
    folder = next(iter(re.findall(r"^[^*?]*/", pattern)), "")
    rest = pattern[len(folder) :]
    return [
        key
        for begin in beginnings(folder or ".")
        for key, uri in store.below(begin)
        if wildcard_matches(rest, uri[len(begin) :])
    ]


def _is_unchanged(document: Document) -> bool:
    """Whether a document still speaks for its file; a file that is gone cannot contradict it."""
    if in_memory(document.uri) or not document.is_read:
        return True
    try:
        return hashlib.sha256(read_bytes(document.uri)).hexdigest() == document.sha256
    except ImageError:
        return True
