"""The folder of an experiment: tables, runs, qrels, figures for each query, plots, manifest."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.evaluation import report
from imgsearch_es.evaluation.manifest import manifest_of
from imgsearch_es.evaluation.measured import Measured
from imgsearch_es.evaluation.text_files import write_bytes, write_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MANIFEST, PICTURES = "manifest.json", "pictures.tsv.gz"


def write_results(
    evaluation: Measured, folder: Path, figures: Iterable[tuple[str, Figure]]
) -> list[Path]:
    """See ``Evaluation.write``; the manifest comes last, so where it is the folder is whole."""
    where, collection = folder.expanduser(), evaluation.collection
    written = [
        write_lines(where / "table.md", [report.to_markdown(evaluation)]),
        write_lines(where / "table.tex", [report.to_latex(evaluation)]),
        write_lines(where / "table.csv", [report.to_csv(evaluation).rstrip("\n")]),
        write_lines(where / "queries.csv", [report.queries_csv(evaluation).rstrip("\n")]),
        evaluation.task.judgements.renamed(collection.name).write_qrels(where / "qrels.txt"),
        write_lines(where / PICTURES, _pictures(evaluation)),
    ]
    for name, run in evaluation.runs.items():
        path = where / "runs" / f"{file_name(name)}.txt.gz"
        written.append(run.renamed(collection.name).write(path))
    for name, figure in figures:
        written.append(write_figure(figure, where / f"{name}.png"))
    text = json.dumps(manifest_of(evaluation), indent=2, ensure_ascii=False)
    return [*written, write_lines(where / MANIFEST, [text])]


def write_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, bbox_inches="tight")
    write_bytes(path, buffer.getvalue())
    return path


def _pictures(evaluation: Measured) -> Iterator[str]:
    yield "name\tsha256\tlabels"
    for item in evaluation.collection.items:
        labels = re.sub(r"\s", " ", " ".join(item.labels))
        yield f"{item.name}\t{item.sha256}\t{labels}"


def file_name(system: str) -> str:
    """A system's name, as files have it."""
    return re.sub(r"[^\w.+=-]", "_", system)
