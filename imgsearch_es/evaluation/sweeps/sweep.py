"""Sweeps: quality, time and size over numbers of terms, term filters, systems and models."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from imgsearch_es.analysis.configuration import DEFAULT_MODEL, absolute
from imgsearch_es.errors import EmptyQueryError, EvaluationError
from imgsearch_es.evaluation.experiment import Asked, evaluate
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.manifest import SweepPlan, as_text, takes
from imgsearch_es.evaluation.measures import parse_measures
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.scorers import percentiles, sample_pictures, take_turns, timed_search
from imgsearch_es.evaluation.significance import check_interval
from imgsearch_es.evaluation.sweeps.outcome import Point, Sweep, point_name
from imgsearch_es.evaluation.sweeps.posteriors import (
    PLAIN,
    TOP_K,
    Chain,
    Filled,
    Posteriors,
    Setting,
    Sources,
    fill,
    parse_chains,
    parse_numbers,
    settings,
    split_views,
)
from imgsearch_es.evaluation.systems import System, Systems, parse_systems
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing import IndexReport, Labels
from imgsearch_es.indexing.find import NAMED_AGAIN
from imgsearch_es.search.query_pictures import QueryImages, several

_FEATURES = Setting(Chain(PLAIN), 1)
"""Of the index in which deep features alone are compared: hardly any terms."""
_HITS, _ROUNDS = 10, 5


@dataclass(frozen=True, eq=False)
class SweepRequest(Asked):
    """The arguments of ``sweep``.

    Attributes:
        pictures: what to search in, as ``ImageIndex.add`` takes it; None for what the cache has.
        judgements: what is relevant to what; see ``imgsearch_es.evaluation.evaluate``.
        systems: strategies and fusions by short names; those that compare deep features alone do
            not depend on the settings, and are measured once for each model.
        measures: by default those of the judgements' protocol; higher must be better.
        models: names, or TOML files of analyzers, whose term filters are left out; with
            ``+tiles`` or ``+tiles14`` behind them, of parts of pictures, too.
        top_k: how many terms a picture keeps.
        query_terms: how many of its classes a query picture asks with; by default all that it
            keeps.
        filters: chains of term filters by short names (see
            ``imgsearch_es.evaluation.sweeps.posteriors``).
        cache: the folder for what the models say of the pictures; a later sweep with other
            settings needs no model. By default it is not kept.
        labels: what to call the pictures; see ``ImageIndex.add``.
        query_pictures: the folder of query pictures that are not in the collection.
        timed: how many pictures to search for to measure times; 0 for none.
        runtime: what runs the models; see `Analyzer`.
    """

    pictures: Sources | None = None
    judgements: str | os.PathLike[str] | Judgements = "labels"
    systems: Systems = "auto,dense-cosine"
    measures: str | Iterable[str] | None = None
    _: KW_ONLY
    models: str | Iterable[str] = DEFAULT_MODEL
    top_k: str | Iterable[int] = TOP_K
    query_terms: str | Iterable[int] = ()
    filters: str | Iterable[str] = PLAIN
    cache: str | os.PathLike[str] | None = None
    labels: Labels = None
    query_pictures: str | os.PathLike[str] | None = None
    timed: int = 50
    runtime: str | None = None


@takes(SweepRequest)
def sweep(request: SweepRequest) -> Sweep:
    """Measure systems over settings of an analyzer, with one forward pass per picture and model.

    >>> options = {"models": "efficientnet-lite0", "top_k": [5, 50], "timed": 0}
    >>> found = sweep("photos", "name:{label}-*", "auto", "P@3", **options)
    >>> [point.name for point in found.points]
    ['auto/plain/5', 'auto/plain/50']

    Raises:
        EvaluationError: a setting makes no sense, or judgements do not fit the pictures.
        QueryError: there is no such system.
        AnalyzerError: there is no such model or term filter.
        IndexNotFoundError: no picture is given, and the cache has none.
        MissingDependencyError: ir-measures or SciPy is not installed.
        StoppedError: a KeyboardInterrupt, as of ``ImageIndex.add``; the next run goes on.
    """
    asked, chains = parse_systems(request.systems), parse_chains(request.filters)
    places, plan = _places(request), plan_of(request)
    run = _Run(request, plan, asked)
    with tempfile.TemporaryDirectory(prefix="imgsearch-sweep-") as temporary:
        folder = Path(request.cache or temporary).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EvaluationError(f"cannot make the folder {folder}: {error.strerror}") from error
        opened = [Posteriors(folder, name, request.runtime) for name in plan.models]
        numbers = plan.top_k, plan.query_terms
        grids = [settings(chains, *numbers, posteriors.classes) for posteriors in opened]
        if request.compare is not None:
            names = [posteriors.name for posteriors in opened]
            _check_baseline(request.compare, asked, dict(zip(names, grids, strict=True)))
        for posteriors, grid in zip(opened, grids, strict=True):
            with closing(posteriors.index):
                run.update(posteriors, places)
                run.sweep(posteriors, grid)
    return run.outcome()


def plan_of(request: SweepRequest) -> SweepPlan:
    """What a request asks for, which must make sense; without measures, if it names none."""
    asked, chains = parse_systems(request.systems), parse_chains(request.filters)
    check_interval(request.interval, request.confidence, request.seed)
    if request.timed < 0:
        raise EvaluationError(f"timed is a number of queries, or 0, not {request.timed}")
    if request.pictures is None and request.cache is None:
        raise EvaluationError("which pictures? Name files or folders, or the cache of a sweep")
    measures, terms = request.measures, request.query_terms
    return SweepPlan.of(
        request,
        pictures=tuple(map(as_text, cast("Iterable[Any]", _places(request) or ()))),
        models=_models(request.models),
        systems=tuple(system.name for system in asked),
        measures=() if measures is None else parse_measures(measures),
        top_k=parse_numbers("top_k", request.top_k),
        query_terms=parse_numbers("query_terms", terms) if terms else (),
        filters=tuple(chain.name for chain in chains),
        compare=request.compare or next((s.name for s in asked if not s.uses_synsets), None),
    )


def _places(request: SweepRequest) -> Sources | None:
    given = request.pictures
    return None if given is None else cast("Sources", several(cast(QueryImages, given)))


def _check_baseline(
    compare: str, systems: Sequence[System], grids: Mapping[str, Sequence[Setting]]
) -> None:
    """Refuse a baseline that will not be measured, of one model or, where it names none, of all."""
    model, _, point = compare.rpartition(" ")
    for name, grid in grids.items():
        places = [(system.name, _place(system, setting)) for system in systems for setting in grid]
        known = dict.fromkeys(point_name(system, *place) for system, place in places)
        if model in ("", name) and point not in known:
            raise EvaluationError(f"compare names {point}, which is none of {', '.join(known)}")
    if model and model not in grids:
        raise EvaluationError(f"compare names {model}, which is none of {', '.join(grids)}")


@dataclass
class _Run:
    """The work of a sweep, model after model: ``evaluate`` on an index for each setting."""

    request: SweepRequest
    plan: SweepPlan
    systems: tuple[System, ...]
    points: list[Point] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    models: dict[str, Any] = field(default_factory=dict)
    found: Evaluation | None = None
    """Any of the evaluations: all have one task on one collection."""

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.request.progress is not None:
            self.request.progress(what, done, total)

    def update(self, posteriors: Posteriors, pictures: Sources | None) -> None:
        """Let the model see what it has not seen yet."""
        name = posteriors.name

        def told(report: IndexReport, total: int | None) -> None:
            self._tell(f"{name}: pictures", report.found, total or report.found)

        report = posteriors.update(pictures, self.request.labels, told)
        if report is not None and report.rejected:
            self.notes.append(f"{name}: {len(report.rejected)} pictures could not be read")
        if report is not None and (again := report.passed_over[NAMED_AGAIN]):
            self.notes.append(f"{name}: passed over {again} pictures {NAMED_AGAIN}")

    def sweep(self, posteriors: Posteriors, grid: Sequence[Setting]) -> None:
        """Measure all settings of one model."""
        dense = [system for system in self.systems if not system.uses_synsets]
        others = [system for system in self.systems if system.uses_synsets]
        fused = any(system.uses_features for system in others)
        words = any(system.uses_visual_words for system in self.systems)
        model, views = split_views(posteriors.name)
        if others and views and model in self.models:
            dense = []  # the deep feature is that of the whole picture, which has its points
        work = [(setting, others, fused) for setting in grid if others]
        work += [(_FEATURES, dense, True)] if dense else []
        made: list[tuple[Setting, System, Filled, Evaluation]] = []
        with (
            tempfile.TemporaryDirectory(prefix="imgsearch-sweep-") as scratch,
            ExitStack() as open_,
        ):
            for number, (setting, systems, features) in enumerate(work):
                self._tell(f"{posteriors.name}: settings", number, len(work))
                path = Path(scratch) / f"{number}.duckdb"
                filled = fill(posteriors, setting, path, features=features, words=words)
                open_.callback(filled.index.close)
                self.found = self._evaluate(filled.index, systems)
                self.notes += self.found.notes
                answered = [system for system in systems if system.name in self.found.scores]
                made += [(setting, system, filled, self.found) for system in answered]
            times = self._times(posteriors, [(f.index, system) for _, system, f, _ in made])
        for (setting, system, filled, found), milliseconds in zip(made, times, strict=True):
            self.points.append(
                Point(
                    posteriors.name,
                    system.name,
                    *_place(system, setting),
                    filled.terms if system.uses_synsets else 0.0,
                    filled.compared_bytes(system),
                    filled.file_bytes,
                    *milliseconds,
                    found.scores[system.name],
                    {m: found.mean(system.name, m) for m in found.plan.measures},
                    posteriors.rate if self.plan.timed else math.nan,
                )
            )
        about = made[0][3].about
        analyzer = {**about["analyzer"], "term_filters": [], "embedding": True}
        analyzer.pop("query_terms", None)
        self.models[posteriors.name] = {"analyzer": analyzer, "weights": about["weights"]}

    def _evaluate(self, index: ImageIndex, systems: Sequence[System]) -> Evaluation:
        request, measures = self.request, self.plan.measures or None
        same = ("queries", "depth", "sample", "confidence", "interval", "seed")
        options = {name: getattr(request, name) for name in same}
        pictures = request.query_pictures
        return evaluate(index, request.judgements, systems, measures, pictures=pictures, **options)

    def _times(
        self, posteriors: Posteriors, made: Sequence[tuple[ImageIndex, System]]
    ) -> list[tuple[float, float]]:
        """Median and 95th percentile of each, in milliseconds; nan where nothing was timed."""
        if not self.plan.timed:
            return [(math.nan, math.nan)] * len(made)

        def timed(index: ImageIndex, system: System, picture: str) -> float:
            try:
                return timed_search(index, picture, k=_HITS, exclude_self=True, **system.options).ms
            except EmptyQueryError:  # the filters left nothing of it
                return math.nan

        ways = [part for system in self.systems for part in system.parts]
        chosen = sample_pictures(posteriors.index, self.plan.timed, self.plan.seed, ways)
        askers = [partial(timed, index, system) for index, system in made]
        told = partial(self._tell, f"{posteriors.name}: rounds of timing")
        answers = take_turns(askers, chosen, told, rounds=_ROUNDS)
        kept = [[ms for ms in times if not math.isnan(ms)] for times in answers]
        return [percentiles(times) if times else (math.nan, math.nan) for times in kept]

    def outcome(self) -> Sweep:
        """All of it."""
        assert self.found is not None  # noqa: S101  (there is a model, and a system)
        manifest, task = self.found.manifest(), self.found.task
        data = {key: manifest["data"][key] for key in ("pictures", "contents", "labels")}
        return Sweep(
            replace(self.plan, measures=self.found.plan.measures),
            task.name,
            len(self.found.collection),
            len(task.judgements),
            tuple(self.points),
            {"data": data, "judgements": manifest["judgements"], "models": self.models},
            tuple(dict.fromkeys(self.notes)),
            self.found.clusters,
        )


def _place(system: System, setting: Setting) -> tuple[str, int | None, int | None]:
    """Filters and numbers of terms of a point; a system of deep features alone has none."""
    if not system.uses_synsets:
        return "", None, None
    return setting.chain.name, setting.top_k, setting.query_terms


def _models(models: str | Iterable[str]) -> tuple[str, ...]:
    names = models.split(",") if isinstance(models, str) else models
    named = (split_views(name.strip()) for name in names if name.strip())
    found = tuple(
        (str(absolute(name)) if name.endswith(".toml") else name) + (f"+{views}" if views else "")
        for name, views in named
    )
    if not found or len(set(found)) < len(found):
        raise EvaluationError(f"name models, each once, not {', '.join(found) or 'none'}")
    return found
