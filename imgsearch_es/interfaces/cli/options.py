"""Options that are more than a word or a number: conditions, regions, weights, parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import QueryError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgsearch_es.retrieval.feedback import Rocchio

_CONDITION = re.compile(
    r"(?P<field>[^<>=!\s]+)\s*(?P<sign>!=|>=|<=|=|>|<)\s*(?P<value>.+)", re.DOTALL
)
_SIGNS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def conditions(texts: list[str] | None) -> dict[str, Any]:
    """Read ``field=value`` conditions; values of one field are alternatives.

    Raises:
        QueryError: a text is no condition, or compares a field in a second way.
    """
    from imgsearch_es.retrieval.conditions import NUMBER_FIELDS

    where: dict[str, Any] = {}
    for text in texts or ():
        found = _CONDITION.fullmatch(text.strip())
        if not found:
            raise QueryError(f"--where {text!r} is no condition such as label=indoor or width>=800")
        field, sign, value = found["field"], found["sign"], found["value"].strip()
        is_number = field in NUMBER_FIELDS or field.startswith("score(")
        number = _number(value, field) if is_number else value
        if sign == "!=":
            field, sign = f"-{field}", "="
        is_list = sign == "=" and (is_number or not re.search(r"[*?]", value))
        if field in where and isinstance(where[field], list) != is_list:
            raise QueryError(f"--where compares {field!r} in two ways: {text!r} is the second")
        if sign != "=":
            where.setdefault(field, {})[_SIGNS[sign]] = number
        elif not is_list:
            where[field] = {"wildcard": value}
        else:
            where.setdefault(field, []).append(number)
    return where


def given(**values: Any) -> dict[str, Any]:
    """The options that were given: those of None have a default further down."""
    return {name: value for name, value in values.items() if value is not None}


def region(text: str | None) -> tuple[float, ...] | None:
    """Read ``left,top,right,bottom``.

    Raises:
        QueryError: a part is no number; how many there are is checked with the picture.
    """
    return None if text is None else _numbers(text, "--region is left,top,right,bottom, four")


def rocchio(text: str | None) -> Rocchio:
    """Read ``alpha,beta,gamma``; by default the textbook's weights.

    Raises:
        QueryError: these are not three numbers of 0 or more.
    """
    from imgsearch_es.retrieval.feedback import ROCCHIO, Rocchio

    if text is None:
        return ROCCHIO
    what = "--rocchio is alpha,beta,gamma, three"
    weights = _numbers(text, what)
    if len(weights) != 3:
        raise QueryError(f"{what} numbers, not {text!r}")
    return Rocchio(*weights)


def vector(file: str | None) -> NDArray[np.float32] | None:
    """Read a deep feature: a .npy file, or numbers with commas or spaces between them.

    Raises:
        QueryError: the file cannot be read, or is of something else.
    """
    if file is None:
        return None
    import sys
    from pathlib import Path

    import numpy as np

    try:
        if file.endswith(".npy"):
            found = np.load(file, allow_pickle=False)
        else:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            found = np.array(text.replace(",", " ").split(), dtype=np.float32)
    except (OSError, ValueError, EOFError) as error:
        raise QueryError(f"--vector {file} cannot be read: {error}") from error
    return np.asarray(found).reshape(-1) if 1 in np.shape(found) else np.asarray(found)


def parameters(texts: list[str] | None) -> dict[str, float]:
    """Read ``name=number``.

    Raises:
        QueryError: a text is not of that form, or names a parameter twice.
    """
    found: dict[str, float] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or name in found:
            why = "is no name=number such as k1=1.5" if not equals else "is the second of its name"
            raise QueryError(f"--parameter {text!r} {why}")
        found[name] = _numbers(value, f"--parameter {name} takes")[0]
    return found


def _numbers(text: str, what: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise QueryError(f"{what} numbers, not {text!r}") from error


def _number(text: str, field: str) -> float:
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise QueryError(f"{field!r} is a number; {text!r} is not") from error
