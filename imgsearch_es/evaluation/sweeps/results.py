"""The folder of a sweep: tables, Parquet, plots, manifest."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.results import MANIFEST, write_figure
from imgsearch_es.evaluation.sweeps import report
from imgsearch_es.evaluation.sweeps.manifest import manifest_of
from imgsearch_es.evaluation.sweeps.measured import Measured
from imgsearch_es.evaluation.text_files import write_bytes, write_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, PARQUET = "sweep.csv", "sweep.parquet"


def write_results(sweep: Measured, folder: Path, figures: Mapping[str, Figure]) -> list[Path]:
    """See ``Sweep.write``; the manifest comes last, so where it is the folder is whole."""
    where = folder.expanduser()
    written = [
        write_lines(where / "table.md", [report.to_markdown(sweep)]),
        write_lines(where / "table.tex", [report.to_latex(sweep)]),
        write_lines(where / TABLE, [report.to_csv(sweep).rstrip("\n")]),
    ]
    if find_spec("pyarrow") is not None:
        written.append(_write_parquet(sweep, where / PARQUET))
    for cost, figure in figures.items():
        written.append(write_figure(figure, where / f"pareto-{cost}.png"))
    text = json.dumps(manifest_of(sweep), indent=2, ensure_ascii=False)
    return [*written, write_lines(where / MANIFEST, [text])]


def _write_parquet(sweep: Measured, path: Path) -> Path:
    """The rows of the CSV; what is no number there is null, and the manifest is in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in row.items()
        }
        for row in report.rows(sweep)
    ]
    text = json.dumps(manifest_of(sweep), ensure_ascii=False)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    fields = [(name, _kind(name)) for name in columns]
    table = pa.table(columns, schema=pa.schema(fields, metadata={"manifest": text}))
    buffer = io.BytesIO()
    try:
        pq.write_table(table, buffer)
    except pa.ArrowException as error:
        raise EvaluationError(f"{path} cannot be written: {error}") from error
    write_bytes(path, buffer.getvalue())
    return path


def _kind(column: str) -> str:
    """The type of a column: also right where all its values are missing."""
    if column in ("model", "name", "system", "filters", "measure"):
        return "string"
    return "int64" if column in ("top_k", "queries") else "double"
