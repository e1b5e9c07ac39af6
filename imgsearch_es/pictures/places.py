"""Where files are, and where what can be made anew is kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def cache_folder(part: str) -> Path:
    """A folder below IMGSEARCH_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_dir

    if chosen := os.environ.get("IMGSEARCH_CACHE"):
        return Path(chosen).expanduser() / part
    with suppress(RuntimeError):  # of a user without a home, which is / in containers
        return Path(user_cache_dir("imgsearch_es")).expanduser() / part
    return Path("/.cache/imgsearch_es", part)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One program at a time, of those that ask; OSError where there is no such folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a process that was forked meanwhile
        os.close(descriptor)


def absolute(path: str | os.PathLike[str]) -> str:
    """A path from the root on, in which links are kept and no ".." is: so each has one name.

    Pathlib keeps "..". What is above a link to a folder is above that folder.
    """
    named = os.path.abspath(path)  # noqa: PTH100
    if ".." in Path(path).parts and (real := os.path.realpath(path)) != os.path.realpath(named):
        return real
    return named
