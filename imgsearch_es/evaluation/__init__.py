"""Evaluation: how well do strategies find what a person would call relevant?

To be read in this order, which is that of an experiment: ``judgements`` (what is relevant),
``runs`` (what systems answered), ``measures``, ``rankings`` (the same on plain NumPy features).
"""

from imgsearch_es.evaluation.judgements import Judgements
from imgsearch_es.evaluation.measures import Scores, parse_measures, score
from imgsearch_es.evaluation.rankings import nister_stewenius, rank_features, same_group
from imgsearch_es.evaluation.runs import Run

__all__ = [
    "Judgements",
    "Run",
    "Scores",
    "nister_stewenius",
    "parse_measures",
    "rank_features",
    "same_group",
    "score",
]
