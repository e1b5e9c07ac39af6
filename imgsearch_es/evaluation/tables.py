"""Results that are tables: as Markdown, LaTeX, CSV and HTML, and their numbers as JSON values."""

from __future__ import annotations

import csv
import io
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from html import escape
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.significance import LEVEL, TESTS, Comparison, Interval

MARKS = ((LEVEL, "***"), (0.01, "**"), (0.05, "*"))
"""p-values below these get these marks."""
REPORTED = "randomization"
"""The test whose p-values, after Holm's correction, give the marks."""
Section = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A title, headings and cells; without headings it is a list of sentences."""
_CELL = "text-align:left;white-space:nowrap;font-variant-numeric:tabular-nums"
_LATEX = str.maketrans(
    {
        **{char: rf"\{char}" for char in "&%$#_{}"},
        **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
        **{"<": "$<$", ">": "$>$", "|": "$|$"},
    }
)


class Tables(ABC):
    """A result that is a table, and perhaps more; shows itself in a notebook."""

    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def caption(self) -> str:
        """What the table is of."""

    @abstractmethod
    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The rows of the CSV, with all digits; None or nan where there is no number."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what the command prints with --json."""

    def sections(self) -> list[Section]:
        """What stands below the table."""
        return []

    @property
    def numbers(self) -> Sequence[str]:
        """Headings of the columns that a terminal shows to the right."""
        return ()

    def to_markdown(self) -> str:
        """The tables and notes, for a README.

        >>> found.to_markdown().splitlines()[0]
        '| system | P@3 | AP |'
        """
        text = f"{_markdown(*self.cells())}\n\n{self.caption}"
        for title, columns, rows in self.sections():
            items = "\n".join(f"- {row[0]}" for row in rows)
            text += f"\n\n{title}:\n\n{_markdown(columns, rows) if columns else items}"
        return text + "".join(f"\n\nNote: {note}." for note in self.notes)

    def to_latex(self) -> str:
        """The table for the package booktabs. Marks of significance are raised.

        >>> found.to_latex().count("toprule")
        1
        """
        columns, rows = self.cells()
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{self.caption.translate(_LATEX)}}}",
            rf"\begin{{tabular}}{{l{'c' * (len(columns) - 1)}}}",
            r"\toprule",
            " & ".join(column.translate(_LATEX) for column in columns) + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex_cell, row)) + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines)

    def to_csv(self) -> str:
        """A line for each of ``records``, with all digits.

        >>> found.to_csv().partition(",")[0]
        'system'
        """
        return to_csv(self.records())

    def _repr_html_(self) -> str:
        parts = [_html(*self.cells(), self.caption)]
        for title, columns, rows in self.sections():
            items = "".join(f"<li>{escape(row[0])}</li>" for row in rows)
            bullets = f"<p>{escape(title)}:</p><ul>{items}</ul>"
            parts.append(_html(columns, rows, title) if columns else bullets)
        return "".join([*parts, *(f"<p>Note: {escape(note)}.</p>" for note in self.notes)])

    def __repr__(self) -> str:
        return self.to_markdown()


def show(value: Interval, *, sign: bool = False) -> str:
    """A mean and its interval, to three decimals: ``0.941 [0.922, 0.960]``."""
    form = "+.3f" if sign else ".3f"
    ends = "" if math.isnan(value.low) else f" [{value.low:{form}}, {value.high:{form}}]"
    return f"{value.mean:{form}}{ends}"


def mark(found: Comparison | None) -> str:
    """Stars behind a figure, by the corrected p-value of the test that is reported."""
    p = math.nan if found is None else found.corrected[REPORTED]
    return next((f" {stars}" for limit, stars in MARKS if p < limit), "")


def p_values(found: Comparison | None) -> dict[str, float]:
    """The p-values of a comparison as columns; nan where there is none."""
    return {
        f"{kind}_{test}": values[test] if values else math.nan
        for test in TESTS
        for kind, values in (("p", found and found.p), ("holm", found and found.corrected))
    }


def compared(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON values."""
    values: dict[str, Any] = plain(found)
    return {"p_corrected" if key == "corrected" else key: v for key, v in values.items()}


def plain(value: Any) -> Any:
    """Values as JSON has them: of dataclasses their fields, None for nan."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def to_csv(records: Iterable[Mapping[str, Any]]) -> str:
    """Lines of values between commas, the names of the columns first; nothing for None and nan."""
    rows = plain(list(records))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def check_known(name: str, known: Iterable[str], otherwise: str) -> str:
    """A name that is among the known ones."""
    names = list(known)
    if name not in names:
        raise EvaluationError(f"{name} {otherwise.format(', '.join(names))}")
    return name


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of pipes; numbers, which all columns but the first hold, stand to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    cells = [[cell.replace("|", r"\|").replace("*", r"\*") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*columns], rule, *cells))


def _html(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    def cells(row: Iterable[str], tag: str) -> str:
        made = (f"<{tag} style='{_CELL}'>{escape(cell)}</{tag}>" for cell in row)
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(cells(row, "td") for row in rows)
    return (
        f"<table><caption style='text-align:left'>{escape(caption)}</caption>"
        f"<thead>{cells(columns, 'th')}</thead><tbody>{body}</tbody></table>"
    )


def _latex_cell(cell: str) -> str:
    text, space, stars = cell.rpartition(" ")
    if space and set(stars) == {"*"}:
        return f"{text.translate(_LATEX)}$^{{{stars}}}$"
    return cell.translate(_LATEX)
