"""Finding pictures in files, folders and URLs, and in datasets of Hugging Face.

Of such a dataset the first column of images is the picture, ``label`` or ``labels`` its label (a
class by its name), and all others that JSON has values for are metadata. ``rename_column``,
``select_columns`` and ``remove_columns`` of the dataset say otherwise.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal
from importlib import import_module
from typing import Any, NamedTuple

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
from imgsearch_es.pictures.sidecars import EXTENSION as SIDECAR

_RAW = frozenset([
    *("cr2", "cr3", "nef", "nrw", "arw", "srf", "sr2", "dng", "orf", "rw2", "pef", "raf"),
    *("srw", "x3f", "3fr", "erf", "kdc", "mrw", "rwl", "iiq"),
])  # fmt: skip
EXTENSIONS = frozenset([
    *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "gif", "webp", "bmp", "dib", "tif", "tiff"),
    *("avif", "ppm", "pgm", "pbm", "pnm", "jp2", "j2k", "jpx", "heic", "heif", "hif"),
    *("tga", "psd", "pcx", "sgi", "qoi", "dds", "ras"),
    *_RAW,
])  # fmt: skip
"""Lower-case extensions that make a file in a folder a picture, whatever its content.

Those of HEIF and RAW are here although their packages may be missing: a photo must be reported,
not overlooked.
"""
VIDEOS = frozenset(
    ["mp4", "m4v", "mov", "avi", "mkv", "webm", "3gp", "mpg", "mpeg", "mts", "m2ts", "wmv"]
)
"""Those of videos, which are found only where they are asked for."""

_SIGNATURES = {
    "RAW": rb"FUJIFILMCCD-RAW|.{4}ftypcrx |IIU\0|IIR[OS]|MMOR|II\*\0\x10\0\0\0CR|FOVb",
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
    "VIDEO": rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ",
    "PSD": rb"8BPS\0\x01",
    "QOI": rb"qoif",
    "DDS": rb"DDS \x7c\0\0\0",
    "SGI": rb"\x01\xda[\0\1][\1\2]",
    "PCX": rb"\x0a[\0\2\3\5]\x01[\1\2\4\x08]",
    "SUN": rb"\x59\xa6\x6a\x95",
}
_SIGNATURE_BYTES = 16
_log = logging.getLogger(__name__)


def sniff(head: bytes) -> str | None:
    """The picture format ("JPEG", "PNG", ...) that a file's first 16 bytes announce, or None."""
    magics = _SIGNATURES.items()
    return next((name for name, magic in magics if re.match(magic, head, re.DOTALL)), None)


def kind_of(data: bytes, uri: str) -> str | None:
    """The format of a file, by its content, and by its name where that says too little."""
    kind, extension = sniff(data[:_SIGNATURE_BYTES]), _extension(url_path(uri))
    if kind in (None, "TIFF") and extension in _RAW:
        return "RAW"
    if kind == "AVIF" and b"avif" not in data[8:64]:
        return "HEIF"
    named = {"tga": "TGA", **dict.fromkeys(VIDEOS, "VIDEO")}
    return kind or named.get(extension)


