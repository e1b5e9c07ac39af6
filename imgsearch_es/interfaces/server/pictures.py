"""The only way from a request to a file: pictures of the index by id, and what was uploaded.

Thumbnails are kept on disk: made once, and the longest unused go when the folder is full. The files
of several pictures leave as one ZIP.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TypeVar

import anyio
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from imgsearch_es.analysis.decoding import LARGE
from imgsearch_es.errors import ImageError, ImgsearchError, QueryError
from imgsearch_es.index import ImageIndex
from imgsearch_es.interfaces.server import uploads
from imgsearch_es.interfaces.server.uploads import Checker, UnknownPictureError, Upload, Uploads
from imgsearch_es.pictures.archives import split_uri
from imgsearch_es.pictures.files import Limits, content_hash, in_memory, read_bytes, to_path
from imgsearch_es.pictures.thumbnails import thumbnail
from imgsearch_es.retrieval.documents import Document

T = TypeVar("T")

SIZES = (240, 480, uploads.LARGEST)
"""The longer side of the thumbnails that there are, in pixels."""
ID = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(r"[0-9a-f]{64}-[0-9]{2,4}")
_END = b"\xff\xd9"
"""Of a JPEG file; what a power cut left has none."""
_KEEP = 0.9
"""The share of the limit that is left after cleaning up."""
_TOUCH_SECONDS = 3600.0
"""A file's time of use is kept to about an hour, so that a hit writes nothing."""
_MOST_DRAWN = 100
"""Thumbnails of uploads that are kept, each of about a megabyte at most."""
_BLOCK, _BLOCK_SECONDS = 1024**2, 60.0
"""What is sent at once of a download, and how long a client may take for it: it has one of a few
places."""
_MEDIA_TYPES = {
    "AVIF": "image/avif", "BMP": "image/bmp", "GIF": "image/gif", "JPEG": "image/jpeg",
    "JPEG2000": "image/jp2", "PNG": "image/png", "PPM": "image/x-portable-pixmap",
    "TIFF": "image/tiff", "WEBP": "image/webp",
}  # fmt: skip
_LEFT_OUT = "left out.txt"
_FIRST_YEAR, _LAST_YEAR = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
ATTACHED = {"Content-Disposition": 'attachment; filename="pictures.zip"'}
_log = logging.getLogger(__name__)


