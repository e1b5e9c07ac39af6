"""Finding pictures in files, folders and URLs."""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from imgsearch_es.errors import ImageError, ImgsearchError, SourceError
from imgsearch_es.pictures.files import (
    PathSource,
    in_memory,
    open_descriptor,
    reason,
    remote,
    remote_reason,
    to_path,
    to_uri,
    url_path,
)

EXTENSIONS = frozenset(
    [
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "dib", "tif", "tiff"),
        *("avif", "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "jpx", "heic", "heif"),
    ]
)
"""Lower-case extensions that make a file in a folder a picture, whatever its content.

Those of HEIF are here although it is not decoded: a photo must be reported, not overlooked.
"""

_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "AVIF": rb".{4}ftyp(avif|avis|mif1|msf1)",
    "JPEG2000": rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n",
    "PPM": rb"P[1-6f]\s+[\d#-]",
    "HEIF": rb".{4}ftyp(hei[cmsx]|hev[cmsx])",
}
_SIGNATURE_BYTES = 16
_log = logging.getLogger(__name__)


def sniff(head: bytes) -> str | None:
    """The picture format ("JPEG", "PNG", ...) that a file's first 16 bytes announce, or None."""
    magics = _SIGNATURES.items()
    return next((name for name, magic in magics if re.match(magic, head, re.DOTALL)), None)


def find_images(
    sources: PathSource | Iterable[PathSource],
    *,
    on_error: Callable[[ImageError], None] | None = None,
) -> Iterator[str]:
    """Find the pictures in files, folders and URLs.

    A folder is walked with all its subfolders, each once: by name, its files before its
    subfolders, and what only symbolic links lead to last. A file in it is a picture when it has
    a picture's extension or, in a local folder, begins like one; hidden ones are passed over. A
    file that is named in ``sources`` is always yielded.

    Args:
        sources: one path or URL, or several.
        on_error: called for each broken link or unreadable folder that the walk meets, after
            which it goes on; by default they are logged as warnings.

    Returns:
        The URIs, without duplicates, found as they are asked for.

    Raises:
        SourceError: a named path does not exist (before anything is yielded); or, later, a
            named folder cannot be listed or a remote one found.
        MissingDependencyError: a URL needs a package that is not installed.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        sources = [sources]
    uris = list(dict.fromkeys(map(to_uri, sources)))
    for uri in uris:
        if in_memory(uri):
            raise SourceError(f"{uri} was indexed from memory and cannot be found again")
        if path := to_path(uri):
            try:
                path.stat()
            except (OSError, ValueError) as error:
                raise SourceError(f"cannot find {uri}: {reason(error)}") from error
    return _find(uris, on_error or (lambda error: _log.warning("passed over %s", error)))


def _find(uris: list[str], report: Callable[[ImageError], None]) -> Iterator[str]:
    named = set(uris)
    visited: set[object] = set()  # (device, inode) of local folders, URIs of remote ones
    for uri in uris:
        path = to_path(uri)
        if path is None:
            found = _walk_remote(uri, visited)
        else:
            found = _walk(os.fspath(path), visited, report) if path.is_dir() else None
        if found is None:
            yield uri
        else:
            yield from (each for each in found if each not in named)


def _walk(top: str, visited: set[object], report: Callable[[ImageError], None]) -> Iterator[str]:
    # A stack, not recursion, for deep trees; links wait, so that a real path wins over a link.
    folders, links = [top], list[str]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            info = os.stat(folder)  # noqa: PTH116
            if (info.st_dev, info.st_ino) in visited:
                continue
            visited.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if folder == top:
                raise SourceError(f"cannot list {to_uri(top)}: {reason(error)}") from error
            report(ImageError(to_uri(folder), f"the folder cannot be listed: {reason(error)}"))
            continue
        below: list[str] = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir():
                    (links if entry.is_symlink() else below).append(entry.path)
                elif entry.is_file():
                    if is_picture(entry.path):
                        yield to_uri(entry.path)
                elif entry.is_symlink():
                    entry.stat()  # says why the link is broken
            except OSError as error:
                report(ImageError(to_uri(entry.path), f"broken link: {reason(error)}"))
        folders.extend(reversed(below))


def is_picture(path: str) -> bool:
    """Whether a file in a folder is one, by its extension or its first bytes."""
    if _extension(path) in EXTENSIONS:
        return True
    try:
        with open(open_descriptor(path), "rb", buffering=0) as file:  # noqa: PTH123
            return sniff(file.read(_SIGNATURE_BYTES)) is not None
    except OSError:
        return False  # nothing says that it is a picture


def _extension(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _walk_remote(uri: str, visited: set[object]) -> Iterator[str] | None:
    """The pictures in a remote folder, or None when the URL names a file."""
    if _extension(url_path(uri)) in EXTENSIONS:
        return None  # without asking: over HTTP, asking means downloading
    try:
        system, path = remote(uri)
        if system.isdir(path):
            return _list_remote(uri, system, path, visited)
        if not system.exists(path):
            raise SourceError(f"cannot find {uri}")
        return None
    except ImgsearchError:
        raise
    except Exception as error:  # each file system raises its own kinds
        raise SourceError(f"cannot list {uri}: {remote_reason(error)}") from error


def _list_remote(uri: str, system: Any, top: str, visited: set[object]) -> Iterator[str]:
    base, *chain = uri.partition("::")  # the chain: the archive or cache that holds the folder
    base += "" if base.endswith("/") else "/"
    try:
        for folder, below, names in system.walk(top, on_error="raise"):
            below[:] = sorted(name for name in below if not name.startswith("."))
            inside = folder[len(top) :].strip("/")
            here = f"{base}{inside}/" if inside else base
            if (here, *chain) in visited:
                continue
            visited.add((here, *chain))
            for name in sorted(names):
                if _extension(name) in EXTENSIONS and not name.startswith("."):
                    yield "".join((here, name, *chain))
    except Exception as error:
        raise SourceError(f"cannot list {uri}: {remote_reason(error)}") from error
