"""What TREC's formats, CSV and tables of pandas hold, in and out.

Text files may be ``.gz``. What cannot be read or written is an EvaluationError that names the file.
Tables are long and tidy, with the columns of PyTerrier, or of ir_measures.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import quote

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.pictures.files import check_finite, saving
from imgsearch_es.pictures.manifests import misnamed

if TYPE_CHECKING:
    import pandas as pd

_MOST = 1 << 30
"""Bytes of text, unpacked: a small ``.gz`` may hold more than memory does."""
Table = Any
"""A table of pandas, which is not imported to say so."""
_ALSO = {"qid": ("query_id",), "docno": ("doc_id",), "label": ("relevance",)}
"""What ir_measures and ir_datasets call columns of PyTerrier."""


def read_text(path: str | os.PathLike[str]) -> str:
    """A file in UTF-8."""
    source = Path(path).expanduser()
    try:
        check_finite(source)
        with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise EvaluationError(f"cannot read {source}: it has over {_MOST:,} bytes of text")
        return data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EvaluationError(f"cannot read {source}: {reason}") from error


def read_as(path: str | os.PathLike[str], parse: Callable[[str], Any], otherwise: str) -> Any:
    """What a file of JSON or TOML holds; ``otherwise`` is what it is said to be."""
    text = read_text(path)
    try:
        return parse(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path} is {otherwise}: {error}") from error


def read_lines(path: str | os.PathLike[str]) -> list[tuple[int, str]]:
    """The lines of a file that are not blank, with their numbers, counted from 1."""
    lines = enumerate(read_text(path).replace("\r\n", "\n").split("\n"), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def read_rows(
    path: str | os.PathLike[str],
    columns: Sequence[str],
    more: Sequence[str] = (),
    delimiter: str = ",",
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV whose first line names its columns, each with where it stands.

    It has these ``columns``, and may have ``more``.
    """
    text = io.StringIO(read_text(path), newline="")
    rows = csv.DictReader(text, delimiter=delimiter, strict=True)
    try:
        if missing := [name for name in columns if name not in (rows.fieldnames or ())]:
            raise EvaluationError(
                f"{path}, line 1: no column {' or '.join(missing)}: the first line names them"
            )
        names = list(filter(None, rows.fieldnames or ()))
        if problem := misnamed(names, more.__contains__):
            raise EvaluationError(f"{path}, line 1: {problem}")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if any(map(str.strip, row.pop(None, []))):
                raise EvaluationError(
                    f"{where}: it has more fields than the heading: put one with a {delimiter!r} "
                    "into quotes"
                )
            cells = {name: (value or "").strip() for name, value in row.items() if name}
            if any(cells.values()):
                yield where, cells
    except csv.Error as error:
        raise EvaluationError(f"cannot read {path} after line {rows.line_num}: {error}") from error


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


def as_column(text: str) -> str:
    """A URI or a query as a column of TREC's formats: white space as %20; unquoted it is itself."""
    return re.sub(r"[\s%]", lambda found: quote(found[0], safe=""), text)


def names_in_files(
    names: Iterable[str], *, first: bool, column: Callable[[str], str] = as_column
) -> dict[str, str]:
    """Names by themselves and by ``column``, by this ``first`` where two could be meant."""
    plain = {name: name for name in names}
    columns = {column(str(name)): name for name in plain}
    return {**plain, **columns} if first else {**columns, **plain}


def fingerprint(rows: Iterable[object]) -> str:
    """Tells these rows from others: a SHA-256 of how Python writes them."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row!r}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def is_frame(given: object) -> TypeGuard[pd.DataFrame]:
    """Whether it is a table of pandas; looking does not import pandas."""
    return hasattr(given, "itertuples") and hasattr(given, "columns")


def make_frame(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A table of rows, perhaps none."""
    return needed("pandas", "tables need pandas", "evaluation").DataFrame(rows, columns=columns)


def frame_rows(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, by PyTerrier's names or the others, row by row; None for none.

    Queries and documents have names: EvaluationError where one is missing.
    """
    found = []
    for column in columns:
        names = column, *_ALSO.get(column, ())
        known = [name for name in names if name in frame.columns]
        if not known:
            raise EvaluationError(
                f"the table has no column {' or '.join(names)}; it has "
                f"{', '.join(map(str, frame.columns))}"
            )
        cells = frame[known[0]]
        if cells.ndim > 1:
            raise EvaluationError(f"the table has several columns {known[0]}")
        values = [
            None if missing else cell
            for cell, missing in zip(cells.tolist(), cells.isna().tolist(), strict=True)
        ]
        if column in ("qid", "docno") and None in values:
            raise EvaluationError(f"the table, row {values.index(None)}: it has no {known[0]}")
        found.append(values)
    return zip(*found, strict=True)