class Pictures:
    """Reads pictures for requests.

    Every byte that leaves belongs to a picture of the index: the document says where the file is
    and which hash it had when it was indexed, and what has another hash is not served. Thumbnails
    are made by ``drawer``; see `ServerSettings.roots`.
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
        self.uploads = uploads
        self._cache = cache
        self._drawer = drawer
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._roots = tuple(_real(root) for root in roots)

    def find(self, name: str) -> Document | Upload:
        """An indexed or an uploaded picture by its id."""
        return self.uploads.get(name) if uploads.NAME.fullmatch(name) else self.document(name)

    def document(self, name: str) -> Document:
        """An indexed picture by its id."""
        if not ID.fullmatch(name):
            raise UnknownPictureError(name)
        try:
            return self._index.get(name)
        except QueryError as error:
            raise UnknownPictureError(name) from error

    def documents(self, names: Sequence[str]) -> dict[str, Document]:
        """Those of several that there are."""
        self._index.count()  # an error where there is no index; another one than before is noticed
        return self._index.store.get(names)

    def read(self, picture: Document | Upload) -> bytes:
        if isinstance(picture, Upload):
            return picture.data
        data = self._readable(picture, read_bytes)
        _check_same(picture, hashlib.sha256(data).hexdigest())
        return data

    def opened(self, picture: Document | Upload) -> bytes | NDArray[np.uint8]:
        """A picture to make views of: its file, or a smaller copy's pixels where it is large."""
        data = self.read(picture)
        return self._small(data) if picture.width * picture.height > LARGE else data

    def thumbnail(self, picture: Document | Upload, size: int) -> tuple[bytes, str, bool]:
        """A JPEG, what names its content, and whether it was in the cache.

        Whatever the cache has, the file is read and checked first: one that is gone, has changed or
        is no longer served is not shown.
        """

        def make() -> bytes:
            return thumbnail(Image.fromarray(self._small(self.read(picture))), size)

        if isinstance(picture, Upload):
            key = f"{picture.id}-{size}"
            data, was_there = self._of_upload(key, make)
        else:
            _check_same(picture, self._readable(picture, content_hash))
            key = f"{picture.sha256}-{size}"
            data, was_there = self._cache.get(key, make)
        return data, f'"{key}"', was_there

    def is_allowed(self, path: Path) -> bool:
        """Whether a file or folder lies in one of the roots, wherever links lead."""
        return _is_below(path, self._roots)

    def outside(self, picture: Document) -> Path | None:
        """Where a picture's file is, if that is outside the folders that are served; else None."""
        if in_memory(picture.uri):
            return None
        inside = split_uri(picture.uri)
        path = to_path(inside[1] if inside else picture.uri)
        # Without roots a link must not lead out of its folder. A remote file was chosen by the
        # person who indexed it, and its hash is checked.
        if path is None or _is_below(path, self._roots or (_real(path.parent),)):
            return None
        return _real(path)

    def _of_upload(self, key: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """The same, kept in memory only; the longest unused are forgotten."""
        data = self._drawn.pop(key, None)
        found = (make(), False) if data is None else (data, True)
        self._drawn[key] = found[0]
        while len(self._drawn) > _MOST_DRAWN:
            self._drawn.popitem(last=False)
        return found

    def _small(self, data: bytes) -> NDArray[np.uint8]:
        return self._drawer.decode(data, "picture").pixels

    def _readable(self, picture: Document, read: Callable[[str, Limits], T]) -> T:
        """What reading a picture's file gives, if it is where the server may read."""
        if in_memory(picture.uri):
            raise ImageError(picture.filename, "was added from memory; the index keeps no pixels")
        if self.outside(picture) is not None:
            reason = "lies outside the folders that are served: start the server with --root DIR"
            raise ImageError(picture.filename, reason)
        try:
            return read(picture.uri, Limits(max_bytes=max(1, picture.bytes)))
        except ImageError as error:
            raise ImageError(picture.filename, error.reason) from error  # without its folder


def _real(path: Path) -> Path:
    """Where a path leads; one that cannot be opened, as it leads in circles, to itself."""
    try:
        return Path(os.path.realpath(path))
    except UnicodeEncodeError:  # nor one with letters that the names of files here have not
        return path


def _is_below(path: Path, roots: tuple[Path, ...]) -> bool:
    real = _real(path)
    return any(real.is_relative_to(root) for root in roots)


def _check_same(picture: Document, sha256: str) -> None:
    if sha256 != picture.sha256:
        raise ImageError(picture.filename, "has changed since it was indexed")


class ThumbnailCache:
    """Files by key, at most so many bytes; safe in many threads and, but for its count, processes.

    The folder is made when first needed, readable for its owner only.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._bytes: int | None = None
        self._has_warned = False

    def get(self, key: str, make: Callable[[], bytes]) -> tuple[bytes, bool]:
        """A thumbnail by the picture's SHA-256, a hyphen and its size; and whether it was there."""
        if not _KEY.fullmatch(key):
            raise ValueError(f"not the key of a thumbnail: {key!r}")
        path = self.folder / key[:2] / f"{key}.jpg"
        try:
            data = path.read_bytes()
            now = time.time()
            if now - path.stat().st_mtime > _TOUCH_SECONDS:
                os.utime(path, (now, now))
        except OSError:  # mostly it is not there
            data = b""
        if data.endswith(_END):
            return data, True
        data = make()
        try:
            self._put(path, data)
        except OSError as error:  # the disk is full, say: a cache is not needed
            if not self._has_warned:
                _log.warning("thumbnails are not kept in %s: %s", self.folder, error.strerror)
            self._has_warned = True
        return data, False

    def _put(self, path: Path, data: bytes) -> None:
        """Write a file in one step, so that nobody reads half of it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=path.parent, suffix=".new")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._files())
            else:
                self._bytes += len(data)
            if self._bytes > self._max_bytes:
                self._bytes = self._clean()

    def _clean(self) -> int:
        """Remove the longest unused, and give the bytes that are left."""
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= _KEEP * self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total

    def _files(self) -> list[tuple[float, int, Path]]:
        """Time of use, bytes and path of each file."""
        found = []
        for path in self.folder.glob("*/*.jpg"):
            try:
                info = path.stat()
            except FileNotFoundError:  # another process cleans up, too
                continue
            found.append((info.st_mtime, info.st_size, path))
        return found


class Download(StreamingResponse):
    """A file, or a ZIP as it is made, by blocks; ``end`` is called when it ends, however it does.

    A block is sent when the client has taken the one before.
    """

    def __init__(
        self,
        blocks: AsyncGenerator[bytes, None],
        end: Callable[[], None],
        kind: str = "application/zip",
        headers: Mapping[str, str] = ATTACHED,
    ) -> None:
        super().__init__(blocks, media_type=kind, headers=headers)
        self._blocks, self._end = blocks, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:

        async def in_time(message: Message) -> None:
            with anyio.fail_after(_BLOCK_SECONDS):
                await send(message)

        try:
            await super().__call__(scope, receive, in_time)
        except TimeoutError:
            _log.warning("a download was given up: its client takes it too slowly")
        finally:
            self._end()
            await self._blocks.aclose()  # before its ZIP is, by the garbage collector


def sent(
    picture: Document, data: bytes, end: Callable[[], None], headers: Mapping[str, str]
) -> Download:
    """The bytes of a picture's file as an answer."""

    async def blocks() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), _BLOCK):
            yield data[start : start + _BLOCK]

    kind = _MEDIA_TYPES.get(picture.format, "application/octet-stream")
    return Download(blocks(), end, kind, {**headers, "Content-Length": str(len(data))})


