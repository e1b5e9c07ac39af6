"""What clicks say of strategies: team draft interleaving, and measures from a log (``click_log``).

As captains pick teams: in each round both rankings, in an order that a coin decides, add their best
document that is not there yet. A click is credited to the ranking that added the document. A person
who clicks at random credits both alike, whatever ranks are looked at. (Radlinski, Kurup and
Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008.)

Measures, per strategy and over all, are CTR@k, the share of searches with a click, and MRR
(docs/judging.md). What is shown first is looked at first, so they compare strategies fairly only
where chance decides who gets which.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from imgsearch_es.errors import ConfigurationError, QueryError, needed
from imgsearch_es.evaluation.click_log import InteractionLog as InteractionLog
from imgsearch_es.evaluation.click_log import Interactions as Interactions
from imgsearch_es.evaluation.click_log import Shown as Shown
from imgsearch_es.evaluation.click_log import open_log as open_log
from imgsearch_es.evaluation.click_log import read_interactions as read_interactions
from imgsearch_es.evaluation.collection import Topic
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.index import ImageIndex
from imgsearch_es.search.hit import Explanation, Hit
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Scored, SearchResult

CUTOFFS = (1, 5, 10)
OVERALL = "all"
_BOTH = re.compile(r"interleaved (\S+) and (\S+)")


@dataclass(frozen=True, slots=True)
class Drafted:
    """A document of an interleaved ranking, and which ranking added it: 0 or 1.

    ``team`` is None where the other ranking has nothing to set against it: a click says nothing.
    """

    document: str
    team: int | None


def team_draft(
    first: Sequence[str], second: Sequence[str], k: int, *, seed: int | None = None
) -> list[Drafted]:
    """Interleave two rankings; each document comes once."""
    if k < 1:
        raise QueryError(f"k is at least 1, not {k}")
    coin = random.Random(seed)  # noqa: S311
    left = [list(dict.fromkeys(first)), list(dict.fromkeys(second))]
    found: list[Drafted] = []
    while len(found) < k and any(left):
        order = (0, 1) if coin.random() < 0.5 else (1, 0)
        is_contest = _is_contest(left[0], left[1], room=k - len(found))
        for team in order:
            if left[team] and len(found) < k:
                document = left[team][0]
                found.append(Drafted(document, team if is_contest else None))
                left = [[d for d in ranking if d != document] for ranking in left]
    return found


def _is_contest(first: Sequence[str], second: Sequence[str], room: int) -> bool:
    """Whether both can pick in this round, whoever begins; else no click of it is credited.

    With room for one document only the coin decides who picks, which is as fair.
    """
    if not first or not second:
        return False
    return room == 1 or first[0] != second[0] or (len(first) > 1 and len(second) > 1)


def credit(clicked: Iterable[str | None], first: str, second: str) -> int:
    """Who won a search: 1 the first, -1 the second, 0 neither."""
    teams = list(clicked)
    ours, theirs = teams.count(first), teams.count(second)
    return (ours > theirs) - (ours < theirs)


def sign_test(wins: int, losses: int) -> float:
    """The p-value of the two-sided sign test; ties say nothing and are left out."""
    if not wins + losses:
        return 1.0
    stats = needed("scipy.stats", "the sign test needs SciPy", "evaluation")
    return float(stats.binomtest(wins, wins + losses).pvalue)


# -- on an index -----------------------------------------------------------------------------------


class InterleavedHits(Hits):
    """Hits of two strategies as one ranking; the scores, each by its own strategy, need not fall.

    ``sources`` are the hits of both strategies.
    """

    def __init__(
        self, sources: tuple[Hits, Hits], names: tuple[str, str], seed: int | None
    ) -> None:
        first, second = sources
        k = max(first.query.k, 1)
        drafted = team_draft([h.id for h in first], [h.id for h in second], k, seed=seed)
        self.sources = sources
        self._teams = {d.document: None if d.team is None else names[d.team] for d in drafted}
        places = [{hit.id: place for place, hit in enumerate(hits)} for hits in sources]
        self._places: list[tuple[int, int]] = []
        for each in drafted:
            source = each.team if each.team is not None else int(each.document not in places[0])
            self._places.append((source, places[source][each.document]))
        chosen = [sources[source][place] for source, place in self._places]
        result = SearchResult(
            hits=tuple(Scored(hit.document, hit.score, hit.parts) for hit in chosen),
            total=max(first.ranked, second.ranked),
            total_is_exact=False,
            strategy=f"interleaved {names[0]} and {names[1]}",  # as _BOTH reads it
            exact=False,
            means=f"team draft of {first.means} and {second.means}",
            took_ms=first.took_ms + second.took_ms,
        )
        super().__init__(first.query, result, None)
        self.total = max(first.total, second.total)

    @property
    def teams(self) -> tuple[str | None, ...]:
        """Of each hit the name of the strategy whose it is, or None where a click says nothing."""
        return tuple(self._teams[hit.id] for hit in self)

    def _explained(self, hits: Sequence[Hit]) -> list[Explanation]:
        """The summands of hits' scores, each by its own strategy."""
        places = [self._places[hit.rank - 1] for hit in hits]
        found = [self.sources[source].explain(place) for source, place in places]
        return [replace(one, hit=hit) for one, hit in zip(found, hits, strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        shown = super().to_dict()
        hits = [{**hit, "team": t} for hit, t in zip(shown["hits"], self.teams, strict=True)]
        return {**shown, "hits": hits}

    def refine(self, *arguments: Any, **options: Any) -> NoReturn:
        """Not of interleaved hits: they have two queries."""
        raise QueryError("interleaved hits have two queries: refine one of hits.sources")


def interleave(
    index: ImageIndex,
    query: Topic | str,
    first: str | System,
    second: str | System,
    *,
    k: int = 10,
    seed: int | None = None,
    **options: Any,
) -> InterleavedHits:
    """Search by two strategies and interleave what they find, each picture once.

    Args:
        index: to search.
        query: words; or a Topic with a picture, words or both.
        first: a strategy or a fusion by its short name.
        second: another one.
        k: how many hits.
        seed: of the coin; by default every search throws its own, which is what fairness takes.
        **options: more arguments of ``ImageIndex.search``, such as ``where``.
    """
    systems = parse_systems((first, second))
    topic = Topic(text=query) if isinstance(query, str) else query
    built = []
    for system in systems:
        if clash := sorted(options.keys() & {*system.options, "offset", "image", "text", "region"}):
            raise QueryError(f"interleaving sets {clash[0]} itself: leave it out")
        more = {**system.options, **options}
        built.append(
            index.query(image=topic.image, text=topic.text, region=topic.region, k=k, **more)
        )
    a, b = index.search_many(built)
    return InterleavedHits((a, b), (systems[0].name, systems[1].name), seed)


# -- measures --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClickFigures:
    """What was clicked of a strategy's answers, or of "all".

    Attributes:
        clicks: pictures that were clicked, each once a search.
        clicked: searches with a click, as a share of all, also of those that found nothing.
        reciprocal_rank: the mean over searches of 1 / rank of the best-ranked click.
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
    """Two strategies that were interleaved, and the p-value of the sign test.

    The first wins a search in which more of its pictures were clicked.
    """

    first: str
    second: str
    wins: int
    losses: int
    ties: int
    p: float


def click_figures(
    searches: Iterable[Shown], cutoffs: Sequence[int] = CUTOFFS
) -> list[ClickFigures]:
    """The figures of all searches, then of each strategy by name."""
    if any(k < 1 for k in cutoffs):
        raise ConfigurationError("the cutoffs of CTR@k are at least 1")
    listed, figures = list(searches), []
    names = sorted({shown.strategy for shown in listed})
    parts = [(name, [shown for shown in listed if shown.strategy == name]) for name in names]
    for name, some in [(OVERALL, listed), *parts]:
        clicks = [[each.ranks[document] for document in each.clicks] for each in some]
        best = [min(ranks) for ranks in clicks if ranks]
        count = max(len(some), 1)
        through: dict[int, float | None] = {}
        for k in cutoffs:
            shown = sum(rank <= k for each in some for rank in each.ranks.values())
            clicked = sum(rank <= k for ranks in clicks for rank in ranks)
            through[k] = clicked / shown if shown else None
        found = len(some), sum(map(len, clicks)), len(best) / count
        mean = math.fsum(1 / rank for rank in best) / count
        figures.append(ClickFigures(name, *found, mean, through))
    return figures


def duels(searches: Iterable[Shown]) -> list[Duel]:
    """Who won where two strategies were interleaved, by names."""
    outcomes: dict[tuple[str, str], list[int]] = {}
    for shown in searches:
        names = sorted(set(shown.teams.values()))
        if len(names) == 1 and (both := _BOTH.fullmatch(shown.strategy)):  # of one hit
            names = sorted(both.groups())
        if len(names) != 2:  # not interleaved, or one of the two has nothing
            continue
        clicked = [shown.teams.get(document) for document in shown.clicks]
        outcomes.setdefault((names[0], names[1]), []).append(credit(clicked, names[0], names[1]))
    found = []
    for (first, second), values in sorted(outcomes.items()):
        wins, losses, ties = (values.count(outcome) for outcome in (1, -1, 0))
        found.append(Duel(first, second, wins, losses, ties, sign_test(wins, losses)))
    return found
