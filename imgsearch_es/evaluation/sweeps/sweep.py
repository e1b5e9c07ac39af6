"""Sweeps: quality, time and size over numbers of terms, term filters, systems and models."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from imgsearch_es.analysis.analyzer import DEFAULT_MODEL
from imgsearch_es.errors import EvaluationError
from imgsearch_es.evaluation import Evaluation, evaluate
from imgsearch_es.evaluation.benchmarking import sample_pictures
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import parse_measures
from imgsearch_es.evaluation.plan import as_text
from imgsearch_es.evaluation.significance import check_interval
from imgsearch_es.evaluation.sweeps.filling import Filled, fill
from imgsearch_es.evaluation.sweeps.grid import (
    PLAIN,
    TOP_K,
    Chain,
    Setting,
    parse_chains,
    parse_top_k,
    point_name,
    settings,
)
from imgsearch_es.evaluation.sweeps.outcome import Sweep
from imgsearch_es.evaluation.sweeps.plan import LIST, SweepPlan
from imgsearch_es.evaluation.sweeps.points import Point
from imgsearch_es.evaluation.sweeps.posteriors import Posteriors, Sources
from imgsearch_es.evaluation.sweeps.timing import Times, measure_times
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.topics import Topic
from imgsearch_es.indexing import IndexReport, Labels
from imgsearch_es.pictures.manifests import PictureList
from imgsearch_es.search.query_pictures import QueryImages, several

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and all of it."""
SYSTEMS = "auto,dense-cosine"
TIMED = 50
_FEATURES = Setting(Chain(PLAIN), 1)
"""Of the index in which deep features alone are compared: hardly any terms."""
_UNTIMED: Times = (math.nan, math.nan)


