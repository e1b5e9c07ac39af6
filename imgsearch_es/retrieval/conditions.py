"""Conditions on documents: on which fields, how they are given, and how they are shown.

A condition is given as a mapping (``parse_filters``) or within a line of words
(``imgsearch_es.retrieval.language``), and shows itself in the form that the latter reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from operator import ge, gt, le, lt
from typing import Any
from unicodedata import normalize

import numpy as np

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval import spans
from imgsearch_es.vocabulary.synsets import Vocabulary

KEYWORD_FIELDS = (
    "id", "uri", "filename", "sha256", "format", "label", "synsets", "top_synset",
    "camera", "lens", "caption", "keywords", "album",
)  # fmt: skip
CASELESS = ("camera", "lens", "caption", "keywords")
"""Fields of which A and a are alike; no other letters."""
NUMBER_FIELDS = ("width", "height", "bytes", "top_score")
DATE_FIELDS = ("indexed_at", "taken_at")
OCR = "ocr"
"""The words of the text in a picture."""
_SHORT_NAMES = {"name": "filename", "taken": "taken_at", "year": "taken_at", "keyword": "keywords"}
NEAR, WITHIN = "near", "within"
ON_MAPS = {NEAR: spans.to_near, WITHIN: spans.to_box}
"""Conditions on a photo's place."""
FIELDS = (*KEYWORD_FIELDS, *NUMBER_FIELDS, *DATE_FIELDS, *ON_MAPS, OCR)
NAMES = (*FIELDS, *_SHORT_NAMES)
"""What a field may be called."""
METADATA = "metadata."
SORTS = ("taken_at", "indexed_at", "width", "height", "bytes", "filename", "uri")
"""Fields by which a list may be sorted, beside metadata."""
SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

_SCORE = re.compile(r"score\((.*)\)", re.DOTALL)
_COMPARE = {"gt": gt, "gte": ge, "lt": lt, "lte": le}
_COMPLEMENTS = {"gt": "lte", "gte": "lt", "lt": "gte", "lte": "gt"}
_FORMATS = {"JPG": "JPEG", "TIF": "TIFF"}
"""What people call formats that Pillow names otherwise."""

