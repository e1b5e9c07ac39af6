"""Measures: how good rankings are, for each query and on average.

Those of information retrieval come from ir-measures by their names there, such as ``nDCG@10`` and
``P(rel=2)@10``; they are trec_eval's figures. Those of image retrieval's own benchmarks are here:

    NS      the UKBench score: how many of the four pictures of an object, the query's own counted,
            are among the first four; 4 at best (Nister and Stewenius, CVPR 2006)
    NS%     the same in percent of the four, as tutorials on triplet networks state it
    AP-trapezoid  the area below the precision-recall curve by trapezoids, as the programs that come
            with Oxford5k, Paris6k, INRIA Holidays and the revisited sets compute AP

A query without an answer counts as zero. Junk is taken out of rankings and judgements first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import EvaluationError, MissingDependencyError, pip_install
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.runs import Run

GROUP = 4
"""Pictures of an object in UKBench."""
_TOGETHER = 256
"""Queries whose judgements are copied for ir-measures at a time."""
_CUTOFF = re.compile(r"@(\d+)$")


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The figures of one system: ``values`` has for each measure one for each query, in order."""

    queries: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]

    def mean(self, measure: str) -> float:
        """The mean over all queries."""
        return math.fsum(self.values[measure]) / len(self.queries)

    def of(self, query: str) -> dict[str, float]:
        """The figures of one query, by measure."""
        row = self.queries.index(query)
        return {measure: float(values[row]) for measure, values in self.values.items()}

    def hardest(self, measure: str, count: int = 10) -> list[tuple[str, float]]:
        """The queries with the lowest figures, lowest first, ties by id."""
        pairs = zip(self.queries, self.values[measure].tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (pair[1], pair[0]))[:count]


def score(judgements: Judgements, run: Run, measures: str | Iterable[str]) -> Scores:
    """Measure a run: the queries of the judgements count, answered or not, and no others.

    Raises:
        EvaluationError: there is no such measure, it does not fit the judgements, or there is no
            query.
        MissingDependencyError: ir-measures is not installed.
    """
    names = parse_measures(measures)
    queries = judgements.queries
    if not queries:
        raise EvaluationError("there is no query to measure")
    values = {name: np.zeros(len(queries)) for name in names}
    own = [name for name in names if name in OWN]
    for row, query in enumerate(queries if own else ()):
        relevant = judgements.relevant(query)
        if query not in relevant and not {"NS", "NS%"}.isdisjoint(own):
            raise EvaluationError(
                f"NS counts the query's own picture, and {query} is not relevant to itself: judge "
                "by groups of four (ukbench), where no query is left out"
            )
        found = [d in relevant for d in run.falling(query, judgements.junk.get(query, _NONE))]
        for name in own:
            values[name][row] = OWN[name](np.asarray(found, dtype=bool), len(relevant))
    theirs = [name for name in names if name not in OWN]
    for start in range(0, len(queries) if theirs else 0, _TOGETHER):
        some = queries[start : start + _TOGETHER]
        for name, column in _by_ir_measures(judgements, run, theirs, some).items():
            values[name][start : start + len(some)] = column
    return Scores(queries, values)


def parse_measures(measures: str | Iterable[str]) -> tuple[str, ...]:
    """The names of measures, as ir-measures writes them, each once."""
    texts = re.split(r",(?![^(]*\))", measures) if isinstance(measures, str) else measures
    names = list(dict.fromkeys(_name(text.strip()) for text in texts if text.strip()))
    if not names:
        raise EvaluationError("name at least one measure, such as nDCG@10 or P@10")
    return tuple(names)


def cutoff(measure: str) -> int:
    """How many documents of a ranking a measure looks at; 0 for all."""
    if measure in ("NS", "NS%"):
        return GROUP
    found = _CUTOFF.search(measure)
    return int(found[1]) if found else 0


def _name(text: str) -> str:
    if text in OWN:
        return text
    tool = _ir_measures()
    with suppress(NameError, ValueError, SyntaxError, TypeError, KeyError, AssertionError):
        measure = tool.parse_measure(text)
        measure.validate_params()
        if tool.DefaultPipeline.supports(measure):
            return str(measure)
    raise EvaluationError(
        f"there is no measure {text!r}; there are P@10, Rprec, AP, nDCG@10, RR, Bpref, Success@1 "
        f"and others of ir-measures, and {', '.join(OWN)}"
    )


def _ir_measures() -> Any:
    try:
        import ir_measures
    except ImportError as error:
        raise MissingDependencyError(
            f"measures need ir-measures: {pip_install('evaluation')}"
        ) from error
    return ir_measures


def _by_ir_measures(
    judgements: Judgements, run: Run, names: Sequence[str], queries: Sequence[str]
) -> dict[str, list[float]]:
    tool = _ir_measures()
    measures = {tool.parse_measure(name): name for name in names}
    qrels = {query: grades for query in queries if (grades := judgements.of(query))}
    rankings = {
        query: ranking
        for query in qrels
        if (ranking := run.falling(query, judgements.junk.get(query, _NONE)))
    }
    place = {query: i for i, query in enumerate(queries)}
    columns = {name: [0.0] * len(queries) for name in names}
    if rankings:
        for figure in tool.iter_calc(list(measures), qrels, rankings):
            columns[measures[figure.measure]][place[figure.query_id]] = float(figure.value)
    return columns


def _ukbench_score(found: NDArray[np.bool_], relevant: int) -> float:
    return float(np.count_nonzero(found[:GROUP]))


def _trapezoid_precision(found: NDArray[np.bool_], relevant: int) -> float:
    """At each relevant document the mean of the precision before and at it counts.

    Before the first rank it is 1. (So in compute_ap of Oxford5k, in holidays_map.py and in the
    evaluation of the revisited Oxford and Paris sets.)
    """
    if not relevant:
        return 0.0
    ranks = np.flatnonzero(found)  # from 0
    before = np.arange(len(ranks))
    at = (before + 1) / (ranks + 1)
    earlier = np.where(ranks == 0, 1.0, before / np.maximum(ranks, 1))
    return math.fsum((earlier + at) / 2) / relevant


OWN: dict[str, Callable[[NDArray[np.bool_], int], float]] = {
    "NS": _ukbench_score,
    "NS%": lambda found, relevant: 100.0 * _ukbench_score(found, relevant) / GROUP,
    "AP-trapezoid": _trapezoid_precision,
}
"""Measures that ir-measures does not have."""
_NONE: frozenset[str] = frozenset()
