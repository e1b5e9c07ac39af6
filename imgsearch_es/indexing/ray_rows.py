"""What travels between the driver and the actors of a Ray cluster: Arrow tables.

A table of tasks names pictures, with what the index knows of them; a table of outcomes says what
became of them. A picture's place in the run tells which outcome is whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from imgsearch_es.analysis.analyzer import Analysis, Term
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.read import Failed, Outcome, Ready, Unchanged
from imgsearch_es.indexing.report import STAGES
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected
from imgsearch_es.stores.base import Known

TASKS = pa.schema(
    [
        ("place", pa.int64()),
        ("uri", pa.string()),
        ("error", pa.string()),  # why there is nothing to read
        ("known_sha256", pa.string()),  # of its document
        ("before_sha256", pa.string()),  # of its entry in the ledger
        ("before_tried_with", pa.string()),
    ]
)
OUTCOMES = pa.schema(
    [
        ("place", pa.int64()),
        ("kind", pa.string()),  # "ready", "unchanged", "failed", "again" or "stopped"
        ("reason", pa.string()),  # of failed and stopped ones
        ("tried_with", pa.string()),
        ("sha256", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("bytes", pa.int64()),
        ("format", pa.string()),
        ("keys", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
        ("seconds", pa.list_(pa.float64())),  # by stage, since the outcome before
    ]
)
_NO_PIXELS = np.zeros((0, 0, 3), np.uint8)


def write_tasks(tasks: Iterable[tuple[int, Found]]) -> pa.Table:
    """Tasks as a table."""
    rows = [
        {
            "place": place,
            "uri": task.uri,
            "error": task.error,
            "known_sha256": task.known.sha256 if task.known else None,
            "before_sha256": task.before.sha256 if task.before else None,
            "before_tried_with": task.before.tried_with if task.before else None,
        }
        for place, task in tasks
    ]
    return pa.Table.from_pylist(rows, schema=TASKS)


def read_tasks(table: pa.Table) -> dict[Found, int]:
    """The tasks of a table, with their places; without labels, which actors need not know."""
    return {_task(row): row["place"] for row in table.to_pylist()}


def _task(row: Mapping[str, Any]) -> Found:
    found = Found(row["uri"], error=row["error"])
    if (known := row["known_sha256"]) is not None:
        found.known = Known(known, (), {})
    if (before := row["before_sha256"]) is not None:
        tried_with = row["before_tried_with"]
        found.before = Rejected(found.uri, "", sha256=before, tried_with=tried_with)
    return found


def failed_row(failed: Failed) -> dict[str, Any]:
    """A rejected picture as a row."""
    entry = failed.entry
    return {
        "kind": "again" if failed.again else "failed",
        "reason": entry.reason,
        "sha256": entry.sha256,
        "tried_with": entry.tried_with,
    }


def ready_row(document: Document) -> dict[str, Any]:
    """An analyzed picture as a row; labels and metadata are the driver's to give."""
    return {
        "kind": "ready",
        "sha256": document.sha256,
        "width": document.width,
        "height": document.height,
        "bytes": document.bytes,
        "format": document.format,
        "keys": [term.key for term in document.terms],
        "scores": np.array([term.score for term in document.terms], np.float32),
        "embedding": document.embedding,
    }


def write_outcomes(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table."""
    return pa.Table.from_pylist(list(rows), schema=OUTCOMES)


def read_outcome(row: Mapping[str, Any], task: Found) -> Outcome:
    """What became of a task."""
    uri, kind = task.uri, row["kind"]
    if kind == "unchanged":
        return Unchanged(task)
    if kind == "again" and task.before is not None:
        return Failed(task, task.before, again=True)
    if kind == "failed":
        tried = {"sha256": row["sha256"], "tried_with": row["tried_with"]}
        return Failed(task, Rejected(uri, row["reason"], **tried))
    size = (row["width"], row["height"], row["bytes"], row["format"])
    embedding = row["embedding"]
    analysis = Analysis(
        tuple(map(Term, row["keys"], row["scores"])),
        None if embedding is None else np.asarray(embedding, np.float32),
    )
    return Ready(task, Decoded(uri, row["sha256"], *size, _NO_PIXELS), analysis)


def stage_seconds(seconds: Mapping[str, float], before: Mapping[str, float]) -> list[float]:
    """What each stage worked since before, in the order of ``STAGES``."""
    return [seconds[stage] - before[stage] for stage in STAGES]
