"""Click-through: what people click says which strategy serves them better.

``log`` is a local file of what was shown and clicked, off by default; ``interleaving`` has measures
from it, and two rankings as one, of which clicks say who won.
"""

from imgsearch_es.evaluation.clicks.interleaving import (
    ClickFigures,
    Drafted,
    Duel,
    InterleavedHits,
    click_figures,
    credit,
    duels,
    interleave,
    sign_test,
    team_draft,
)
from imgsearch_es.evaluation.clicks.log import (
    InteractionLog,
    Interactions,
    Shown,
    open_log,
    read_interactions,
)

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
