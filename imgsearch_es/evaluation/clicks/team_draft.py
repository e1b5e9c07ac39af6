"""Team draft interleaving: two rankings become one, and clicks say which of them was better.

As captains pick teams: in each round both rankings, in an order that a coin decides, add their best
document that is not there yet. A click is credited to the ranking that added the document. A person
who clicks at random credits both alike, whatever ranks are looked at. (Radlinski, Kurup and
Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008.)
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from imgsearch_es.errors import QueryError
from imgsearch_es.evaluation.significance import scipy_stats

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Drafted(Generic[T]):
    """A document of an interleaved ranking.

    Attributes:
        document: which.
        team: 0 if the first ranking added it, 1 if the second did; None where the other ranking
            has nothing to set against it, so that a click says nothing.
    """

    document: T
    team: int | None


def team_draft(
    first: Sequence[T], second: Sequence[T], k: int, *, seed: int | None = None
) -> list[Drafted[T]]:
    """Interleave two rankings; each document comes once."""
    if k < 1:
        raise QueryError(f"k is at least 1, not {k}")
    coin = random.Random(seed)  # noqa: S311
    left = [list(dict.fromkeys(first)), list(dict.fromkeys(second))]
    found: list[Drafted[T]] = []
    while len(found) < k and any(left):
        order = (0, 1) if coin.random() < 0.5 else (1, 0)
        is_contest = _is_contest(left[0], left[1], room=k - len(found))
        for team in order:
            if left[team] and len(found) < k:
                document = left[team][0]
                found.append(Drafted(document, team if is_contest else None))
                left = [[d for d in ranking if d != document] for ranking in left]
    return found


def credit(clicked: Iterable[str | None], first: str, second: str) -> int:
    """Who won a search: 1 the first, -1 the second, 0 neither."""
    teams = list(clicked)
    ours, theirs = teams.count(first), teams.count(second)
    return (ours > theirs) - (ours < theirs)


def sign_test(wins: int, losses: int) -> float:
    """The p-value of the two-sided sign test: would a fair coin give so uneven a result?

    Ties say nothing and are left out. Without wins and losses it is 1.
    """
    if not wins + losses:
        return 1.0
    return float(scipy_stats("the sign test").binomtest(wins, wins + losses).pvalue)


def _is_contest(first: Sequence[T], second: Sequence[T], room: int) -> bool:
    """Whether both can pick in this round, whoever begins; else no click of it is credited.

    With room for one document only the coin decides who picks, which is as fair.
    """
    if not first or not second:
        return False
    same = first[0] == second[0]
    return room == 1 or not same or (len(first) > 1 and len(second) > 1)
