"""An experiment: one task, several systems, the same queries; figures, runs and comparisons."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import drawing, manifest, report, results
from imgsearch_es.evaluation.asking import Progress, Questions
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import Scores, cutoff, parse_measures, score
from imgsearch_es.evaluation.plan import Plan
from imgsearch_es.evaluation.protocols import make_task
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.significance import Comparison, Interval, compare, interval
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.tasks import Task
from imgsearch_es.evaluation.topics import Topic
from imgsearch_es.index import ImageIndex
from imgsearch_es.queries import MAX_RESULTS
from imgsearch_es.stores.base import known_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an experiment found; shows itself as a table in a notebook.

    Attributes:
        plan: what was asked for.
        task: the queries and their judgements.
        collection: the pictures searched in.
        runs: what each system answered, by name.
        scores: each system's figures, by name.
        about: the index: its location, analyzer, weights, and what its store runs on.
        notes: what a reader of the figures should know.
    """

    plan: Plan
    task: Task
    collection: Collection
    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def mean(self, system: str, measure: str) -> Interval:
        """A system's mean with its confidence interval.

        Raises:
            EvaluationError: there is no such system or measure.
        """
        values = self._scores(system).values
        if measure not in values:
            raise EvaluationError(f"{measure} was not measured: {', '.join(values)} were")
        return interval(
            values[measure],
            confidence=self.plan.confidence,
            kind=self.plan.interval,
            seed=self.plan.seed,
        )

    def compare(self, baseline: str, systems: Iterable[str] | None = None) -> list[Comparison]:
        """Compare systems with a baseline by every measure.

        Args:
            baseline: the name of a system.
            systems: those to compare with it, by default all others.

        Raises:
            EvaluationError: there is no such system.
        """
        figures = self._scores(baseline)
        others = [name for name in systems or self.scores if name != baseline]
        return [
            comparison
            for measure in self.plan.measures
            for comparison in compare(
                measure,
                (baseline, figures.values[measure]),
                {name: self._scores(name).values[measure] for name in others},
                confidence=self.plan.confidence,
                kind=self.plan.interval,
                seed=self.plan.seed,
            )
        ]

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All other systems against the one of ``plan.compare``; none without it."""
        return () if self.plan.compare is None else tuple(self.compare(self.plan.compare))

    def topic_name(self, query: str) -> str:
        """What to call a query: the name of its picture, or its id."""
        return self.collection.name(query)

    def plot_differences(
        self, system: str, baseline: str | None = None, measure: str | None = None
    ) -> Figure:
        """Per query, how much better or worse a system is than a baseline (needs matplotlib)."""
        other = baseline or self.plan.compare
        if other is None:
            raise EvaluationError("which baseline? Give baseline=, or compare= to evaluate")
        name = measure or self.plan.measures[0]
        return drawing.differences(self, self._known(system), self._known(other), name)

    def plot_precision_recall(self, systems: Sequence[str] | None = None) -> Figure:
        """Interpolated precision at eleven levels of recall (needs matplotlib)."""
        return drawing.precision_recall(self, [self._known(s) for s in systems or self.scores])

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""
        return manifest.manifest_of(self)

    def write(self, folder: str | os.PathLike[str], *, plots: bool = True) -> list[Path]:
        """Write tables, runs, qrels, manifest and plots into a folder; gives the files.

        Raises:
            EvaluationError: a file cannot be written.
            MissingDependencyError: plots need matplotlib.
        """
        return results.write_results(self, Path(folder), plots=plots)

    def to_markdown(self) -> str:
        """The table of means, and of comparisons where there are some."""
        return report.to_markdown(self)

    def to_latex(self) -> str:
        """The table of means for the package booktabs."""
        return report.to_latex(self)

    def to_csv(self) -> str:
        """All means, intervals and comparisons, a line for each system and measure."""
        return report.to_csv(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return report.to_dict(self)

    def _repr_html_(self) -> str:
        return report.to_html(self)

    def __repr__(self) -> str:
        return self.to_markdown()

    def _known(self, system: str) -> str:
        self._scores(system)
        return system

    def _scores(self, system: str) -> Scores:
        if system not in self.scores:
            raise EvaluationError(
                f"{system} is not one of the systems: {', '.join(self.scores)} are"
            )
        return self.scores[system]


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
    asked = parse_systems(systems) if systems or not runs else ()
    collection = Collection.of(index)
    folder = None if pictures is None else Path(pictures).expanduser()
    task = make_task(judgements, collection, queries=queries, pictures=folder)
    names = parse_measures(measures or task.measures)
    plan = Plan.of(
        judgements, asked, names, compare, queries, pictures, runs,
        depth=depth, sample=sample, confidence=confidence, interval=interval, seed=seed,
    )  # fmt: skip
    check_depth(plan)
    if sample is not None:
        task = replace(task, judgements=task.judgements.sample(sample, seed))
    topics = {query: task.topics[query] for query in task.judgements.queries}
    given = [_read_run(run, task, collection) for run in runs]
    known = [*(system.name for system in asked), *(run.name for run in given)]
    if len(set(known)) < len(known):
        raise EvaluationError(f"two systems have one name: {', '.join(known)}")
    if compare is not None and compare not in known:
        raise EvaluationError(f"compare names {compare}, which is none of {', '.join(known)}")
    questions = Questions(index, topics, task.judgements.junk)
    reach = min(depth, len(collection))
    answers = {system.name: questions.ask(system, reach, progress) for system in asked}
    answers |= {run.name: run for run in given}
    scores = {name: score(task.judgements, run, names) for name, run in answers.items()}
    notes = task.notes + tuple(
        f"the query {query} has no answer: {why}" for query, why in questions.unknown.items()
    )
    settings = known_settings(index.store)
    about = {
        "location": index.location,
        "analyzer": dict(settings.analyzer),
        "weights": settings.weights,
        "store": index.store.features(),
    }
    return Evaluation(plan, task, collection, answers, scores, about, notes)


def check_depth(plan: Plan) -> None:
    """Rankings must be as deep as the measures look.

    Raises:
        EvaluationError: they are not, or are deeper than an index answers.
    """
    if not 1 <= plan.depth <= MAX_RESULTS:
        raise EvaluationError(f"the depth is 1 to {MAX_RESULTS}, not {plan.depth}")
    for measure in plan.measures:
        if cutoff(measure) > plan.depth:
            raise EvaluationError(f"{measure} looks deeper than the depth {plan.depth}")


def _read_run(run: str | os.PathLike[str] | Run, task: Task, collection: Collection) -> Run:
    """A run with the index's ids; what the index lacks keeps its name and is not relevant."""
    read = run if isinstance(run, Run) else Run.read(run)

    def key(name: str) -> str:
        return collection.find(name) if collection.has(name) else name

    asked = set(task.judgements.queries)
    found = read.renamed(key, lambda name: name if name in asked else key(name))
    if not asked & found.rankings.keys():
        raise EvaluationError(f"the run {read.name} answers none of the queries")
    return found
