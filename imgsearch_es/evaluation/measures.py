"""Measures: how good rankings are, for each query and on average.

Those of information retrieval come from ir-measures by their names there, such as ``nDCG@10`` and
``P(rel=2)@10``; they are trec_eval's figures. Those of image retrieval's own benchmarks are here:

    NS      the UKBench score: how many of the four pictures of an object, the query's own counted,
            are among the first four; 4 at best (Nister and Stewenius, CVPR 2006)
    NS%     the same in percent of the four, as tutorials on triplet networks state it
    AP-trapezoid  the area below the precision-recall curve by trapezoids, as the programs that come
            with Oxford5k, Paris6k, INRIA Holidays and the revisited sets compute AP

A query without an answer counts as zero. Junk is taken out of rankings and judgements first.

``rank_biased_overlap``, ``kendall_tau`` and ``overlap`` compare two rankings without judgements.

``rank_features``, ``same_group`` and ``nister_stewenius`` are for plain NumPy features, without an
index: for experiments and for training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgsearch_es.errors import EvaluationError, needed
from imgsearch_es.evaluation.judgements import HIGHEST, Judgements
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.pictures.files import reason
from imgsearch_es.retrieval.dense import COMPARISONS

PERSISTENCE = 0.9
"""A reader goes on to the next rank with this probability: the first ten ranks weigh 86 %."""
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

    def mean(self, measure: str, queries: Iterable[str] | None = None) -> float:
        """The mean over all queries, or over some: those of a class, say.

        Raises:
            EvaluationError: there is no such query.
        """
        rows: Sequence[int] = range(len(self.queries))
        if queries is not None:
            place = {query: row for row, query in enumerate(self.queries)}
            rows = [place.get(query, -1) for query in queries]
        if not rows or min(rows) < 0:
            raise EvaluationError("a mean is over queries that were measured, at least one")
        return math.fsum(self.values[measure][rows]) / len(rows)

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
    check_measures(judgements, names)
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
    texts = re.split(r",(?![^(]*\))", measures) if isinstance(measures, str) else map(str, measures)
    names = list(dict.fromkeys(_name(text.strip()) for text in texts if text.strip()))
    if not names:
        raise EvaluationError("name at least one measure, such as nDCG@10 or P@10")
    return tuple(names)


def cutoff(measure: str) -> int:
    """How many documents of a ranking a measure looks at; 0 for all."""
    found = _CUTOFF.search(measure)
    return int(found[1]) if found else GROUP * (measure in ("NS", "NS%"))


def check_measures(judgements: Judgements, measures: Iterable[str]) -> None:
    """Refuse what the judgements cannot tell: EvaluationError."""
    if not judgements.queries:
        raise EvaluationError("there is no query to measure")
    for measure in measures:
        found = re.fullmatch(r"Bpref(?:\(rel=(\d+)\))?", measure)
        least = int(found[1] or 1) if found else 0
        if found and not any(  # trec_eval takes what is below 0 as not judged
            0 <= grade < least for q in judgements.queries for grade in judgements.of(q).values()
        ):
            raise EvaluationError(
                f"{measure} counts documents that are judged not relevant, with a grade from 0 on, "
                "and here are none: take AP, for which all that is not judged is not relevant"
            )


def highest(measure: str) -> float:
    """The best that a measure can be; the worst is 0."""
    own = {"NS": float(GROUP), "NS%": 100.0}
    return own.get(measure, math.inf if measure.startswith("Num") else 1.0)


def _name(text: str) -> str:
    if text in OWN:
        return text
    tool = needed("ir_measures", "measures need ir-measures", "evaluation")
    with suppress(NameError, ValueError, SyntaxError, TypeError, KeyError, AssertionError):
        measure = tool.parse_measure(text)
        measure.validate_params()
        numbers = [measure.params.get(name, 1) for name in ("cutoff", "rel")]
        if tool.DefaultPipeline.supports(measure) and 1 <= min(numbers) <= max(numbers) <= HIGHEST:
            return str(measure)
    raise EvaluationError(
        f"there is no measure {text!r}; there are P@10, Rprec, AP, nDCG@10, RR, Bpref, Success@1 "
        f"and others of ir-measures, and {', '.join(OWN)}"
    )


def _by_ir_measures(
    judgements: Judgements, run: Run, names: Sequence[str], queries: Sequence[str]
) -> dict[str, list[float]]:
    tool = needed("ir_measures", "measures need ir-measures", "evaluation")
    measures = {tool.parse_measure(name): name for name in names}
    asked = {str(i): query for i, query in enumerate(queries)}  # gdeval.pl takes numbers alone
    judged = {i: judgements.of(query) for i, query in asked.items()}
    # where all are below 0, trec_eval writes beyond its memory; 0 in their place gives the same
    qrels = {
        i: grades if max(grades.values()) >= 0 else dict.fromkeys(grades, 0)
        for i, grades in judged.items()
        if grades
    }
    rankings = {
        i: {document: float(-place) for place, document in enumerate(kept, start=-len(kept))}
        for i in qrels  # by places: some take what a system scores below 0 for not found
        if (kept := run.falling(asked[i], judgements.junk.get(asked[i], _NONE)))
    }
    columns = {name: [0.0] * len(queries) for name in names}
    try:
        for figure in tool.iter_calc(list(measures), qrels, rankings) if rankings else ():
            columns[measures[figure.measure]][int(figure.query_id)] = float(figure.value)
    except Exception as error:  # each of its programs has its own
        raise EvaluationError(
            f"ir-measures cannot compute {', '.join(names)}: {reason(error)}; leave out the unusual"
        ) from error
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


# -- how alike two rankings are --------------------------------------------------------------------


def rank_biased_overlap(
    first: Sequence[Hashable], second: Sequence[Hashable], p: float = PERSISTENCE
) -> float:
    """Rank-biased overlap, extrapolated: 1 for equal rankings, 0 for disjoint ones.

    The mean agreement that a reader sees who looks at one rank more with probability p, supposing
    that rankings agree beyond their ends as they did at them. Webber, Moffat and Zobel, "A
    similarity measure for indefinite rankings", ACM TOIS 28(4), 2010, equation 32, which is for
    rankings of unequal lengths. Each document comes once in a ranking.
    """
    if not 0 < p < 1:
        raise EvaluationError(f"the persistence p is between 0 and 1, not {p}")
    short, long = sorted((first, second), key=len)
    ranks, others = _ranks(short), _ranks(long)
    if not short:
        return float(not long)
    seen = [max(rank, others[key]) for key, rank in ranks.items() if key in others]
    shared = np.cumsum(np.bincount(seen, minlength=len(long))[: len(long)])
    depths = np.arange(1, len(long) + 1)
    beyond = np.maximum(depths - len(short), 0)  # supposed to go on as the short one did to its end
    agreement = (shared + shared[len(short) - 1] * beyond / len(short)) / depths
    weights = (1 - p) * np.power(p, depths - 1.0)
    return min(1.0, math.fsum(weights * agreement) + float(agreement[-1] * p ** len(long)))


def kendall_tau(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Kendall's tau between the orders of the documents that both rankings hold, from -1 to 1.

    Without ties tau-a and tau-b are the same. Of fewer than two shared documents nothing can be
    said: nan. Each document comes once in a ranking.
    """
    ranks = _ranks(second)
    order = [ranks[document] for document in _ranks(first) if document in ranks]
    if len(order) < 2:
        return math.nan
    stats = needed("scipy.stats", "Kendall's tau needs SciPy", "evaluation")
    tau = float(stats.kendalltau(np.arange(len(order)), order).statistic)
    return round(tau, 12)  # SciPy's roots make 0.9999999999999998 of 1


