"""The only way from a request to a file: pictures of the index by id, and what was uploaded."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.decoding import LARGE
from imgsearch_es.errors import ImageError, QueryError
from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.server.thumbnail_cache import ThumbnailCache
from imgsearch_es.interfaces.server.uploads import (
    LARGEST,
    Checker,
    UnknownPictureError,
    Upload,
    Uploads,
)
from imgsearch_es.interfaces.server.uploads import NAME as UPLOAD_NAME
from imgsearch_es.pictures.archives import split_uri
from imgsearch_es.pictures.files import Limits, content_hash, in_memory, read_bytes, to_path
from imgsearch_es.retrieval.documents import Document

T = TypeVar("T")

SIZES = (240, 480, LARGEST)
"""The longer side of the thumbnails that there are, in pixels."""
ID = re.compile(r"[0-9a-f]{32}")
MEDIA_TYPES = {
    "AVIF": "image/avif", "BMP": "image/bmp", "GIF": "image/gif", "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2", "PNG": "image/png", "PPM": "image/x-portable-pixmap",
    "TIFF": "image/tiff", "WEBP": "image/webp",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A JPEG file, what names its content, and whether it was in the cache."""

    data: bytes
    etag: str
    was_there: bool


class Pictures:
    """Reads pictures for requests.

    Every byte that leaves belongs to a picture of the index: the document says where the file is
    and which hash it had when it was indexed, and what has another hash is not served.

    Args:
        index: says which pictures there are.
        uploads: the pictures that people search by.
        cache: of thumbnails.
        drawer: makes them.
        roots: folders that files must lie in; see `ServerSettings.roots`.
    """

    def __init__(
        self,
        index: ImageIndex,
        uploads: Uploads,
        cache: ThumbnailCache,
        drawer: Checker,
        roots: tuple[Path, ...] = (),
    ) -> None:
        self._index = index
        self._uploads = uploads
        self._cache = cache
        self._drawer = drawer
        self._roots = tuple(_real(root) for root in roots)

    def find(self, name: str) -> Document | Upload:
        """An indexed or an uploaded picture by its id.

        Raises:
            UnknownPictureError: there is none, or an upload was forgotten.
        """
        if UPLOAD_NAME.fullmatch(name):
            return self._uploads.get(name)
        if not ID.fullmatch(name):
            raise UnknownPictureError(name)
        try:
            return self._index.get(name)
        except QueryError as error:
            raise UnknownPictureError(name) from error

    def document(self, name: str) -> Document:
        """An indexed picture by its id.

        Raises:
            UnknownPictureError: there is none.
        """
        found = self.find(name) if ID.fullmatch(name) else None
        if not isinstance(found, Document):
            raise UnknownPictureError(name)
        return found

    def read(self, picture: Document | Upload) -> bytes:
        """The bytes of a picture's file.

        Raises:
            ImageError: it is gone, has changed since it was indexed, or lies where the server
                must not read.
        """
        if isinstance(picture, Upload):
            return picture.data
        data = self._readable(picture, read_bytes)
        if hashlib.sha256(data).hexdigest() != picture.sha256:
            raise _changed(picture)
        return data

    def opened(self, picture: Document | Upload) -> bytes | NDArray[np.uint8]:
        """A picture to make views of: its file, or the pixels of a smaller copy where it is large.

        Raises:
            ImageError: the picture cannot be read.
        """
        data = self.read(picture)
        return self._drawer.small(data) if picture.width * picture.height > LARGE else data

    def thumbnail(self, picture: Document | Upload, size: int) -> Thumbnail:
        """A small JPEG, at most ``size`` pixels wide and high.

        Whatever the cache has, the file is read and checked first: one that is gone, has changed or
        is no longer served is not shown.

        Raises:
            ImageError: the picture cannot be read.
            QueryError: there is no such size.
        """
        if size not in SIZES:
            raise QueryError(f"thumbnails have {', '.join(map(str, SIZES))} pixels, not {size}")

        def make() -> bytes:
            return self._drawer.thumbnail(self.read(picture), size)

        if isinstance(picture, Upload):
            return Thumbnail(make(), f'"{picture.id}-{size}"', False)
        if self._readable(picture, content_hash) != picture.sha256:
            raise _changed(picture)
        key = f"{picture.sha256}-{size}"
        data, was_there = self._cache.get(key, make)
        return Thumbnail(data, f'"{key}"', was_there)

    def is_allowed(self, path: Path) -> bool:
        """Whether a file or folder lies in one of the roots, wherever links lead."""
        real = _real(path)
        return any(real.is_relative_to(root) for root in self._roots)

    def _readable(self, picture: Document, read: Callable[[str, Limits], T]) -> T:
        """What reading a picture's file gives, if it is where the server may read."""
        if in_memory(picture.uri):
            raise ImageError(picture.filename, "was added from memory; the index keeps no pixels")
        self._check_place(picture)
        try:
            return read(picture.uri, Limits(max_bytes=max(1, picture.bytes)))
        except ImageError as error:
            raise ImageError(picture.filename, error.reason) from error  # without its folder

    def _check_place(self, picture: Document) -> None:
        """Refuse a file outside the roots, and a link that leads there."""
        inside = split_uri(picture.uri)
        path = to_path(inside[1] if inside else picture.uri)
        if path is None:
            return  # remote: the person who indexed it chose it, and the hash is checked
        if self._roots:
            allowed = self.is_allowed(path)
        else:
            allowed = _real(path).is_relative_to(_real(path.parent))
        if not allowed:
            raise ImageError(picture.filename, "lies outside the folders that are served")


def _real(path: Path) -> Path:
    """Where a path leads; one that leads in circles, which cannot be opened, to itself."""
    return Path(os.path.realpath(path))


def _changed(picture: Document) -> ImageError:
    return ImageError(picture.filename, "has changed since it was indexed")
