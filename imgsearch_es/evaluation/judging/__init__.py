"""Judging: people say what is relevant, blind, and it is kept as qrels.

To be read in this order: ``pooling`` (what is judged), ``qrels_file`` (where it is kept),
``session`` (one after the other, going on later, taking back) and ``judging`` (from an index to a
session). What people see is in ``interfaces``: for notebooks, and for the terminal in ``cli``.
"""

from imgsearch_es.evaluation.judging.judging import Judging, judge
from imgsearch_es.evaluation.judging.pooling import pool_runs
from imgsearch_es.evaluation.judging.qrels_file import QrelsFile
from imgsearch_es.evaluation.judging.session import GRADES, Candidate, Progress, Session

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
