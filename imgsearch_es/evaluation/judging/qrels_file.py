"""The file in which judgements are kept while they are made: TREC's qrels.

Every judgement is on the disk before the next is asked for: the file is read, changed and put in
place of the old one in one step, under a lock. So a crash loses nothing, and two people may judge
into the same file at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.text_files import read_lines

Grades = dict[str, dict[str, int]]


class QrelsFile:
    """Judgements in a file, one change at a time.

    Args:
        path: of the file, plain or .gz; it and its folder are made by the first judgement.
        document: the id of the document that is called so in the file, or the name itself.
        document_name: the name in the file of a document's id.
        query: as ``document``, of queries.
        query_name: as ``document_name``, of queries.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        document: Callable[[str], str] = str,
        document_name: Callable[[str], str] = str,
        query: Callable[[str], str] = str,
        query_name: Callable[[str], str] = str,
    ) -> None:
        self.path = Path(path).expanduser().absolute()
        self._document = document
        self._document_name = document_name
        self._query = query
        self._query_name = query_name

    def read(self) -> Grades:
        """The grades of each query's documents, by the index's ids; none where there is no file."""
        if not self.path.exists() or not read_lines(self.path):
            return {}
        grades: Grades = {}
        try:
            for query, rows in Judgements.from_qrels(self.path).grades.items():
                kept = grades.setdefault(self._query(query), {})
                for name, grade in rows.items():
                    if (key := self._document(name)) in kept:
                        raise EvaluationError(
                            f"two lines judge the same picture, and one calls it {name}: remove one"
                        )
                    kept[key] = grade
        except EvaluationError as error:
            where = "" if str(self.path) in str(error) else f"{self.path}: "
            raise EvaluationError(f"{where}{error}") from error
        return grades

    def change(self, query: str, document: str, grade: int | None) -> Grades:
        """Write one judgement, or take it back (None), and give all that the file then holds."""
        with self._locked():
            grades = self.read()
            row = grades.setdefault(query, {})
            if grade is None:
                row.pop(document, None)
            else:
                row[document] = grade
            self._write(grades)
        return grades

    def _write(self, grades: Mapping[str, Mapping[str, int]]) -> None:
        kept = {query: row for query, row in grades.items() if row}
        named = Judgements(kept).renamed(self._document_name, self._query_name)
        named.write_qrels(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While the file is changed, nobody else changes it."""
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise EvaluationError(f"cannot write {self.path}: {error.strerror}") from error
        try:
            with suppress(OSError):  # a file system without locks: then one person at a time
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)
