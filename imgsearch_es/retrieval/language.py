"""The language of queries: one line of words and conditions.

    tabby cat                   words; the longest phrase that names a synset counts
    "golden retriever"          a phrase that is kept whole
    dog^2 ball                  a boost: the weight of the word or quoted phrase that it touches
    +beach dog                  a hit must have more than a trace of the word with a plus
    dog -poodle                 and no more than a trace of one with a minus
    beach AND dog NOT poodle    the same; OR between words says what is so without it
    black cat                   a color beside other words ranks what has these
    synset:golden_retriever     a synset by its exact key; wnid:n02099601 by its WordNet identifier
    label:pets width:>=800      conditions, which select and do not score; -label:pets negates
    score(dog)>0.5              a condition on the picture's score of a word
    IMG_2041.JPG                a picture by its name, as name:IMG_2041.JPG or name:IMG_20*

Reading a line gives ``Words``, whose ``str`` is its canonical form: reading that gives the same.
Words that are unknown are left out, and said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.pictures.sources import is_picture_name
from imgsearch_es.retrieval import traces
from imgsearch_es.retrieval.conditions import (
    FIELDS,
    ON_MAPS,
    Filter,
    is_field,
    parse_filters,
    quoted,
    shown_value,
)
from imgsearch_es.retrieval.queries import synset_vector
from imgsearch_es.retrieval.tokens import (
    MARKS,
    NAMING,
    OPERATORS,
    QUOTED,
    condition_of,
    number,
    operator,
    selects,
    tokens,
    unquoted,
)
from imgsearch_es.vocabulary.colors import COLOR, COLORS
from imgsearch_es.vocabulary.synsets import Resolution, Vocabulary

MAX_PARTS = 256
"""Words and conditions in a line."""
MIN_BOOST, MAX_BOOST = 1e-6, 1e6

_SYNSET = re.compile(rf"(?P<name>{QUOTED}|[^^]*)(?:\^(?P<boost>.*))?", re.DOTALL)
_PLAIN = re.compile(r"(?!(?:AND|OR|NOT)\Z)[^\W_][\w'’-]*")


@dataclass(frozen=True, slots=True)
class Words:
    """What a line of words and conditions asks for.

    The fields are those of `Query`; ``text`` is the words in canonical form, without conditions and
    without those left out, of which ``unwanted`` have a minus, and ``signs`` is what those with a
    sign select.
    """

    terms: tuple[Term, ...]
    signs: tuple[Filter, ...] = ()
    filters: tuple[Filter, ...] = ()
    hints: tuple[str, ...] = field(default=(), compare=False)
    left_out: tuple[str, ...] = field(default=(), compare=False)
    unwanted: tuple[str, ...] = field(default=(), compare=False)
    text: str = ""
    counts: Filter | None = None

    def __str__(self) -> str:
        return " ".join(filter(None, [self.text, *map(str, self.filters)]))


def parse_words(
    text: str, vocabulary: Vocabulary, *, trace: float = traces.TRACE, alone: bool = True
) -> Words:
    """Read a line of words and conditions.

    Each synset that the words name or include weighs 1, or the largest of its boosts; one that they
    only come near, so much less. ``trace`` is as of `Traces`; ``alone`` says that nothing else is
    searched for, such as a picture.

    Raises:
        UnknownWordError: there are words, and none of them is known; carries suggestions.
        QueryError: the line has no words, is too long, or a part of it cannot be understood.
    """
    reader = _Reader(vocabulary, trace)
    line = [None, *tokens(text), None]
    for before, token, after in zip(line, line[1:], line[2:], strict=False):
        if token is not None and not operator(token):
            first = {"AND": "+", "OR": "", "NOT": "-"}.get(operator(before))
            reader.read(token, first, "+" if operator(after) == "AND" else "")
        elif operator(token) == "OR" and any(map(selects, (before, after))):
            raise QueryError("OR goes between words; values of one field are such as label:a,b")
        elif operator(token) == "OR":
            reader.is_either = True
    words = reader.words()
    if alone and words.left_out and not words.terms:
        raise traces.unknown_word(words.left_out[0], vocabulary)
    return words


Where = str | Mapping[str, Any]
"""Conditions: a line of them, or a mapping as ``parse_filters`` takes it."""


def to_filters(where: Where | None, vocabulary: Vocabulary) -> tuple[Filter, ...]:
    """Read conditions; QueryError where a part is none, or cannot be understood."""
    if not isinstance(where, str):
        return parse_filters(where, vocabulary)
    reader = _Reader(vocabulary, 0.0)
    for token in tokens(where):
        if token["key"] is None and token["field"] in NAMING:
            raise QueryError(
                f"{token[0]!r:.60} is no condition such as label=indoor or width>=800: there are "
                f"{', '.join(FIELDS)}, metadata.<name> and score(<word>); a value with spaces is "
                "quoted"
            )
        reader.read(token)
    reader.check_size()
    return tuple(reader.filters)


def free_text(text: str, vocabulary: Vocabulary) -> Words:
    """Read a line for a model that reads texts: conditions apart, it is one text without terms.

    QueryError also where a word has a sign or boost, which a text has not.
    """
    reader, said = _Reader(vocabulary, traces.TRACE), []
    for token in tokens(text):
        is_plain = token["sign"] is None and token["boost"] is None
        if token["key"] is not None or token["field"] not in NAMING:
            reader.read(token)
        elif token["field"] is None and is_plain:
            said.append(unquoted(token[0]))
        else:
            raise QueryError(f"free text has no signs, boosts or synsets: {token[0]:.60}")
    if not said:
        return reader.words()
    return Words((), filters=tuple(reader.filters), text=" ".join(said))


class _Reader:
    def __init__(self, vocabulary: Vocabulary, trace: float) -> None:
        self._vocabulary, self._traces = vocabulary, traces.Traces(vocabulary, trace)
        self._run: list[str] = []  # words side by side, which may form phrases
        self._first = ""  # the sign of the first of them
        self._weights: dict[str, float] = {}
        self._said: dict[traces.Said, None] = {}
        self.filters: dict[Filter, None] = {}
        self._near: dict[str, Resolution] = {}
        self._left_out: dict[str, bool] = {}  # and whether it has a minus wherever it stands
        self._both: dict[str, Resolution] = {}  # a color and synsets
        self.is_either = False
        self._shown: list[str] = []

    def read(self, token: re.Match[str], first: str | None = None, last: str = "") -> None:
        """Read what is no operator; ``first`` and ``last`` are what those beside it make of it."""
        self.check_size()  # as to look for what comes near a word takes a while
        sign = {"+": "+", None: ""}.get(token["sign"], "-")
        if token["word"] is not None and not sign and token["boost"] is None:
            if token["word"].startswith("score("):
                raise QueryError(
                    f"a condition on a score is such as score(tabby)>0.5, not {token[0]:.60}"
                )
            if self._names_file(token["word"]):
                self._end_run()
                self._add_filter("filename", [token["word"]], first or last)
                return
            if first is not None:
                self._end_run()
                self._first = first
            self._run.append(token["word"])
            if last:
                self._end_run(last)
            return
        self._end_run()
        sign = "-" if first == "-" else sign or first or last
        if token["key"] is not None:
            condition = {OPERATORS[token["compare"]]: number(token["number"], token[0])}
            self._add_filter(f"score({token['key'].strip()})", condition, sign)
        elif token["field"] is not None:
            self._read_field(token, sign)
        else:
            phrase = token["word"] if token["phrase"] is None else unquoted(token["phrase"])
            if self._names_file(phrase):
                self._add_filter("filename", [phrase], sign)
                return
            if phrase in self._left_out:
                self._leave_out(phrase, sign)
                return
            try:
                self._add(self._vocabulary.resolve(phrase), sign, token["boost"], token[0])
            except UnknownWordError:
                self._leave_out(phrase, sign)

    def _names_file(self, word: str) -> bool:
        """Whether a word is a picture's name, by which it is found."""
        return is_picture_name(word) and not self._vocabulary.named_by(word)

    def words(self) -> Words:
        self._end_run()
        hints = (
            *traces.chosen(self._weights, self._both),
            *map(traces.near_hint, self._near.values()),
            *traces.left_out(self._left_out, self._vocabulary),
        )
        described = traces.described(self._weights)
        beside = () if self.is_either else described
        wanted = [traces.Said("the other words", beside, "+")] if beside else []
        said = [*traces.meant(self._said, self._weights)]
        self.check_size()
        if not (said or self.filters or self._left_out):
            raise QueryError("there are no words to search for; write some, such as tabby cat")
        return Words(
            terms=synset_vector(Term(key, weight) for key, weight in self._weights.items()),
            signs=tuple(dict.fromkeys(self._traces.signs([*said, *wanted]))),
            filters=tuple(self.filters),
            hints=hints,
            left_out=tuple(self._left_out),
            unwanted=tuple(word for word, is_excluded in self._left_out.items() if is_excluded),
            text=self._canonical(is_either=self.is_either and bool(described)),
            counts=self._traces.counted(said),
        )

    def check_size(self) -> None:
        """QueryError where there is more than a store answers in good time."""
        if len(self._shown) + len(self.filters) + len(self._left_out) > MAX_PARTS:
            raise QueryError(f"a query has at most {MAX_PARTS} words and conditions")

    def _end_run(self, last: str = "") -> None:
        found = _phrases(" ".join(self._run), self._vocabulary)
        for i, resolution in enumerate(found, start=1):
            own = self._first if i == 1 else ""
            self._add(resolution, own or (last if i == len(found) else ""))
        self._run, self._first = [], ""

    def _add(
        self, found: Resolution, sign: str = "", boost: str | None = None, place: str = ""
    ) -> None:
        """What a word or phrase names or comes near; what is neither is left out."""
        if not found.keys:
            self._leave_out(found.phrase, sign)
            return
        if found.how in ("near", "doubtful"):
            self._near[found.phrase] = found
        if found.color and sign != "-":
            self._both[found.phrase] = found
        also = (found.color,) if found.color else ()
        shown = found.phrase if _PLAIN.fullmatch(found.phrase) else quoted(found.phrase)
        self._add_synsets(found.keys, shown, sign, boost, place, found.weights, also)

    def _leave_out(self, phrase: str, sign: str) -> None:
        self._left_out[phrase] = sign == "-" and self._left_out.get(phrase, True)

    def _read_field(self, token: re.Match[str], sign: str) -> None:
        field, value = token["field"].removesuffix(":"), token["value"]
        if not token["field"].endswith(":"):  # width>=400, label=pets, label!=pets
            sign = ("" if sign == "-" else "-") if value.startswith("!") else sign
            value = value.lstrip("!=")
        if token["field"] in NAMING:
            found = _SYNSET.fullmatch(value)
            name = unquoted(found["name"]) if found else ""
            if found is None or not name:
                raise QueryError(f"{token[0]:.60} does not name one synset")
            by = {"synset": self._by_key, "wnid": self._by_wnid, "color": self._by_color}
            keys = by[field](name)
            shown = f"{field}:{shown_value(name) if field == 'synset' else name.lower()}"
            self._add_synsets(keys, shown, sign, found["boost"], token[0])
            return
        own, _, name = field.partition(".")
        if own == "metadata" and name[:1] in MARKS and name:
            field = f"metadata.{unquoted(name)}"
        if not is_field(field):
            raise QueryError(
                f"there is no field {field!r:.60}; there are synset, wnid, {', '.join(FIELDS)}, "
                "metadata.<name> and score(<word>). Quote a word that has a colon"
            )
        condition = value if field in ON_MAPS else condition_of(field, value, token[0])
        self._add_filter(field, condition, sign)

    def _add_filter(self, field: str, condition: Any, sign: str) -> None:
        where = {("-" if sign == "-" else "") + field: condition}
        self.filters.update(dict.fromkeys(parse_filters(where, self._vocabulary)))

    def _add_synsets(
        self,
        keys: tuple[str, ...],
        shown: str,
        sign: str,
        boost: str | None,
        place: str,
        near: tuple[float, ...] = (),
        also: tuple[str, ...] = (),
    ) -> None:
        self._said[traces.Said(shown, keys + also, sign)] = None
        if sign == "-":
            if boost is not None:
                raise QueryError(
                    f"what is excluded does not score, so it has no boost: {place:.60}"
                )
            self._shown.append(f"-{shown}")
            return
        weight = 1.0 if boost is None else float(number(boost, place))
        if not MIN_BOOST <= weight <= MAX_BOOST:
            raise QueryError(
                f"a boost is a number from {MIN_BOOST:f} to {MAX_BOOST:.0f}: {place:.60}"
            )
        for key, share in zip(keys, near or (1.0,) * len(keys), strict=True):
            self._weights[key] = max(weight * share, self._weights.get(key, 0.0))
        ending = "" if weight == 1 else f"^{int(weight) if weight.is_integer() else weight!r}"
        self._shown.append(f"{sign}{shown}{ending}")

    def _by_color(self, name: str) -> tuple[str, ...]:
        if key := traces.color_key(name, self._vocabulary):
            return (key,)
        known = f"there is no color {name!r:.60}; there are {', '.join(COLORS)}"
        raise QueryError(traces.why_unknown(COLOR + name, self._vocabulary) or known)

    def _by_key(self, key: str) -> tuple[str, ...]:
        if key in self._vocabulary:
            return (key,)
        try:
            return self._vocabulary.hyponyms(key)
        except KeyError:
            near = [f"synset:{found}" for found in self._keys_like(key)]
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise QueryError(f"no synset has the key {key!r:.60}{hint}") from None

    def _keys_like(self, name: str) -> list[str]:
        try:
            return [sense.key for sense in self._vocabulary.resolve(name).senses][:3]
        except UnknownWordError as error:
            near = (self._vocabulary.resolve(word).senses[0] for word in error.suggestions)
            return list(dict.fromkeys(sense.key for sense in near))

    def _by_wnid(self, wnid: str) -> tuple[str, ...]:
        for synset in (*self._vocabulary.synsets, *self._vocabulary.ancestors):
            if synset.wnid == wnid.lower():
                return self._by_key(synset.key)
        raise QueryError(f"no synset of this index has the wnid {wnid!r:.60}, such as n02099601")

    def _canonical(self, *, is_either: bool) -> str:
        """The words; plain ones are quoted where side by side they would form other phrases.

        One OR says that colors are asked for as the synsets are, where that matters.
        """
        shown: list[str] = []
        for are_plain, group in groupby(self._shown, key=lambda text: bool(_PLAIN.fullmatch(text))):
            words = list(group)
            if are_plain:
                phrases = [item.phrase for item in _phrases(" ".join(words), self._vocabulary)]
                words = words if phrases == words else [quoted(word) for word in words]
            shown += words
        return " ".join([*shown[:1], "OR", *shown[1:]] if is_either else shown)


def _phrases(text: str, vocabulary: Vocabulary) -> tuple[Resolution, ...]:
    """What the words side by side name; nothing where all are stop words."""
    try:
        return vocabulary.resolve_text(text)
    except QueryError:
        return ()
