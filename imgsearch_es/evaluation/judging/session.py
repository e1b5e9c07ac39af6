"""A session of judging: one picture after the other, saved after each, to be gone on with later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.judging.pooling import Pool
from imgsearch_es.evaluation.judging.qrels_file import Grades, QrelsFile

GRADES: Mapping[str, int] = MappingProxyType({"relevant": 2, "partly": 1, "not": 0})
"""What a person says, and the grade that qrels keep of it. 1 and more is relevant."""


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

    @property
    def left(self) -> int:
        """Documents that are still asked for in this session."""
        return self.total - self.judged - self.skipped


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
        return Progress(
            judged, skipped, len(self._all), place, of_query, query_place, len(self._pool)
        )

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
        left = (each for each in self._all if each not in self._skipped)
        return next((each for each in left if self._grade(each) is None), None)

    def _grade(self, candidate: Candidate) -> int | None:
        return self._grades.get(candidate.query, {}).get(candidate.document)

    def _is_begun(self, query: str, documents: Sequence[str]) -> bool:
        row = self._grades.get(query, {})
        return any(d in row for d in documents) and not all(d in row for d in documents)
