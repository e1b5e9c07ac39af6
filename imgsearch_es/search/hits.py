"""Hits: a ranked list of pictures that shows, explains and exports itself."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import ImgsearchError, QueryError
from imgsearch_es.pictures.files import check_page, saving
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import FACETS, Facets
from imgsearch_es.retrieval.feedback import ROCCHIO, Rocchio, features
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.strategies import strategy_of
from imgsearch_es.search.hit import Explanation, Hit, explain
from imgsearch_es.search.leaving import Leaving
from imgsearch_es.search.query_building import count_facets
from imgsearch_es.search.reranking import reciprocal_order
from imgsearch_es.stores.base import SearchResult, Store, known_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Judged: TypeAlias = int | Hit | Sequence[int | Hit]
"""One or several of some hits: they, or their numbers from 0."""


class Hits(Leaving):
    """The answer to a query, best first; a slice of it is the same with fewer hits.

    Pickled hits leave their index behind: search again to refine them.

    >>> hits = index.search("motorcycle", k=3)
    >>> len(hits), hits.total, hits[0].filename
    (3, 8, 'motorcycle_left-cropped.jpg')

    Attributes:
        query: what was searched for.
        total: how many pictures show what was asked for: of words alone more than a trace of one
            (docs/query-language.md), counted when first looked at; else all that are ranked.
        ranked: how many are ranked: those of ``total``, then, mostly, those that show a trace.
        total_is_exact, ranked_is_exact: False when Elasticsearch stopped counting there.
        strategy: the way that gave the answer.
        exact: True when these are certainly the best, in order; ``means`` by which that is known.
        took_ms: milliseconds that the store worked.
        hints: what a person should know of the words, such as those left out.
    """

    def __init__(
        self,
        query: Query,
        result: SearchResult,
        store: Store | None = None,
        *,
        first: int | None = None,
        name: Callable[[str], str] = str,
    ) -> None:
        self.query = query
        self._store, self._name = store, name
        self.ranked, self.ranked_is_exact = result.total, result.total_is_exact
        self.strategy = result.strategy
        self.exact, self.means = result.exact, result.means
        self.took_ms = result.took_ms
        self.hints = query.hints
        self._result, self._first = result, first or query.offset + 1
        settings = None if store is None else store.settings()
        self._vocabulary = None if settings is None else settings.vocabulary

    @cached_property
    def _hits(self) -> tuple[Hit, ...]:
        """Made when they are first looked at; until then their documents may not be read."""
        return tuple(
            Hit(rank, found.score, found.document, found.parts, self._vocabulary)
            for rank, found in enumerate(self._result.hits, start=self._first)
        )

    @cached_property
    def total(self) -> int:
        """How many pictures show what was asked for."""
        return self._store.count(self.query) if self._store and self._is_counted else self.ranked

    @property
    def total_is_exact(self) -> bool:
        """Whether ``total`` is no lower bound."""
        return self._is_counted or self.ranked_is_exact

    @property
    def _is_counted(self) -> bool:
        return self.query.counts is not None and self.query.sort is None

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Ids and scores alone, best first: for experiments, as no document is read for it."""
        if "_hits" in self.__dict__:
            return [(hit.id, hit.score) for hit in self._hits]
        return self._result.ranking

    def __copy__(self) -> Hits:
        answer = object.__new__(type(self))
        answer.__dict__.update(self.__dict__)
        return answer

    def __deepcopy__(self, memo: dict[int, Any]) -> Hits:
        answer = copy.copy(self)
        answer.__dict__.update(copy.deepcopy(self.__getstate__(), memo))
        answer._store, answer._name = self._store, self._name
        return answer

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: all but the index, whose password would be in the file."""
        given = {
            "_hits": self._hits,
            "total": self.total,
            "_result": replace(self._result, hits=()),
        }
        return {**self.__dict__, **given, "_store": None, "_name": str}

    @overload
    def __getitem__(self, i: int) -> Hit: ...
    @overload
    def __getitem__(self, i: slice) -> Hits: ...
    def __getitem__(self, i: int | slice) -> Hit | Hits:
        if not isinstance(i, slice):
            return self._hits[i]
        some = copy.copy(self)
        some._hits = self._hits[i]
        return some

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @property
    def uris(self) -> list[str]:
        """The URIs alone; of local files their paths."""
        return [hit.uri for hit in self._hits]

    @property
    def distances(self) -> list[float]:
        """The distances of the hits, nearest first, for the strategies dense-*.

        "dense-cosine" gives the cosine distance, 1 minus the cosine.
        """
        return [strategy_of(self.query.strategy).to_distance(hit.score) for hit in self._hits]

    def refine(
        self,
        like: Judged = (),
        dislike: Judged = (),
        *,
        k: int | None = None,
        unseen: bool = False,
        rocchio: Rocchio = ROCCHIO,
    ) -> Hits:
        """Search again, closer to the liked hits and further from the disliked ones (Rocchio).

        The query that gave these hits is moved, so each round builds on those before; filters
        and strategy stay, the offset is 0 again.

        >>> [hit.filename for hit in hits.refine(like=0, k=2, unseen=True)]
        ['motorcycle_left-mirrored.jpg', 'motorcycle_right.jpg']

        Args:
            like: which of these hits are good: their numbers from 0, as in ``hits[0]``, or hits.
            dislike: which are not.
            k: how many hits; by default as many as before.
            unseen: leave out the pictures judged in this round, in this and later rounds.
            rocchio: the weights of query, liked and disliked pictures.

        Raises:
            QueryError: these hits or their index cannot tell, or nothing is left of the query.
        """
        store = self._index()
        if self.query.fusion is not None:
            raise QueryError(
                "a fusion has several vectors to move: search again with like=, dislike= and fuse="
            )
        good, bad = self._judged(like), self._judged(dislike)
        judged = {hit.id: hit.document for hit in (*good, *bad)}
        if not judged:
            raise QueryError("which hits are good or bad? Give like=, dislike= or both, from 0")
        if len(judged) < len(good) + len(bad):
            raise QueryError("the same hit is liked and disliked; decide on one")
        documents = self._stored(tuple(judged)) if self.query.is_dense else judged
        asking = known_settings(store).asking
        liked, disliked = (asking(documents[hit.id] for hit in hits) for hits in (good, bad))
        query = rocchio.expand(self.query, liked, disliked)
        roles = query.roles or ("image",) * len(query.pictures)
        query = replace(
            query,
            k=query.k if k is None else k,
            offset=0,
            sort=None,
            exclude=tuple(dict.fromkeys((*query.exclude, *judged))) if unseen else query.exclude,
            pictures=query.pictures + tuple(hit.uri for hit in (*good, *bad)),
            roles=roles + ("like",) * len(good) + ("dislike",) * len(bad),
        )
        return Hits(query, store.search(query), store, name=self._name)

    def rerank(self) -> Hits:
        """These hits in the order of k-reciprocal re-ranking (see `reciprocal_order`).

        Of the strategies dense-*, whose scores stay; ``exact`` is False: the order is another.

        >>> index.search("photos/chelsea.jpg", strategy="dense-cosine").rerank()[1].filename
        'chelsea-small.webp'
        """
        self._index()
        if self.query.embedding is None:
            raise QueryError(
                f"re-ranking compares deep features, {self.query.strategy} has none: search with "
                "a strategy dense-*"
            )
        documents = self._stored([hit.id for hit in self])
        answer = copy.copy(self)
        if len(self):
            vectors = np.stack(features(documents[hit.id] for hit in self))
            order = reciprocal_order(self.query.embedding, vectors)
            answer._hits = tuple(
                replace(self._hits[i], rank=rank)
                for rank, i in enumerate(order, start=min(hit.rank for hit in self))
            )
        answer.exact = False
        answer.means = f"{self.means}; then re-ranked by k-reciprocal neighbors"
        return answer

    def _index(self) -> Store:
        if self._store is None:
            raise QueryError("these hits do not know their index: search with ImageIndex.search")
        return self._store

    def _stored(self, ids: Sequence[str]) -> Mapping[str, Document]:
        """Documents with their deep features, without which hits come."""
        documents = self._index().get(ids)
        if len(documents) < len(ids):
            raise QueryError(f"{self._index().location} no longer has all of these pictures")
        return documents

    def _judged(self, given: Judged) -> list[Hit]:
        places = {hit.id: i for i, hit in enumerate(self._hits)}
        wanted = [
            places.get(each.id, len(self)) if isinstance(each, Hit) else each
            for each in ([given] if isinstance(given, int | str | Hit) else given)
        ]
        for i in wanted:
            if not isinstance(i, int | np.integer) or not -len(self) <= i < len(self):
                has = f"they are 0 to {len(self) - 1}" if len(self) else "there are none"
                raise QueryError(f"there is no hit {i!r}: {has}")
        return [self._hits[i] for i in dict.fromkeys(i % len(self) for i in wanted)]

    def explain(self, i: int | Hit = 0) -> Explanation:
        """The summands of the score of a hit, or of the i-th from 0; visual words by name.

        >>> hits.explain(0).rows[0].key
        'moped'
        """
        return self._explained(self._judged(i))[0]

    def explain_all(self) -> list[Explanation]:
        """What ``explain`` says of each hit, in their order.

        >>> len(hits.explain_all())
        3
        """
        return self._explained(self._hits)

    def _explained(self, hits: Sequence[Hit]) -> list[Explanation]:
        stored: Mapping[str, Document] = {}
        if self.query.by_words and self._store is not None:
            stored = self._stored([hit.id for hit in hits])
        settings = self._store.settings() if self._store is not None else None
        taught = {word.key: word.described for word in settings.taught} if settings else {}
        found = []
        for hit in hits:
            feature = stored[hit.id].embedding if stored else None
            one = explain(hit, self.query, self._result, feature)
            found.append(replace(one.named(self._name), taught=taught))
        return found

    @property
    def asked(self) -> tuple[Term, ...]:
        """What these hits were ranked by, to be shown: the query's terms, or its visual words."""
        if self.query.fusion is not None or not self.query.by_words:
            return self.query.terms
        return tuple(Term(self._name(term.key), term.score) for term in self.query.word_terms)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the shape that ``imgsearch search --json`` prints.

        >>> hits.to_dict()["total"]
        8
        """
        return {
            "query": str(self.query),
            "hints": list(self.query.hints),
            "left_out": list(self.query.left_out),
            "total": self.total,
            "ranked": self.ranked,
            "total_is_exact": self.total_is_exact,
            "strategy": self.strategy,
            "exact": self.exact,
            "took_ms": round(self.took_ms, 3),
            "hits": [hit.to_dict() for hit in self._hits],
        }

    def plot(self, *, columns: int = 5, distances: bool = False) -> Figure:
        """The paper's grid: the query, then the hits with their scores or ``distances``.

        >>> hits.plot(columns=2).savefig("grid.png")
        """
        from imgsearch_es.search.shown import plots

        shown = self
        if distances:
            shown, pairs = copy.copy(self), zip(self._hits, self.distances, strict=True)
            shown._hits = tuple(replace(hit, score=distance) for hit, distance in pairs)
        return plots.plot(shown, columns=columns)

    def labeled(self, labels: Callable[[Hit], tuple[str, ...]]) -> Hits:
        """The same hits with other labels, to show.

        >>> hits.labeled(lambda hit: ("seen",))[0].labels
        ('seen',)
        """
        shown = copy.copy(self)
        shown._hits = tuple(
            replace(hit, document=replace(hit.document, labels=labels(hit))) for hit in self._hits
        )
        return shown

    def facets(self, fields: Sequence[str] | str = FACETS, size: int = 10) -> Facets:
        """Count what all pictures that match have, not these hits only: ``ImageIndex.facets``.

        >>> hits.facets("format")
        {'format': [{'value': 'JPEG', 'count': 6}, {'value': 'WEBP', 'count': 2}]}
        """
        return count_facets(self._index(), self.query, fields, size)

    def to_html(self, path: str | Path, **options: Any) -> Path:
        """Write a gallery page that needs nothing but a browser; gives its absolute path.

        The options are ``columns``, ``thumbnail``, ``max_bytes`` and ``facets`` of
        ``gallery.gallery_html``; by default facets are counted where that is possible.

        >>> hits.to_html("page.html").name
        'page.html'

        Raises:
            ConfigurationError: the page cannot be written, or would replace a file that is none.
        """
        from imgsearch_es.search.shown import gallery_html

        target = Path(path).expanduser().absolute()
        page = gallery_html(self, standalone=True, **{"facets": self._shown_facets(), **options})
        with saving(target) as draft:
            check_page(target)
            draft.write_text(page, encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        from imgsearch_es.search.shown import gallery_html

        return gallery_html(self, facets=self._shown_facets())

    def _shown_facets(self) -> Facets | None:
        """The facets of a gallery; None where they cannot be counted: that is no reason to fail."""
        from imgsearch_es.search.shown import SHOWN, VALUES

        try:
            return self.facets(SHOWN, VALUES) if len(self) else None
        except ImgsearchError:
            return None

    def __repr__(self) -> str:
        from imgsearch_es.search.shown import counted, number

        lines = [counted(self)]
        lines += [f"{hit.rank:>4}  {number(hit.score):>6}  {hit.uri}" for hit in self._hits]
        return "\n".join(lines)


def pages(
    store: Store, query: Query, name: Callable[[str], str] = str
) -> Generator[Hits, None, None]:
    """The hits of a query from its offset on, ``query.k`` at a time; ranks count through."""
    rank = query.offset + 1
    for result in store.pages(query):
        hits = Hits(query, result, store, first=rank, name=name)
        rank += len(hits)
        yield hits
