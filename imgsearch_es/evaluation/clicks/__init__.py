"""Click-through: what people click says which strategy serves them better.

To be read in this order: ``log`` (a local file of what was shown and clicked, off by default),
``interactions`` (the file read again), ``figures`` (measures from it), ``team_draft`` (two rankings
as one, and who won), ``interleaving`` (the same on an index).
"""

from imgsearch_es.evaluation.clicks.figures import ClickFigures, Duel, click_figures, duels
from imgsearch_es.evaluation.clicks.interactions import Interactions, Shown, read_interactions
from imgsearch_es.evaluation.clicks.interleaving import InterleavedHits, interleave
from imgsearch_es.evaluation.clicks.log import InteractionLog, open_log
from imgsearch_es.evaluation.clicks.team_draft import Drafted, credit, sign_test, team_draft

__all__ = [
    "ClickFigures",
    "Drafted",
    "Duel",
    "InteractionLog",
    "Interactions",
    "InterleavedHits",
    "Shown",
    "click_figures",
    "credit",
    "duels",
    "interleave",
    "open_log",
    "read_interactions",
    "sign_test",
    "team_draft",
]
