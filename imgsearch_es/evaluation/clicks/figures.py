"""Measures from clicks, per strategy and over all (Radlinski, Kurup and Joachims, CIKM 2008).

    CTR@k       the share of the results shown at ranks 1 to k that were clicked
    clicked     the share of searches with a click; 1 minus it is abandonment
    MRR         the mean over searches of 1 / rank of the best-ranked click; 0 without a click

A click says that a person found a picture worth a look, and what is shown first is looked at first.
So these figures compare strategies fairly only where the same people ask the same things of each by
chance; interleaving (``team_draft``) is made for it, and needs far fewer searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.evaluation.clicks.interactions import Shown
from imgsearch_es.evaluation.clicks.team_draft import credit, sign_test

CUTOFFS = (1, 5, 10)
OVERALL = "all"


@dataclass(frozen=True, slots=True)
class ClickFigures:
    """What was clicked of a strategy's answers.

    Attributes:
        strategy: its name, or "all".
        searches: how many there were; those that found nothing count, too.
        clicks: pictures that were clicked, each once a search.
        clicked: searches with a click, as a share; 0 where there is no search.
        reciprocal_rank: the mean reciprocal rank of the best-ranked click.
        through: CTR@k by k; None where nothing was shown.
    """

    strategy: str
    searches: int
    clicks: int
    clicked: float
    reciprocal_rank: float
    through: dict[int, float | None] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        names = ("strategy", "searches", "clicks", "clicked")
        through = {f"CTR@{k}": value for k, value in self.through.items()}
        return {n: getattr(self, n) for n in names} | {"MRR": self.reciprocal_rank} | through


@dataclass(frozen=True, slots=True)
class Duel:
    """Two strategies that were interleaved.

    Attributes:
        first: the name of one.
        second: the name of the other.
        wins: searches in which more of the first's pictures were clicked.
        losses: searches in which more of the second's were.
        ties: searches in which as many were clicked, also none.
        p: of the two-sided sign test over wins and losses; 1 without any.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    p: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def click_figures(
    searches: Iterable[Shown], cutoffs: Sequence[int] = CUTOFFS
) -> list[ClickFigures]:
    """The figures of all searches, then of each strategy by name."""
    if any(k < 1 for k in cutoffs):
        raise ConfigurationError("the cutoffs of CTR@k are at least 1")
    listed = list(searches)
    by_strategy: dict[str, list[Shown]] = {}
    for shown in listed:
        by_strategy.setdefault(shown.strategy, []).append(shown)
    return [
        _figures(OVERALL, listed, cutoffs),
        *(_figures(name, by_strategy[name], cutoffs) for name in sorted(by_strategy)),
    ]


def duels(searches: Iterable[Shown]) -> list[Duel]:
    """Who won where two strategies were interleaved, by names."""
    outcomes: dict[tuple[str, str], list[int]] = {}
    for shown in searches:
        names = sorted(set(shown.teams.values()))
        if len(names) != 2:  # not interleaved, or one of the two has nothing
            continue
        clicked = [shown.teams.get(document) for document in shown.clicks]
        outcomes.setdefault((names[0], names[1]), []).append(credit(clicked, names[0], names[1]))
    found = []
    for (first, second), values in sorted(outcomes.items()):
        wins, losses = values.count(1), values.count(-1)
        ties = len(values) - wins - losses
        found.append(Duel(first, second, wins, losses, ties, sign_test(wins, losses)))
    return found


def _figures(name: str, searches: Sequence[Shown], cutoffs: Sequence[int]) -> ClickFigures:
    best = [min((s.ranks[d] for d in s.clicks), default=None) for s in searches]
    count = max(len(searches), 1)
    return ClickFigures(
        name,
        len(searches),
        sum(len(shown.clicks) for shown in searches),
        sum(rank is not None for rank in best) / count,
        sum(1 / rank for rank in best if rank is not None) / count,
        {k: _through(searches, k) for k in cutoffs},
    )


def _through(searches: Sequence[Shown], k: int) -> float | None:
    shown = sum(sum(rank <= k for rank in each.ranks.values()) for each in searches)
    clicked = sum(sum(each.ranks[d] <= k for d in each.clicks) for each in searches)
    return clicked / shown if shown else None
