"""An experiment: one task, several systems, the same queries; and what it found."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import frames
from imgsearch_es.evaluation.collection import Collection, Topics
from imgsearch_es.evaluation.judgements import JudgementsLike
from imgsearch_es.evaluation.manifest import PICTURES, Plan, Results, as_text, takes
from imgsearch_es.evaluation.measures import (
    Scores,
    check_measures,
    cutoff,
    highest,
    parse_measures,
    score,
)
from imgsearch_es.evaluation.provenance import versions
from imgsearch_es.evaluation.runs import Run, RunLike
from imgsearch_es.evaluation.significance import (
    TESTS,
    Clusters,
    Comparison,
    Interval,
    check_interval,
    compare,
    interval,
)
from imgsearch_es.evaluation.systems import Progress, Questions, Systems, parse_systems
from imgsearch_es.evaluation.tables import (
    Section,
    check_known,
    compared,
    mark,
    p_values,
    plain,
    show,
    to_csv,
)
from imgsearch_es.evaluation.tasks import Task, make_task
from imgsearch_es.evaluation.text_files import write_lines
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.strategies import MAX_RESULTS, StrategyName
from imgsearch_es.stores.base import known_settings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Results):
    """What an experiment found; shows itself as a table in a notebook.

    A system or measure that it does not have is an EvaluationError.

    Attributes:
        runs: what each system answered, by name.
        scores: each system's figures, by name.
        about: the index: its location, analyzer, weights, and what its store runs on.
        notes: what a reader of the figures should know.
        clusters: the group of each query, by which intervals and tests go; None where each stands
            for itself.
    """

    plan: Plan
    task: Task
    collection: Collection
    runs: Mapping[str, Run]
    scores: Mapping[str, Scores]
    about: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    clusters: Clusters | None = None
    csv_file = "table.csv"

    def mean(self, system: str, measure: str) -> Interval:
        """A system's mean with its confidence interval."""
        return self._means[self._known(system), self.measured(measure)]

    @cached_property
    def _means(self) -> dict[tuple[str, str], Interval]:
        return {
            (name, measure): interval(values, within=(0, highest(measure)), **self.sureness)
            for name, scores in self.scores.items()
            for measure, values in scores.values.items()
        }

    def compare(self, baseline: str, systems: Iterable[str] | None = None) -> list[Comparison]:
        """Compare systems, by default all others, with a baseline by every measure."""
        figures = self.scores[self._known(baseline)]
        others = [self._known(name) for name in systems or self.scores if name != baseline]
        return [
            comparison
            for measure in self.plan.measures
            for comparison in compare(
                measure,
                (baseline, figures.values[measure]),
                {name: self.scores[name].values[measure] for name in others},
                **self.sureness,
            )
        ]

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All other systems against the one of ``plan.compare``; none without it."""
        return () if self.plan.compare is None else tuple(self.compare(self.plan.compare))

    def topic_name(self, query: str) -> str:
        """What to call a query: the name of its picture, or its id."""
        return self.collection.name(query)

    def _known(self, system: str) -> str:
        return check_known(system, self.scores, "is not one of the systems: {} are")

    def plot_differences(
        self, system: str, baseline: str | None = None, measure: str | None = None
    ) -> Figure:
        """Per query, how much better or worse a system is than a baseline (needs matplotlib)."""
        other = baseline or self.plan.compare
        if other is None:
            raise EvaluationError("which baseline? Give baseline=, or compare= to evaluate")
        from imgsearch_es.search.shown import evaluation

        names = self._known(system), self._known(other)
        return evaluation.differences(self, *names, self.measured(measure))

    def plot_precision_recall(self, systems: Sequence[str] | None = None) -> Figure:
        """Interpolated precision at eleven levels of recall (needs matplotlib)."""
        from imgsearch_es.search.shown import evaluation

        return evaluation.precision_recall(self, [self._known(s) for s in systems or self.scores])

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Precision against recall, and the differences of every system to the baseline."""
        yield "precision-recall", self.plot_precision_recall()
        for name in self.scores if self.plan.compare else ():
            if name != self.plan.compare:
                yield f"differences-{_file_name(name)}", self.plot_differences(name)

    @property
    def caption(self) -> str:
        """What the table is of."""
        queries, pictures = len(self.task.judgements), len(self.collection)
        marks = self.plan.compare is not None
        return self.captioned(self.task.name, queries, pictures, marks=marks)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table of means; the marks are those of ``comparisons``."""
        marks = {(c.system, c.measure): mark(c) for c in self.comparisons}
        measures = self.plan.measures
        rows = [
            [name, *(show(self.mean(name, m)) + marks.get((name, m), "") for m in measures)]
            for name in self.scores
        ]
        return ["system", *measures], rows

    def sections(self) -> list[Section]:
        """The comparisons, if there are some."""
        columns = ("measure", "system", "difference", "better/equal/worse")
        rows = [
            [
                found.measure,
                found.system,
                show(found.difference, sign=True),
                f"{found.better}/{found.equal}/{found.worse}",
                *(_probability(found.corrected[test]) for test in TESTS),
            ]
            for found in self.comparisons
        ]
        title = f"Differences to {self.plan.compare}; p-values by Holm's correction"
        return [(title, (*columns, *(f"p {test}" for test in TESTS)), rows)] if rows else []

    def records(self) -> list[dict[str, Any]]:
        """A row for each system and measure, with the comparison where one was asked for."""
        found = {(c.system, c.measure): c for c in self.comparisons}
        rows = []
        for name, measure in self._means:
            row = {"system": name, "measure": measure, "queries": len(self.task.judgements)}
            row |= plain(self.mean(name, measure))
            if self.plan.compare is not None:
                one = found.get((name, measure))
                row |= {"difference": one and one.difference.mean, **p_values(one)}
            rows.append(row)
        return rows

    def to_frame(self) -> pd.DataFrame:
        """Each query's figures, long: the columns system, measure, query (its name) and value."""
        names = [self.topic_name(query) for query in self.task.judgements.queries]
        rows = [
            (system, measure, name, value)
            for system, scores in self.scores.items()
            for measure, values in scores.values.items()
            for name, value in zip(names, values.tolist(), strict=True)
        ]
        return frames.to_frame(("system", "measure", "query", "value"), rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what `imgsearch evaluate --json` prints."""
        measures = self.plan.measures
        return {
            "task": self.task.name,
            "queries": len(self.task.judgements),
            "groups": self.groups,
            "pictures": len(self.collection),
            "notes": list(self.notes),
            "systems": [
                {"system": name, "measures": {m: plain(self.mean(name, m)) for m in measures}}
                for name in self.scores
            ],
            "comparisons": list(map(compared, self.comparisons)),
            "manifest": self.manifest(),
        }

    def manifest(self) -> dict[str, Any]:
        """All that another person needs to get the same figures, as JSON values."""
        collection, judgements = self.collection, self.task.judgements
        return {
            **self.plan.head,
            "data": collection.fingerprints,
            "judgements": {
                "task": self.task.name,
                "queries": len(judgements),
                "fingerprint": judgements.renamed(collection.name).fingerprint,
            },
            "analyzer": self.about["analyzer"],
            "weights": self.about["weights"],
            "index": {key: self.about[key] for key in ("location", "store")},
            "versions": versions(),
            "rankings": {
                name: run.renamed(collection.name).fingerprint for name, run in self.runs.items()
            },
            "figures": {
                name: {measure: scores.mean(measure) for measure in scores.values}
                for name, scores in self.scores.items()
            },
        }

    def more_files(self, folder: Path) -> Iterator[Path]:
        """Figures by query, qrels, the list of pictures and runs."""
        name = self.collection.name
        columns = {
            f"{system} {measure}": scores.values[measure].tolist()
            for system, scores in self.scores.items()
            for measure in self.plan.measures
        }
        queries = [
            {"query": name(query)} | {key: figures[row] for key, figures in columns.items()}
            for row, query in enumerate(self.task.judgements.queries)
        ]
        yield write_lines(folder / "queries.csv", [to_csv(queries).rstrip("\n")])
        yield self.task.judgements.renamed(name).write_qrels(folder / "qrels.txt")
        lines = ["name\tsha256\tlabels"]
        for item in self.collection.items:
            labels = re.sub(r"\s", " ", " ".join(item.labels))
            lines.append(f"{item.name}\t{item.sha256}\t{labels}")
        yield write_lines(folder / PICTURES, lines)
        for system, run in self.runs.items():
            yield run.renamed(name).to_trec(folder / "runs" / f"{_file_name(system)}.txt.gz")


def _probability(p: float) -> str:
    """A p-value to three decimals; nothing for nan."""
    return "" if p != p else f"{p:.3f}" if p >= 0.001 else "<0.001"


def _file_name(system: str) -> str:
    return re.sub(r"[^\w.+=-]", "_", system)
