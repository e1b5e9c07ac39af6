"""An experiment: one task, several systems, the same queries; and the hardest of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError, QueryError
from imgsearch_es.evaluation.collection import Collection, Topic, Topics
from imgsearch_es.evaluation.judgements import Judgements, JudgementsLike
from imgsearch_es.evaluation.manifest import Plan, as_text, check_known, takes
from imgsearch_es.evaluation.measures import check_measures, cutoff, parse_measures, score
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.runs import Run, RunLike, several_runs
from imgsearch_es.evaluation.significance import check_interval
from imgsearch_es.evaluation.systems import Progress, Questions, System, Systems, parse_systems
from imgsearch_es.evaluation.tables import plain
from imgsearch_es.evaluation.tasks import Task, make_task
from imgsearch_es.evaluation.text_files import names_in_files, write_bytes
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.files import check_page
from imgsearch_es.retrieval.strategies import MAX_RESULTS, StrategyName
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Scored, SearchResult, known_settings


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """What ``evaluate`` and ``sweep`` both take.

    Attributes:
        compare: what all others are tested against: a system; of a sweep a point such as
            ``auto/plain/10``, by default the first system that compares deep features alone.
        queries: what each query searches for, by id: words, the Path of a picture, or a Topic; or a
            CSV, or a table. By default a query is the picture of the index that is called as it is.
        depth: how many pictures of a ranking are kept; measures that look at all see these.
        sample: ask only so many queries, chosen at random.
        confidence: of the intervals.
        interval: "t" or "bootstrap".
        seed: of all that is random.
        progress: told of each system's queries; of a sweep's pictures, settings and rounds.
    """

    compare: StrategyName | str | None = None
    queries: Topics | None = None
    depth: int = 1000
    sample: int | None = None
    confidence: float = 0.95
    interval: str = "t"
    seed: int = 0
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class EvaluationRequest(Asked):
    """The arguments of ``evaluate``.

    Attributes:
        index: the collection.
        judgements: where the judgements come from: "labels", "folder",
            "name:{label}.{number}.jpg", "ukbench", "holidays", "oxford:DIR", "paris:DIR",
            "revisited-medium:FILE.json", "ir_datasets:FOLDER" (or a name of ir_datasets), a file of
            TREC qrels or CSV; or Judgements, a table of them, or grades by query and document.
        systems: what to compare: strategies and fusions by short names (see
            ``imgsearch_es.evaluation.systems``).
        measures: by default those of the judgements' protocol.
        pictures: the folder of query pictures that are not in the index.
        runs: of other programs, with the names of pictures, to compare with: files in TREC's
            format, tables, scores by query and document, or Runs; several, or one.
    """

    index: ImageIndex
    judgements: JudgementsLike = "labels"
    systems: Systems = "auto"
    measures: str | Iterable[str] | None = None
    _: KW_ONLY
    pictures: str | os.PathLike[str] | None = None
    runs: RunLike | Iterable[RunLike] = ()


@takes(EvaluationRequest)
def evaluate(request: EvaluationRequest) -> Evaluation:
    """Measure how well systems find what is judged relevant.

    >>> found = evaluate(index, "name:{label}-*", "auto,sqrt", "AP", compare="auto")
    >>> round(found.mean("sqrt", "AP").mean, 2)
    0.72

    Raises:
        EvaluationError: judgements, queries or runs do not fit the index or each other.
        QueryError: there is no such system, or none can answer any query.
        MissingDependencyError: ir-measures or SciPy is not installed.
    """
    index, sample, runs = request.index, request.sample, several_runs(request.runs)
    asked = parse_systems(request.systems) if request.systems or not runs else ()
    collection = Collection.of(index)
    folder = None if request.pictures is None else Path(request.pictures).expanduser()
    task = make_task(request.judgements, collection, queries=request.queries, pictures=folder)
    measures = parse_measures(request.measures or task.measures)
    check_measures(task.judgements, measures)
    systems = tuple(system.name for system in asked)
    settled = {"systems": systems, "measures": measures, "runs": tuple(map(as_text, runs))}
    plan = Plan.of(request, **settled)
    check_interval(plan.interval, plan.confidence, plan.seed)
    if not 1 <= plan.depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth is 1 to {MAX_RESULTS}, not {plan.depth}")
    if deeper := [measure for measure in measures if cutoff(measure) > plan.depth]:
        raise EvaluationError(f"{deeper[0]} looks deeper than the depth {plan.depth}")
    if sample is not None:
        task = replace(task, judgements=task.judgements.sample(sample, plan.seed))
    given = {run.name: run for run in (_read_run(run, task, collection) for run in runs)}
    names = [*systems, *given]
    if len(systems) + len(runs) > len(set(names)):
        raise EvaluationError(f"two systems have one name: {', '.join(names)}")
    if plan.compare is not None and plan.compare not in names:
        raise EvaluationError(f"compare names {plan.compare}, which is none of {', '.join(names)}")
    topics = {query: task.topics[query] for query in task.judgements.queries}
    questions = Questions(index, topics, task.judgements.junk)
    reach = min(plan.depth, len(collection))
    answers = questions.ask_all(asked, reach, request.progress) | given
    if plan.compare is not None and plan.compare not in answers:
        raise EvaluationError(f"compare with another system: {questions.notes[-1]}")
    scores = {name: score(task.judgements, run, measures) for name, run in answers.items()}
    shallow = (
        f"{system.name} ranks no more than {system.reach} pictures, the others {reach}: add "
        f":window={reach} where a measure looks further"
        for system in (system.to_depth(reach) for system in asked)
        if system.reach < reach
    )
    clusters, few = task.clusters()
    unread = (note for run in given.values() for note in _unread(run, task, collection))
    notes = (*task.notes, *few, *questions.notes, *shallow, *unread)
    settings, store = known_settings(index.store), index.store.features()
    about = {"location": index.location, "analyzer": dict(settings.analyzer)}
    about |= {"weights": settings.weights, "store": store}
    return Evaluation(plan, task, collection, answers, scores, about, notes, clusters)


def _read_run(run: RunLike, task: Task, collection: Collection) -> Run:
    """A run with the index's ids; what the index lacks keeps its name and is not relevant."""
    key = collection.id_of
    in_file = isinstance(run, str | os.PathLike)
    asked = names_in_files(task.judgements.queries, first=in_file, column=collection.name)
    found = Run.of(run).renamed(key, lambda name: asked.get(name) or key(name))
    if not set(task.judgements.queries) & found.rankings.keys():
        raise EvaluationError(f"the run {found.name} answers none of the queries")
    return found


