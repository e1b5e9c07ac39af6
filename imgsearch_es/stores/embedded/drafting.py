"""A new file is whole or not there at all; and what processes that were killed left beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from imgsearch_es.errors import StoreError


@contextmanager
def drafted(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a new file, which gets its name when all of it is on disk.

    Only one may be made at a time. So what is found at its place was left by a program that was
    killed, and is removed.

    Raises:
        StoreError: there is a file with something in it.
    """
    draft = path.with_name(f".{path.name}.new")
    _remove(draft)
    try:
        with duckdb.connect(str(draft)) as connection:
            connection.begin()
            yield connection
            connection.commit()
            connection.execute("CHECKPOINT")  # in closing it would fail in silence
        _take_name(draft, path)
    finally:
        _remove(draft)


def clear_spilled(path: Path) -> None:
    """Remove what DuckDB put beside a file for want of memory, in processes that were killed.

    DuckDB itself does so only when it needs the room again. Names hold the number of the process.
    """
    folder = path.with_name(f"{path.name}.tmp")
    for left in folder.glob("duckdb_temp_*"):
        found = re.match(r"duckdb_temp_(\d+)_", left.name)
        if found and not _is_alive(int(found[1])):
            left.unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or not empty
        folder.rmdir()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _take_name(draft: Path, path: Path) -> None:
    if not path.is_file() or path.stat().st_size == 0:
        path.unlink(missing_ok=True)  # an empty file, as tempfile makes it
        path.with_name(f"{path.name}.wal").unlink(missing_ok=True)  # of a deleted one
        try:
            os.link(draft, path)  # unlike renaming, this does not replace
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            draft.rename(path)
            return
        else:
            return
    raise StoreError(f"{path} exists already")


def _remove(draft: Path) -> None:
    for path in (draft, draft.with_name(f"{draft.name}.wal")):
        path.unlink(missing_ok=True)
