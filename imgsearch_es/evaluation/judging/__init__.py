"""Judging: people say what is relevant, blind, and it is kept as qrels.

``judging`` goes from an index to a pool, ``session`` asks for one judgement after the other. What
people see is in ``interfaces``: for notebooks, and for the terminal in ``cli``.
"""

from imgsearch_es.evaluation.judging.judging import Judging, judge, pool_runs
from imgsearch_es.evaluation.judging.session import GRADES, Candidate, Progress, QrelsFile, Session

__all__ = [
    "GRADES",
    "Candidate",
    "Judging",
    "Progress",
    "QrelsFile",
    "Session",
    "judge",
    "pool_runs",
]
