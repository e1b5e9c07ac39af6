"""Judgements (qrels): which documents are relevant to which query.

A grade of 1 or more is relevant, the more the better; 0 and below is not relevant, as for
trec_eval. A document without a judgement counts as not relevant. Junk is neither: it is taken out
of the ranking before anything is measured, as is the query's own picture where queries are left
out.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import ChainMap
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.text_files import (
    Table,
    frame_rows,
    make_frame,
    read_lines,
    read_rows,
    token,
    write_lines,
)

if TYPE_CHECKING:
    import pandas as pd

JUNK = -1
"""The grade of junk in the files that ``write_qrels`` makes."""
HIGHEST = 10_000
"""The highest grade: trec_eval's nDCG takes time by its square, half an hour for a million."""
_NO_GRADE = f"is no whole number from {-HIGHEST:,} to {HIGHEST:,}"
_NOT_READ = {"label", "rel", "relevance", "score"}
"""What others call a column of grades: without one, all would be relevant."""
Row = tuple[str, str, str, int | None]
"""Where it stands, query, document and grade; None for junk."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgements:
    """By query id, the grades of documents (queries may share one mapping), and what is junk.

    >>> judgements = Judgements({"q1": {"chelsea.jpg": 1, "coffee.jpg": 0}})
    >>> judgements.to_frame().columns.tolist()
    ['qid', 'docno', 'label']
    >>> evaluate(index, judgements, "sqrt", "RR", queries={"q1": "cat"}).mean("sqrt", "RR").mean > 0
    True

    Junk does not exist for its query, whatever its grade.
    """

    grades: Mapping[str, Mapping[str, int]]
    junk: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {id(grades): dict(grades) for grades in self.grades.values()}
        others = False
        for grades in found.values():
            for document, grade in grades.items():
                if (whole := _whole(grade)) is None:
                    raise EvaluationError(f"the grade {grade!r:.40} of {document} {_NO_GRADE}")
                others |= type(grade) is not int
                grades[document] = whole
        if others:  # such as NumPy's, or True, which files and fingerprints would have as they are
            kept = {query: found[id(grades)] for query, grades in self.grades.items()}
            object.__setattr__(self, "grades", kept)

    def __len__(self) -> int:
        return len(self.grades)

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, in the order in which they were given."""
        return tuple(self.grades)

    def of(self, query: str) -> dict[str, int]:
        """The grades of a query's documents, without junk; empty for an unknown query.

        >>> Judgements({"q1": {"a": 1, "b": 0}}, {"q1": frozenset("b")}).of("q1")
        {'a': 1}
        """
        junk, grades = self.junk.get(query, ()), self.grades.get(query, {})
        return {document: grade for document, grade in grades.items() if document not in junk}

    def relevant(self, query: str, grade: int = 1) -> frozenset[str]:
        """The documents of this grade or a higher one.

        >>> Judgements({"q1": {"a": 2, "b": 1}}).relevant("q1", grade=2)
        frozenset({'a'})
        """
        return frozenset(key for key, value in self.of(query).items() if value >= grade)

    def select(self, queries: Iterable[str]) -> Judgements:
        """The judgements of some queries only, which must have some.

        >>> Judgements({"q1": {"a": 1}, "q2": {"b": 1}}).select(["q2"]).queries
        ('q2',)
        """
        wanted = list(dict.fromkeys(queries))
        for query in wanted:
            if query not in self.grades:
                raise EvaluationError(f"there are no judgements of the query {query!r}")
        junk = {query: self.junk[query] for query in wanted if query in self.junk}
        return Judgements({query: self.grades[query] for query in wanted}, junk)

    def sample(self, count: int, seed: int = 0) -> Judgements:
        """The judgements of so many queries, chosen at random; of all when there are fewer.

        >>> len(found.task.judgements.sample(10))
        10
        """
        return self.select(sampled(self.queries, count, seed))

    def renamed(
        self, document: Callable[[str], str], query: Callable[[str], str] | None = None
    ) -> Judgements:
        """With other names for documents and queries (by default as of documents).

        >>> Judgements({"q1": {"a": 1}}).renamed(str.upper).grades
        {'Q1': {'A': 1}}

        Raises:
            EvaluationError: two documents that a query judges would have one name.
        """
        name = query or document
        done: dict[int, Mapping[str, int]] = {}  # mappings that queries share stay shared
        for key, grades in self.grades.items():
            if id(grades) not in done:
                done[id(grades)] = _renamed(key, grades, document)
        return Judgements(
            {name(key): done[id(grades)] for key, grades in self.grades.items()},
            {name(key): frozenset(map(document, junk)) for key, junk in self.junk.items()},
        )

    def clusters(self, pictures: Mapping[str, str]) -> NDArray[np.intp]:
        """The object that each query is of, numbered from 0: queries of one are not independent.

        Two queries are of one object where the same documents are relevant to both, or the picture
        of one is relevant to the other; and so are those that hang together through others.

        >>> Judgements({"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"b": 1}}).clusters({}).tolist()
        [0, 0, 1]

        Args:
            pictures: the document that a query searches for, of those that search for one.
        """
        from scipy.cluster.hierarchy import DisjointSet  # takes a moment to import

        together = DisjointSet(self.queries)
        searching: dict[str, list[str]] = {}
        for query in self.queries:
            searching.setdefault(pictures.get(query, ""), []).append(query)
        sets: dict[int, frozenset[str]] = {}
        first: dict[frozenset[str], str] = {}
        for query, grades in self.grades.items():
            if id(grades) not in sets:  # queries of one object share their judgements
                relevant = sets[id(grades)] = frozenset(d for d, g in grades.items() if g >= 1)
                for document in relevant & searching.keys() - {""}:
                    for other in searching[document]:
                        together.merge(query, other)
            if relevant := sets[id(grades)]:
                together.merge(first.setdefault(relevant, query), query)
        numbers: dict[str, int] = {}
        roots = [together[query] for query in self.queries]
        return np.array([numbers.setdefault(root, len(numbers)) for root in roots], dtype=np.intp)

    @property
    def fingerprint(self) -> str:
        """Tells these judgements from others: a SHA-256 of all of them."""
        digest = hashlib.sha256()
        parts: dict[int, bytes] = {}
        for query in sorted(self.grades):
            grades = self.grades[query]
            if id(grades) not in parts:
                parts[id(grades)] = hashlib.sha256(repr(sorted(grades.items())).encode()).digest()
            digest.update(repr((query, sorted(self.junk.get(query, ())))).encode())
            digest.update(parts[id(grades)])
        return f"sha256:{digest.hexdigest()}"

    @classmethod
    def from_groups(
        cls,
        groups: Mapping[str, Iterable[Hashable]],
        *,
        queries: Iterable[str] | None = None,
        count_query: bool = False,
    ) -> Judgements:
        """Documents of the same group are relevant to each other, with grade 1.

        >>> Judgements.from_groups({"a": ["cats"], "b": ["cats"], "c": ["dogs"]}).of("a")
        {'b': 1}

        Args:
            groups: of each document: none, one or several; a text is one.
            queries: the documents that are searched for; by default all to which another one is
                relevant.
            count_query: whether a query's own document counts, as in the UKBench score; else it
                is junk (leave one out).
        """
        members: dict[Hashable, dict[str, int]] = {}
        kept = {
            document: frozenset([names] if isinstance(names, str) else names)
            for document, names in groups.items()
        }
        for document, names in kept.items():
            for name in names:
                members.setdefault(name, {})[document] = 1
        shared: dict[frozenset[Hashable], dict[str, int]] = {}
        for names in set(kept.values()):
            several = [members[name] for name in names]
            shared[names] = several[0] if len(several) == 1 else dict(ChainMap(*several))
        least = 1 if count_query else 2
        if queries is None:
            queries = [query for query, names in kept.items() if len(shared[names]) >= least]
        found = {query: shared[kept[query]] for query in queries}
        junk = {} if count_query else {query: frozenset([query]) for query in found}
        return cls(found, junk)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Judgements:
        """The judgements of a table with the columns qid, docno and label.

        Or query_id, doc_id and relevance. Grades are whole numbers; none is junk.

        >>> table = pd.DataFrame({"qid": ["q1"], "docno": ["a"], "label": [2]})
        >>> Judgements.from_frame(table).grades
        {'q1': {'a': 2}}
        """
        found = frame_rows(frame, "qid", "docno", "label")
        gathered = (
            (f"the table, row {i}", str(query), str(document), _grade(grade, f"row {i}"))
            for i, (query, document, grade) in enumerate(found)
        )
        return _gathered("the table", gathered)

    def to_frame(self) -> pd.DataFrame:
        """A table with PyTerrier's columns qid, docno and label, without junk.

        >>> Judgements({"q1": {"a": 1}}).to_frame().to_dict("records")
        [{'qid': 'q1', 'docno': 'a', 'label': 1}]
        """
        found = [(q, d, grade) for q in self.queries for d, grade in sorted(self.of(q).items())]
        return make_frame(("qid", "docno", "label"), found)

    @classmethod
    def from_qrels(cls, path: str | os.PathLike[str], *, junk: int | None = None) -> Judgements:
        """Read TREC's qrels, plain or .gz: query, iteration (ignored), document, grade.

        A document of the grade ``junk``, if there is one, is junk.

        >>> path = Judgements({"q1": {"a": 1}}).write_qrels("qrels.txt")
        >>> Judgements.from_qrels(path).grades
        {'q1': {'a': 1}}
        """
        return _gathered(path, _qrels_rows(path, junk))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> Judgements:
        """Read a CSV whose first line names its columns: query, document and perhaps grade.

        Without a grade it is 1; the grade ``junk`` marks junk. Other columns are ignored.

        >>> pd.DataFrame({"query": ["q1"], "document": ["a"]}).to_csv("judged.csv", index=False)
        >>> Judgements.from_csv("judged.csv").grades
        {'q1': {'a': 1}}
        """
        return _gathered(path, _csv_rows(path))

    def write_qrels(self, path: str | os.PathLike[str]) -> Path:
        """Write TREC's qrels, .gz by its name, without white space in names.

        Junk has the grade -1, which trec_eval takes as not relevant; read with
        ``from_qrels(path, junk=-1)`` it is junk.

        >>> Judgements({"q1": {"a": 1}}).write_qrels("qrels.txt").read_text().split()
        ['q1', '0', 'a', '1']
        """
        lines = []
        for query in sorted(self.grades):
            grades = self.of(query) | dict.fromkeys(self.junk.get(query, ()), JUNK)
            name = token(query, "query")
            for document, grade in sorted(grades.items()):
                lines.append(f"{name} 0 {token(document, 'document')} {grade}")
        return write_lines(path, lines)


