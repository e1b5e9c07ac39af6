"""Tables of pandas, long and tidy, in and out: with the columns of PyTerrier, or of ir_measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

from imgsearch_es.errors import EvaluationError, needed

if TYPE_CHECKING:
    import pandas as pd

Table = Any
"""A table of pandas, which is not imported to say so."""
QUERY, DOCUMENT = ("qid", "query_id"), ("docno", "doc_id")
GRADE, SCORE = ("label", "relevance"), ("score",)
"""What columns are called: by PyTerrier, and by ir_measures and ir_datasets."""


def is_frame(given: object) -> TypeGuard[pd.DataFrame]:
    """Whether it is a table of pandas; looking does not import pandas."""
    return hasattr(given, "itertuples") and hasattr(given, "columns")


def to_frame(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pd.DataFrame:
    """A table of rows, perhaps none."""
    return needed("pandas", "tables need pandas", "evaluation").DataFrame(rows, columns=columns)


def rows(frame: pd.DataFrame, *columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of some columns, row by row; each has the first of its names that there is."""
    found = []
    for names in columns:
        known = [name for name in names if name in frame.columns]
        if not known:
            raise EvaluationError(
                f"the table has no column {' or '.join(names)}; it has "
                f"{', '.join(map(str, frame.columns))}"
            )
        found.append(frame[known[0]].tolist())
    return zip(*found, strict=True)