async def zipped(
    documents: Sequence[Document],
    unknown: Sequence[str],
    read: Callable[[Document], Awaitable[bytes]],
) -> AsyncGenerator[bytes, None]:
    """A ZIP of files as they are, one in memory at a time."""
    sink, left_out = _Sink(), [f"{name}: is not in the index" for name in unknown]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for document, name in zip(documents, _names(documents), strict=True):
            try:
                data = await read(document)
            except ImgsearchError as error:
                reason = error.reason if isinstance(error, ImageError) else error
                left_out.append(f"{document.filename}: {reason}")
                continue
            about = _zip_info(name)
            about.file_size = len(data)
            with archive.open(about, "w") as file, memoryview(data) as view:
                for start in range(0, len(data), _BLOCK):
                    file.write(view[start : start + _BLOCK])
                    yield sink.taken()
            del data, view  # before the next one is read
        if left_out:
            archive.writestr(_zip_info(_LEFT_OUT), "\n".join([*left_out, ""]))
    yield sink.taken()


def _zip_info(name: str) -> zipfile.ZipInfo:
    """A file of now, as far as a ZIP knows the time: a machine may believe that it is 1970."""
    now = max(_FIRST_YEAR, min(time.localtime()[:6], _LAST_YEAR))
    return zipfile.ZipInfo(name, now)


def _names(documents: Sequence[Document]) -> list[str]:
    """A name for each file, safe on every system and different from the others."""
    taken = {_LEFT_OUT: ""}
    for document in documents:
        name = re.sub(r'[\x00-\x1f\\/:*?"<>|]', "_", document.filename).strip(". ") or "picture"
        stem, dot, ending = name.rpartition(".")
        ways = chain([name], (f"{stem or ending} ({n}){dot}{ending}" for n in count(2)))
        free = next(way for way in ways if way.lower() not in taken)
        taken[free.lower()] = free
    return list(taken.values())[1:]


class _Sink:
    """What is written is taken away piece by piece; it cannot go back."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """There is nothing to wait for."""

    close = flush

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