def sweep(
    pictures: Sources | None = None,
    judgements: str | os.PathLike[str] | Judgements = "labels",
    systems: str | Iterable[str | System] = SYSTEMS,
    measures: str | Iterable[str] | None = None,
    *,
    models: str | Iterable[str] = DEFAULT_MODEL,
    top_k: str | Iterable[int] = TOP_K,
    filters: str | Iterable[str] = PLAIN,
    cache: str | os.PathLike[str] | None = None,
    labels: Labels = None,
    compare: str | None = None,
    queries: str | os.PathLike[str] | Mapping[str, Topic] | None = None,
    query_pictures: str | os.PathLike[str] | None = None,
    depth: int = 1000,
    sample: int | None = None,
    timed: int = TIMED,
    confidence: float = 0.95,
    interval: str = "t",
    seed: int = 0,
    runtime: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Measure systems over settings of an analyzer, with one forward pass per picture and model.

    Args:
        pictures: what to search in, as ``ImageIndex.add`` takes it; None for what the cache has.
        judgements: what is relevant to what; see ``imgsearch_es.evaluation.evaluate``.
        systems: strategies and fusions by short names; those that compare deep features alone do
            not depend on the settings, and are measured once for each model.
        measures: by default those of the judgements' protocol; higher must be better.
        models: names, or TOML files of analyzers, whose term filters are left out.
        top_k: how many terms a picture keeps.
        filters: chains of term filters by short names (see
            ``imgsearch_es.evaluation.sweeps.grid``).
        cache: the folder for what the models say of the pictures; a later sweep with other
            settings needs no model. By default it is not kept.
        labels: what to call the pictures; see ``ImageIndex.add``.
        compare: the point that the others of its model are tested against: ``dense-cosine``,
            ``auto/plain/10``. By default the first system that compares deep features alone.
        queries: what each query searches for; see ``evaluate``.
        query_pictures: the folder of query pictures that are not in the collection.
        depth: how many pictures of a ranking are kept.
        sample: ask only so many queries, chosen at random.
        timed: how many pictures to search for to measure times; 0 for none.
        confidence: of the intervals.
        interval: "t" or "bootstrap".
        seed: of all that is random.
        runtime: what runs the models; see `Analyzer`.
        progress: told of pictures, settings and rounds of timing.

    Raises:
        EvaluationError: a setting makes no sense, or judgements do not fit the pictures.
        QueryError: there is no such system.
        AnalyzerError: there is no such model or term filter.
        IndexNotFoundError: no picture is given, and the cache has none.
        MissingDependencyError: ir-measures or SciPy is not installed.
        StoppedError: a KeyboardInterrupt, as of ``ImageIndex.add``; the next run goes on.
    """
    asked, chains = parse_systems(systems), parse_chains(filters)
    numbers, names = parse_top_k(top_k), _models(models)
    measured = None if measures is None else parse_measures(measures)
    check_interval(interval, confidence)
    if timed < 0:
        raise EvaluationError(f"timed is a number of queries, or 0, not {timed}")
    if pictures is None and cache is None:
        raise EvaluationError("which pictures? Name files or folders, or the cache of a sweep")
    places = None if pictures is None else several(cast(QueryImages, pictures))
    options: dict[str, Any] = {"depth": depth, "sample": sample, "confidence": confidence}
    options |= {"interval": interval, "seed": seed, "queries": queries, "pictures": query_pictures}
    run = _Run(judgements, asked, measured, options, timed, seed, progress or _silent)
    with _cache_folder(cache) as folder:
        opened = [Posteriors(folder, name, runtime) for name in names]
        grids = [settings(chains, numbers, posteriors.classes) for posteriors in opened]
        for wanted in grids if compare is not None else ():
            _check_baseline(compare, asked, wanted)
        for posteriors, wanted in zip(opened, grids, strict=True):
            with closing(posteriors):
                report = posteriors.update(
                    cast("Sources | None", places), labels, run.pictures_of(posteriors.name)
                )
                run.note(posteriors.name, report)
                run.sweep(posteriors, wanted)
                posteriors.keep_queries()
    plan = SweepPlan(
        pictures=tuple(map(_place, places or ())),
        judgements=as_text(judgements),
        models=names,
        systems=tuple(system.name for system in asked),
        measures=run.first.plan.measures,
        top_k=numbers,
        filters=tuple(chain.name for chain in chains),
        compare=compare or next((s.name for s in asked if not s.uses_synsets), None),
        queries=None if queries is None else as_text(queries),
        query_pictures=None if query_pictures is None else os.fspath(query_pictures),
        depth=depth,
        sample=sample,
        timed=timed,
        confidence=confidence,
        interval=interval,
        seed=seed,
    )
    return run.outcome(plan)


def _check_baseline(name: str | None, systems: Iterable[System], wanted: Iterable[Setting]) -> None:
    """Refuse a baseline that there will not be, before anything is measured."""
    grid = list(wanted)
    known = [
        point_name(system.name, setting)
        for system in systems
        for setting in (grid if system.uses_synsets else (None,))
    ]
    if name not in known:
        raise EvaluationError(f"compare names {name}, which is none of {', '.join(known)}")


@dataclass
class _Run:
    """The work of a sweep, model after model."""

    judgements: str | os.PathLike[str] | Judgements
    systems: tuple[System, ...]
    measures: tuple[str, ...] | None
    options: Mapping[str, Any]
    timed: int
    seed: int
    progress: Progress
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)

    def pictures_of(self, model: str) -> Callable[[IndexReport, int | None], None]:
        """Tells of pictures as they are analyzed."""
        return lambda report, total: self.progress(
            f"{model}: pictures", report.found, report.found if total is None else total
        )

    def note(self, model: str, report: IndexReport | None) -> None:
        """Say what a reader should know of how the pictures were read."""
        if report is not None and report.rejected:
            self.notes.append(f"{model}: {len(report.rejected)} pictures could not be read")

    def outcome(self, plan: SweepPlan) -> Sweep:
        """All of it."""
        task, pictures = self.first.task, len(self.first.collection)
        points, notes = tuple(self.points), tuple(dict.fromkeys(self.notes))
        return Sweep(plan, task.name, pictures, len(task.judgements), points, self.about, notes)

    @property
    def first(self) -> Evaluation:
        """Any of the evaluations: all have one task on one collection."""
        return self.evaluations[0]

    @property
    def about(self) -> dict[str, Any]:
        """Fingerprints of what was measured."""
        manifest = self.first.manifest()
        data = {key: manifest["data"][key] for key in ("pictures", "contents", "labels")}
        return {"data": data, "judgements": manifest["judgements"], "models": self.models}

    def sweep(self, posteriors: Posteriors, wanted: Sequence[Setting]) -> None:
        """Measure all settings of one model."""
        dense = [system for system in self.systems if not system.uses_synsets]
        others = [system for system in self.systems if system.uses_synsets]
        fused = any(system.uses_features for system in others)
        work = [(setting, others, fused) for setting in wanted if others]
        work += [(_FEATURES, dense, True)] if dense else []
        with (
            tempfile.TemporaryDirectory(prefix="imgsearch-sweep-") as scratch,
            ExitStack() as open_,
        ):
            filled: list[tuple[Setting, Filled, Evaluation]] = []
            for number, (setting, systems, features) in enumerate(work):
                self.progress(f"{posteriors.name}: settings", number, len(work))
                path = Path(scratch) / f"{number}.duckdb"
                made = fill(posteriors, setting, path, features=features)
                open_.callback(made.index.close)
                found = evaluate(
                    made.index, self.judgements, systems, self.measures, **self.options
                )
                filled.append((setting, made, found))
            times = self._times(posteriors, work, [made for _, made, _ in filled])
            for number, (setting, made, found) in enumerate(filled):
                self._keep(posteriors.name, setting, made, found, times, number)
            self._describe(posteriors, filled[0][2])

    def _times(
        self,
        posteriors: Posteriors,
        work: Sequence[tuple[Setting, Sequence[System], bool]],
        filled: Sequence[Filled],
    ) -> dict[tuple[str, str], Times]:
        if not self.timed:
            return {}
        dense = any(system.uses_features for system in self.systems)
        chosen = sample_pictures(posteriors.index, self.timed, self.seed, dense=dense)
        indexes = {
            str(number): (made.index, systems)
            for number, (made, (_, systems, _)) in enumerate(zip(filled, work, strict=True))
        }
        return measure_times(
            indexes,
            chosen,
            lambda done, total: self.progress(f"{posteriors.name}: rounds of timing", done, total),
        )

    def _keep(
        self,
        model: str,
        setting: Setting,
        made: Filled,
        found: Evaluation,
        times: Mapping[tuple[str, str], Times],
        number: int,
    ) -> None:
        self.evaluations.append(found)
        self.notes += found.notes
        for name, scores in found.scores.items():
            system = next(s for s in self.systems if s.name == name)
            p50, p95 = times.get((str(number), name), _UNTIMED)
            synsets = system.uses_synsets
            self.points.append(
                Point(
                    model,
                    name,
                    setting.chain.name if synsets else "",
                    setting.top_k if synsets else None,
                    made.terms if synsets else 0.0,
                    made.compared_bytes(synsets=synsets, features=system.uses_features),
                    made.file_bytes,
                    p50,
                    p95,
                    scores,
                    {measure: found.mean(name, measure) for measure in found.plan.measures},
                )
            )

    def _describe(self, posteriors: Posteriors, found: Evaluation) -> None:
        """What the posteriors are, for the manifest."""
        analyzer = {**found.about["analyzer"], "term_filters": [], "embedding": True}
        self.models[posteriors.name] = {"analyzer": analyzer, "weights": found.about["weights"]}


def _models(models: str | Iterable[str]) -> tuple[str, ...]:
    names = models.split(",") if isinstance(models, str) else models
    found = tuple(name.strip() for name in names if name.strip())
    if not found or len(set(found)) < len(found):
        raise EvaluationError(f"name models, each once, not {', '.join(found) or 'none'}")
    return found


def _place(source: object) -> str:
    """What a source of pictures is called in the plan."""
    if isinstance(source, PictureList):
        return f"{LIST}{os.fspath(source.place)}"
    return as_text(source)


@contextmanager
def _cache_folder(cache: str | os.PathLike[str] | None) -> Iterator[Path]:
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="imgsearch-sweep-") as temporary:
            yield Path(temporary)
        return
    folder = Path(cache).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"cannot make the folder {folder}: {error.strerror}") from error
    yield folder


def _silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""
