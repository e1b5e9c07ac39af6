"""An experiment: one task, several systems, the same queries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.asking import Progress, Questions
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import cutoff, parse_measures, score
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.plan import Plan, as_text
from imgsearch_es.evaluation.protocols import make_task
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.significance import check_interval
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.tasks import Task
from imgsearch_es.evaluation.topics import Topic
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import MAX_RESULTS
from imgsearch_es.stores.base import known_settings


def evaluate(
    index: ImageIndex,
    judgements: str | os.PathLike[str] | Judgements = "labels",
    systems: str | Iterable[str | System] = "auto",
    measures: str | Iterable[str] | None = None,
    *,
    compare: str | None = None,
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None = None,
    pictures: str | os.PathLike[str] | None = None,
    runs: Iterable[str | os.PathLike[str] | Run] = (),
    depth: int = 1000,
    sample: int | None = None,
    confidence: float = 0.95,
    interval: str = "t",
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure how well systems find what is judged relevant.

    Args:
        index: the collection.
        judgements: where the judgements come from: "labels", "folder",
            "name:{label}.{number}.jpg", "ukbench", "holidays", "oxford:DIR", "paris:DIR",
            "revisited-medium:FILE.json", a file of TREC qrels or CSV; or Judgements.
        systems: what to compare: strategies and fusions by short names (see
            ``imgsearch_es.evaluation.systems``).
        measures: by default those of the judgements' protocol.
        compare: the system that all others are tested against.
        queries: what each query searches for: Topics by query id, or a CSV; by default a query is
            the picture of the index that is called as it is.
        pictures: the folder of query pictures that are not in the index.
        runs: of other programs, in TREC's format with the names of pictures, to compare with.
        depth: how many pictures of a ranking are kept; measures that look at all see these.
        sample: ask only so many queries, chosen at random.
        confidence: of the intervals.
        interval: "t" or "bootstrap".
        seed: of all that is random.
        progress: told of each system's queries.

    Raises:
        EvaluationError: judgements, queries or runs do not fit the index or each other.
        QueryError: there is no such system, or it cannot answer a query.
        MissingDependencyError: ir-measures or SciPy is not installed.
    """
    others = list(runs)
    asked = parse_systems(systems) if systems or not others else ()
    collection = Collection.of(index)
    folder = None if pictures is None else Path(pictures).expanduser()
    task = make_task(judgements, collection, queries=queries, pictures=folder)
    names = parse_measures(measures or task.measures)
    plan = Plan(
        as_text(judgements), tuple(system.name for system in asked), names, compare,
        None if queries is None else as_text(queries),
        None if pictures is None else as_text(pictures),
        tuple(map(as_text, others)), depth, sample, confidence, interval, seed,
    )  # fmt: skip
    check_plan(plan)
    if sample is not None:
        task = replace(task, judgements=task.judgements.sample(sample, seed))
    given = [_read_run(run, task, collection) for run in others]
    _check_names([*plan.systems, *(run.name for run in given)], compare)
    topics = {query: task.topics[query] for query in task.judgements.queries}
    questions = Questions(index, topics, task.judgements.junk)
    reach = min(depth, len(collection))
    answers = {system.name: questions.ask(system, reach, progress) for system in asked}
    answers |= {run.name: run for run in given}
    scores = {name: score(task.judgements, run, names) for name, run in answers.items()}
    notes = (*task.notes, *questions.notes)
    notes += tuple(_shallow(system, reach) for system in asked if system.reach < reach)
    return Evaluation(plan, task, collection, answers, scores, _about(index), notes)


def check_plan(plan: Plan) -> None:
    """Refuse what can be known to fail before anything is searched for.

    Raises:
        EvaluationError: rankings are less deep than the measures look, or deeper than an index
            answers; there is no such interval or confidence.
    """
    check_interval(plan.interval, plan.confidence)
    if not 1 <= plan.depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth is 1 to {MAX_RESULTS}, not {plan.depth}")
    for measure in plan.measures:
        if cutoff(measure) > plan.depth:
            raise EvaluationError(f"{measure} looks deeper than the depth {plan.depth}")


def _check_names(names: Sequence[str], compare: str | None) -> None:
    if len(set(names)) < len(names):
        raise EvaluationError(f"two systems have one name: {', '.join(names)}")
    if compare is not None and compare not in names:
        raise EvaluationError(f"compare names {compare}, which is none of {', '.join(names)}")


def _shallow(system: System, reach: int) -> str:
    return (
        f"{system.name} ranks no more than {system.reach} pictures, the others {reach}: add "
        f":window={reach} where a measure looks further"
    )


def _about(index: ImageIndex) -> dict[str, Any]:
    settings = known_settings(index.store)
    return {
        "location": index.location,
        "analyzer": dict(settings.analyzer),
        "weights": settings.weights,
        "store": index.store.features(),
    }


def _read_run(run: str | os.PathLike[str] | Run, task: Task, collection: Collection) -> Run:
    """A run with the index's ids; what the index lacks keeps its name and is not relevant."""
    key = collection.id_of
    asked = {collection.name(query): query for query in task.judgements.queries}
    asked |= {query: query for query in task.judgements.queries}
    found = Run.of(run).renamed(key, lambda name: asked.get(name) or key(name))
    if not set(task.judgements.queries) & found.rankings.keys():
        raise EvaluationError(f"the run {found.name} answers none of the queries")
    return found
