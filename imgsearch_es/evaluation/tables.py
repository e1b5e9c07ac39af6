"""Tables as text: Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from html import escape


def to_markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of pipes; numbers, which all columns but the first hold, stand to the right."""
    rule = ["---", *["---:"] * (len(columns) - 1)]
    cells = [[cell.replace("|", r"\|").replace("*", r"\*") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*columns], rule, *cells))


def to_latex(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table for a paper; needs the package booktabs. Marks of significance are raised."""
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'c' * (len(columns) - 1)}}}",
        r"\toprule",
        " & ".join(map(_latex, columns)) + r" \\",
        r"\midrule",
        *(" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def to_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines of values between commas, the names of the columns first."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue()


_CELL = "text-align:left;white-space:nowrap;font-variant-numeric:tabular-nums"


def to_html(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table for a notebook."""

    def cells(row: Iterable[str], tag: str) -> str:
        made = (f"<{tag} style='{_CELL}'>{escape(cell)}</{tag}>" for cell in row)
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(cells(row, "td") for row in rows)
    return (
        f"<table><caption style='text-align:left'>{escape(caption)}</caption>"
        f"<thead>{cells(columns, 'th')}</thead><tbody>{body}</tbody></table>"
    )


_SPECIAL = {
    **{char: rf"\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": "$|$"},
}


def _latex(text: str) -> str:
    return "".join(_SPECIAL.get(char, char) for char in text)


def _latex_cell(cell: str) -> str:
    text, space, mark = cell.rpartition(" ")
    if space and set(mark) == {"*"}:
        return f"{_latex(text)}$^{{{mark}}}$"
    return _latex(cell)
