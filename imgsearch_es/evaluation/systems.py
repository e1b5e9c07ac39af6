"""Systems: ways to answer that are compared, each with a short name that says all of it.

auto                                one of the strategies
bm25:k1=1.5:b=0.3                   with parameters
dense-cosine:candidates=200         an approximate answer
sqrt=1+dense-cosine=2               a fusion: a weighted sum of scores
auto+dense-cosine:rrf               reciprocal ranks; also :window=200 and :rank_constant=30

``Questions`` asks every system every query, many at a time. A query picture is read from the index,
or analyzed, once, however many systems are compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imgsearch_es.errors import EmptyQueryError, QueryError, UnknownWordError
from imgsearch_es.evaluation.collection import Collection, Topic, Topics, to_topics
from imgsearch_es.evaluation.manifest import about, measured
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.index import ImageIndex
from imgsearch_es.pictures.files import picture_id, to_uri
from imgsearch_es.retrieval.feedback import Example, Region
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import (
    DENSE,
    MAX_RESULTS,
    STRATEGIES,
    Fusion,
    StrategyName,
    strategy_of,
)
from imgsearch_es.search.query_building import QueryBuilder
from imgsearch_es.search.query_pictures import PictureReader, QueryImage
from imgsearch_es.search.request import SearchRequest
from imgsearch_es.stores.base import known_settings

_TOGETHER = 64
"""Queries of one request."""
Progress = Callable[[str, int, int], None]
"""Called with what is done (the system at work), how much of it is done, and all of it."""


@dataclass(frozen=True, slots=True)
class System:
    """A way to answer a query, by the options of ``ImageIndex.query``.

    ``name`` is as it was written, without spaces: the tag of TREC runs, and the name in tables.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    has_window: bool = True
    """Whether the window of its reciprocal ranks was asked for; else it follows the depth."""

    def to_depth(self, depth: int) -> System:
        """The system where so many are to be ranked."""
        fusion = self.fusion
        if fusion is None or self.has_window or fusion.window >= depth:
            return self
        return replace(self, options={**self.options, "fuse": replace(fusion, window=depth)})

    @property
    def fusion(self) -> Fusion | None:
        """How it fuses, if it does."""
        return self.options.get("fuse")

    @property
    def parts(self) -> tuple[str, ...]:
        """The strategies that make up its scores: one, or those that it fuses."""
        return tuple(self.fusion.weights if self.fusion else [self.options.get("strategy", "auto")])

    @property
    def uses_features(self) -> bool:
        """Whether it compares deep features, or visual words made from them."""
        return any(part in DENSE for part in self.parts)

    @property
    def uses_vectors(self) -> bool:
        """Whether it compares deep features themselves."""
        return any(part in DENSE and not STRATEGIES[part].by_words for part in self.parts)

    @property
    def uses_visual_words(self) -> bool:
        """Whether it compares visual words."""
        return any(part in DENSE and STRATEGIES[part].by_words for part in self.parts)

    @property
    def uses_synsets(self) -> bool:
        """Whether it compares synsets."""
        return any(part not in DENSE for part in self.parts)

    def scores_as(self, other: System) -> bool:
        """Whether both compute the same formula, so that their scores can be compared."""
        mine, theirs = (
            way.fusion or (STRATEGIES[way.parts[0]].scores, way.options.get("parameters", {}))
            for way in (self, other)
        )
        return mine == theirs

    @property
    def reach(self) -> int:
        """How many documents it can rank: of reciprocal ranks the window, which it fuses."""
        return self.fusion.window if self.fusion and self.fusion.is_ranked else MAX_RESULTS

    @classmethod
    def parse(cls, text: str) -> System:
        """Read the short name."""
        name = "".join(text.split())
        parts, *options = name.split(":")
        weights: dict[str, float] = {}
        for part in parts.split("+"):
            key, sign, weight = part.partition("=")
            if key in weights:
                raise QueryError(f"{name} names a part twice")
            weights[key] = _number(weight, name) if sign else 1.0
        is_ranked = "rrf" in options
        numbers: dict[str, float] = {}
        for option in options:
            key, sign, value = option.partition("=")
            if key in numbers:
                raise QueryError(f"{name} says {key} twice")
            if sign and key:
                numbers[key] = _number(value, name)
            elif option != "rrf":
                raise QueryError(f"{name}: {option!r} is no option such as k1=1.5")
        if len(weights) > 1 or "=" in parts or is_ranked:
            if unknown := numbers.keys() - ({"window", "rank_constant"} if is_ranked else set()):
                raise QueryError(
                    f"{name}: a fusion has no option {min(unknown)}; it has rrf, and with it "
                    "window and rank_constant"
                )
            whole = {key: int(value) for key, value in numbers.items()}
            fusion = Fusion(weights, "rrf" if is_ranked else "sum", **whole)
            return cls(name, {"fuse": fusion}, "window" in whole)
        found: dict[str, Any] = {"strategy": strategy_of(parts).name}
        if (candidates := numbers.pop("candidates", None)) is not None:
            found |= {"approximate": True, "candidates": int(candidates)}
        strategy_of(parts).formula.with_defaults(numbers)
        return cls(name, found | ({"parameters": numbers} if numbers else {}))


