"""Queries: a weighted synset vector, whether it came from a picture, from words or from both.

    sim(q, d) = sum over synsets j of q_j * d_j                        (1)

(Tanioka, "Super Easy Way of Building Image Search with Keras", SIGIR 2017 workshop LIARR, eq. 1.)
A picture's weights are its classifier's scores; words weigh 1 on each synset they name or include.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from imgsearch_es.analysis import Term
from imgsearch_es.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

    from imgsearch_es.synsets import Vocabulary

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
}
"""Ways to compute formula (1) on Elasticsearch; all give the same ranking."""

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
        strategy: how the store computes formula (1); "auto" chooses.
        text: the words as typed, to show.
        pictures: URIs or pictures in memory, to show.
    """

    terms: tuple[Term, ...]
    must_not: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()
    exclude: tuple[str, ...] = ()
    k: int = 10
    offset: int = 0
    strategy: str = "auto"
    text: str | None = None
    pictures: tuple[str | Image.Image, ...] = ()

    def __post_init__(self) -> None:
        if not self.terms:
            raise QueryError("nothing to search for: the query has no synset with a weight above 0")
        if self.strategy not in STRATEGIES:
            raise QueryError(
                f"there is no strategy {self.strategy!r}; there are {', '.join(STRATEGIES)}"
            )
        if self.k < 1 or self.offset < 0:
            raise QueryError(f"k must be at least 1 and offset 0, not {self.k} and {self.offset}")
        if self.offset + self.k > MAX_RESULTS:
            raise QueryError(
                f"offset + k may be at most {MAX_RESULTS}: narrow the query by filters"
            )

    def to_elasticsearch(self, strategy: str | None = None) -> dict[str, Any]:
        """The body of the search request, as it would be sent or pasted into Kibana's console."""
        from imgsearch_es.stores.elastic.strategies import get_strategy

        return get_strategy(strategy or self.strategy).body(self)

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
    """What a line of words asks for: synsets that score, and synsets that exclude."""

    terms: tuple[Term, ...]
    must_not: tuple[str, ...]


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
    keys: dict[str, None] = {}
    if wanted:
        for resolution in vocabulary.resolve_text(" ".join(wanted)):
            keys.update(dict.fromkeys(resolution.keys))
    elif not must_not:
        raise QueryError("there are no words to search for")
    return Words(synset_vector(Term(key, 1.0) for key in keys), tuple(must_not))


def parse_filters(where: Mapping[str, Any] | None) -> tuple[Filter, ...]:
    """Read conditions: ``{"label": "indoor", "format": ["PNG", "GIF"], "width": {"gte": 800}}``.

    Raises:
        QueryError: a field or an operator is unknown, or a value has the wrong type.
    """
    filters: list[Filter] = []
    for field, condition in (where or {}).items():
        _check_field(field)
        if isinstance(condition, Mapping):
            for operator, value in condition.items():
                filters.append(_ranged(field, operator, value))
        elif isinstance(condition, Sequence) and not isinstance(condition, str):
            filters.append(Filter(field, "in", tuple(_value(field, item) for item in condition)))
        else:
            filters.append(Filter(field, "in", (_value(field, condition),)))
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
