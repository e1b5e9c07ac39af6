"""Sweeps: how many terms are enough, and what do they lose against the deep feature?

To be read in this order: ``grid`` (which settings), ``posteriors`` (what the model says of each
picture, once), ``filling`` (an index for each setting), ``timing``, ``plan`` and ``points`` (what
was asked and found), ``sweep`` (all of it), ``measured``, ``outcome``, ``report``, ``manifest`` and
``results`` (what is kept).
"""

from imgsearch_es.evaluation.sweeps.measured import Enough
from imgsearch_es.evaluation.sweeps.outcome import Sweep
from imgsearch_es.evaluation.sweeps.points import Point
from imgsearch_es.evaluation.sweeps.sweep import sweep

__all__ = ["Enough", "Point", "Sweep", "sweep"]
