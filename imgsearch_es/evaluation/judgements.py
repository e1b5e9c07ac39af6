"""Judgements (qrels): which documents are relevant to which query.

A grade of 1 or more is relevant, the more the better; 0 and below is not relevant, as for
trec_eval. A document without a judgement counts as not relevant. Junk is neither: it is taken out
of the ranking before anything is measured, as if it were not in the collection. So the query's own
picture is junk where queries are left out (leave one out), and so are the pictures of the Oxford
and Paris benchmarks that show too little of a building.
"""

from __future__ import annotations

import csv
import hashlib
import os
import random
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.text_files import read_lines, token, write_lines

JUNK = -1
"""The grade of junk in the files that ``write_qrels`` makes."""
_COLUMNS = ("query", "document")
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class Judgements:
    """The judgements of a set of queries.

    Attributes:
        grades: query id -> {document id: grade}. Queries may share one mapping.
        junk: query id -> the documents that do not exist for this query, whatever their grades.
    """

    grades: Mapping[str, Mapping[str, int]]
    junk: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.grades)

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, in the order of their ids."""
        return tuple(sorted(self.grades))

    def of(self, query: str) -> dict[str, int]:
        """The grades of a query's documents, without junk; empty for an unknown query."""
        junk = self.junk.get(query, frozenset())
        grades = self.grades.get(query, _NOTHING)
        return {document: grade for document, grade in grades.items() if document not in junk}

    def relevant(self, query: str, grade: int = 1) -> frozenset[str]:
        """The documents of this grade or a higher one."""
        return frozenset(key for key, value in self.of(query).items() if value >= grade)

    def select(self, queries: Iterable[str]) -> Judgements:
        """The judgements of some queries only.

        Raises:
            EvaluationError: one of them has none.
        """
        wanted = list(dict.fromkeys(queries))
        for query in wanted:
            if query not in self.grades:
                raise EvaluationError(f"there are no judgements of the query {query!r}")
        junk = {query: self.junk[query] for query in wanted if query in self.junk}
        return Judgements({query: self.grades[query] for query in wanted}, junk)

    def sample(self, count: int, seed: int = 0) -> Judgements:
        """The judgements of so many queries, chosen at random; of all when there are fewer."""
        if count < 1:
            raise EvaluationError(f"a sample has at least one query, not {count}")
        chosen = random.Random(seed).sample(self.queries, min(count, len(self)))  # noqa: S311
        return self.select(sorted(chosen))

    def renamed(
        self, document: Callable[[str], str], query: Callable[[str], str] | None = None
    ) -> Judgements:
        """With other names for documents and queries.

        Args:
            document: the new name of a document.
            query: the new name of a query; by default as of a document.
        """
        name = query or document
        done: dict[int, Mapping[str, int]] = {}  # mappings that queries share stay shared
        for grades in self.grades.values():
            if id(grades) not in done:
                done[id(grades)] = {document(key): grade for key, grade in grades.items()}
        return Judgements(
            {name(key): done[id(grades)] for key, grades in self.grades.items()},
            {name(key): frozenset(map(document, junk)) for key, junk in self.junk.items()},
        )

    @property
    def fingerprint(self) -> str:
        """Tells these judgements from others: a SHA-256 of all of them."""
        digest = hashlib.sha256()
        parts: dict[int, bytes] = {}
        for query in self.queries:
            grades = self.grades[query]
            if id(grades) not in parts:
                parts[id(grades)] = hashlib.sha256(repr(sorted(grades.items())).encode()).digest()
            digest.update(repr((query, sorted(self.junk.get(query, ())))).encode())
            digest.update(parts[id(grades)])
        return f"sha256:{digest.hexdigest()}"

    # -- from groups and files -----------------------------------------------------------------

    @classmethod
    def from_groups(
        cls,
        groups: Mapping[str, Iterable[Hashable]],
        *,
        queries: Iterable[str] | None = None,
        count_query: bool = False,
    ) -> Judgements:
        """Documents of the same group are relevant to each other, with grade 1.

        Args:
            groups: the groups of each document: a document may be in none, one or several.
            queries: the documents that are searched for; by default all to which another one is
                relevant.
            count_query: whether a query's own document counts, as in the UKBench score; else it
                is junk (leave one out).
        """
        members: dict[Hashable, dict[str, int]] = {}
        kept = {document: frozenset(names) for document, names in groups.items()}
        for document, names in kept.items():
            for name in names:
                members.setdefault(name, {})[document] = 1
        shared: dict[frozenset[Hashable], dict[str, int]] = {}
        for names in set(kept.values()):
            several = [members[name] for name in names]
            shared[names] = several[0] if len(several) == 1 else _united(several)
        wanted = kept if queries is None else list(queries)
        least = 1 if count_query else 2
        found = {
            query: shared[kept[query]]
            for query in wanted
            if queries is not None or len(shared[kept[query]]) >= least
        }
        junk = {} if count_query else {query: frozenset([query]) for query in found}
        return cls(found, junk)

    @classmethod
    def from_qrels(cls, path: str | os.PathLike[str], *, junk: int | None = None) -> Judgements:
        """Read TREC's qrels, plain or .gz: query, iteration (ignored), document, grade.

        Args:
            path: of the file.
            junk: the grade that marks junk; by default none does, and a grade below 1 is not
                relevant, as for trec_eval.

        Raises:
            EvaluationError: the file cannot be read or is no such file.
        """
        reader = _Reader(Path(path))
        for number, line in read_lines(path):
            columns = line.split()
            if len(columns) != 4:
                raise reader.error(number, "not 4 columns: query, iteration, document, grade")
            query, _, document, text = columns
            grade = reader.grade(number, text)
            reader.add(number, query, document, None if grade == junk else grade)
        return reader.judgements()

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Judgements:
        """Read a CSV whose first line names its columns: query, document and perhaps grade.

        Without a grade it is 1; the grade ``junk`` marks junk. Other columns are ignored.

        Raises:
            EvaluationError: the file cannot be read or is no such file.
        """
        reader = _Reader(Path(path))
        numbered = read_lines(path)
        rows = csv.DictReader(line for _, line in numbered)
        missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
        if missing:
            raise reader.error(1, f"no column {' or '.join(missing)}: the first line names them")
        for row in rows:
            number = numbered[rows.line_num - 1][0]
            query, document = row["query"], row["document"]
            if not query or not document:
                raise reader.error(number, "a query or document is missing")
            text = (row.get("grade") or "1").strip()
            grade = None if text.lower() == "junk" else reader.grade(number, text)
            reader.add(number, query.strip(), document.strip(), grade)
        return reader.judgements()

    def write_qrels(self, path: str | os.PathLike[str]) -> Path:
        """Write TREC's qrels, .gz by its name; what is junk has the grade -1 (see ``JUNK``).

        trec_eval takes -1 as not relevant; read with ``from_qrels(path, junk=-1)`` it is junk.

        Raises:
            EvaluationError: a name holds white space, or the file cannot be written.
        """
        lines = []
        for query in self.queries:
            grades = self.of(query) | dict.fromkeys(self.junk.get(query, ()), JUNK)
            name = token(query, "query")
            for document, grade in sorted(grades.items()):
                lines.append(f"{name} 0 {token(document, 'document')} {grade}")
        return write_lines(path, lines)


class _Reader:
    """Gathers the judgements of a file, and names the line of a mistake."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._grades: dict[str, dict[str, int]] = {}
        self._junk: dict[str, set[str]] = {}

    def error(self, number: int, reason: str) -> EvaluationError:
        return EvaluationError(f"{self._path}, line {number}: {reason}")

    def grade(self, number: int, text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise self.error(number, f"the grade {text!r} is no whole number") from None

    def add(self, number: int, query: str, document: str, grade: int | None) -> None:
        """Note a judgement; of None, that the document is junk."""
        grades = self._grades.setdefault(query, {})
        if document in grades or document in self._junk.get(query, ()):
            raise self.error(number, f"{document} is judged twice for the query {query}")
        if grade is None:
            self._junk.setdefault(query, set()).add(document)
        else:
            grades[document] = grade

    def judgements(self) -> Judgements:
        if not self._grades:
            raise EvaluationError(f"{self._path} holds no judgements")
        return Judgements(self._grades, {key: frozenset(v) for key, v in self._junk.items()})


def _united(several: Iterable[Mapping[str, int]]) -> dict[str, int]:
    united: dict[str, int] = {}
    for grades in several:
        united.update(grades)
    return united
