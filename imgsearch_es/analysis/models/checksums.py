"""Checksums of the files in a folder of the cache: a damaged network gives wrong scores in silence.

They are kept in a file beside them, by name.
"""

from __future__ import annotations

import json
from pathlib import Path

from imgsearch_es.analysis.models.weights import digest_of
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.pictures.files import replacing

_FILE = "checksums.json"


def record(folder: Path) -> None:
    """Keep the checksums of the files that have none yet.

    Raises:
        OSError: the folder cannot be written.
    """
    known = _read(folder)
    new = {path.name: digest_of(path) for path in _files(folder) if path.name not in known}
    if new:
        with replacing(folder / _FILE) as draft:
            draft.write_text(json.dumps(known | new, indent=2), encoding="utf-8")


def check(folder: Path) -> None:
    """See that all files are as they were written; one without a checksum is removed.

    (It was not written to its end, or somebody was killed before it was recorded.)

    Raises:
        AnalyzerError: one is damaged or gone.
    """
    known = _read(folder)
    for path in _files(folder):
        if path.name not in known:
            path.unlink(missing_ok=True)
    for name, digest in known.items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            raise AnalyzerError(f"cannot read {folder / name}: {error.strerror}") from error
        if found != digest:
            raise AnalyzerError(f"{folder / name} is damaged: its checksum is wrong")
    if not known:
        raise AnalyzerError(f"{folder} has no checksums")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and path.name != _FILE]


def _read(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