def find_images(
    sources: PathSource | Iterable[PathSource],
    *,
    on_error: Callable[[ImageError], None] | None = None,
    on_other: Callable[[str], None] = lambda kind: None,
    videos: bool = False,
) -> Iterator[str]:
    """Find the pictures in files, folders and URLs.

    A folder is walked with all its subfolders, each once: by name, its files before its
    subfolders, and what only symbolic links lead to last. A file in it is a picture when it has
    a picture's extension or, in a local folder, begins like one; hidden ones are passed over. A
    file that is named in ``sources`` is always yielded.

    >>> len(list(find_images("photos")))
    76

    Args:
        sources: one path or URL, or several.
        on_error: called for each broken link or unreadable folder that the walk meets, after
            which it goes on; by default they are logged as warnings.
        on_other: called for each file in a folder that is passed over, with its kind: ".txt".
        videos: find videos, too.

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
    report = on_error or (lambda error: _log.warning("passed over %s", error))
    return _find(uris, report, Wanted(videos, on_other))


class Wanted:
    """Which files are pictures; ``videos`` count only where asked for. Tells of those that are not.

    Others are told by their kind: their extension.
    """

    def __init__(
        self, videos: bool = False, on_other: Callable[[str], None] = lambda kind: None
    ) -> None:
        self._extensions = EXTENSIONS | VIDEOS if videos else EXTENSIONS
        self._tell = on_other

    def is_named(self, name: str) -> bool:
        """Whether a file is one by its name alone."""
        return _extension(name) in self._extensions

    def has(self, name: str) -> bool:
        """The same, told where it is none: of what is in archives and remote folders."""
        is_one = self.is_named(name)
        if not is_one:
            self._tell(kind_by_name(name))
        return is_one

    def has_file(self, path: str) -> bool:
        """Whether a local file is one, by its name or its content."""
        is_one = is_picture(path, self._extensions)
        if not is_one and _extension(path) != SIDECAR:  # which is read with its picture
            self._tell(kind_by_name(path))
        return is_one


def is_picture_name(name: str) -> bool:
    """Whether a file is called as pictures are."""
    return _extension(name) in EXTENSIONS


def kind_by_name(name: str) -> str:
    """What a file that is no picture is counted as: ``.txt``, or "without extension"."""
    extension = _extension(name)
    return f".{extension}" if re.fullmatch(r"\w{1,10}", extension) else "without extension"


def _find(uris: list[str], report: Callable[[ImageError], None], wanted: Wanted) -> Iterator[str]:
    named = set(uris)
    visited: set[object] = set()  # (device, inode) of local folders, URIs of remote ones
    for uri in uris:
        path = to_path(uri)
        if path is None:
            found = _walk_remote(uri, visited, wanted)
        else:
            found = _walk(os.fspath(path), visited, report, wanted) if path.is_dir() else None
        if found is None:
            yield uri
        else:
            yield from (each for each in found if each not in named)


def _walk(
    top: str, visited: set[object], report: Callable[[ImageError], None], wanted: Wanted
) -> Iterator[str]:
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
                    if wanted.has_file(entry.path):
                        yield to_uri(entry.path)
                elif entry.is_symlink():
                    entry.stat()  # says why the link is broken
            except OSError as error:
                report(ImageError(to_uri(entry.path), f"broken link: {reason(error)}"))
        folders.extend(reversed(below))


def is_picture(path: str, extensions: frozenset[str] = EXTENSIONS) -> bool:
    """Whether a file in a folder is one, by its extension or its first bytes."""
    if _extension(path) in extensions:
        return True
    try:
        with open(open_descriptor(path), "rb", buffering=0) as file:  # noqa: PTH123
            kind = sniff(file.read(_SIGNATURE_BYTES))
            return kind is not None and (kind != "VIDEO" or extensions >= VIDEOS)
    except OSError:
        return False  # nothing says that it is a picture


def _extension(path: str) -> str:
    return posixpath.splitext(path)[1][1:].lower()


def _walk_remote(uri: str, visited: set[object], wanted: Wanted) -> Iterator[str] | None:
    """The pictures in a remote folder, or None when the URL names a file."""
    if _extension(url_path(uri)) in EXTENSIONS | VIDEOS:
        return None  # without asking: over HTTP, asking means downloading
    try:
        system, path = remote(uri)
        if system.isdir(path):
            return _list_remote(uri, system, path, visited, wanted)
        if not system.exists(path):
            raise SourceError(f"cannot find {uri}")
        return None
    except ImgsearchError:
        raise
    except Exception as error:  # each file system raises its own kinds
        raise SourceError(f"cannot list {uri}: {remote_reason(error)}") from error


def _list_remote(
    uri: str, system: Any, top: str, visited: set[object], wanted: Wanted
) -> Iterator[str]:
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
                if not name.startswith(".") and wanted.has(name):
                    yield "".join((here, name, *chain))
    except Exception as error:
        raise SourceError(f"cannot list {uri}: {remote_reason(error)}") from error


LABELS = ("label", "labels")
INTEGERS = range(-(2**63), 2**64)
"""Whole numbers that an index can have: what DuckDB reads from JSON exactly."""
_PLAIN = str | int | float | bool


class TableRow(NamedTuple):
    """One row: a path, the bytes of a file or a Pillow image, and what else it has."""

    image: Any
    labels: tuple[str, ...] | None
    metadata: dict[str, Any]


def is_table(source: object) -> bool:
    """Whether a source is a dataset of Hugging Face, in memory, on disk or streaming."""
    return hasattr(source, "cast_column") and hasattr(source, "features")


def table_rows(dataset: Any, on_other: Callable[[str], None]) -> Iterator[TableRow]:
    """The rows with a picture, as its file is, or SourceError; tells of each that has none."""
    features: Mapping[str, Any] = dataset.features or {}
    column = _image_column(features, dataset)
    for row in _rows(_as_stored(dataset, features, column)):
        image = row.pop(column, None)
        if isinstance(image, Mapping):  # as the file is
            data = image.get("bytes")
            image = (image.get("path") or None) if data is None else data
        if image is None:
            on_other("without picture")
            continue
        name = next((name for name in LABELS if row.get(name) is not None), None)
        label = None if name is None else _label(row.pop(name), features.get(name))
        yield TableRow(image, label, dict(_json_values(row)))


def _rows(dataset: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        for row in dataset:
            yield row
            number += 1
    except Exception as error:  # of a file, a download, or a person's own function
        problem = f"the dataset cannot be read after row {number}"
        raise SourceError(f"{problem}: {type(error).__name__}: {reason(error)}") from error


def _as_stored(dataset: Any, features: Mapping[str, Any], column: str) -> Any:
    """With rows of Python's values, and without other pictures, sounds and videos."""
    if column in features:
        dataset = dataset.cast_column(column, import_module("datasets").Image(decode=False))
    form = getattr(dataset, "format", {})
    if form.get("type") == "custom":  # a person's own function makes the rows
        return dataset
    shown = features if form.get("output_all_columns", True) else form["columns"]
    media = {name for name, kind in features.items() if "decode=True" in repr(kind)}
    media -= {column, *LABELS}
    names = [name for name in features if name == column or (name in shown and name not in media)]
    dataset = dataset.with_format(None)
    return dataset.select_columns(names) if features else dataset