Systems = StrategyName | str | Iterable[StrategyName | str | System]
"""Systems by short names, in one text with commas between them or in several."""


def parse_systems(texts: Systems) -> tuple[System, ...]:
    """Systems by their short names, or one text with commas between them; each once."""
    asked = texts.split(",") if isinstance(texts, str) else list(texts)
    systems = [
        item if isinstance(item, System) else System.parse(item)
        for item in asked
        if isinstance(item, System) or item.strip()
    ]
    names = [system.name for system in systems]
    if not names or len(set(names)) < len(names):
        raise QueryError(
            f"name the strategies to compare, each once, not {', '.join(names) or 'none'}; "
            f"there are {', '.join(STRATEGIES)}"
        )
    return tuple(systems)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise QueryError(f"{name}: {text!r} is no number") from error


def topics_in(collection: Collection, queries: Topics) -> dict[str, Topic]:
    """The topics of queries, where a picture of the collection is named by its id."""
    topics, known = to_topics(queries, lambda: collection), collection.by_id
    keys = {
        query: picture_id(to_uri(topic.image)) for query, topic in topics.items() if topic.image
    }
    return {
        query: replace(topic, image=keys[query]) if keys.get(query) in known else topic
        for query, topic in topics.items()
    }


def run_of(index: ImageIndex, queries: Topics, strategy: str, *, k: int, exclude_self: bool) -> Run:
    """The rankings of a system; see ``ImageIndex.run``."""
    if not 1 <= k <= MAX_RESULTS:
        raise QueryError(f"k is 1 to {MAX_RESULTS}, not {k}")
    (system,) = parse_systems([strategy])
    system = replace(system, options={**system.options, "exclude_self": exclude_self})
    questions = Questions(index, to_topics(queries, lambda: Collection.of(index)), {})
    resources = measured()
    (run,) = questions.ask_all([system], k).values()
    analyzer = known_settings(index.store).analyzer
    run = replace(run, metadata=about(run.name, analyzer, resources()))
    for note in questions.notes:
        warnings.warn(note, stacklevel=3)
    return run