MAX_CONDITIONS = 256
"""In one mapping; DuckDB's expressions end at a depth of 1,000."""
MAX_VALUES = 10_000
MAX_CHARACTERS = 5_000
"""Of one value: Lucene has no terms of more than 32,766 bytes."""
MAX_PATTERN = 200
MAX_PARTS = 8
_LARGEST = 2**53


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one field of the document; it selects, and does not score.

    Attributes:
        field: "label", "width", ..., "metadata.<name>", or "score(<word>)", the picture's
            scores of all that a word stands for, added, each whole; 0 where it has none.
        operator: "in", "gt", "gte", "lt", "lte", "wildcard" (``*`` and ``?``), "near" or
            "within".
        values: the operands; any of them for "in" and "wildcard", exactly one for the others; of
            "near" latitude, longitude and meters, of "within" a box. Times and numbers may be
            spans, such as "2019..2021".
        keys: of a score, the synsets that are added, in their order; or that of the field alone.
        either: conditions of which one holds, instead of all of this; see ``any_of``.
        is_sign: whether it is of a plus or minus, which is shown before its word.
    """

    field: str
    operator: str
    values: tuple[str | int | float | bool, ...]
    negated: bool = False
    keys: tuple[str, ...] = ()
    either: tuple[Filter, ...] = ()
    is_sign: bool = attribute(default=False, compare=False)

    @property
    def synsets(self) -> tuple[str, ...]:
        """The keys whose scores are added; none for other fields than "score(<word>)"."""
        found = _SCORE.fullmatch(self.field)
        return (self.keys or (found[1],)) if found else ()

    @property
    def cost(self) -> int:
        """How many conditions that look at more than a column it has."""
        is_nested = self.field.startswith(METADATA) or self.operator == "wildcard"
        return sum(item.cost for item in self.either) or int(is_nested or bool(self.synsets))

    def normalized(self) -> Filter:
        """The same, so that only documents that have the field can meet it, then ``negated``.

        "score(tabby) < 0.5" says that "score(tabby) >= 0.5" is not met, as without the synset. And
        a text with accents is also what they are by themselves, as in the names of a Mac's files.
        """
        if self.either:
            return replace(self, either=tuple(item.normalized() for item in self.either))
        if self.operator in ("in", "wildcard"):
            return replace(self, values=tuple(form for v in self.values for form in _forms(v)))
        if not self.synsets or not compare(0.0, self.operator, float(self.values[0])):
            return self
        return replace(self, operator=_COMPLEMENTS[self.operator], negated=not self.negated)

    def __str__(self) -> str:
        sign = "-" if self.negated else ""
        if self.either:
            return " | ".join(map(str, self.either))
        if self.operator == NEAR:
            return f"{sign}{NEAR}:{','.join(_shown_number(v, NEAR) for v in self.values)}m"
        if self.operator == WITHIN:
            return f"{sign}{WITHIN}:{','.join(_shown_number(v, WITHIN) for v in self.values)}"
        if self.operator in SIGNS:
            colon = "" if self.synsets else ":"
            value = _shown_number(self.values[0], self.field)
            return f"{sign}{_shown_field(self.field)}{colon}{SIGNS[self.operator]}{value}"
        if self.operator == "wildcard":
            parts = re.split(r"([*?])", str(self.values[0]))
            shown = "".join(part if part in "*?" else shown_value(part) for part in parts)
        else:
            shown = ",".join(shown_value(_shown_number(v, self.field)) for v in self.values)
        return f"{sign}{_shown_field(self.field)}:{shown}"


def _forms(value: str | int | float | bool) -> tuple[str | int | float | bool, ...]:
    """A value, and a text with its accents composed and apart (Unicode's NFC and NFD)."""
    if not isinstance(value, str) or value.isascii():
        return (value,)
    return tuple(dict.fromkeys((value, normalize("NFC", value), normalize("NFD", value))))


def compare(value: float, operator: str, operand: float) -> bool:
    """Whether ``value`` is "gt", "gte", "lt" or "lte" ``operand``."""
    return bool(_COMPARE[operator](value, operand))


def shown_value(text: str) -> str:
    """A value as the language of queries reads it: in quotation marks where it needs them."""
    if re.fullmatch(r'[^\s"“”„‟«»＂,*?^<>]+', text):
        return text
    return quoted(text)


def keyword(value: object) -> str:
    """A value of metadata as the keyword that Elasticsearch's flattened field has for it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(text: str) -> str:
    """A text in quotation marks, with those within it escaped."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_filters(
    where: Mapping[str, Any] | None, vocabulary: Vocabulary | None = None
) -> tuple[Filter, ...]:
    """Read conditions: ``{"label": "indoor", "format": ["PNG", "GIF"], "width": {"gte": 800}}``.

    A minus before a field negates: ``{"-label": "indoor"}``. The word of
    ``{"score(dog)": {"gt": 0.5}}`` is as in a query.
    """
    filters: list[Filter] = []
    if not isinstance(where, Mapping | None):
        raise QueryError(
            "conditions are a line such as 'label=cat width>=800', or a dictionary such as "
            f"{{'label': 'cat'}}, not {where!r:.60}"
        )
    for name, condition in (where or {}).items():
        field, keys = _field(name.removeprefix("-"), vocabulary)
        negated = name.startswith("-")
        if field in ON_MAPS:
            one = condition[0] if isinstance(condition, list) and len(condition) == 1 else condition
            filters.append(Filter(field, field, ON_MAPS[field](one), negated))
            continue
        if isinstance(condition, Mapping):
            for operator, value in condition.items():
                found = _ranged(field, operator, value, negated)
                filters.append(replace(found, keys=keys) if keys else found)
            continue
        several = isinstance(condition, Sequence) and not isinstance(condition, str)
        values = tuple(_value(field, item) for item in (condition if several else [condition]))
        if len(values) > MAX_VALUES:
            raise QueryError(f"{field!r} is compared with {len(values)} values, not {MAX_VALUES}")
        if sum(map(spans.is_range, values)) > MAX_CONDITIONS:
            raise QueryError(f"{field!r} is compared with over {MAX_CONDITIONS} ranges")
        if _SCORE.fullmatch(field):
            raise QueryError(
                f"{field!r} is a number to compare: write {{{field!r}: {{'gt': 0.5}}}}"
            )
        filters.append(Filter(field, "in", values, negated))
    if len(filters) > MAX_CONDITIONS:
        raise QueryError(f"there are {len(filters)} conditions, and at most {MAX_CONDITIONS}")
    return tuple(filters)


