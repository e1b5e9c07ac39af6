"""Sweeps: how many terms are enough, and what do they lose against the deep feature?

To be read in this order: ``posteriors`` (which settings, what the model says of each picture, once,
and an index for each setting), ``outcome`` (what is found), ``sweep`` (``evaluate`` on every
index), ``matrix`` (a sweep of each of several collections).
"""

from imgsearch_es.evaluation.sweeps.matrix import Matrix, Reproduction, measure_row, reproduce
from imgsearch_es.evaluation.sweeps.outcome import Enough, Point, Sweep
from imgsearch_es.evaluation.sweeps.sweep import sweep

__all__ = [
    "Enough", "Matrix", "Point", "Reproduction", "Sweep", "measure_row", "reproduce", "sweep",
]  # fmt: skip
