"""The hardest queries: those with the lowest figures, each with its gallery, to see why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation.collection import Topic, Topics
from imgsearch_es.evaluation.experiment import evaluate
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import parse_measures, score
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.systems import System
from imgsearch_es.evaluation.tables import check_known, plain
from imgsearch_es.evaluation.text_files import write_bytes
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.files import check_page
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Scored, SearchResult


@dataclass(frozen=True, eq=False)
class HardQuery:
    """A query that a system answers badly.

    Attributes:
        name: what to call it: its words, or the name of its picture.
        hits: what the system answers, without junk; None where the query cannot be asked.
        problem: why it cannot be asked, else empty.
        grades: of the judged documents, by id, without junk.
        ranks: those of the relevant documents in the whole ranking, from 1.
        missed: ids of the relevant documents that are not in it.
    """

    query: str
    name: str
    figure: float
    hits: Hits | None
    problem: str
    grades: Mapping[str, int]
    ranks: tuple[int, ...]
    missed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        hits = [] if self.hits is None else self.hits.to_dict()["hits"]
        shown = ("query", "name", "figure", "problem", "ranks", "missed")
        values = {name: plain(getattr(self, name)) for name in shown}
        return values | {"hits": [{**hit, "grade": self.grades.get(hit["id"])} for hit in hits]}


@dataclass(frozen=True, eq=False, repr=False)
class Hardest(Sequence[HardQuery]):
    """The hardest of so many queries, hardest first; shows itself as galleries in a notebook."""

    system: str
    measure: str
    of: int
    queries: Sequence[HardQuery]

    def __getitem__(self, i: Any) -> Any:
        return self.queries[i]

    def __len__(self) -> int:
        return len(self.queries)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        about = {"system": self.system, "measure": self.measure, "of": self.of}
        return {**about, "queries": [query.to_dict() for query in self]}

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write a page that needs nothing but a browser; gives its absolute path."""
        from imgsearch_es.search.shown import hardest_page

        target = Path(path).expanduser().absolute()
        try:
            check_page(target)
        except OSError as error:
            raise EvaluationError(f"cannot write {target}: {error.strerror}") from error
        return write_bytes(target, hardest_page(self).encode())

    def _repr_html_(self) -> str:
        from imgsearch_es.search.shown import hardest_fragment

        return hardest_fragment(self)

    def __repr__(self) -> str:
        lines = [f"The hardest {len(self)} of {self.of} queries for {self.system}"]
        return "\n".join([*lines, *(f"{q.figure:8.4f}  {q.name}" for q in self)])


def hardest(
    index: ImageIndex,
    found: Evaluation | Run,
    judgements: Judgements | None = None,
    measure: str | None = None,
    n: int = 10,
    *,
    system: str | None = None,
    topics: Topics | None = None,
    k: int = 12,
) -> Hardest:
    """The queries with the lowest figures, each with its gallery.

    Args:
        index: that was searched.
        found: an evaluation, or a run with the index's ids.
        judgements: for a run; an evaluation has its own.
        measure: by default the evaluation's first; nDCG@10 for a run.
        n: how many queries.
        system: which of the evaluation's; by default its first.
        topics: for a run: what its queries search for; by default each is the picture of its id.
        k: hits in a gallery.
    """
    if n < 1 or k < 1:
        raise EvaluationError(f"n and k are at least 1, not {n} and {k}")
    if isinstance(found, Run):
        if judgements is None:
            raise EvaluationError("a run alone does not say what is relevant: give judgements=")
        measure = measure or "nDCG@10"
        found = evaluate(index, judgements, (), measure, runs=[found], queries=topics)
    chosen = system or next(iter(found.runs))
    run = found.runs[check_known(chosen, found.runs, "is not one of the systems: {} are")]
    names = parse_measures(measure or found.plan.measures[0])
    if len(names) != 1:
        raise EvaluationError(f"the hardest by which one of {', '.join(names)}?")
    judged, name = found.task.judgements, found.collection.name
    scores = score(judged, run, names)
    queries = []
    for query, figure in scores.hardest(names[0], n):
        topic, junk = found.task.topics[query], judged.junk.get(query, frozenset())
        ranking = [row for row in run.rankings.get(query, ()) if row[0] not in junk]
        hits: Hits | None = None
        problem = ""
        try:
            hits = _hits(index, run.name, topic, junk, ranking, k)
        except QueryError as error:
            problem = str(error)
        places = {document: rank for rank, (document, _) in enumerate(ranking, start=1)}
        relevant = judged.relevant(query)
        ranks = tuple(rank for document, rank in places.items() if document in relevant)
        missed = tuple(sorted(relevant - places.keys(), key=name))
        called, grades = topic.text or name(query), judged.of(query)
        hard = HardQuery(query, called, figure, hits, problem, grades, ranks, missed)
        queries.append(hard)
    return Hardest(run.name, names[0], len(scores.queries), queries)


def _hits(
    index: ImageIndex,
    name: str,
    topic: Topic,
    junk: frozenset[str],
    ranking: Sequence[tuple[str, float]],
    k: int,
) -> Hits:
    """What a run has for a query: searched again, or as another program ranked it."""
    try:
        system: System | None = System.parse(name)
    except QueryError:  # the run of another program
        system = None
    options = {} if system is None else system.options
    built = index.query(image=topic.image, text=topic.text, region=topic.region, k=k, **options)
    asked = replace(built, exclude=tuple(sorted(junk)))
    if system is not None:
        return index.search_many([asked])[0]
    known = index.store.get([document for document, _ in ranking[:k]])
    result = SearchResult(
        hits=tuple(Scored(known[d], score) for d, score in ranking[:k] if d in known),
        total=len(ranking),
        strategy=name,
        exact=False,
        means=f"the run {name}",
    )
    return Hits(asked, result, index.store)