def order(sort: str) -> tuple[str, bool]:
    """The field by which a list is sorted, and whether the largest, or newest, comes first.

    Names go from A to Z, all else from the largest on; a minus turns that round.
    """
    field = _SHORT_NAMES.get(sort.removeprefix("-"), sort.removeprefix("-"))
    if field not in SORTS and not (field.startswith(METADATA) and field != METADATA):
        raise QueryError(
            f"there is no sorting by {_short(sort)}; there are {', '.join(SORTS)} and "
            "metadata.<name>, each with a minus before it the other way round"
        )
    return _field(field, None)[0], (field not in ("filename", "uri")) != sort.startswith("-")


def is_field(field: str) -> bool:
    """Whether documents have this field; "score(...)" is none."""
    return field in NAMES or (field.startswith(METADATA) and len(field) > len(METADATA))


def of_score(
    word: str, keys: Sequence[str], operator: str, value: float, *, negated: bool = False
) -> Filter:
    """The condition on a picture's score of a word that stands for these synsets."""
    least = (float(np.float32(value)),)
    return Filter(f"score({word})", operator, least, negated, tuple(sorted({*keys})))


def any_of(ways: tuple[Filter, ...]) -> Filter:
    """The condition that one of some holds."""
    return ways[0] if len(ways) == 1 else Filter("", "any", (), either=ways)


def _field(field: str, vocabulary: Vocabulary | None) -> tuple[str, tuple[str, ...]]:
    """The field, checked; of a score with its synsets, unless their key is its name."""
    if found := _SCORE.fullmatch(field):
        name = found[1].strip()
        if vocabulary is None or name in vocabulary:
            return f"score({name})", ()
        meant = vocabulary.resolve(name)
        if len(meant.keys) == 1 and not meant.weights:
            return f"score({meant.keys[0]})", ()
        return f"score({name})", tuple(sorted(meant.keys))
    field = _SHORT_NAMES.get(field, field)
    if not is_field(field):
        raise QueryError(
            f"cannot filter by {_short(field)}; there are {', '.join(FIELDS)}, metadata.<name> "
            "and score(<word>)"
        )
    _check_text(field, field)
    if "\0" in field or field.count(".") > MAX_PARTS or len(field) > 200:
        raise QueryError(f"{_short(field)} has a NUL, over {MAX_PARTS} parts or 200 characters")
    return field, ()


def _ranged(field: str, operator: str, value: object, negated: bool) -> Filter:
    if operator == "wildcard" and field == OCR and isinstance(value, str):
        pattern = spans.pattern_of_word(_pattern(field, value))
        if pattern is None:
            raise QueryError(f"ocr: takes a pattern of one word, such as flig*, not {value!r:.60}")
        return Filter(field, operator, (pattern,), negated)
    if operator == "wildcard" and field in KEYWORD_FIELDS and isinstance(value, str):
        return Filter(field, operator, (_pattern(field, value),), negated)
    if operator in SIGNS and field.startswith(METADATA):
        if not spans.NUMBER.fullmatch(str(value)) and not spans.DATE.fullmatch(str(value)):
            raise QueryError(
                f"{field!r} is compared with a number, or a date such as 2026-01-31, not "
                f"{_short(value)}"
            )
        if spans.NUMBER.fullmatch(str(value)):
            return Filter(field, operator, (_number(field, spans.to_number(str(value))),), negated)
    if operator in SIGNS and (field in DATE_FIELDS or field.startswith(METADATA)):
        operator, moment = spans.bound_of_time(field, operator, value)
        return Filter(field, operator, (moment,), negated)
    if operator in SIGNS and (field in NUMBER_FIELDS or _SCORE.fullmatch(field)):
        return Filter(field, operator, (_number(field, value),), negated)
    raise QueryError(
        f"{field!r} cannot be filtered by {operator!r}: numbers, dates, metadata and scores take "
        f"{', '.join(SIGNS)}; names, formats and labels take wildcard"
    )