def overlap(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """The share of documents in common, of the longer ranking; 1 where both are empty."""
    longest = max(len(first), len(second))
    return len(set(first) & set(second)) / longest if longest else 1.0


def _ranks(ranking: Sequence[Hashable]) -> dict[Hashable, int]:
    ranks = {document: rank for rank, document in enumerate(ranking)}
    if len(ranks) < len(ranking):
        raise EvaluationError("a ranking has a document twice")
    return ranks


# -- on plain features -----------------------------------------------------------------------------


def rank_features(
    features: NDArray[np.float32],
    queries: NDArray[np.float32] | None = None,
    *,
    comparison: str = "dense-euclidean",
    depth: int | None = None,
    exclude_self: bool = False,
) -> NDArray[np.intp]:
    """Rank features for each query, exactly, by the formulas of the strategies ``dense-*``.

    Scores are compared as float32 numbers, as an index compares them; equal ones keep the order of
    the features.

    Args:
        features: shape (documents, dimensions).
        queries: shape (queries, dimensions); by default the features themselves.
        comparison: one of ``imgsearch_es.retrieval.dense.COMPARISONS``.
        depth: how many to give for each query; by default all.
        exclude_self: leave out the i-th document for the i-th query.

    Returns:
        Places in ``features``, best first, shape (queries, depth).
    """
    vectors = _matrix(features, "features")
    asked = vectors if queries is None else _matrix(queries, "queries")
    if vectors.shape[1] != asked.shape[1]:
        raise EvaluationError(
            f"queries of {asked.shape[1]} dimensions cannot be compared with features of "
            f"{vectors.shape[1]}"
        )
    if comparison not in COMPARISONS:
        raise EvaluationError(
            f"there is no comparison {comparison!r}; there are {', '.join(COMPARISONS)}"
        )
    if exclude_self and queries is not None:
        raise EvaluationError("exclude_self is for features that are the queries as well")
    compare = COMPARISONS[comparison].scores
    most = len(vectors) - exclude_self
    rows = []
    for i, query in enumerate(asked):
        order = np.argsort(-compare(query, vectors).astype(np.float32), kind="stable")
        if exclude_self:
            order = order[order != i]
        rows.append(order[: most if depth is None else depth])
    return np.stack(rows)


def same_group(
    rankings: NDArray[np.intp], groups: ArrayLike, queries: ArrayLike | None = None
) -> NDArray[np.bool_]:
    """Whether each ranked document is of the query's group.

    Args:
        rankings: places of documents, best first, shape (queries, depth).
        groups: of each document, shape (documents,): numbers or names.
        queries: the group of each query; by default the queries are the documents.
    """
    labels = np.asarray(groups)
    own = labels if queries is None else np.asarray(queries)
    if len(own) != len(rankings):
        raise EvaluationError(f"{len(own)} groups do not go with {len(rankings)} rankings")
    return np.asarray(labels[rankings] == own[:, None])


def nister_stewenius(
    features: NDArray[np.float32], groups: ArrayLike, *, comparison: str = "dense-euclidean"
) -> NDArray[np.float64]:
    """UKBench's score of each picture: how many of its group are among the first four.

    The picture itself is in the ranking and counts; 4 is the best. 25 times the mean is the
    percentage of tutorials on triplet networks.

    Args:
        features: shape (pictures, dimensions).
        groups: the object of each picture, shape (pictures,); four pictures show each.
        comparison: as of ``rank_features``.
    """
    labels = np.asarray(groups)
    if len(labels) != len(features):
        raise EvaluationError(f"{len(labels)} groups do not go with {len(features)} features")
    names, sizes = np.unique(labels, return_counts=True)
    others = sizes != GROUP
    if others.any():
        raise EvaluationError(
            f"UKBench's score is of groups of {GROUP} pictures; {names[others][0]} has "
            f"{sizes[others][0]}"
        )
    ranked = rank_features(features, comparison=comparison, depth=GROUP)
    return np.asarray(same_group(ranked, labels).sum(axis=1), dtype=np.float64)


def _matrix(values: NDArray[np.float32], what: str) -> NDArray[np.float32]:
    matrix = np.asarray(values, dtype=np.float32)
    if matrix.ndim != 2 or not matrix.size:
        raise EvaluationError(f"{what} have the shape (rows, dimensions), not {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise EvaluationError(f"{what} have a value that is not finite")
    return matrix
