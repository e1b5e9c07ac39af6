"""What DuckDB and the system say of an index file, in a sentence for a person."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from imgsearch_es.errors import ConfigurationError, SchemaError, StoreError

_NO_ROOM = re.compile("No space left on device|File too large|Disk quota exceeded")
_REFUSED = re.compile("Permission denied|Read-only file system|Operation not permitted")
_DAMAGED = re.compile("Corrupt database file|Could not read enough bytes|Input/output error")


def check_place(path: Path) -> None:
    """An index file may be there, or could be made.

    Raises:
        ConfigurationError: it is a folder, a FIFO or a device, its folder does not exist, or DuckDB
            cannot be told its name.
        StoreError: the folder may not be read.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(path)):
        raise ConfigurationError(
            f"{path} is not in UTF-8, as the path of an index must be: choose another one"
        )
    if os.sep == "/" and "\\" in str(path):
        raise ConfigurationError(
            f"{path} has a backslash, which DuckDB takes for a slash: choose another path"
        )
    with translated(path):
        if path.is_dir():
            raise ConfigurationError(
                f"{path} is a folder; an index is a file, for example {path.name}.duckdb"
            )
        if path.exists() and not path.is_file():
            raise ConfigurationError(
                f"{path} is a FIFO, socket or device, which no index can take the place of"
            )
        if not path.parent.is_dir():
            raise ConfigurationError(f"the folder of the index does not exist: {path.parent}")


def holder_of(error: BaseException) -> str | None:
    """Who holds the file, when that is what the error says."""
    text = str(error)
    if "Unique file handle conflict" in text:
        return "another DuckDB connection of this process"
    if not isinstance(error, duckdb.IOException) or "Could not set lock" not in text:
        return None
    found = re.search(r"held in (?P<program>.*?) \(PID (?P<pid>\d+)\)", text)
    if not found:
        return "another process"
    return f"{Path(found['program']).name} (process {found['pid']})"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Errors of DuckDB and of the system become those of this package.

    Args:
        path: the file that they are about.
    """
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: duckdb.Error | OSError) -> StoreError:
    said = error.strerror if isinstance(error, OSError) else None
    whole = said or str(error).strip() or type(error).__name__
    text = whole.splitlines()[0]
    if full := _NO_ROOM.search(whole):  # a failing checkpoint says why in its second line
        return StoreError(
            f"there is no room to write {path} ({full[0].lower()}): make some and run the command "
            "again; what was stored before is there"
        )
    if refused := _REFUSED.search(whole):
        return StoreError(
            f"{path} cannot be opened ({refused[0].lower()}): allow it to this user; a search "
            "reads the file, and whoever changes the index writes it and its folder"
        )
    if _DAMAGED.search(whole):
        return StoreError(
            f"{path} is damaged ({text}): put a copy of it from before in its place, or delete it "
            "and index the pictures again"
        )
    if "not a valid DuckDB database" in text:
        return SchemaError(f"{path} is not an index of imgsearch: it is no DuckDB file")
    if "version number" in text or "newer version" in text:
        return SchemaError(f"{path} was written by another version of DuckDB: {text}")
    return StoreError(f"{path}: {text}")
