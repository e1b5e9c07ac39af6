"""Results that are tables, in a folder that keeps them, and in what they differ from a manifest."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imgsearch_es.analysis.configuration import digest_of
from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.manifest import (
    MANIFEST,
    BasePlan,
    as_text,
    check_known,
    read_manifest,
    refuse_others,
)
from imgsearch_es.evaluation.measures import Scores
from imgsearch_es.evaluation.significance import (
    LEVEL,
    TESTS,
    Clusters,
    Comparison,
    Interval,
    compare,
)
from imgsearch_es.evaluation.text_files import write_bytes, write_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKS = ((LEVEL, "***"), (0.01, "**"), (0.05, "*"))
"""p-values below these get these marks."""
REPORTED = "randomization"
"""The test whose p-values, after Holm's correction, give the marks."""
_COMPARED = ("data", "judgements", "analyzer", "weights", "models", "rankings", "figures")
"""What decides the figures, and the figures; versions and places only may."""
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


class Results(Tables):
    """Tables of figures that were planned, and a folder that keeps all that belongs to them."""

    plan: BasePlan
    clusters: Clusters | None
    command: ClassVar[str]
    own_files: ClassVar[tuple[str, ...]]

    @property
    def groups(self) -> int | None:
        """How many groups the queries are of; None where each stands for itself."""
        return None if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def sureness(self) -> dict[str, Any]:
        """How sure means and differences are: options of ``significance.interval``."""
        plan = self.plan
        sure = {"confidence": plan.confidence, "kind": plan.interval, "seed": plan.seed}
        return {**sure, "clusters": self.clusters}

    def _against(
        self, baseline: str, figures: Scores, systems: Mapping[str, Scores]
    ) -> list[Comparison]:
        """Systems compared with a baseline by every measure."""
        return [
            comparison
            for measure in self.plan.measures
            for comparison in compare(
                measure,
                (baseline, figures.values[measure]),
                {name: scores.values[measure] for name, scores in systems.items()},
                **self.sureness,
            )
        ]

    @abstractmethod
    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""

    @abstractmethod
    def figures(self) -> Iterator[tuple[str, Figure]]:
        """The plots of the folder, by name (needs matplotlib)."""

    @abstractmethod
    def more_files(self, folder: Path) -> Iterator[Path]:
        """Write what the folder holds besides tables, plots and the manifest."""

    def write(self, folder: str | os.PathLike[str], *, plots: bool = True) -> list[Path]:
        """Write tables, manifest, plots and all that belongs to them into a folder.

        The manifest says from the first what was written; where it has new figures, all is there.

        >>> found.write("out", plots=False)[-1].name
        'manifest.json'
        """
        where, files = Path(folder).expanduser(), dict[str, str]()
        known = self.check_folder(where, vars(self.plan))
        earlier, about = known.pop("files"), {**self.plan.head, **known}

        def kept(about: Mapping[str, Any], names: Mapping[str, str]) -> Path:
            text = json.dumps({**about, "files": names}, indent=2, ensure_ascii=False)
            return write_lines(where / MANIFEST, [text])

        kept(about, earlier)
        for path in self._written(where, plots):
            files[path.relative_to(where).as_posix()] = digest_of(path)
            kept(about, {**earlier, **files})
        for path in (*where.glob("runs/*"), *(where.glob("*.png") if plots else ())):
            name = path.relative_to(where).as_posix()  # of a system that is not one of these
            if name in earlier.keys() - files and digest_of(path) == earlier[name]:
                path.unlink()
        return [*(where / name for name in files), kept(self.manifest(), files)]

    def _written(self, where: Path, plots: bool) -> Iterator[Path]:
        for name, figure in self.figures() if plots else ():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
            yield write_bytes(where / f"{name}.png", buffer.getvalue())
        yield write_lines(where / "table.md", [self.to_markdown()])
        yield write_lines(where / "table.tex", [self.to_latex()])
        yield write_lines(where / self.own_files[0], [self.to_csv().rstrip("\n")])
        yield from self.more_files(where)

    @classmethod
    def check_folder(cls, folder: Path | None, asked: Mapping[str, Any]) -> dict[str, Any]:
        """EvaluationError unless results may be written there; gives the manifest of earlier ones.

        >>> found.check_folder(Path("elsewhere"), {})
        {'files': {}}
        """
        if folder is None:
            return {}
        where = folder.expanduser().absolute()
        there = next(each for each in (where, *where.parents) if os.path.lexists(each))
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise EvaluationError(f"cannot write into {folder}: {there} is no folder to write to")
        files = [where / name for name in ("table.md", "table.tex", *cls.own_files, MANIFEST)]
        sources = (asked.get("judgements"), asked.get("queries"), *(asked.get("runs") or ()))
        for source in (Path(as_text(each)).expanduser().resolve() for each in sources if each):
            if any(source.is_relative_to(file.resolve()) for file in files):
                raise EvaluationError(f"{source} would be written over: name another folder")
        try:
            known = read_manifest(where / MANIFEST, cls.command)
        except EvaluationError as error:
            known = {"files": {}}
            refuse_others(files, cls.command, error)
        earlier, qrels = known["files"], where / "qrels.txt"
        if qrels.name in earlier and qrels.exists() and digest_of(qrels) != earlier[qrels.name]:
            raise EvaluationError(
                f"{qrels} was changed since `imgsearch {cls.command}` wrote it: move it elsewhere"
            )
        return known

    def measured(self, name: str | None) -> str:
        """A measure that there is, by default the first.

        >>> found.measured(None)
        'P@3'
        """
        measures = self.plan.measures
        return check_known(name or measures[0], measures, "was not measured: {} were")

    def captioned(
        self, task: str, queries: int, pictures: int, more: str = "", *, marks: bool
    ) -> str:
        """The caption of a table of means.

        >>> found.captioned("pets", 10, 20, marks=False).partition(";")[0]
        'pets: 10 queries of 19 groups, 20 pictures'
        """
        plan = self.plan
        kind = "bootstrap" if plan.interval == "bootstrap" else "Student's t"
        if plan.interval == "t":
            kind += "; Wilson's where all figures are 0 or 1"
        stars = (
            f" Against {plan.compare}: * p < 0.05, ** p < 0.01, *** p < 0.001 (paired "
            "randomization test, Holm's correction)."
        )
        of, by = (f" of {self.groups:,} groups", ", by group") if self.groups else ("", "")
        return (
            f"{task}: {queries:,} queries{of}, {pictures:,} pictures; means with "
            f"{plan.level} confidence intervals ({kind}{by}).{more}"
            f"{stars if marks else ''}"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as the manifest says: ``what`` is such as ``figures, sqrt, P@10``."""

    what: str
    was: object
    now: object

    def __str__(self) -> str:
        return f"{self.what}: {_show(self.now)}, was {_show(self.was)}"


def differences(
    manifest: Mapping[str, Any], found: Results | Mapping[str, Any]
) -> list[Difference]:
    """What is not as the manifest says in what was found, or its manifest; figures come first."""
    now = json.loads(json.dumps(found.manifest() if isinstance(found, Results) else found))
    return [
        difference
        for key in (*_COMPARED, "versions", "index")
        if key in now
        for difference in _compare(key, manifest.get(key), now[key])
    ]


def _compare(what: str, was: object, now: object) -> Iterator[Difference]:
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*was, *now)):
            yield from _compare(f"{what}, {key}", was.get(key), now.get(key))
    elif was != now:
        yield Difference(what, was, now)


def _show(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:24]}..."


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
