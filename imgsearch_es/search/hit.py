"""A hit: one picture found, and why it scores what it scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.filters import Box
from imgsearch_es.analysis.terms import is_word, word_key, words_of
from imgsearch_es.errors import QueryError
from imgsearch_es.pictures.files import to_path
from imgsearch_es.pictures.photo import Photo
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.language import parse_words
from imgsearch_es.retrieval.queries import Query, part_queries
from imgsearch_es.retrieval.scoring import Summand, score_of, summands
from imgsearch_es.retrieval.strategies import STRATEGIES, PartScore, fused_score
from imgsearch_es.stores.base import SearchResult
from imgsearch_es.vocabulary.synsets import Vocabulary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture found.

    >>> hit = hits[0]
    >>> hit.rank, round(hit.score, 2), hit.filename, hit.synsets[0].key
    (1, 0.63, 'motorcycle_left-cropped.jpg', 'moped')

    Attributes:
        rank: from 1.
        score: by the query's formula or fusion, a float32 number.
        document: everything the index holds of the picture, without its embedding.
        parts: what each part of a fused query adds to the score.
        vocabulary: the index's, by which ``where`` reads words.
    """

    rank: int
    score: float
    document: Document
    parts: tuple[PartScore, ...] = ()
    vocabulary: Vocabulary | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        best = ", ".join(f"{term.key} {term.score:.2g}" for term in self.synsets[:3])
        return f"Hit({self.rank}, {self.score:.4g}, {self.uri!r}: {best})"

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
    def photo(self) -> Photo:
        """How it was taken."""
        return self.document.photo

    @property
    def text(self) -> str:
        """What was read in the picture (OCR), by lines."""
        return self.document.text or ""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """A person's own fields."""
        return self.document.metadata

    def where(self, words: str) -> Box | None:
        """The part of the picture in which words were seen best, of an index with ``views``.

        Of the picture's synsets that the words name, the one with the largest score counts, and of
        the views the one in which it scores best. The box is left, top, right, bottom in pixels of
        the upright picture, with the right and lower border outside; of the whole picture it is
        (0, 0, width, height). None where the picture has no such synset, or the analyzer of its
        index has no ``views``.

        >>> tiles = ImageIndex("tiles.duckdb", model="efficientnet-lite0", views="tiles")
        >>> _ = tiles.add("photos/motorcycle_left.jpg")
        >>> tiles.search("motorcycle")[0].where("motorcycle")
        (0, 200, 445, 500)

        Raises:
            QueryError: the words name nothing, or the hit knows no vocabulary.
        """
        if self.vocabulary is None:
            raise QueryError("this hit does not know its index: search with ImageIndex.search")
        named = {term.key for term in parse_words(words, self.vocabulary).terms}
        seen = (term for term in self.synsets if term.key in named and term.view is not None)
        best = max(seen, key=lambda term: term.score, default=None)
        return None if best is None else self.document.box(best)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; a synset has a box where the index has ``views``.

        >>> sorted(hits[0].to_dict())
        ['colors', 'id', 'labels', 'metadata', 'photo', 'rank', 'score', 'synsets', 'uri']
        """
        return {
            "rank": self.rank,
            "id": self.id,
            "uri": self.uri,
            "score": self.score,
            "synsets": self.document.shown_terms(),
            **self.document.shown_colors(),
            "labels": list(self.labels),
            "metadata": dict(self.metadata),
            **self.document.shown_photo(),
            **({"parts": [part.to_dict() for part in self.parts]} if self.parts else {}),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a picture scores what it scores.

    >>> explanation = hits.explain(0)
    >>> [row.key for row in explanation.rows], explanation.total == hits[0].score
    (['moped'], True)

    Attributes:
        rows: the summands of the score, largest first; of a fused query its parts in their order,
            with the part's weight and, as the document's, the part's score; where ranks are fused
            1 / (rank constant + rank).
        total: their sum as a float32 number; equal to ``hit.score``.
        part_rows: of each part that compares synsets the summands of its own score.
        taught: of the index's taught words, by key, how it came to each.
    """

    hit: Hit
    rows: tuple[Summand, ...]
    total: float
    part_rows: Mapping[str, tuple[Summand, ...]] = field(default_factory=dict)
    taught: Mapping[str, str] = field(default_factory=dict)

    @property
    def boxes(self) -> dict[str, Box]:
        """Where in the picture each synset was best, see ``Hit.where``; empty without views."""
        document = self.hit.document
        found = {term.key: document.box(term) for term in document.terms}
        return {key: box for key, box in found.items() if box is not None}

    def named(self, name: Callable[[str], str]) -> Explanation:
        """With the visual words' names in place of the words."""

        def shown(rows: Sequence[Summand]) -> tuple[Summand, ...]:
            return tuple(r._replace(key=name(r.key)) if is_word(r.key) else r for r in rows)

        parts = {part: shown(rows) for part, rows in self.part_rows.items()}
        return replace(self, rows=shown(self.rows), part_rows=parts)

    def plot(self) -> Figure:
        """A bar for each summand, and for each part of a fused query (needs matplotlib)."""
        from imgsearch_es.search.shown import plots

        return plots.plot_explanation(self)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        shown = {"id": self.hit.id, "uri": self.hit.uri, "score": self.hit.score}
        boxes = self.boxes

        def summand(row: Summand) -> dict[str, Any]:
            box = {"box": list(boxes[row.key])} if row.key in boxes else {}
            return {**row._asdict(), **box}

        if not self.hit.parts:
            return {**shown, "summands": list(map(summand, self.rows))}
        parts = []
        for part in self.hit.parts:
            rows = self.part_rows.get(part.name, ())
            parts.append({**part.to_dict(), "summands": list(map(summand, rows))})
        return {**shown, "parts": parts}

    def placed(self, synset: str) -> str:
        """A synset, where it was best, as [left,top,right,bottom], and how it was taught, if so."""
        box, how = self.boxes.get(synset), self.taught.get(synset)
        place = "" if box is None else f" [{','.join(map(str, box))}]"
        return f"{synset}{place} ({how})" if how else synset + place

    def lines(self) -> list[tuple[str, str, str, str]]:
        """Name, both factors and product of each row, for a table; inside a part indented."""
        found = []
        ranks = {part.name: f" (rank {part.rank})" for part in self.hit.parts if part.rank}
        for row in self.rows:
            named = [(row.key if self.hit.parts else self.placed(row.key), row)]
            inside = self.part_rows.get(row.key, ())
            named += [(f"  {self.placed(one.key)}", one) for one in inside]
            for name, (key, *factors) in named:
                weight, score, product = (f"{factor:.4g}" for factor in factors)
                found.append((name, weight, score + ranks.get(key, ""), product))
        return found

    def __str__(self) -> str:
        lines = self.lines()
        width = max((len(name) for name, *_ in lines), default=0)
        shown = [f"{self.hit.filename}  score {self.hit.score:.6g}"]
        shown += [f"  {name:<{width}}  {w} x {s} = {product}" for name, w, s, product in lines]
        return "\n".join(shown)

    __repr__ = __str__


