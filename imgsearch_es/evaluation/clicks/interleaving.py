"""Two strategies of an index, interleaved: hits that know whose they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from imgsearch_es.errors import QueryError
from imgsearch_es.evaluation.clicks.team_draft import team_draft
from imgsearch_es.evaluation.systems import System, parse_systems
from imgsearch_es.evaluation.topics import Topic
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.hit import Explanation
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import Scored, SearchResult


class InterleavedHits(Hits):
    """Hits of two strategies as one ranking, by team draft.

    Each hit has the score that its own strategy gives it, so scores do not fall from hit to hit.

    Attributes:
        teams: of each hit the name of the strategy whose it is, or None where a click says nothing.
        sources: the hits of both strategies.
    """

    def __init__(
        self, sources: tuple[Hits, Hits], names: tuple[str, str], seed: int | None
    ) -> None:
        first, second = sources
        k = max(first.query.k, 1)
        drafted = team_draft([h.id for h in first], [h.id for h in second], k, seed=seed)
        self.sources = sources
        self.teams = tuple(None if d.team is None else names[d.team] for d in drafted)
        self._places = tuple(_place(sources, d.document, d.team) for d in drafted)
        chosen = [sources[source][place] for source, place in self._places]
        result = SearchResult(
            hits=tuple(Scored(hit.document, hit.score, hit.parts) for hit in chosen),
            total=max(first.total, second.total),
            total_is_exact=False,
            terms=(),
            average_length=0.0,
            strategy=f"interleaved {names[0]} and {names[1]}",
            exact=False,
            means=f"team draft of {first.means} and {second.means}",
            took_ms=first.took_ms + second.took_ms,
        )
        super().__init__(first.query, result, None)

    def explain(self, i: int = 0) -> Explanation:
        """The summands of the i-th hit's score, by its own strategy."""
        (hit,) = self._judged(i)
        source, place = self._places[hit.rank - 1]
        return replace(self.sources[source].explain(place), hit=hit)

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

    Raises:
        QueryError: there is no such strategy, both are the same, or one cannot answer the query.
    """
    one, other = parse_systems((first, second))
    topic = Topic(text=query) if isinstance(query, str) else query
    built = [_query(index, topic, system, k, options) for system in (one, other)]
    a, b = index.search_many(built)
    return InterleavedHits((a, b), (one.name, other.name), seed)


def _query(
    index: ImageIndex, topic: Topic, system: System, k: int, options: dict[str, Any]
) -> Query:
    if clash := sorted(options.keys() & {*system.options, "offset", "image", "text", "region"}):
        raise QueryError(f"interleaving sets {clash[0]} itself: leave it out")
    return index.query(
        topic.image, topic.text, region=topic.region, k=k, **system.options, **options
    )


def _place(sources: tuple[Hits, Hits], document: str, team: int | None) -> tuple[int, int]:
    """Which of the two hits a document is taken from, and where it is there."""
    for source in (0, 1) if team is None else (team,):
        for place, hit in enumerate(sources[source]):
            if hit.id == document:
                return source, place
    raise QueryError(f"{document} is in neither ranking")