class Questions:
    """The queries of an experiment: topics, and the documents to leave out of each answer."""

    def __init__(
        self, index: ImageIndex, topics: Mapping[str, Topic], junk: Mapping[str, frozenset[str]]
    ) -> None:
        self._index, self._topics, self._junk = index, topics, junk
        wholes = [t.image for t in topics.values() if t.image and t.region is None]
        reader = _Remembering(index, wholes)
        self._builder = QueryBuilder(index.store, index.vocabulary, reader)
        self._unknown: dict[str, str] = {}  # queries with words that no synset has, and why
        self._empty: dict[str, int] = {}  # systems, and how many queries have no synset for them
        self._refused: dict[str, dict[str, QueryError]] = {}  # by system, queries it cannot answer

    def ask_all(
        self, systems: Iterable[System], depth: int, progress: Progress | None = None
    ) -> dict[str, Run]:
        """The rankings of systems by name, without those that can answer no query at all.

        Raises:
            QueryError: none of them can.
        """
        runs = {
            system.name: self._ask(system.to_depth(depth), depth, progress) for system in systems
        }
        answered = {name: run for name, run in runs.items() if not self._is_left_out(name)}
        if runs and not answered:
            name = next(iter(runs))
            query, error = next(iter(self._refused[name].items()))
            raise QueryError(f"{name}, query {query}: {error}") from error
        return answered

    def _is_left_out(self, system: str) -> bool:
        """Whether it refuses all queries whose words are known, were others asked before or not."""
        refused = self._refused.get(system, {})
        return bool(refused) and self._topics.keys() <= refused.keys() | self._unknown.keys()

    def _ask(self, system: System, depth: int, progress: Progress | None) -> Run:
        """The rankings of a system; a query that makes no sense to it has none."""
        names, rankings = list(self._topics), {}
        for start in range(0, len(names), _TOGETHER):
            asked = [name for name in names[start : start + _TOGETHER] if name not in self._unknown]
            built = {name: query for name in asked if (query := self._query(name, system, depth))}
            answers = self._index.search_many(built.values())
            for name, hits in zip(built, answers, strict=True):
                rankings[name] = hits.ranking
            if progress is not None:
                progress(system.name, min(start + _TOGETHER, len(names)), len(names))
        return Run(system.name, rankings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of queries that have no answer."""
        notes = [f"the query {name} has no answer: {why}" for name, why in self._unknown.items()]
        for name, count in self._empty.items():
            notes.append(f"{count} queries have no synset, and so no answer by {name}")
        for name, refused in self._refused.items():
            query, why = next(iter(refused.items()))
            what = f"has no answer to {len(refused)} queries"
            if self._is_left_out(name):
                what = "is left out: it can answer no query"
            notes.append(f"{name} {what}, such as {query}: {why}")
        return tuple(notes)

    def _query(self, name: str, system: System, depth: int) -> Query | None:
        topic = self._topics[name]
        try:
            k = min(depth, system.reach)
            region = None if topic.region is None else tuple(topic.region)
            options = {"region": region, "k": k, **system.options}
            query = self._builder.build(SearchRequest(topic.image, topic.text, **options))
        except UnknownWordError as error:
            self._unknown[name] = str(error)
            return None
        except EmptyQueryError:
            self._empty[system.name] = self._empty.get(system.name, 0) + 1
            return None
        except QueryError as error:
            self._refused.setdefault(system.name, {})[name] = error
            return None
        return replace(query, exclude=tuple(sorted({*query.exclude, *self._junk.get(name, ())})))


class _Remembering(PictureReader):
    """Reads each picture, or region of one, once; all ``wholes`` together."""

    def __init__(self, index: ImageIndex, wholes: Sequence[str]) -> None:
        super().__init__(index.store, lambda: index.analyzer)
        stored = index.store.get(list(dict.fromkeys(wholes)))
        wanted: list[QueryImage] = [stored.get(image, image) for image in wholes]
        keys: list[tuple[str, Region | None]] = [(image, None) for image in wholes]
        self._known = dict(zip(keys, super().read(wanted), strict=True))

    def read(
        self, images: Sequence[QueryImage], region: Region | None = None, views: Sequence[str] = ()
    ) -> list[Example]:
        """Read query pictures, or remember them."""
        if len(images) != 1 or not isinstance(images[0], str) or views:
            return super().read(images, region, views)
        key = images[0], region
        if key not in self._known:
            (self._known[key],) = super().read(images, region)
        return [self._known[key]]