def _image_column(features: Mapping[str, Any], dataset: Any) -> str:
    known = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    if "image" in known or (not features and "image" in next(_rows(dataset), {})):
        return "image"
    if not known:
        raise SourceError(
            f"the dataset has no column of images; it has {', '.join(features) or 'no features'}: "
            "cast_column(name, datasets.Image()) makes one of paths or bytes"
        )
    return known[0]


def _label(value: Any, kind: Any) -> tuple[str, ...]:
    """The names of classes, or texts; several of a list. Class -1 is none, as of a test set."""
    inner = getattr(kind, "feature", kind[0] if isinstance(kind, list) and kind else kind)
    to_name = getattr(inner, "int2str", str)
    value = value.tolist() if hasattr(value, "tolist") else value
    values = value if isinstance(value, list | tuple) else [value]
    try:
        if odd := [one for one in values if not isinstance(one, _PLAIN | None)]:
            raise ValueError(f"{odd[0]!r:.60} is no text or number")
        given = (one for one in values if one is not None and (to_name is str or one != -1))
        return tuple(str(to_name(one)) for one in given)
    except ValueError as error:
        raise SourceError(
            f"the dataset has a label that is none ({error}): rename or remove the column"
        ) from error


def _json_values(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Those that are values of JSON, as of lists of pictures; the others are left out."""
    for name, value in row.items():
        with suppress(ValueError):
            if value is not None:
                yield name, json_value(value, name)


def json_value(value: Any, column: str) -> Any:
    """A value of a table as one of JSON; ValueError where there is none."""
    if isinstance(value, dict):
        return {str(name): json_value(each, column) for name, each in value.items()}
    if isinstance(value, list):
        return [json_value(each, column) for each in value]
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, _PLAIN):
        return value
    raise ValueError(f"{column} is a {type(value).__name__}, which JSON does not have")