def explain(
    hit: Hit, query: Query, result: SearchResult, feature: NDArray[np.float32] | None = None
) -> Explanation:
    """Why a hit of a query scores what it scores; the result has what the store knew.

    Visual words are those of the hit's deep feature; without it their sum is all there is to say.
    """
    words = () if feature is None else _shared_words(query, feature)
    if query.sort is not None:
        return Explanation(hit, (), hit.score)
    if query.fusion is not None:
        return _explain_parts(hit, query, result, words)
    if words:
        return Explanation(hit, _largest_first(words), score_of(words))
    if query.is_dense:
        row = Summand(query.strategy, 1.0, hit.score, hit.score)
        return Explanation(hit, (row,), hit.score)
    rows = _summands(hit, query, result.terms, result)
    return Explanation(hit, _largest_first(rows), score_of(rows))


def _summands(
    hit: Hit, query: Query, terms: Sequence[Term], result: SearchResult
) -> tuple[Summand, ...]:
    return summands(hit.document, query.formula, query.parameters, terms, result.average_length)


def _shared_words(query: Query, feature: NDArray[np.float32]) -> tuple[Summand, ...]:
    """What each visual word of the query that a picture has adds, in the order of the query's."""
    theirs = dict(words_of(feature, query.visual_words))
    return tuple(
        Summand(word_key(word), weight, theirs[word], weight * theirs[word])
        for word, weight in query.words
        if word in theirs
    )


def _largest_first(rows: Sequence[Summand]) -> tuple[Summand, ...]:
    return tuple(sorted(rows, key=lambda row: (-row.product, row.key)))


def _explain_parts(
    hit: Hit, query: Query, result: SearchResult, words: Sequence[Summand]
) -> Explanation:
    rows = tuple(
        Summand(
            part.name,
            part.weight,
            part.score or 0.0 if part.rank is None else part.contribution / part.weight,
            part.contribution,
        )
        for part in hit.parts
    )
    singles = zip(query.parts, part_queries(query), result.part_terms, strict=True)
    part_rows = {
        part.name: _largest_first(_summands(hit, single, terms, result))
        for part, single, terms in singles
        if not part.is_dense
    }
    by_words = (part.name for part in query.parts if STRATEGIES[part.strategy].by_words)
    part_rows |= {name: _largest_first(words) for name in by_words if words}
    return Explanation(hit, rows, fused_score(hit.parts), part_rows)
