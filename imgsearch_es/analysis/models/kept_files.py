"""Checksums of the files that are kept of a converted network."""

from __future__ import annotations

import json
from pathlib import Path

from imgsearch_es.analysis.configuration import digest_of
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.pictures.files import replacing
from imgsearch_es.pictures.places import alone_in

_CHECKSUMS = "checksums.json"


def record_files(folder: Path) -> None:
    """Keep the checksums of the files that have none yet."""
    recorded = _recorded(folder)
    new = {path.name: digest_of(path) for path in _files(folder) if path.name not in recorded}
    if new:
        with replacing(folder / _CHECKSUMS) as draft:
            draft.write_text(json.dumps(recorded | new, indent=2), encoding="utf-8")


def check_files(folder: Path) -> None:
    """An AnalyzerError where a file is damaged or gone; one that was not recorded is removed."""
    with alone_in(folder):
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
