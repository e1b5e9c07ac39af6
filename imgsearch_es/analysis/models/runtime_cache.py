"""Converted networks in the user's cache folder, each in a folder with what was decided about it.

Deleting any of them costs a few seconds on the next start. A folder is written beside its place and
moved there whole. Each file has a checksum, for a damaged network gives wrong scores in silence.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgsearch_es.analysis.models.weights import digest_of
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.pictures.files import replacing

_CHECKSUMS = "checksums.json"
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where they are: below IMGSEARCH_CACHE, or the user's cache folder."""
    from platformdirs import user_cache_dir

    chosen = os.environ.get("IMGSEARCH_CACHE")
    cache = Path(chosen).expanduser() if chosen else Path(user_cache_dir("imgsearch_es"))
    return cache / "runtimes"


@contextmanager
def replaced(folder: Path) -> Iterator[Path | None]:
    """A new folder to write to, which takes the place of ``folder`` in the end, or of none.

    Gives None where the cache cannot be written: then nothing is kept.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    except OSError as error:
        _log.warning("nothing is kept for the next start: %s", error)
        yield None
        return
    try:
        yield place
        shutil.rmtree(folder, ignore_errors=True)
        try:
            place.rename(folder)
        except OSError:
            _log.info("another process was faster to write %s", folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def record(folder: Path) -> None:
    """Keep the checksums of the files that have none yet.

    Raises:
        OSError: the folder cannot be written.
    """
    recorded = _recorded(folder)
    new = {path.name: digest_of(path) for path in _files(folder) if path.name not in recorded}
    if new:
        with replacing(folder / _CHECKSUMS) as draft:
            draft.write_text(json.dumps(recorded | new, indent=2), encoding="utf-8")


def check(folder: Path) -> None:
    """See that all files are as they were written; one without a checksum is removed.

    (It was not written to its end, or somebody was killed before it was recorded.)

    Raises:
        AnalyzerError: one is damaged or gone.
    """
    recorded = _recorded(folder)
    for path in _files(folder):
        if path.name not in recorded:
            path.unlink(missing_ok=True)
    for name, digest in recorded.items():
        try:
            if digest_of(folder / name) != digest:
                raise AnalyzerError(f"{folder / name} is damaged: its checksum is wrong")
        except OSError as error:
            raise AnalyzerError(f"cannot read {folder / name}: {error.strerror}") from error
    if not recorded:
        raise AnalyzerError(f"{folder} has no checksums")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != _CHECKSUMS]


def _recorded(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
