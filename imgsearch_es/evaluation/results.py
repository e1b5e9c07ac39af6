"""What experiments and sweeps found: tables with a plan, and a folder that keeps all of it."""

from __future__ import annotations

import io
import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.plan import BasePlan
from imgsearch_es.evaluation.tables import Tables
from imgsearch_es.evaluation.text_files import write_bytes, write_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST, PICTURES = "manifest.json", "pictures.tsv.gz"


class Results(Tables):
    """Tables of figures that were planned, and can be found again."""

    plan: BasePlan
    csv_file: ClassVar[str]

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

        The manifest comes last: where it is, the folder is whole.

        Raises:
            EvaluationError: a file cannot be written.
            MissingDependencyError: plots need matplotlib.
        """
        where = Path(folder).expanduser()
        figures = dict(self.figures()) if plots else {}
        written = [
            write_lines(where / "table.md", [self.to_markdown()]),
            write_lines(where / "table.tex", [self.to_latex()]),
            write_lines(where / self.csv_file, [self.to_csv().rstrip("\n")]),
            *self.more_files(where),
        ]
        for name, figure in figures.items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
            written.append(write_bytes(where / f"{name}.png", buffer.getvalue()))
        text = json.dumps(self.manifest(), indent=2, ensure_ascii=False)
        return [*written, write_lines(where / MANIFEST, [text])]

    def captioned(self, task: str, queries: int, pictures: int, more: str, *, marks: bool) -> str:
        """The caption of a table of means."""
        plan = self.plan
        kind = "Student's t" if plan.interval == "t" else "bootstrap"
        stars = (
            f" Against {plan.compare}: * p < 0.05, ** p < 0.01, *** p < 0.001 (paired "
            "randomization test, Holm's correction)."
        )
        return (
            f"{task}: {queries:,} queries, {pictures:,} pictures; means with "
            f"{plan.confidence:.0%} confidence intervals ({kind}).{more}{stars if marks else ''}"
        )


def check_known(name: str, known: Iterable[str], otherwise: str) -> str:
    """A name that is among the known ones."""
    names = list(known)
    if name not in names:
        raise EvaluationError(f"{name} {otherwise.format(', '.join(names))}")
    return name
