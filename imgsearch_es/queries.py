"""Queries: a weighted synset vector, whether it came from a picture, from words or from both.

    sim(q, d) = sum over synsets j of q_j * d_j                        (1)

(Tanioka, "Super Easy Way of Building Image Search with Keras", SIGIR 2017 workshop LIARR, eq. 1.)
A picture's weights are its classifier's scores; words weigh 1 on each synset they name or include.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis import Term
from imgsearch_es.dense import COMPARISONS
from imgsearch_es.errors import QueryError
from imgsearch_es.scoring import Statistics, formula_of

if TYPE_CHECKING:
    from PIL import Image

    from imgsearch_es.synsets import Resolution, Vocabulary

KEYWORD_FIELDS = (
    "id", "uri", "filename", "sha256", "format", "label", "synsets", "top_synset",
)  # fmt: skip
NUMBER_FIELDS = ("width", "height", "bytes", "top_score")
DATE_FIELDS = ("indexed_at",)
METADATA = "metadata."

STRATEGIES = {
    "auto": "impact, the fastest exact one",
    "impact": "the inverted index of weights, then exact rescoring until the answer is proven",
    "script": "the paper's: a script scores every picture (time grows with the collection)",
    "script-filtered": "the same script, over the pictures that share a synset with the query",
    "tfidf": "inner product of TF-IDF vectors, by the inverted index as impact",
    "cosine": "cosine of the synset vectors",
    "sqrt": "sum of square roots of products (Bhattacharyya coefficient)",
    "bm25": "BM25 with the score as term frequency; parameters k1 (1.2) and b (0.75)",
    "dense-cosine": "cosine of the deep features",
    "dense-dot": "inner product of the deep features",
    "dense-euclidean": "minus the Euclidean distance of the deep features",
    "dense-manhattan": "minus the Manhattan distance of the deep features",
    "dense-chi2": "minus the chi-squared distance of the deep features",
}
"""Ways to score. The first four all compute formula (1) and rank alike."""

_RANGE = ("gt", "gte", "lt", "lte")
MAX_RESULTS = 10_000
"""offset + k may not exceed this: Elasticsearch's index.max_result_window."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one field of the document; it selects, and does not score.

    Attributes:
        field: "label", "format", "width", ..., or "metadata.<name>".
        operator: "in", "gt", "gte", "lt", "lte" or "wildcard" (``*`` and ``?``).
        values: the operands; any of them for "in", exactly one for the others.
    """

    field: str
    operator: str
    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What to search for; built by ``ImageIndex.query`` and understood by every store.

    Attributes:
        terms: the weighted synset vector, heaviest first, ties by key; weights are float32.
        must_not: keys of synsets that a hit must not have.
        filters: conditions that every hit meets.
        exclude: ids of documents left out.
        k: how many hits, after leaving out the first ``offset``.
        strategy: how to score, one of STRATEGIES.
        parameters: of the strategy's formula.
        embedding: the query's deep feature, which the strategies dense-* compare.
        threshold: the least score of a hit; of distances (whose scores are negative) minus the
            largest distance.
        text: the words as typed, to show.
        pictures: URIs or pictures in memory, to show.
        hints: how words with several meanings were taken, one sentence each, to show.
    """

    terms: tuple[Term, ...]
    must_not: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    exclude: tuple[str, ...] = ()
    k: int = 10
    offset: int = 0
    strategy: str = "auto"
    parameters: Mapping[str, float] = field(default_factory=dict)
    embedding: NDArray[np.float32] | None = None
    threshold: float | None = None
    text: str | None = None
    pictures: tuple[str | Image.Image, ...] = ()
    hints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise QueryError(
                f"there is no strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}"
            )
        if self.is_dense:
            self._check_embedding()
        elif not self.terms:
            raise QueryError("nothing to search for: the query has no synset with a weight above 0")
        if self.threshold is not None and not self.is_dense:
            raise QueryError(f"a threshold goes with the strategies dense-*, not {self.strategy}")
        formula_of(self.strategy).with_defaults(self.parameters)
        if self.k < 1 or self.offset < 0:
            raise QueryError(f"k must be at least 1 and offset 0, not {self.k} and {self.offset}")
        if self.offset + self.k > MAX_RESULTS:
            raise QueryError(
                f"offset + k may be at most {MAX_RESULTS}: narrow the query by filters"
            )

    @property
    def is_dense(self) -> bool:
        """Whether the strategy compares deep features, and not synsets."""
        return self.strategy in COMPARISONS

    def _check_embedding(self) -> None:
        if self.embedding is None:
            raise QueryError(
                f"{self.strategy} compares the deep features of pictures: give a picture alone, to "
                "an index whose analyzer keeps them"
            )
        if not np.isfinite(self.embedding).all() or not self.embedding.any():
            raise QueryError("the query's deep feature is zero or not finite")

    def to_elasticsearch(
        self, strategy: str | None = None, *, statistics: Statistics | None = None
    ) -> dict[str, Any]:
        """The body of the search request, as it would be sent or pasted into Kibana's console.

        Args:
            strategy: another way to score than the query's.
            statistics: of the collection (``index.store.statistics(keys)``), for the strategies
                that weight by them.

        Raises:
            QueryError: the strategy needs statistics.
        """
        from imgsearch_es.stores.elastic import request_body

        query = self if strategy is None else replace(self, strategy=strategy)
        if query.is_dense:
            return request_body(query)
        formula = formula_of(query.strategy)
        if formula.needs_statistics and statistics is None:
            raise QueryError(f"{query.strategy} weights by the collection: give its statistics")
        known = statistics or Statistics(0, 0.0, {})
        weighted = replace(query, terms=formula.query_weights(query.terms, known))
        return request_body(weighted, known.average_length)

    def __str__(self) -> str:
        parts = []
        if self.pictures:
            names = (p if isinstance(p, str) else "picture" for p in self.pictures)
            parts.append("image: " + ", ".join(name.rpartition("/")[2] for name in names))
        if self.text:
            parts.append(f"words: {self.text}")
        for item in self.filters:
            values = " or ".join(str(value) for value in item.values)
            sign = {"in": "=", "wildcard": "~", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
            parts.append(f"{item.field} {sign[item.operator]} {values}")
        return "; ".join(parts)


def synset_vector(*vectors: Iterable[Term]) -> tuple[Term, ...]:
    """Add vectors of terms, synset by synset; heaviest first, ties by key.

    The order is part of the definition: both stores and the NumPy reference add the products of
    formula (1) in it.
    """
    weights: dict[str, float] = {}
    for vector in vectors:
        for term in vector:
            weights[term.key] = weights.get(term.key, 0.0) + term.score
    terms = (Term(key, float(np.float32(weight))) for key, weight in weights.items() if weight > 0)
    return tuple(sorted(terms, key=lambda term: (-term.score, term.key)))


@dataclass(frozen=True, slots=True)
class Words:
    """What a line of words asks for.

    Attributes:
        terms: the synsets that score.
        must_not: the keys of those that exclude.
        hints: how words with several meanings were taken, one sentence each.
    """

    terms: tuple[Term, ...]
    must_not: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


_TOKEN = re.compile(r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+))')