JudgementsLike = str | os.PathLike[str] | Judgements | Mapping[str, Mapping[str, int]] | Table
"""A name or file of judgements, judgements, a table, or grades by query and document."""


def sampled(queries: Sequence[str], count: int, seed: int) -> list[str]:
    """So many of them, chosen at random, in their order; all of them when there are fewer."""
    if count < 1:
        raise EvaluationError(f"a sample has at least one query, not {count}")
    places = random.Random(seed).sample(range(len(queries)), min(count, len(queries)))  # noqa: S311
    return [queries[place] for place in sorted(places)]


def _renamed(
    query: str, grades: Mapping[str, int], name: Callable[[str], str]
) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for key, grade in grades.items():
        if found.setdefault(name(key), grade) != grade:
            raise EvaluationError(
                f"the query {query}: {key} is judged twice, once by another name and with another "
                "grade: remove one"
            )
    return found


def _qrels_rows(path: str | os.PathLike[str], junk: int | None) -> Iterator[Row]:
    for number, line in read_lines(path):
        columns, where = line.split(), f"{path}, line {number}"
        if len(columns) != 4:
            raise EvaluationError(f"{where}: not 4 columns: query, iteration, document, grade")
        grade = _grade(columns[3], where)
        yield where, columns[0], columns[2], None if grade == junk else grade


