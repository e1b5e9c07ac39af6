"""From topics to runs: every query is answered by every system, many queries at a time.

A query picture is read from the index, or analyzed, once, however many systems are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from imgsearch_es.errors import EmptyQueryError, QueryError, UnknownWordError
from imgsearch_es.evaluation.runs import Run
from imgsearch_es.evaluation.systems import System
from imgsearch_es.evaluation.topics import Topic
from imgsearch_es.index import ImageIndex
from imgsearch_es.retrieval.feedback import Example, Region
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.search.query_building import QueryBuilder
from imgsearch_es.search.query_pictures import PictureReader, QueryImage
from imgsearch_es.search.request import SearchRequest

_TOGETHER = 64
"""Queries of one request."""
Progress = Callable[[str, int, int], None]
"""Called with the system, the queries that are answered, and all of them."""


class Questions:
    """The queries of an experiment."""

    def __init__(
        self,
        index: ImageIndex,
        topics: Mapping[str, Topic],
        junk: Mapping[str, frozenset[str]],
    ) -> None:
        self._index = index
        self._topics = topics
        self._junk = junk
        reader = _Remembering(index)
        reader.remember([t.image for t in topics.values() if t.image and not t.region])
        self._builder = QueryBuilder(index.store, index.vocabulary, reader)
        self.unknown: dict[str, str] = {}
        """Queries with words that no synset has, and what was said of them: without an answer."""
        self.empty: dict[str, int] = {}
        """Systems, and how many queries have no synset for them: these have no answer either."""

    def ask(self, system: System, depth: int, progress: Progress | None = None) -> Run:
        """The rankings of a system.

        Raises:
            QueryError: a query makes no sense to the system; says which.
        """
        names, rankings = list(self._topics), {}
        for start in range(0, len(names), _TOGETHER):
            asked = [name for name in names[start : start + _TOGETHER] if name not in self.unknown]
            built = {name: query for name in asked if (query := self._query(name, system, depth))}
            answers = self._index.search_many(built.values())
            for name, hits in zip(built, answers, strict=True):
                rankings[name] = [(hit.id, hit.score) for hit in hits]
            if progress is not None:
                progress(system.name, min(start + _TOGETHER, len(names)), len(names))
        return Run(system.name, rankings)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of queries that have no answer."""
        unknown = (f"the query {query} has no answer: {why}" for query, why in self.unknown.items())
        empty = (
            f"{count} queries have no synset, and so no answer by {name}"
            for name, count in self.empty.items()
        )
        return *unknown, *empty

    def _query(self, name: str, system: System, depth: int) -> Query | None:
        topic = self._topics[name]
        try:
            request = SearchRequest(
                topic.image,
                topic.text,
                region=topic.region,
                k=min(depth, system.reach),
                **system.options,
            )
            query = self._builder.build(request)
        except UnknownWordError as error:
            self.unknown[name] = str(error)
            return None
        except EmptyQueryError:
            self.empty[system.name] = self.empty.get(system.name, 0) + 1
            return None
        except QueryError as error:
            raise QueryError(f"{system.name}, query {name}: {error}") from error
        return replace(query, exclude=tuple(sorted(self._junk.get(name, ()))))


class _Remembering(PictureReader):
    """Reads each picture, or region of one, once."""

    def __init__(self, index: ImageIndex) -> None:
        super().__init__(index.store, lambda: index.analyzer)
        self._documents = index.store.get
        self._known: dict[tuple[str, Region | None], Example] = {}

    def remember(self, images: Sequence[str]) -> None:
        """Read pictures together: documents from the index by id, the others by the analyzer.

        Documents are taken as they are stored, whether or not their files have changed since.
        """
        stored = self._documents(list(dict.fromkeys(images)))
        wanted: list[QueryImage] = [stored.get(image, image) for image in images]
        for image, example in zip(images, super().read(wanted), strict=True):
            self._known[image, None] = example

    def read(
        self,
        images: Sequence[QueryImage],
        region: Region | None = None,
        views: Sequence[str] = (),
    ) -> list[Example]:
        """Read query pictures, or remember them."""
        if len(images) != 1 or not isinstance(images[0], str) or views:
            return super().read(images, region, views)
        key = images[0], region
        if key not in self._known:
            (self._known[key],) = super().read(images, region)
        return [self._known[key]]
