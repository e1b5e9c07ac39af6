"""The language of queries: one line of words and conditions.

    tabby cat                   words; the longest phrase that names a synset counts
    "golden retriever"          a phrase that is kept whole
    dog^2 ball                  a boost: the weight of the word or quoted phrase that it touches
    +beach dog                  a hit must have a synset of the word with a plus
    dog -poodle                 and none of a word with a minus
    synset:golden_retriever     a synset by its exact key; wnid:n02099601 by its WordNet identifier
    label:pets width:>=800      conditions, which select and do not score; -label:pets negates
    score(tabby)>0.5            a condition on the picture's score of one synset

Reading a line gives ``Words``, whose ``str`` is its canonical form: reading that gives the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.retrieval.conditions import (
    FIELDS,
    NEAR,
    NUMBER_FIELDS,
    SIGNS,
    Filter,
    is_field,
    parse_filters,
    quoted,
)
from imgsearch_es.retrieval.queries import synset_vector
from imgsearch_es.retrieval.spans import is_range
from imgsearch_es.vocabulary.synsets import Resolution, Vocabulary

MAX_LENGTH = 10_000
"""Characters in a line."""
MAX_PARTS = 256
"""Words and conditions in a line."""
MIN_BOOST, MAX_BOOST = 1e-6, 1e6

_MARKS = '"“”„‟«»＂'
_CURLY = _MARKS[1:]
_QUOTED = rf'(?:"(?:[^"\\]|\\.)*"|[{_CURLY}](?:[^{_CURLY}\\]|\\.)*[{_CURLY}])'
_TOKEN = re.compile(
    r"(?P<sign>(?<!\S)[-+−–])?(?:"
    r"score\((?P<key>[^()]*)\)\s*(?P<compare>[<>]=?)\s*(?P<number>\S*)"
    rf"|(?P<field>[^\s:{_MARKS}]*{_QUOTED}?):(?P<value>(?:{_QUOTED}|[^\s{_MARKS}])*)"
    rf"|(?:(?P<phrase>{_QUOTED})|(?P<word>[^\s^:{_MARKS}]+))(?:\^(?P<boost>[^\s{_MARKS}]*))?"
    r")",
    re.DOTALL,
)
_VALUE_PART = re.compile(rf"(?P<quoted>{_QUOTED})|(?P<comma>,)|[^,{_MARKS}]+", re.DOTALL)
_SYNSET = re.compile(rf"(?P<name>{_QUOTED}|[^^]*)(?:\^(?P<boost>.*))?", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_PLAIN = re.compile(r"[^\W_][\w'’-]*")
_OPERATORS = {sign: operator for operator, sign in SIGNS.items()}


@dataclass(frozen=True, slots=True)
class Words:
    """What a line of words and conditions asks for.

    The fields are those of `Query`; ``text`` is the words in canonical form, without conditions.
    """

    terms: tuple[Term, ...]
    must_not: tuple[str, ...] = ()
    must: tuple[tuple[str, ...], ...] = ()
    filters: tuple[Filter, ...] = ()
    hints: tuple[str, ...] = ()
    text: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.text, *map(str, self.filters)]))


def parse_words(text: str, vocabulary: Vocabulary) -> Words:
    """Read a line of words and conditions.

    Each synset that the words name or include weighs 1, or the largest of its boosts.

    Raises:
        UnknownWordError: a word names no synset; carries suggestions.
        QueryError: the line has no words, is too long, or a part of it cannot be understood.
    """
    _check_text(text)
    reader = _Reader(vocabulary)
    for token in _tokens(text):
        reader.read(token)
    return reader.words()


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise QueryError(f"words are one text, such as 'tabby cat', not {text!r:.60}")
    if len(text) > MAX_LENGTH:
        raise QueryError(f"a query has at most {MAX_LENGTH} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the query is no text: it has half a character: {text!r:.60}") from error


def free_text(text: str, vocabulary: Vocabulary) -> Words:
    """Read a line for a model that reads texts: conditions apart, it is one text without terms.

    Raises:
        QueryError: as of `parse_words`; a word has a sign or boost, which a text has not.
    """
    _check_text(text)
    reader, said = _Reader(vocabulary), []
    for token in _tokens(text):
        is_plain = token["sign"] is None and token["boost"] is None
        if token["key"] is not None or token["field"] not in (None, "synset", "wnid"):
            reader.read(token)
        elif token["field"] is None and is_plain:
            said.append(_unquoted(token[0]))
        else:
            raise QueryError(f"free text has no signs, boosts or synsets: {token[0]:.60}")
    if not said:
        return reader.words()
    return Words((), filters=reader.filters, text=" ".join(said))


def _tokens(text: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        place = text[position : position + 60]
        if text[position] == "^":
            raise QueryError(f"a boost follows its word without a space, as in dog^2: {place}")
        token = _TOKEN.match(text, position)
        if token is None or (token["field"] is not None and text[token.end() :][:1] in (*_MARKS,)):
            raise QueryError(f"a quotation mark is not closed: {place}")
        if (token["word"] or "x").strip("-+−–"):  # a sign alone means nothing
            yield token
        position = token.end()


class _Reader:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._run: list[str] = []  # words side by side, which may form phrases
        self._weights: dict[str, float] = {}
        self._must: dict[tuple[str, ...], None] = {}
        self._must_not: dict[str, None] = {}
        self._filters: dict[Filter, None] = {}
        self._named: list[Resolution] = []
        self._shown: list[str] = []

    def read(self, token: re.Match[str]) -> None:
        sign = {"+": "+", None: ""}.get(token["sign"], "-")
        if token["word"] is not None and not sign and token["boost"] is None:
            if token["word"].startswith("score("):
                raise QueryError(
                    f"a condition on a score is such as score(tabby)>0.5, not {token[0]:.60}"
                )
            self._run.append(token["word"])
            return
        self._end_run()
        if token["key"] is not None:
            condition = {_OPERATORS[token["compare"]]: _number(token["number"], token[0])}
            self._add_filter(f"score({token['key'].strip()})", condition, sign)
        elif token["field"] is not None:
            self._read_field(token, sign)
        else:
            phrase = token["word"] if token["phrase"] is None else _unquoted(token["phrase"])
            resolution = self._vocabulary.resolve(phrase)
            self._add_synsets(resolution.keys, _shown(phrase), sign, token["boost"], token[0])
            if sign != "-":
                self._named.append(resolution)

    @property
    def filters(self) -> tuple[Filter, ...]:
        return tuple(self._filters)

    def words(self) -> Words:
        self._end_run()
        if len(self._shown) + len(self._filters) > MAX_PARTS:
            raise QueryError(f"a query has at most {MAX_PARTS} words and conditions")
        if not (self._weights or self._must_not or self._filters):
            raise QueryError("there are no words to search for; write some, such as tabby cat")
        hints = (_hint(item, set(self._weights), self._vocabulary) for item in self._named)
        return Words(
            terms=synset_vector(Term(key, weight) for key, weight in self._weights.items()),
            must_not=tuple(self._must_not),
            must=tuple(self._must),
            filters=tuple(self._filters),
            hints=tuple(dict.fromkeys(filter(None, hints))),
            text=self._canonical(),
        )

    def _end_run(self) -> None:
        for resolution in _phrases(" ".join(self._run), self._vocabulary):
            self._add_synsets(resolution.keys, _shown(resolution.phrase))
            self._named.append(resolution)
        self._run = []

    def _read_field(self, token: re.Match[str], sign: str) -> None:
        field, value = token["field"], token["value"]
        if field in ("synset", "wnid"):
            found = _SYNSET.fullmatch(value)
            name = _unquoted(found["name"]) if found else ""
            if found is None or not name:
                raise QueryError(f"{token[0]:.60} does not name one synset")
            keys = self._by_key(name) if field == "synset" else self._by_wnid(name)
            shown = f"{field}:{name if field == 'synset' else name.lower()}"
            self._add_synsets(keys, shown, sign, found["boost"], token[0])
            return
        own, _, name = field.partition(".")
        if own == "metadata" and name[:1] in _MARKS and name:
            field = f"metadata.{_unquoted(name)}"
        if not is_field(field):
            raise QueryError(
                f"there is no field {field!r:.60}; there are synset, wnid, {', '.join(FIELDS)}, "
                "metadata.<name> and score(<synset>). Quote a word that has a colon"
            )
        condition = value if field == NEAR else _condition(field, value, token[0])
        self._add_filter(field, condition, sign)

    def _add_filter(self, field: str, condition: Any, sign: str) -> None:
        where = {("-" if sign == "-" else "") + field: condition}
        self._filters.update(dict.fromkeys(parse_filters(where, self._vocabulary)))

    def _add_synsets(
        self,
        keys: tuple[str, ...],
        shown: str,
        sign: str = "",
        boost: str | None = None,
        place: str = "",
    ) -> None:
        if sign == "-":
            if boost is not None:
                raise QueryError(
                    f"what is excluded does not score, so it has no boost: {place:.60}"
                )
            self._must_not.update(dict.fromkeys(keys))
            self._shown.append(f"-{shown}")
            return
        weight = 1.0 if boost is None else float(_number(boost, place))
        if not MIN_BOOST <= weight <= MAX_BOOST:
            raise QueryError(
                f"a boost is a number from {MIN_BOOST:f} to {MAX_BOOST:.0f}: {place:.60}"
            )
        for key in keys:
            self._weights[key] = max(weight, self._weights.get(key, 0.0))
        if sign:
            self._must[keys] = None
        ending = "" if weight == 1 else f"^{int(weight) if weight.is_integer() else weight!r}"
        self._shown.append(f"{sign}{shown}{ending}")

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

    def _canonical(self) -> str:
        """The words; plain ones are quoted where side by side they would form other phrases."""
        shown: list[str] = []
        for are_plain, group in groupby(self._shown, key=lambda text: bool(_PLAIN.fullmatch(text))):
            words = list(group)
            if are_plain:
                phrases = [item.phrase for item in _phrases(" ".join(words), self._vocabulary)]
                words = words if phrases == words else [quoted(word) for word in words]
            shown += words
        return " ".join(shown)


def _phrases(text: str, vocabulary: Vocabulary) -> tuple[Resolution, ...]:
    """What the words side by side name; nothing where all are stop words."""
    try:
        return vocabulary.resolve_text(text)
    except UnknownWordError:
        raise
    except QueryError:
        return ()


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


def _condition(field: str, value: str, place: str) -> Any:
    """The value of a condition as ``parse_filters`` takes it."""
    if sign := re.match("[<>]=?", value):
        ((operand, _),) = _alternatives(value[sign.end() :], place, several=False)
        number = _number(operand, place) if field in NUMBER_FIELDS else operand
        return {_OPERATORS[sign[0]]: number}
    values = _alternatives(value, place)
    if any(is_pattern for _, is_pattern in values):
        if len(values) > 1:
            raise QueryError(f"a pattern with * or ? stands alone, without commas: {place:.60}")
        return {"wildcard": values[0][0]}
    if field in NUMBER_FIELDS:
        return [text if is_range(text) else _number(text, place) for text, _ in values]
    return [text for text, _ in values]


def _alternatives(value: str, place: str, several: bool = True) -> list[tuple[str, bool]]:
    """The values between commas, each with whether it is a pattern."""
    values: list[list[tuple[str, bool]]] = [[]]
    for part in _VALUE_PART.finditer(value):
        if part["comma"] and several:
            values.append([])
        else:
            text = _unquoted(part[0]) if part["quoted"] else part[0]
            values[-1].append((text, bool(part["quoted"])))
    found = []
    for parts in values:
        if not parts:
            raise QueryError(f"a value is missing: {place:.60}")
        plain = "".join(text for text, is_quoted in parts if not is_quoted)
        if "^" in plain:
            raise QueryError(f"a condition does not score, so it has no boost: {place:.60}")
        is_pattern = bool(re.search("[*?]", plain))
        if is_pattern and any(re.search("[*?]", text) for text, is_quoted in parts if is_quoted):
            raise QueryError(f"* and ? cannot be both a pattern and quoted: {place:.60}")
        found.append(("".join(text for text, _ in parts), is_pattern))
    return found


def _shown(phrase: str) -> str:
    return phrase if _PLAIN.fullmatch(phrase) else quoted(phrase)


def _unquoted(text: str) -> str:
    if text[:1] not in _MARKS or not text:
        return text
    return re.sub(rf"\\([\\{_MARKS}])", r"\1", text[1:-1])


def _number(text: str, place: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise QueryError(f"{text!r:.60} is not a number: {place:.60}")
    number = float(text)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number
