"""Pictures in tar files, as WebDataset's shards hold them.

A member's URI is fsspec's form: ``tar://MEMBER::ARCHIVE``, where the archive is a path or a URL.
Only plain tar files are read, not compressed ones: in those a member cannot be reached without
decompressing all before it.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

EXTENSION = ".tar"
PACKED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
    b"PK\x03\x04",
    b"7z\xbc\xaf",
    b"Rar!",
)
"""How files begin that gzip, bzip2, xz, Zstandard, ZIP, 7-Zip or RAR made."""
SCHEME = "tar://"
_LONGEST_SIDECAR = 1 << 20
_EXTENDED = b"xgXLK"
_LONGEST_HEADER = 1 << 16
"""Types of headers with content, as a long name, and the most bytes of it: it is read at once."""


class ArchiveError(ValueError):
    """A tar file or one of its members cannot be read; ``str(error)`` says why, in a few words."""


class Member(NamedTuple):
    """Where the bytes of a file in an archive are: offset and size, in bytes."""

    offset: int
    size: int


_tables: OrderedDict[tuple[object, ...], dict[str, Member]] = OrderedDict()
_lock = threading.Lock()


def member_uri(member: str, archive: str) -> str:
    """The URI of a file in an archive; ArchiveError for a name that cannot be part of one."""
    if "::" in member:
        raise ArchiveError("its name has '::', which separates a member from its archive")
    if "\0" in member:
        raise ArchiveError("its name has a null character")
    try:
        member.encode("utf-8")
    except UnicodeEncodeError:
        raise ArchiveError("its name is no UTF-8") from None
    return f"{SCHEME}{member}::{archive}"


def split_uri(uri: str) -> tuple[str, str] | None:
    """Member and archive of a URI; None when it is no ``tar://`` URI."""
    scheme, rest = uri[: len(SCHEME)].lower(), uri[len(SCHEME) :]
    member, colons, archive = rest.partition("::")
    return (member, archive) if scheme == SCHEME and colons else None


def is_archive(uri: str) -> bool:
    """Whether a path or URL names a tar file, by its extension; a member of one is none."""
    return split_uri(uri) is None and uri.lower().endswith(EXTENSION)


def table_of(archive: str, file: BinaryIO) -> dict[str, Member]:
    """The regular files of a plain tar file, by name; of several with one name, the last.

    The tables read last are kept, until the archive has another size or time of change.
    """
    with _lock:  # several threads want the same archive at the same time
        key = (archive, file.seek(0, io.SEEK_END), _changed_at(file))
        if key not in _tables:
            _tables[key] = _read_table(file)
            if len(_tables) > 16:
                _tables.popitem(last=False)
        _tables.move_to_end(key)
        return _tables[key]


def section(file: BinaryIO, member: Member) -> BinaryIO:
    """The bytes of a member, as a file to read from its beginning to its end."""
    file.seek(member.offset)
    return io.BufferedReader(_Section(file, member.size))


SIDECARS = ("json", "txt", "cls")
"""What follows the key of a picture, and a dot, in the names that ``read_sidecars`` reads."""


def key_of(name: str) -> str:
    """What a picture's name has in common with its sidecars'."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def read_sidecars(
    file: BinaryIO, table: Mapping[str, Member], name: str
) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """What ``KEY.json``, ``KEY.txt`` and ``KEY.cls`` say of the picture ``KEY.jpg`` beside them.

    The key is the name up to the first dot after the last slash, as in WebDataset. Gives the text
    of ``.cls``, None without; and the fields of ``.json``, with ``txt`` of ``.txt``. ArchiveError
    where one of them is too long, or not what its name says.
    """
    key = key_of(name)
    metadata: dict[str, Any] = {}
    if (text := _sidecar(file, table, f"{key}.json")) is not None:
        try:
            metadata = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArchiveError(f"{key}.json beside it is no JSON: {error}") from error
        if not isinstance(metadata, dict):
            raise ArchiveError(f"{key}.json beside it is no JSON object")
    if (text := _sidecar(file, table, f"{key}.txt")) is not None:
        metadata["txt"] = text.strip()
    label = _sidecar(file, table, f"{key}.cls")
    return None if label is None else (label.strip(),), metadata


def _sidecar(file: BinaryIO, table: Mapping[str, Member], name: str) -> str | None:
    member = table.get(name)
    if member is None:
        return None
    if member.size > _LONGEST_SIDECAR:
        raise ArchiveError(f"{name} beside it is longer than {_LONGEST_SIDECAR:,} bytes")
    try:
        return section(file, member).read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{name} beside it is no UTF-8") from error


class _Header(tarfile.TarInfo):
    """Headers as tarfile takes them, which trusts their sizes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """One of them; ReadError where its size would send tarfile back, or fill the memory."""
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _EXTENDED and header.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header for {header.size:,} bytes")
        return header


def _read_table(file: BinaryIO) -> dict[str, Member]:
    file.seek(0)
    table: dict[str, Member] = {}
    how: Any = {"mode": "r:", "tarinfo": _Header, "errors": "surrogateescape"}
    try:
        # "r:" admits no compression. Headers only: a member's content is passed over by seeking.
        with tarfile.open(fileobj=file, **how) as archive:
            for info in archive:
                if info.size < 0:  # by an extended header
                    raise tarfile.ReadError(f"a member of {info.size:,} bytes")
                if info.isreg() and not info.issparse():
                    table[info.name] = Member(info.offset_data, info.size)
            file.seek(archive.offset)
            if any(file.read(tarfile.BLOCKSIZE)):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("a damaged header")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        file.seek(0)
        is_packed = file.read(6).startswith(PACKED)
        why = "compressed ones are not: decompress it" if is_packed else str(error)
        raise ArchiveError(f"it is not a plain tar file, or a damaged one ({why})") from error
    return table


def _changed_at(file: BinaryIO) -> object:
    try:
        return os.fstat(file.fileno()).st_mtime_ns
    except (OSError, AttributeError, io.UnsupportedOperation):
        return None  # a remote file


class _Section(io.RawIOBase):
    """A part of a file, from where it stands."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(self._left, len(buffer)))
        if self._left and not data:
            raise OSError("the tar file ends within it")
        self._left -= len(data)
        buffer[: len(data)] = data
        return len(data)
