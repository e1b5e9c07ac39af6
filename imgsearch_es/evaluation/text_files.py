"""Lines of text files, plain or ``.gz``: what TREC's formats and CSV are made of.

What cannot be read or written is an EvaluationError that names the file.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from imgsearch_es.errors import EvaluationError
from imgsearch_es.pictures.files import check_finite, saving


def read_lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers, counted from 1."""
    source = Path(path).expanduser()
    try:
        check_finite(source)
        data = source.read_bytes()
        text = (gzip.decompress(data) if source.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(f"cannot read {source}: {reason}") from error
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def read_rows(
    path: str | os.PathLike[str], needed: Sequence[str], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV whose first line names its columns, each with where it stands."""
    numbered = read_lines(path)
    rows = csv.DictReader((line for _, line in numbered), delimiter=delimiter)
    if missing := [name for name in needed if name not in (rows.fieldnames or ())]:
        raise EvaluationError(
            f"{path}, line 1: no column {' or '.join(missing)}: the first line names them"
        )
    for row in rows:
        where = f"{path}, line {numbered[rows.line_num - 1][0]}"
        yield where, {name: (value or "").strip() for name, value in row.items() if name}


def write_lines(path: str | os.PathLike[str], lines: Iterable[str]) -> Path:
    """Write lines; the file is there whole or not, and the same lines give the same bytes."""
    target = Path(path).expanduser()
    data = "".join(f"{line}\n" for line in lines).encode()
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # without the time, which would differ
    return write_bytes(target, data)


def write_bytes(target: Path, data: bytes) -> Path:
    """Write a file in one step, with the folders above it."""
    with saving(target, EvaluationError) as draft:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(data)
    return target


def token(name: str, what: str) -> str:
    """A name as a column of TREC's formats, which spaces separate."""
    if not name or name.split() != [name]:
        raise EvaluationError(
            f"the {what} {name!r} cannot stand in TREC's formats, which spaces separate: give "
            "names without white space"
        )
    return name


def fingerprint(rows: Iterable[object]) -> str:
    """Tells these rows from others: a SHA-256 of how Python writes them."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row!r}\n".encode())
    return f"sha256:{digest.hexdigest()}"