def _value(field: str, value: object) -> str | int | float | bool:
    if field in NUMBER_FIELDS or _is_score(field):
        if not spans.is_range(value):
            return _number(field, value)
        for end in filter(None, str(value).split(spans.BETWEEN)):
            _number(field, spans.to_number(end) if spans.NUMBER.fullmatch(end) else end)
        return str(value)
    if field in DATE_FIELDS:
        return spans.to_period(field, value)
    if not isinstance(value, str | int | float | bool):
        raise QueryError(f"{field!r} cannot be compared with {_short(value)}")
    if isinstance(value, str):
        _check_text(field, value)
    if field.startswith(METADATA):
        return value
    if field == OCR and not spans.searched(str(value)):
        raise QueryError(f"ocr: takes words that stand in pictures, not {value!r:.60}")
    return _format(str(value)) if field == "format" else str(value)


def limits(item: Filter, value: str | int | float | bool) -> spans.Limits | None:
    """What a field must be to be one of the values of an "in"; None where it must be the value."""
    if item.field in DATE_FIELDS:
        return spans.limits_of_time(item.field, str(value))
    if (item.field in NUMBER_FIELDS or item.field.startswith(METADATA)) and spans.is_range(value):
        wanted = spans.limits_of_range(item.field, str(value))
        is_score = _is_score(item.field)  # as scores are kept
        return {k: float(np.float32(end)) for k, end in wanted.items()} if is_score else wanted
    return None


def _number(field: str, value: object) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # NaN
        raise QueryError(f"{field!r} is a number; {_short(value)} is not")
    if abs(value) > _LARGEST:
        raise QueryError(f"{field!r} is compared with a number that is too large")
    return float(np.float32(value)) if _is_score(field) else value  # as scores are kept


def _pattern(field: str, pattern: str) -> str:
    _check_text(field, pattern)
    if len(pattern) > MAX_PATTERN:
        raise QueryError(f"a pattern has at most {MAX_PATTERN} characters, not {len(pattern)}")
    if spans.is_complex(pattern):
        raise QueryError(f"{_short(pattern)} is too complex: use fewer asterisks or question marks")
    return _format(pattern) if field == "format" else pattern


def _is_score(field: str) -> bool:
    return field == "top_score" or _SCORE.fullmatch(field) is not None


def _format(name: str) -> str:
    return _FORMATS.get(name.upper(), name.upper())


def _check_text(field: str, text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise QueryError(
            f"{_short(field)} is compared with {len(text)} characters; {MAX_CHARACTERS} are enough"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"{_short(text)} is no text: it has half a character") from error


def _shown_field(field: str) -> str:
    """The field's name; a person's own in quotation marks where it needs them."""
    if not field.startswith(METADATA) or re.fullmatch(r"[^\s:\"“”„‟«»＂^]+", field):
        return field
    return METADATA + quoted(field.removeprefix(METADATA))


def _shown_number(value: str | int | float | bool, field: str) -> str:
    if isinstance(value, float):
        short = np.float32(value) if _is_score(field) else value
        return str(int(value)) if value.is_integer() else str(short)
    return keyword(value)


def _short(value: object) -> str:
    """A value as Python writes it, at most 60 characters of it."""
    text = repr(value[:1000] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
