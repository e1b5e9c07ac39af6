"""Where files are, and where what can be made anew is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def cache_folder(part: str) -> Path:
    """A folder below IMGSEARCH_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_dir

    if chosen := os.environ.get("IMGSEARCH_CACHE"):
        return Path(chosen).expanduser() / part
    with suppress(RuntimeError):  # of a user without a home, which is / in containers
        return Path(user_cache_dir("imgsearch_es")).expanduser() / part
    return Path("/.cache/imgsearch_es", part)


def absolute(path: str | os.PathLike[str]) -> str:
    """A path from the root on, in which links are kept and no ".." is: so each has one name.

    Pathlib keeps "..". What is above a link to a folder is above that folder.
    """
    named = os.path.abspath(path)  # noqa: PTH100
    if ".." in Path(path).parts and (real := os.path.realpath(path)) != os.path.realpath(named):
        return real
    return named
