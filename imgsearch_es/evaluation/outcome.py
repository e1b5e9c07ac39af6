"""What an experiment found: figures by system, measure and query, and comparisons."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation.collection import Collection
from imgsearch_es.evaluation.manifest import PICTURES, Plan, check_known, labels_of, versions
from imgsearch_es.evaluation.measures import Scores, highest
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.significance import TESTS, Clusters, Comparison, Interval, interval
from imgsearch_es.evaluation.tables import (
    Results,
    Section,
    compared,
    mark,
    p_values,
    plain,
    show,
    to_csv,
)
from imgsearch_es.evaluation.tasks import Task
from imgsearch_es.evaluation.text_files import make_frame, write_lines

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


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
    command = "evaluate"
    own_files = ("table.csv", "queries.csv", "qrels.txt", PICTURES, "runs")

    def mean(self, system: str, measure: str) -> Interval:
        """A system's mean with its confidence interval.

        >>> round(found.mean("sqrt", "P@3").mean, 2)
        0.6
        """
        return self._means[self._known(system), self.measured(measure)]

    @cached_property
    def _means(self) -> dict[tuple[str, str], Interval]:
        return {
            (name, measure): interval(values, within=(0, highest(measure)), **self.sureness)
            for name, scores in self.scores.items()
            for measure, values in scores.values.items()
        }

    def compare(
        self, baseline: str, systems: str | Iterable[str] | None = None
    ) -> list[Comparison]:
        """Compare systems, by default all others, with a baseline by every measure.

        >>> [(one.measure, one.system, one.better, one.worse) for one in found.compare("auto")]
        [('P@3', 'sqrt', 13, 1), ('AP', 'sqrt', 21, 14)]
        """
        others = [name for name in self._chosen(systems) if name != baseline]
        figures = self.scores[self._known(baseline)]
        return self._against(baseline, figures, {name: self.scores[name] for name in others})

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """All other systems against the one of ``plan.compare``; none without it."""
        return () if self.plan.compare is None else tuple(self.compare(self.plan.compare))

    def topic_name(self, query: str) -> str:
        """What to call a query: the name of its picture, or its id.

        >>> found.topic_name(index.search("cat")[0].id)
        'chelsea-small.webp'
        """
        return self.collection.name(query)

    def _chosen(self, systems: str | Iterable[str] | None) -> list[str]:
        """Systems that there are, by default all; one or several."""
        names = systems.split(",") if isinstance(systems, str) else systems or self.scores
        return [self._known(name) for name in names]

    def _known(self, system: str) -> str:
        return check_known(system, self.scores, "is not one of the systems: {} are")

    def plot_differences(
        self, system: str, baseline: str | None = None, measure: str | None = None
    ) -> Figure:
        """Per query, how much better or worse a system is than a baseline (needs matplotlib).

        >>> found.plot_differences("sqrt").savefig("differences.png")
        """
        other = baseline or self.plan.compare
        if other is None:
            raise EvaluationError("which baseline? Give baseline=, or compare= to evaluate")
        from imgsearch_es.search.shown import plots

        names = self._known(system), self._known(other)
        return plots.differences(self, *names, self.measured(measure))

    def plot_precision_recall(self, systems: str | Sequence[str] | None = None) -> Figure:
        """Interpolated precision at eleven levels of recall (needs matplotlib).

        >>> found.plot_precision_recall().savefig("precision-recall.png")
        """
        from imgsearch_es.search.shown import plots

        return plots.precision_recall(self, self._chosen(systems))

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Precision against recall, and the differences of every system to the baseline.

        >>> [name for name, figure in found.figures()]
        ['precision-recall', 'differences-sqrt']
        """
        yield "precision-recall", self.plot_precision_recall()
        for name, file in self._files.items() if self.plan.compare else ():
            if name != self.plan.compare:
                yield f"differences-{file}", self.plot_differences(name)

    @property
    def caption(self) -> str:
        """What the table is of."""
        queries, pictures = len(self.task.judgements), len(self.collection)
        marks = self.plan.compare is not None
        return self.captioned(self.task.name, queries, pictures, marks=marks)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and cells of the table of means; the marks are those of ``comparisons``.

        >>> found.cells()[0]
        ['system', 'P@3', 'AP']
        """
        marks = {(c.system, c.measure): mark(c) for c in self.comparisons}
        rows = [[name] for name in self.scores]
        for row in rows:
            for measure in self.plan.measures:
                row.append(show(self.mean(row[0], measure)) + marks.get((row[0], measure), ""))
        return ["system", *self.plan.measures], rows

    def sections(self) -> list[Section]:
        """The comparisons, if there are some.

        >>> [title for title, columns, rows in found.sections()]
        ["Differences to auto; p-values by Holm's correction"]
        """
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
        """A row for each system and measure, with the comparison where one was asked for.

        >>> list(found.records()[0])[:4]
        ['system', 'measure', 'queries', 'mean']
        """
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
        """Each query's figures, long: the columns system, measure, query (its name) and value.

        >>> found.to_frame().columns.tolist()
        ['system', 'measure', 'query', 'value']
        """
        names = [self.topic_name(query) for query in self.task.judgements.queries]
        rows = [
            (system, measure, name, value)
            for system, scores in self.scores.items()
            for measure, values in scores.values.items()
            for name, value in zip(names, values.tolist(), strict=True)
        ]
        return make_frame(("system", "measure", "query", "value"), rows)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: what `imgsearch evaluate --json` prints.

        >>> found.to_dict()["queries"]
        57
        """
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
        """All that another person needs to get the same figures, as JSON values.

        >>> found.manifest()["experiment"]["systems"]
        ['auto', 'sqrt']
        """
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
        """Figures by query, qrels, the list of pictures and runs.

        >>> [path.name for path in found.more_files(Path("out"))]
        ['queries.csv', 'qrels.txt', 'pictures.tsv.gz', 'auto.txt.gz', 'sqrt.txt.gz']
        """
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
            lines.append(f"{item.name}\t{item.sha256}\t{labels_of(item)}")
        yield write_lines(folder / PICTURES, lines)
        for system, run in self.runs.items():
            yield run.renamed(name).to_trec(folder / "runs" / f"{self._files[system]}.txt.gz")

    @cached_property
    def _files(self) -> dict[str, str]:
        """What files of the systems are called, each another."""
        found: dict[str, str] = {}
        for system in self.scores:
            name = re.sub(r"[^\w.+=-]", "_", system)[:100]
            while name in found.values():
                name += "_"
            found[system] = name
        return found


def _probability(p: float) -> str:
    """A p-value to three decimals; nothing for nan."""
    return "" if p != p else f"{p:.3f}" if p >= 0.001 else "<0.001"
