"""Hits: a ranked list of pictures that shows, explains and exports itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from imgsearch_es.analysis import Term
from imgsearch_es.documents import Document, to_score
from imgsearch_es.errors import QueryError
from imgsearch_es.files import to_path
from imgsearch_es.queries import Query
from imgsearch_es.scoring import Context, formula_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from imgsearch_es.stores.base import SearchResult


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture found.

    Attributes:
        rank: from 1.
        score: formula (1), a float32 number.
        document: everything the index holds of the picture, without its embedding.
    """

    rank: int
    score: float
    document: Document

    @property
    def id(self) -> str:
        """The document's id."""
        return self.document.id

    @property
    def uri(self) -> str:
        """Absolute path of a local file, or a URL."""
        return self.document.uri

    @property
    def path(self) -> Path | None:
        """The local file, or None when the picture is not local."""
        return to_path(self.document.uri)

    @property
    def filename(self) -> str:
        """The last part of the URI."""
        return self.document.filename

    @property
    def synsets(self) -> tuple[Term, ...]:
        """The picture's terms, best first."""
        return self.document.terms

    @property
    def labels(self) -> tuple[str, ...]:
        """The picture's labels."""
        return self.document.labels

    @property
    def metadata(self) -> Mapping[str, Any]:
        """A person's own fields."""
        return self.document.metadata

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "rank": self.rank,
            "id": self.id,
            "uri": self.uri,
            "score": self.score,
            "synsets": [{"synset": term.key, "score": term.score} for term in self.synsets],
            "labels": list(self.labels),
            "metadata": dict(self.metadata),
        }


class Summand(NamedTuple):
    """One synset's part of a score; by formula (1) ``product = query_weight * document_score``.

    Other formulas (see ``imgsearch_es.scoring``) weight the query and the product in their way.
    """

    key: str
    query_weight: float
    document_score: float
    product: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture scores what it scores.

    Attributes:
        hit: the picture.
        rows: the summands of formula (1), largest first.
        total: their sum as a float32 number; equal to ``hit.score``.
    """

    hit: Hit
    rows: tuple[Summand, ...]
    total: float

    def plot(self) -> Figure:
        """A bar for each summand (needs matplotlib)."""
        from imgsearch_es.gallery import plot_explanation

        return plot_explanation(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.hit.id,
            "uri": self.hit.uri,
            "score": self.hit.score,
            "summands": [row._asdict() for row in self.rows],
        }

    def __str__(self) -> str:
        width = max((len(row.key) for row in self.rows), default=0)
        lines = [f"{self.hit.filename}  score {self.hit.score:.6g}"]
        lines += [
            f"  {row.key:<{width}}  {row.query_weight:.4g} x {row.document_score:.4g} "
            f"= {row.product:.4g}"
            for row in self.rows
        ]
        return "\n".join(lines)

    __repr__ = __str__


class Hits(Sequence[Hit]):
    """The answer to a query, best first.

    Attributes:
        query: what was searched for.
        total: how many pictures score above 0.
        total_is_exact: False when Elasticsearch stopped counting at ``total``.
        strategy: the way that gave the answer.
        exact: True when these are certainly the best by formula (1), in order.
        means: by which means that is known.
        took_ms: milliseconds that the store worked.
    """

    def __init__(self, query: Query, result: SearchResult) -> None:
        self.query = query
        self.total = result.total
        self.total_is_exact = result.total_is_exact
        self.strategy = result.strategy
        self.exact = result.exact
        self.means = result.means
        self.took_ms = result.took_ms
        self._terms = result.terms
        self._average_length = result.average_length
        self._hits = tuple(
            Hit(rank, found.score, found.document)
            for rank, found in enumerate(result.hits, start=query.offset + 1)
        )

    @overload
    def __getitem__(self, i: int) -> Hit: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Hit]: ...
    def __getitem__(self, i: int | slice) -> Hit | Sequence[Hit]:
        return self._hits[i]

    def __len__(self) -> int:
        return len(self._hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._hits)

    @property
    def uris(self) -> list[str]:
        """The URIs alone; of local files their paths."""
        return [hit.uri for hit in self._hits]

    def explain(self, i: int = 0) -> Explanation:
        """The summands of the i-th hit's score (from 0).

        Raises:
            QueryError: there is no such hit.
        """
        if not -len(self) <= i < len(self):
            raise QueryError(f"there is no hit {i}: there are {len(self)}, counted from 0")
        hit = self._hits[i]
        if self.query.is_dense:
            return Explanation(
                hit, (Summand(self.query.strategy, 1.0, hit.score, hit.score),), hit.score
            )
        scores = {term.key: term.score for term in hit.synsets}
        document = hit.document
        formula = formula_of(self.query.strategy)
        parameters = formula.with_defaults(self.query.parameters)
        context = Context(document.length, document.norm, self._average_length, parameters)
        rows = [
            Summand(
                term.key,
                term.score,
                scores[term.key],
                formula.summand(term.score, scores[term.key], context),
            )
            for term in self._terms
            if term.key in scores
        ]
        total = to_score(math.fsum(row.product for row in rows))
        rows.sort(key=lambda row: (-row.product, row.key))
        return Explanation(hit, tuple(rows), total)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: the shape that ``imgsearch search --json`` prints."""
        return {
            "query": str(self.query),
            "hints": list(self.query.hints),
            "total": self.total,
            "total_is_exact": self.total_is_exact,
            "strategy": self.strategy,
            "exact": self.exact,
            "took_ms": round(self.took_ms, 3),
            "hits": [hit.to_dict() for hit in self._hits],
        }

    def plot(self, *, columns: int = 5) -> Figure:
        """The paper's grid: the query, then the hits with their scores (needs matplotlib)."""
        from imgsearch_es.gallery import plot

        return plot(self, columns=columns)

    def to_html(self, path: str | Path) -> Path:
        """Write a gallery page that needs nothing but a browser; gives its absolute path."""
        from imgsearch_es.gallery import gallery_html

        target = Path(path).expanduser().absolute()
        target.write_text(gallery_html(self, standalone=True), encoding="utf-8")
        return target

    def _repr_html_(self) -> str:
        from imgsearch_es.gallery import gallery_html

        return gallery_html(self)

    def __repr__(self) -> str:
        lines = [f"{len(self)} of {self.total} hits for {self.query}"]
        lines += [f"{hit.rank:>4}  {hit.score:.4f}  {hit.uri}" for hit in self._hits]
        return "\n".join(lines)