def _unread(run: Run, task: Task, collection: Collection) -> Iterator[str]:
    """What to say of a run of another program that does not fit the queries or the index."""
    queries = task.judgements.queries
    if missing := len(set(queries) - run.rankings.keys()):
        yield f"the run {run.name} does not answer {missing} of the queries: they count as zero"
    found = {document for query in queries for document in run.documents(query)}
    if others := found - collection.by_id.keys():
        yield f"{len(others)} pictures of the run {run.name} the index lacks, such as {min(others)}"


# -- the hardest queries ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class HardQuery:
    """A query that a system answers badly.

    Attributes:
        name: its words, or the name of its picture.
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

        return write_bytes(self.page_at(path), hardest_page(self).encode())

    @staticmethod
    def page_at(path: str | os.PathLike[str]) -> Path:
        """Where a page is to be written; EvaluationError where it may not be."""
        target = Path(path).expanduser().absolute()
        try:
            check_page(target)
        except OSError as error:
            raise EvaluationError(f"cannot write {target}: {error.strerror}") from error
        return target

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
    way = _asked(found, chosen)
    names = parse_measures(measure or found.plan.measures[0])
    if len(names) != 1:
        raise EvaluationError(f"the hardest by which one of {', '.join(names)}?")
    judged, name = found.task.judgements, found.collection.name
    scores = score(judged, run, names)
    queries = []
    for query, figure in scores.hardest(names[0], n):
        topic, junk = found.task.topics[query], judged.junk.get(query, frozenset())
        ranking = [row for row in run.rankings.get(query, ()) if row[0] not in junk]
        hits, problem = None, ""
        try:
            hits = _hits(index, run.name, way, topic, junk, ranking, k)
        except QueryError as error:
            problem = str(error)
        places = {document: rank for rank, (document, _) in enumerate(ranking, start=1)}
        relevant = judged.relevant(query)
        ranks = tuple(rank for document, rank in places.items() if document in relevant)
        missed = tuple(sorted(relevant - places.keys(), key=name))
        called, grades = topic.text or name(query), judged.of(query)
        queries.append(HardQuery(query, called, figure, hits, problem, grades, ranks, missed))
    return Hardest(run.name, names[0], len(scores.queries), queries)


def _asked(found: Evaluation, name: str) -> System | None:
    """How a system of an evaluation was asked; None of a run of another program."""
    if name in found.plan.systems:
        with suppress(QueryError):  # given in Python, under a name that says nothing
            return System.parse(name).to_depth(min(found.plan.depth, len(found.collection)))
    return None


def _hits(
    index: ImageIndex,
    name: str,
    system: System | None,
    topic: Topic,
    junk: frozenset[str],
    ranking: Sequence[tuple[str, float]],
    k: int,
) -> Hits:
    """What a run has for a query: searched again, or as another program ranked it."""
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
