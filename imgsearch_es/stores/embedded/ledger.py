"""The ledger in the DuckDB file: the table ``rejected``, made with its first entry.

SELECT uri, reason, rejected_at FROM rejected ORDER BY rejected_at DESC
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timezone

from imgsearch_es.retrieval.ledger import Ledger, Rejected
from imgsearch_es.stores.embedded.file import DatabaseFile

_TABLE = """
CREATE TABLE IF NOT EXISTS rejected (
    id VARCHAR, uri VARCHAR, reason VARCHAR, rejected_at TIMESTAMP,
    sha256 VARCHAR, tried_with VARCHAR, given VARCHAR
);
ALTER TABLE rejected ADD COLUMN IF NOT EXISTS given VARCHAR DEFAULT ''
"""
_INSERT = f"INSERT INTO rejected SELECT {', '.join(f'unnest(${i})' for i in range(1, 8))}"
_DELETE = "DELETE FROM rejected WHERE list_contains($1, id)"
_COLUMNS = "SELECT column_name FROM duckdb_columns() WHERE table_name = 'rejected'"


class EmbeddedLedger(Ledger):
    """The rejected pictures of an index file."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file

    def write(self, entries: Sequence[Rejected]) -> None:
        unique = {entry.id: entry for entry in entries}
        if not unique:
            return
        rows = [
            (key, e.uri, e.reason, e.rejected_at.astimezone(timezone.utc).replace(tzinfo=None),
             e.sha256, e.tried_with, e.given)
            for key, e in unique.items()
        ]  # fmt: skip
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self._file.writing() as connection:
            connection.execute(_TABLE)
            connection.execute(_DELETE, [list(unique)])
            connection.execute(_INSERT, columns)

    def read(self, ids: Sequence[str] | None = None) -> list[Rejected]:
        if not self._file.exists():
            return []
        chosen = "" if ids is None else "JOIN (SELECT unnest($1) AS id) USING (id)"
        with self._file.reading() as connection:
            columns = connection.execute(_COLUMNS).fetchall()
            if not columns:  # before the first entry
                return []
            given = "given" if ("given",) in columns else "''"
            rows = connection.execute(
                f"SELECT uri, reason, rejected_at, sha256, tried_with, {given} "
                f"FROM rejected {chosen} ORDER BY uri",
                [] if ids is None else [list(ids)],
            ).fetchall()
        return [
            Rejected(uri, reason, at.replace(tzinfo=timezone.utc), sha256, tried_with, given=given)
            for uri, reason, at, sha256, tried_with, given in rows
        ]

    def remove(self, ids: Sequence[str]) -> None:
        if self.read(ids):
            with self._file.writing() as connection:
                connection.execute(_DELETE, [list(ids)])
