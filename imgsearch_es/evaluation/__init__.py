"""Evaluation: how well do strategies find what a person would call relevant?

To be read in this order, which is that of an experiment: ``judgements`` (what is relevant),
``collection`` (the pictures of an index by name, and what is searched for), ``runs`` (what was
answered), ``measures`` and ``significance``, ``tasks`` (queries with judgements, from labels,
names, files and benchmarks), ``systems`` (who answers, and how), ``tables`` and ``manifest`` (what
is asked, shown, kept and found again, of sweeps, too), ``outcome`` (what was found),
``experiment`` (all of it, and the hardest queries).
``scorers`` compares times and rankings without judgements. ``judging`` makes judgements, ``clicks``
measures what people choose, from a ``click_log``; ``sweeps`` evaluates many settings.
"""

from imgsearch_es.evaluation.collection import Collection, Topic, Topics, read_topics
from imgsearch_es.evaluation.experiment import Hardest, HardQuery, evaluate, hardest
from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.manifest import read_manifest
from imgsearch_es.evaluation.measures import (
    Scores,
    kendall_tau,
    nister_stewenius,
    parse_measures,
    rank_biased_overlap,
    rank_features,
    same_group,
    score,
)
from imgsearch_es.evaluation.outcome import Evaluation
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.scorers import ScorerReport, compare_scorers
from imgsearch_es.evaluation.significance import (
    Comparison,
    Interval,
    compare,
    holm,
    interval,
    paired_tests,
)
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.tables import differences
from imgsearch_es.evaluation.tasks import Task, make_task

__all__ = [
    "Collection", "Comparison", "Evaluation", "HardQuery", "Hardest", "Interval", "Judgements",
    "Run", "ScorerReport", "Scores", "System", "Task", "Topic", "Topics", "compare",
    "compare_scorers", "differences", "evaluate", "hardest", "holm", "interval", "kendall_tau",
    "make_task", "nister_stewenius", "paired_tests", "parse_measures", "parse_systems",
    "rank_biased_overlap", "rank_features", "read_manifest", "read_topics", "same_group", "score",
]  # fmt: skip
