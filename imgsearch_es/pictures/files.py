"""Files that hold pictures: their URIs, their bytes, the hash of their bytes.

A picture's URI names it in an index. It is one of

* the absolute path of a local file, as a person would type it (symbolic links are kept);
* ``file://`` with percent-encoding, for a local file whose name is not valid UTF-8;
* ``tar://MEMBER::ARCHIVE`` for a file in a tar file, which may be local or remote;
* any other URL that fsspec reads (``s3://``, ``https://``, ``zip://a.jpg::photos.zip``), without
  a password;
* ``sha256:<hex>`` for a picture that came from memory; such a one cannot be opened again.

Only regular files are ever opened: a FIFO or a device would block or act.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import io
import os
import re
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

from imgsearch_es.errors import (
    ConfigurationError,
    ImageError,
    ImgsearchError,
    MissingDependencyError,
    pip_install,
)
from imgsearch_es.pictures.addresses import careful, with_credentials, without_credentials
from imgsearch_es.pictures.archives import (
    ArchiveError,
    Member,
    member_uri,
    section,
    split_uri,
    table_of,
)
from imgsearch_es.pictures.places import absolute

PathSource = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_LONGEST_SECONDS = 86_400
_PATIENCE_SECONDS = 300.0
"""For the bytes of one file; aiohttp waits as long for each answer."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_WEB = re.compile(r"(?:^|::)(https?)://", re.IGNORECASE)
_UNKNOWN = re.compile(r"530\b|authentication (failed|error)", re.IGNORECASE)
"""How FTP and SSH say that they do not know us."""


def whole(path: str | os.PathLike[str]) -> Path:
    """A path, below one's home where it begins with ~; ConfigurationError for a null character."""
    if "\0" in os.fspath(path):
        raise ConfigurationError(f"{os.fspath(path)!r:.200} is no path: it has a null character")
    return Path(path).expanduser()


@contextmanager
def replacing(path: Path, *, wait: bool = False) -> Iterator[Path]:
    """A draft beside a file, which takes its place when the block ends well, and else goes.

    FileExistsError where there is something else than a file: a device must not be replaced. Where
    there is none, ``wait`` until the new one is on the disk.
    """
    path = Path(os.path.realpath(whole(path)))
    if path.exists() and not path.is_file():
        reason = os.strerror(errno.EISDIR) if path.is_dir() else "it is there already and no file"
        raise FileExistsError(errno.EEXIST, reason)
    draft = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex[:8]}.{path.name[-50:]}")
    try:
        yield draft
        permit_as(path, draft)
        if wait or path.exists():  # else a power cut may leave neither the old file nor the new one
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def permit_as(path: Path, draft: Path) -> None:
    """Let those use a draft who may use a file: it gets its owner and permissions."""
    with suppress(OSError):  # there is no file yet
        was = path.stat()
        for owner in ((-1, was.st_gid), (was.st_uid, -1)):
            with suppress(OSError):  # not ours to give: the second is but for root
                os.chown(draft, *owner)
        draft.chmod(stat.S_IMODE(was.st_mode))


@contextmanager
def saving(path: Path, kind: type[ImgsearchError] = ConfigurationError) -> Iterator[Path]:
    """`replacing`, whose errors are of this kind and name the file."""
    try:
        with replacing(path) as draft:
            yield draft
    except OSError as error:
        raise kind(f"cannot write {path}: {error.strerror or error}") from error


def check_finite(path: Path) -> None:
    """OSError where reading would not end: a device such as /dev/zero."""
    if path.is_char_device() or path.is_block_device():
        raise OSError(errno.EINVAL, "it is a device, not a file")


