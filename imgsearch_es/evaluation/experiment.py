"""An experiment: one task, several systems, the same queries; and what it found."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection, Topics
from imgsearch_es.evaluation.judgements import JudgementsLike
from imgsearch_es.evaluation.manifest import Plan, as_text, takes
from imgsearch_es.evaluation.measures import (
    check_measures,
    cutoff,
    parse_measures,
    score,
)
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.runs import Run, RunLike
from imgsearch_es.evaluation.significance import (
    check_interval,
)
from imgsearch_es.evaluation.systems import Progress, Questions, Systems, parse_systems
from imgsearch_es.evaluation.tasks import Task, make_task
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import MAX_RESULTS, StrategyName
from imgsearch_es.stores.base import known_settings

if TYPE_CHECKING:
    pass


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
            format, tables, scores by query and document, or Runs.
    """

    index: ImageIndex
    judgements: JudgementsLike = "labels"
    systems: Systems = "auto"
    measures: str | Iterable[str] | None = None
    _: KW_ONLY
    pictures: str | os.PathLike[str] | None = None
    runs: Iterable[RunLike] = ()


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
    index, sample, runs = request.index, request.sample, list(request.runs)
    asked = parse_systems(request.systems) if request.systems or not runs else ()
    collection = Collection.of(index)
    folder = None if request.pictures is None else Path(request.pictures).expanduser()
    task = make_task(request.judgements, collection, queries=request.queries, pictures=folder)
    measures = parse_measures(request.measures or task.measures)
    check_measures(task.judgements, measures)
    systems = tuple(system.name for system in asked)
    settled = {"systems": systems, "measures": measures, "runs": tuple(map(as_text, runs))}
    plan = Plan.of(request, **settled)
    _check(plan)
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
    asked = tuple(system.to_depth(reach) for system in asked)
    answers = questions.ask_all(asked, reach, request.progress) | given
    if plan.compare is not None and plan.compare not in answers:
        raise EvaluationError(f"compare with another system: {questions.notes[-1]}")
    scores = {name: score(task.judgements, run, measures) for name, run in answers.items()}
    shallow = (
        f"{system.name} ranks no more than {system.reach} pictures, the others {reach}: add "
        f":window={reach} where a measure looks further"
        for system in asked
        if system.reach < reach
    )
    clusters, few = task.clusters()
    notes = (*task.notes, *few, *questions.notes, *shallow)
    settings, store = known_settings(index.store), index.store.features()
    about = {"location": index.location, "analyzer": dict(settings.analyzer)}
    about |= {"weights": settings.weights, "store": store}
    return Evaluation(plan, task, collection, answers, scores, about, notes, clusters)


def _check(plan: Plan) -> None:
    """Refuse what can be known to fail before anything is searched for."""
    check_interval(plan.interval, plan.confidence)
    if not 1 <= plan.depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth is 1 to {MAX_RESULTS}, not {plan.depth}")
    for measure in plan.measures:
        if cutoff(measure) > plan.depth:
            raise EvaluationError(f"{measure} looks deeper than the depth {plan.depth}")


def _read_run(run: RunLike, task: Task, collection: Collection) -> Run:
    """A run with the index's ids; what the index lacks keeps its name and is not relevant."""
    key = collection.id_of
    asked = {collection.name(query): query for query in task.judgements.queries}
    asked |= {query: query for query in task.judgements.queries}
    found = Run.of(run).renamed(key, lambda name: asked.get(name) or key(name))
    if not set(task.judgements.queries) & found.rankings.keys():
        raise EvaluationError(f"the run {found.name} answers none of the queries")
    return found