def parse_words(text: str, vocabulary: Vocabulary) -> Words:
    """Read words: ``tabby cat``, ``"golden retriever"``, ``dog -poodle``.

    Each synset that the words name or include weighs 1, however many of the words do so.

    Raises:
        UnknownWordError: a word names no synset; carries suggestions.
        QueryError: there are no words, or a quotation mark is not closed.
    """
    if text.count('"') % 2:
        raise QueryError(f"a quotation mark is not closed: {text}")
    wanted: list[str] = []
    must_not: dict[str, None] = {}
    for match in _TOKEN.finditer(text):
        phrase = match["phrase"] if match["phrase"] is not None else match["word"]
        if match["minus"]:
            must_not.update(dict.fromkeys(vocabulary.resolve(phrase).keys))
        else:
            wanted.append(match[0])
    if not wanted and not must_not:
        raise QueryError("there are no words to search for")
    resolutions = vocabulary.resolve_text(" ".join(wanted)) if wanted else ()
    keys = {key for resolution in resolutions for key in resolution.keys}
    hints = dict.fromkeys(filter(None, (_hint(item, keys, vocabulary) for item in resolutions)))
    return Words(synset_vector(Term(key, 1.0) for key in keys), tuple(must_not), tuple(hints))


def _hint(resolution: Resolution, wanted: set[str], vocabulary: Vocabulary) -> str:
    """What a person may have meant instead; empty when the query has that too."""
    others = [s.key for s in resolution.also if not wanted.issuperset(vocabulary.hyponyms(s.key))]
    if not others:
        return ""
    taken = " and ".join(sense.key for sense in resolution.senses)
    return (
        f"{resolution.phrase!r} is taken as the synset {taken}; "
        f"for what else it may mean write {' or '.join(others)}"
    )


def parse_filters(where: Mapping[str, Any] | None) -> tuple[Filter, ...]:
    """Read conditions: ``{"label": "indoor", "format": ["PNG", "GIF"], "width": {"gte": 800}}``.

    Raises:
        QueryError: a field or an operator is unknown, or a value has the wrong type.
    """
    filters: list[Filter] = []
    for name, condition in (where or {}).items():
        _check_field(name)
        if isinstance(condition, Mapping):
            for operator, value in condition.items():
                filters.append(_ranged(name, operator, value))
        elif isinstance(condition, Sequence) and not isinstance(condition, str):
            filters.append(Filter(name, "in", tuple(_value(name, item) for item in condition)))
        else:
            filters.append(Filter(name, "in", (_value(name, condition),)))
    return tuple(filters)


def _check_field(field: str) -> None:
    known = KEYWORD_FIELDS + NUMBER_FIELDS + DATE_FIELDS
    if field not in known and not (field.startswith(METADATA) and len(field) > len(METADATA)):
        raise QueryError(
            f"cannot filter by {field!r}; there are {', '.join(known)} and metadata.<name>"
        )


def _ranged(field: str, operator: str, value: object) -> Filter:
    if operator == "wildcard" and field in KEYWORD_FIELDS and isinstance(value, str):
        return Filter(field, operator, (value,))
    if operator in _RANGE and field in NUMBER_FIELDS + DATE_FIELDS:
        return Filter(field, operator, (_value(field, value),))
    raise QueryError(
        f"{field!r} cannot be filtered by {operator!r}: numbers and dates take "
        f"{', '.join(_RANGE)}, names take wildcard"
    )


def _value(field: str, value: object) -> str | int | float | bool:
    if field in NUMBER_FIELDS:
        if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            return value
        raise QueryError(f"{field!r} is a number; {value!r} is not")
    if field in DATE_FIELDS:
        return _date(field, value)
    if isinstance(value, str | int | float | bool):
        return value if field.startswith(METADATA) else str(value)
    raise QueryError(f"{field!r} cannot be compared with {value!r}")


def _date(field: str, value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    try:
        return datetime.fromisoformat(str(value)).isoformat()
    except ValueError as error:
        raise QueryError(f"{field!r} is a date such as 2026-01-31, not {value!r}") from error
