"""Runs: what a system answered, as TREC keeps it.

The order of a ranking is the answer; trec_eval, though, looks at the scores alone, reads them as
float32 numbers and puts equal ones in the reverse order of their documents' names. So a run is
written with scores that fall from each document to the next: an equal score becomes the float32
number next below. What trec_eval then makes of the file is what we make of the run.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.manifest import from_header, to_header
from imgsearch_es.evaluation.text_files import (
    Table,
    fingerprint,
    frame_rows,
    is_frame,
    make_frame,
    read_lines,
    token,
    write_lines,
)

if TYPE_CHECKING:
    import pandas as pd
    import ranx

Ranking = Sequence[tuple[str, float]]
"""(document id, score), best first."""
_LOWEST = np.finfo(np.float32).min
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The rankings that a system gives to queries: by query id, each document once.

    >>> run = Run("mine", {"q1": [("chelsea.jpg", 2.0), ("coffee.jpg", 1.0)]})
    >>> Run.from_frame(run.to_frame(), "mine").documents("q1")
    ['chelsea.jpg', 'coffee.jpg']

    A query without a ranking was not answered. ``metadata`` says where it comes from, as
    ir_metadata arranges it: `ImageIndex.run` and a file's header give some.
    """

    name: str
    rankings: Mapping[str, Ranking]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for query, ranking in self.rankings.items():
            if len({document for document, _ in ranking}) < len(ranking):
                raise EvaluationError(f"{self.name}: the ranking of {query} has a document twice")

    def __len__(self) -> int:
        return len(self.rankings)

    def documents(self, query: str) -> list[str]:
        """The documents of a ranking, best first; none for a query without an answer.

        >>> run = Run("mine", {"q1": [("a", 2.0), ("b", 1.0)]})
        >>> run.documents("q1"), run.documents("q2")
        (['a', 'b'], [])
        """
        return [document for document, _ in self.rankings.get(query, ())]

    def falling(self, query: str, without: frozenset[str] = frozenset()) -> dict[str, float]:
        """The documents of a ranking with scores that fall strictly, as float32 numbers.

        >>> Run("mine", {"q1": [("a", 1.0), ("b", 1.0)]}).falling("q1")
        {'a': 1.0, 'b': 0.9999999403953552}
        """
        kept = [item for item in self.rankings.get(query, ()) if item[0] not in without]
        scores = falling([score for _, score in kept])
        return {document: float(s) for (document, _), s in zip(kept, scores, strict=True)}

    def renamed(
        self, document: Callable[[str], str], query: Callable[[str], str] | None = None
    ) -> Run:
        """With other names for documents and queries (by default as of documents).

        >>> Run("mine", {"q1": [("a", 2.0)]}).renamed(str.upper).rankings
        {'Q1': [('A', 2.0)]}
        """
        name = query or document
        return Run(
            self.name,
            {
                name(key): [(document(found), score) for found, score in ranking]
                for key, ranking in self.rankings.items()
            },
            self.metadata,
        )

    @property
    def fingerprint(self) -> str:
        """Tells the order of all rankings from others: a SHA-256."""
        return fingerprint((query, self.documents(query)) for query in sorted(self.rankings))

    @classmethod
    def of(cls, run: RunLike) -> Run:
        """A run, or that of a file, of a table, or of scores by query and document.

        >>> Run.of({"q1": {"a": 1.0, "b": 2.0}}).documents("q1")
        ['b', 'a']
        """
        if isinstance(run, Run):
            return run
        if isinstance(run, Mapping):
            return cls("run", _ordered({str(q): _scored(q, s) for q, s in run.items()}))
        return cls.from_frame(run) if is_frame(run) else cls.from_trec(run)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, name: str = "run") -> Run:
        """The run of a table with the columns qid, docno and score (or query_id and doc_id).

        It is ordered as ``from_trec`` orders it.

        >>> table = pd.DataFrame({"qid": ["q1"], "docno": ["a"], "score": [2.0]})
        >>> Run.from_frame(table).rankings
        {'q1': [('a', 2.0)]}
        """
        found: dict[str, list[tuple[str, float]]] = {}
        for query, document, score in frame_rows(frame, "qid", "docno", "score"):
            where = f"the table, {query}, {document}"
            found.setdefault(str(query), []).append((str(document), _score(score, where)))
        return cls(name, _ordered(found))

    @classmethod
    def from_trec(cls, path: str | os.PathLike[str], name: str | None = None) -> Run:
        """Read a run in TREC's format, plain or .gz: query, Q0, document, rank, score, tag.

        It is ordered as trec_eval orders it: by score as a float32 number, equal ones by document
        in reverse. The system has the file's tag as its name, if none is given. A header by
        ir_metadata becomes ``metadata``.

        >>> path = Run("mine", {"q1": [("a", 2.0)]}).to_trec("run.txt")
        >>> Run.from_trec(path).rankings
        {'q1': [('a', 2.0)]}
        """
        found: dict[str, list[tuple[str, float]]] = {}
        tag, lines = "", read_lines(path)
        metadata, start = from_header(lines, os.fspath(path))
        for number, line in lines[start:]:
            columns = line.split()
            where = f"{path}, line {number}"
            if len(columns) != 6:
                raise EvaluationError(f"{where}: not 6 columns: query, Q0, document, rank, ...")
            query, _, document, _, score, tag = columns
            found.setdefault(query, []).append((document, _score(score, where)))
        if not found:
            raise EvaluationError(f"{path} holds no run")
        return cls(name or tag, _ordered(found), metadata)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The scores by query and document, strictly falling: what ir_measures and ranx take.

        >>> Run("mine", {"q1": [("a", 2.0)]}).to_dict()
        {'q1': {'a': 2.0}}
        """
        return {query: self.falling(query) for query in self.rankings}

    def to_frame(self) -> pd.DataFrame:
        """A table with PyTerrier's columns qid, docno, rank (from 0) and score.

        >>> Run("mine", {"q1": [("a", 2.0)]}).to_frame().to_dict("records")
        [{'qid': 'q1', 'docno': 'a', 'rank': 0, 'score': 2.0}]
        """
        found = [
            (query, document, rank, score)
            for query, ranking in self.to_dict().items()
            for rank, (document, score) in enumerate(ranking.items())
        ]
        return make_frame(("qid", "docno", "rank", "score"), found)

    def to_ranx(self) -> ranx.Run:
        """The run as ranx has it; `ranx.Qrels(judgements.grades)` goes with it.

        >>> found.runs["auto"].to_ranx().name
        'auto'
        """
        tool = needed("ranx", "to_ranx needs ranx (pip install ranx)", "evaluation")
        return tool.Run(self.to_dict(), name=self.name)

    def to_trec(self, path: str | os.PathLike[str], *, header: bool = False) -> Path:
        """Write TREC's format, .gz by its name, without white space in names.

        With ``header`` the ``metadata`` come first, as ir_metadata's comment lines. `from_trec`
        and repro_eval read them; trec_eval, ir_measures, ranx and PyTerrier take no such file.

        >>> Run("mine", {"q1": [("a", 2.0)]}).to_trec("run.txt").read_text().split()
        ['q1', 'Q0', 'a', '1', '2', 'mine']
        """
        tag = token(self.name, "system")
        lines = to_header(self.metadata) if header else []
        for query in sorted(self.rankings):
            name = token(query, "query")
            for rank, (document, score) in enumerate(self.falling(query).items(), start=1):
                lines.append(f"{name} Q0 {token(document, 'document')} {rank} {score:.9g} {tag}")
        return write_lines(path, lines)


RunLike = str | os.PathLike[str] | Run | Mapping[str, Mapping[str, float]] | Table
"""A run, its file, a table of it, or scores by query and document."""


def several_runs(given: Any) -> list[RunLike]:
    """Runs as a list, also one alone."""
    alone = isinstance(given, str | os.PathLike | Run | Mapping) or is_frame(given)
    return [given] if alone else list(given)


def _scored(query: object, scores: object) -> list[tuple[str, float]]:
    if not isinstance(scores, Mapping):
        raise EvaluationError(
            f"a run has scores by query and document, not {scores!r:.60} for {query}"
        )
    return [(str(name), _score(score, f"{query}, {name}")) for name, score in scores.items()]


def _score(given: Any, where: str) -> float:
    """A score as trec_eval reads it, as a float32 number."""
    try:
        value = float(np.float32(given))
    except (ValueError, TypeError):
        raise EvaluationError(f"{where}: the score {given!r:.60} is no number") from None
    if not np.isfinite(value):
        raise EvaluationError(f"{where}: the score {given!r:.60} is not finite")
    return value


def _ordered(rankings: dict[str, list[tuple[str, float]]]) -> dict[str, list[tuple[str, float]]]:
    for ranking in rankings.values():
        ranking.sort(key=lambda item: (item[1], item[0]), reverse=True)
    return rankings


def falling(scores: Iterable[float]) -> NDArray[np.float32]:
    """Float32 numbers, each below the one before it, otherwise as near to the score as can be."""
    with np.errstate(over="ignore"):
        given = np.asarray(list(scores), dtype=np.float64).astype(np.float32)
    if not np.isfinite(given).all():
        raise EvaluationError("a score is not finite as a float32 number")
    given[np.abs(given) < _TINY] = 0  # below it some processors read 0
    if (np.diff(given) < 0).all():
        return given
    for i in range(1, len(given)):
        if given[i] >= given[i - 1]:
            if given[i - 1] == _LOWEST:
                raise EvaluationError("scores fall below all float32 numbers")
            given[i] = _below(float(given[i - 1]))
    return given


def _below(score: float) -> float:
    """The next float32 number below that is normal, or 0."""
    if score == 0:
        return -_TINY
    below = float(np.nextafter(np.float32(score), np.float32(-np.inf)))
    return below if abs(below) >= _TINY else 0.0


def pool_runs(
    runs: Iterable[Run],
    depth: int,
    *,
    queries: Sequence[str],
    junk: Mapping[str, frozenset[str]] | None = None,
    seed: int = 0,
    name: Callable[[str], str] = str,
) -> dict[str, tuple[str, ...]]:
    """The first documents of all runs, for each query; ``name`` is the same on other machines.

    The order of two documents does not depend on which others there are, so a pool that grows (a
    further system, a greater depth) keeps the order that it had.
    """
    given = list(runs)

    def place(query: str, document: str) -> bytes:
        return hashlib.sha256(repr((seed, query, name(document))).encode()).digest()

    pool: dict[str, tuple[str, ...]] = {}
    for query in queries:
        without = (junk or {}).get(query, frozenset())
        found: set[str] = set()
        for run in given:
            found.update([d for d in run.documents(query) if d not in without][:depth])
        pool[query] = tuple(sorted(found, key=lambda document: place(query, document)))
    return pool