def _csv_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    for where, row in read_rows(path, ("query", "document"), ("grade",)):
        if "grade" not in row and (other := row.keys() & _NOT_READ):
            raise EvaluationError(
                f"{path}, line 1: the column {min(other)!r} is not read: call it grade or remove it"
            )
        if not row["query"] or not row["document"]:
            raise EvaluationError(f"{where}: a query or document is missing")
        text = row.get("grade") or "1"
        grade = None if text.lower() == "junk" else _grade(text, where)
        yield where, row["query"], row["document"], grade


def _grade(given: Any, where: str) -> int:
    if (grade := _whole(given)) is None:
        raise EvaluationError(f"{where}: the grade {str(given)!r:.40} {_NO_GRADE}")
    return grade


def _whole(given: Any) -> int | None:
    """A grade as text or any kind of number, such as NumPy's and 1.0; None where it is none."""
    with suppress(ValueError, TypeError, OverflowError):
        grade = int(given)
        if abs(grade) <= HIGHEST and (isinstance(given, str) or grade == given):
            return grade
    return None


def _gathered(path: str | os.PathLike[str], rows: Iterable[Row]) -> Judgements:
    grades: dict[str, dict[str, int]] = {}
    junk: dict[str, set[str]] = {}
    for where, query, document, grade in rows:
        row = grades.setdefault(query, {})
        if document in row or document in junk.get(query, ()):
            raise EvaluationError(f"{where}: {document} is judged twice for the query {query}")
        if grade is None:
            junk.setdefault(query, set()).add(document)
        else:
            row[document] = grade
    if not grades:
        raise EvaluationError(f"{path} holds no judgements")
    return Judgements(grades, {query: frozenset(names) for query, names in junk.items()})