def check_folder_of(path: Path, kind: type[ImgsearchError] = ConfigurationError) -> None:
    """An error of this kind, before the work, where there is no folder to write a file into."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise kind(f"cannot write {path}: {folder} is no folder to write to")


def check_page(path: Path) -> None:
    """OSError unless an HTML page may be written here: no other file is written over."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(9)
        if head and head.lower() != b"<!doctype":
            raise FileExistsError(errno.EEXIST, "it is there already and no HTML page")


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest picture that is read.

    >>> index.add("photos/coffee.jpg", limits=Limits(max_seconds=5)).unchanged
    1

    Attributes:
        max_pixels: width times height as the header gives them. The default is Pillow's own hard
            limit, which WebP, GIF and TIFF cannot exceed unless the application raises
            ``PIL.Image.MAX_IMAGE_PIXELS``.
        max_bytes: the size of the file.
        max_seconds: how long decoding may take; watched over where worker processes decode.
    """

    max_pixels: int = 178_956_970
    max_bytes: int = 256 * 1024**2
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not 0 < self.max_seconds <= _LONGEST_SECONDS:
            limit = f"above 0 and at most {_LONGEST_SECONDS}"
            raise ConfigurationError(f"max_seconds must be {limit}, not {self.max_seconds}")


_NAME_IT = "; passwords are not stored: name the URL with its own again (//NAME:PASSWORD@HOST)"


def picture_id(uri: str) -> str:
    """The document id of the picture at ``uri``: 32 hexadecimal digits of the URI's SHA-256."""
    return hashlib.sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def to_uri(source: PathSource) -> str:
    """The URI of a path or URL (see above), or of a URI; ConfigurationError if it is no path."""
    try:
        text = os.fsdecode(source)
    except TypeError:
        raise ConfigurationError(f"a {type(source).__name__} is not a path or URL") from None
    if not text:
        raise ConfigurationError("the path of a picture or folder is empty")
    if "\0" in text:
        raise ConfigurationError(f"{text!r:.200} is no path or URL: it has a null character")
    if inside := split_uri(text):
        return member_uri(inside[0], to_uri(inside[1]))
    if in_memory(text):
        return text
    if _URL.match(text) and not _is_file_url(text):
        return without_credentials(text)
    path = _file_url_path(text) if _is_file_url(text) else os.path.expanduser(text)  # noqa: PTH111
    path = absolute(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        try:
            return f"file://{quote(os.fsencode(path))}"
        except UnicodeEncodeError:
            raise ConfigurationError(f"{path!r} is not a valid path") from None
    return path


def beginnings(folder: PathSource) -> tuple[str, ...]:
    """How the URIs of files below a folder begin: as their paths, or where these are no UTF-8."""
    uri = to_uri(folder).rstrip("/") + "/"
    return (uri,) if _is_file_url(uri) else (uri, f"file://{quote(os.fsencode(uri))}")


def to_path(uri: str) -> Path | None:
    """The local path of a URI, or None when it does not name a local file."""
    if _is_file_url(uri):
        return Path(_file_url_path(uri))
    return None if in_memory(uri) or _URL.match(uri) else Path(uri)


def filename(uri: str) -> str:
    """The last part of a URI, for people to read: not always unique, not for opening."""
    path = to_path(uri)
    if path is not None:
        return os.fsencode(path.name).decode("utf-8", "replace")
    last = url_path(uri).rstrip("/").rpartition("/")[2]
    return unquote_to_bytes(last).decode("utf-8", "replace")


def in_memory(uri: str) -> bool:
    """Whether a URI is that of a picture without a file (``sha256:<hex>``)."""
    return re.fullmatch("sha256:[0-9a-f]{64}", uri) is not None


def read_bytes(uri: str, limits: Limits = Limits()) -> bytes:
    """All bytes of the file at a URI.

    ImageError where it cannot be read, is not a regular file, or is over ``limits.max_bytes``;
    MissingDependencyError where a URL needs a package that is not installed.
    """
    content = io.BytesIO()  # which gives its bytes away without a second copy of them
    with opened(uri, limits) as file:
        content.writelines(blocks(file, uri, limits))
    return content.getvalue()


def content_hash(uri: str, limits: Limits = Limits()) -> str:
    """SHA-256 (hexadecimal) of the file at a URI, read in blocks; raises as `read_bytes` does."""
    digest = hashlib.sha256()
    with opened(uri, limits) as file:
        for block in blocks(file, uri, limits):
            digest.update(block)
    return digest.hexdigest()


def blocks(file: BinaryIO, uri: str, limits: Limits) -> Iterator[bytes]:
    """What is left in a binary file, in blocks, up to the limit; ImageError beyond it."""
    total, end = 0, time.monotonic() + _PATIENCE_SECONDS
    try:
        while block := file.read(1 << 20):
            if not isinstance(block, bytes):
                raise ImageError(uri, "the file object is not open in binary mode")
            total += len(block)
            check_size(total, uri, limits)
            yield block
            if time.monotonic() > end:
                raise ImageError(uri, f"was not there whole after {_PATIENCE_SECONDS:.0f} seconds")
    except ImgsearchError:
        raise
    except Exception as error:  # a file object or remote file system may raise anything
        raise ImageError(uri, f"cannot be read: {remote_reason(error)}") from error


def check_size(size: int, uri: str, limits: Limits) -> None:
    """Raise ImageError when a picture has more bytes than allowed."""
    if size > limits.max_bytes:
        raise ImageError(uri, f"larger than the limit of {limits.max_bytes:,} bytes")


def remote(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it; ValueError for an unknown kind."""
    try:
        schemes = {scheme.lower() for scheme in _WEB.findall(uri)}
        system, path = importlib.import_module("fsspec.core").url_to_fs(
            with_credentials(uri), **{scheme: careful(scheme) for scheme in schemes}
        )
    except ImportError as error:
        raise MissingDependencyError(
            f"reading {uri} needs a package that is not installed ({error}): "
            + pip_install("remote")
        ) from error
    return system, path


def open_descriptor(path: str) -> int:
    """Open a local file for reading without waiting, should it be a FIFO."""
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    return os.open(path, flags)


def reason(error: BaseException) -> str:
    """What went wrong, in a few words and one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:1].lower() + error.strerror[1:]
    return " ".join(str(error).split())[:200] or type(error).__name__


def remote_reason(error: BaseException) -> str:
    """What went wrong far away: fsspec hides it in what caused its error, a missing file."""
    while isinstance(error.__cause__, Exception):  # and not what a time-out cancels
        error = error.__cause__
    status = getattr(error, "status", None)
    if type(error).__name__ == "TooManyRedirects":
        return "it redirects without end"
    if type(error).__name__ == "TimeoutError":
        return "it does not answer in time"
    if isinstance(status, int):
        said = f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
        return f"{said}{_NAME_IT}" if status == HTTPStatus.UNAUTHORIZED else said
    said = without_credentials(reason(error))
    return f"{said}{_NAME_IT}" if _UNKNOWN.match(said) else said


def url_path(url: str) -> str:
    """A URL without its query and without the archive that it lies in."""
    return re.split(r"::|[?#]", url, maxsplit=1)[0]


@contextmanager
def open_archive(uri: str) -> Iterator[tuple[BinaryIO, dict[str, Member]]]:
    """Open a tar file: its content, and where each of its files is; raises as `read_bytes` does."""
    with opened(uri, Limits(max_bytes=1 << 62)) as file:
        try:
            table = table_of(uri, file)
        except (ArchiveError, OSError) as error:
            raise ImageError(uri, f"cannot be read: {reason(error)}") from error
        yield file, table


@contextmanager
def opened(uri: str, limits: Limits = Limits()) -> Iterator[BinaryIO]:
    """A file, open for reading; raises as `read_bytes` does."""
    if in_memory(uri):
        raise ImageError(uri, "came from memory and cannot be opened again")
    if inside := split_uri(uri):
        with _opened_member(uri, *inside, limits) as file:
            yield file
        return
    try:
        if to_path(uri) is not None:
            file = _open_local(uri, limits)
        else:
            system, path = remote(uri)  # held here: an archive is closed with its file system
            file = system.open(path, "rb")
    except ImgsearchError:
        raise
    except Exception as error:  # remote file systems raise their own kinds
        raise ImageError(uri, f"cannot be opened: {remote_reason(error)}") from error
    with file:
        yield file


@contextmanager
def _opened_member(uri: str, member: str, archive: str, limits: Limits) -> Iterator[BinaryIO]:
    try:
        with open_archive(archive) as (file, table):
            if member not in table:
                raise ImageError(uri, "the archive has no such file")
            check_size(table[member].size, uri, limits)
            yield section(file, table[member])
    except ImageError as error:
        if error.uri == uri:
            raise
        raise ImageError(uri, f"its archive {error.reason}") from error


def _open_local(uri: str, limits: Limits) -> BinaryIO:
    path = os.fspath(to_path(uri) or uri)
    _check_regular(os.stat(path), uri, limits)  # noqa: PTH116
    descriptor = open_descriptor(path)
    try:
        _check_regular(os.fstat(descriptor), uri, limits)  # it may have been replaced meanwhile
        return open(descriptor, "rb", buffering=0)  # noqa: PTH123
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(info: os.stat_result, uri: str, limits: Limits) -> None:
    if stat.S_ISDIR(info.st_mode):
        raise ImageError(uri, "is a folder")
    if not stat.S_ISREG(info.st_mode):
        raise ImageError(uri, "is not a regular file but a FIFO, socket or device")
    check_size(info.st_size, uri, limits)


def _is_file_url(text: str) -> bool:
    return text[:7].lower() == "file://"


def _file_url_path(url: str) -> str:
    path = url[7:].removeprefix("localhost")
    if not path.startswith("/"):
        raise ConfigurationError(f"{url} names no local file; write file:///absolute/path")
    return os.fsdecode(unquote_to_bytes(path))
