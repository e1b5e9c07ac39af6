"""A session of judging: one picture after the other, kept as qrels, to be gone on with later.

Every judgement is on the disk before the next is asked for: the file is read, changed and put in
place of the old one in one step, under a lock. So a crash loses nothing, and two people may judge
into the same file at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.text_files import read_lines

GRADES: Mapping[str, int] = MappingProxyType({"relevant": 2, "partly": 1, "not": 0})
"""What a person says, and the grade that qrels keep of it. 1 and more is relevant."""
Grades = dict[str, dict[str, int]]
Pool = Mapping[str, Sequence[str]]
"""The documents to judge for each query, in the order in which they are shown."""


class QrelsFile:
    """Judgements in a file of TREC's qrels, one change at a time.

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
        self._ids = query, document
        self._names = document_name, query_name

    def read(self) -> Grades:
        """The grades of each query's documents, by the index's ids; none where there is no file."""
        if not self.path.exists() or not read_lines(self.path):
            return {}
        query_id, document_id = self._ids
        grades: Grades = {}
        try:
            for query, rows in Judgements.from_qrels(self.path).grades.items():
                kept = grades.setdefault(query_id(query), {})
                for name, grade in rows.items():
                    if (key := document_id(name)) in kept:
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
            kept = {query: row for query, row in grades.items() if row}
            Judgements(kept).renamed(*self._names).write_qrels(self.path)
        return grades

    @contextmanager
    def _locked(self) -> Iterator[None]:
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to be judged: is this document relevant to this query?"""

    query: str
    document: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a session is; places are counted from 1, and 0 when all is done."""

    judged: int
    skipped: int
    total: int
    place: int
    of_query: int
    query_place: int
    queries: int


class Session:
    """Asks for judgements of a pool and saves each at once.

    What the file has judged is not asked again. Queries that were begun come first, then the
    others in the pool's order.

    Attributes:
        current: what is asked now; None when all is judged or skipped.

    Args:
        pool: the documents to judge for each query.
        file: where judgements are kept.
    """

    def __init__(self, pool: Pool, file: QrelsFile) -> None:
        self.file = file
        self._grades: Grades = file.read()
        self._skipped: set[Candidate] = set()
        self._done: list[tuple[Candidate, int | None]] = []
        self._pool = dict(sorted(pool.items(), key=lambda item: not self._is_begun(*item)))
        self._all = [Candidate(q, d) for q, documents in self._pool.items() for d in documents]
        self.current: Candidate | None = self._next()

    def judge(self, grade: str | int) -> None:
        """Judge the current document by one of GRADES, save, and go on to the next.

        Raises:
            EvaluationError: there is no such grade, nothing is left to judge, or the file cannot
                be written; then the judgement does not count and the document is asked again.
        """
        value = GRADES.get(grade) if isinstance(grade, str) else grade
        if value not in GRADES.values():
            known = ", ".join(f"{name} ({number})" for name, number in GRADES.items())
            raise EvaluationError(f"there is no grade {grade!r}; there are {known}")
        asked = self._asked()
        before = self._grade(asked)
        self._grades = self.file.change(asked.query, asked.document, value)
        self._done.append((asked, before))
        self.current = self._next()

    def skip(self) -> None:
        """Leave the current document unjudged; the next session asks for it again."""
        asked = self._asked()
        self._skipped.add(asked)
        self._done.append((asked, None))
        self.current = self._next()

    def undo(self) -> bool:
        """Take the last judgement or skip of this session back, and ask for it again."""
        if not self._done:
            return False
        last, before = self._done[-1]
        if last in self._skipped:
            self._skipped.remove(last)
        else:
            self._grades = self.file.change(last.query, last.document, before)
        self._done.pop()
        self.current = last
        return True

    @property
    def progress(self) -> Progress:
        """How far it is."""
        judged = sum(self._grade(each) is not None for each in self._all)
        skipped = sum(self._grade(each) is None for each in self._skipped)
        place = of_query = query_place = 0
        if self.current is not None:
            documents = self._pool[self.current.query]
            place = documents.index(self.current.document) + 1
            of_query = len(documents)
            query_place = list(self._pool).index(self.current.query) + 1
        total, queries = len(self._all), len(self._pool)
        return Progress(judged, skipped, total, place, of_query, query_place, queries)

    @property
    def grades(self) -> Grades:
        """All judgements of the file, by the index's ids; what is not judged is not in it."""
        return {query: dict(row) for query, row in self._grades.items()}

    @property
    def pool(self) -> Pool:
        """The documents to judge for each query, in the order of this session."""
        return MappingProxyType(self._pool)

    @property
    def unjudged(self) -> list[Candidate]:
        """All that has no judgement yet, in the order in which it is asked, skipped ones too."""
        return [each for each in self._all if self._grade(each) is None]

    def _asked(self) -> Candidate:
        if self.current is None:
            raise EvaluationError("everything in the pool is judged or skipped")
        return self.current

    def _next(self) -> Candidate | None:
        return next((each for each in self.unjudged if each not in self._skipped), None)

    def _grade(self, candidate: Candidate) -> int | None:
        return self._grades.get(candidate.query, {}).get(candidate.document)

    def _is_begun(self, query: str, documents: Sequence[str]) -> bool:
        judged = [document in self._grades.get(query, {}) for document in documents]
        return any(judged) and not all(judged)
