"""Export: the documents of an index into a file, which is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgsearch_es.errors import ExchangeError, ImageError
from imgsearch_es.indexing.exchange.formats import format_of, sync
from imgsearch_es.indexing.exchange.rows import to_header, to_row
from imgsearch_es.pictures.files import Limits, read_bytes, reason
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Store, known_settings

ARRAYS = ("filenames.npy", "vectors.npy", "labels.npy")
"""The files of a folder of features."""


@dataclass(slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: of the file.
        documents: rows of the file.
        without_picture: (uri, reason) of documents whose pictures were asked for and could not be
            read, or have changed since they were analyzed; the documents are exported.
    """

    path: str
    documents: int = 0
    without_picture: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "path": self.path,
            "documents": self.documents,
            "without_picture": [{"uri": u, "reason": r} for u, r in self.without_picture],
        }


def export_documents(
    store: Store,
    path: Path,
    *,
    pictures: bool = False,
    filters: Sequence[Filter] = (),
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ExportReport:
    """Write the documents of a store into a file; see ``ImageIndex.export``."""
    settings, report = known_settings(store), ExportReport(str(path))
    form = format_of(path)

    def rows() -> Iterator[dict[str, Any]]:
        for document in store.documents(filters):
            yield to_row(document, _picture(document, report) if pictures else None)
            report.documents += 1
            if progress is not None:
                progress(report.documents)

    with whole(path, force=force) as part:
        form.write(part, to_header(settings), rows())
        sync(part)
    return report


@contextmanager
def whole(path: Path, *, force: bool) -> Iterator[Path]:
    """Where to write what shall be at ``path``, and is there in the end whole or not at all.

    Args:
        path: of a file, or of a folder of files.
        force: replace what is there.

    Raises:
        ExchangeError: something is there, or it cannot be written. A folder is replaced only when
            all files in it are arrays of ours.
    """
    if path.exists() and not force:
        raise ExchangeError(f"{path} exists; give another name, or force=True (--force)")
    if path.is_dir() and (others := {file.name for file in path.iterdir()} - set(ARRAYS)):
        raise ExchangeError(
            f"{path} is a folder with other files in it, such as {min(others)}: give a new one"
        )
    path = path if path.name else path.absolute()  # of the current folder
    part = path.with_name(f".{os.getpid()}.{path.name}")  # the extension says the format
    try:
        yield part
        if path.exists() and not force:
            raise ExchangeError(f"{path} was made by another program meanwhile")
        if part.is_dir():
            _remove_files(path)
        part.replace(path)
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {reason(error)}") from error
    finally:
        _remove_files(part)


def _remove_files(place: Path) -> None:
    """Remove a file, or a folder of arrays; a folder with anything else in it stays."""
    if not place.is_dir():
        place.unlink(missing_ok=True)
        return
    for name in ARRAYS:
        for file in (place / name, place / f".{name}"):
            file.unlink(missing_ok=True)
    place.rmdir()


def _picture(document: Document, report: ExportReport) -> bytes | None:
    try:
        data = read_bytes(document.uri, Limits())
        if hashlib.sha256(data).hexdigest() == document.sha256:
            return data
        why = "has changed since it was analyzed"
    except ImageError as error:
        why = error.reason
    report.without_picture.append((document.uri, why))
    return None
