"""A line of the query language in its parts: words, phrases, fields and conditions on scores.

And how it may go on while it is being typed: by synsets, their lemmas and hypernyms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from imgsearch_es.errors import QueryError
from imgsearch_es.pictures.sources import is_picture_name
from imgsearch_es.retrieval.conditions import NAMES, NUMBER_FIELDS, SIGNS, quoted
from imgsearch_es.retrieval.spans import is_range, to_number
from imgsearch_es.vocabulary.colors import COLOR
from imgsearch_es.vocabulary.synsets import Vocabulary
from imgsearch_es.vocabulary.words import STOP_WORDS, normalize

MAX_LENGTH = 10_000
"""Characters in a line."""

MARKS = '"“”„‟«»＂'
_CURLY = MARKS[1:]
QUOTED = rf'(?:"(?:[^"\\]|\\.)*"|[{_CURLY}](?:[^{_CURLY}\\]|\\.)*[{_CURLY}])'
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(
    r"(?P<sign>(?<!\S)[-+−–])?(?:"
    r"score\((?P<key>[^()]*)\)\s*(?P<compare>[<>]=?)\s*(?P<number>\S*)"
    rf"|(?P<field>(?:{'|'.join(NAMES)}|metadata\.[^\s:=<>!{MARKS}]+)(?=!?=|[<>])"
    rf"|[^\s:{MARKS}]*{QUOTED}?:)(?P<value>(?:{QUOTED}|[^\s{MARKS}])*)"
    rf"|(?:(?P<phrase>{QUOTED})|(?P<word>[^\s^:{MARKS}]+))(?:\^(?P<boost>[^\s{MARKS}]*))?"
    r")",
    re.DOTALL,
)
OPERATORS = {sign: operator for operator, sign in SIGNS.items()}
NAMING = (None, "synset:", "wnid:", COLOR)
"""Fields of a token that is a word, and no condition."""
_VALUE_PART = re.compile(rf"(?P<quoted>{QUOTED})|(?P<comma>,)|[^,{MARKS}]+", re.DOTALL)


def tokens(text: str) -> Iterator[re.Match[str]]:
    """The parts of a line, each with its groups: sign, field, value, phrase, word, boost, key."""
    if not isinstance(text, str):
        raise QueryError(f"words are one text, such as 'tabby cat', not {text!r:.60}")
    if len(text) > MAX_LENGTH:
        raise QueryError(f"a query has at most {MAX_LENGTH} characters, not {len(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(f"the query is no text: it has half a character: {text!r:.60}") from error
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        place = text[position : position + 60]
        if text[position] == "^":
            raise QueryError(f"a boost follows its word without a space, as in dog^2: {place}")
        token = _TOKEN.match(text, position)
        if token is None or (token["field"] is not None and text[token.end() :][:1] in (*MARKS,)):
            raise QueryError(f"a quotation mark is not closed: {place}")
        if (token["word"] or "x").strip("-+−–"):  # a sign alone means nothing
            yield token
        position = token.end()


def operator(token: re.Match[str] | None) -> str:
    """AND, OR or NOT in capitals, which stand alone; empty for anything else."""
    return token[0] if token is not None and token[0] in ("AND", "OR", "NOT") else ""


def selects(token: re.Match[str] | None) -> bool:
    """Whether what stands beside OR is a condition, or begins to negate something."""
    if token is None or operator(token):
        return operator(token) == "NOT"
    return token["key"] is not None or token["field"] not in NAMING


def shown_phrase(phrase: str) -> str:
    """A known phrase as it is written in a line: quoted where it would not be words alone."""
    try:
        found = [token for token in tokens(phrase) if not operator(token) and not token["sign"]]
    except QueryError:
        return quoted(phrase)
    words = [token["word"] or "" for token in found if token["boost"] is None]
    is_plain = words == phrase.split() and "score(" not in phrase
    is_plain = is_plain and not STOP_WORDS.issuperset(normalize(phrase).split())
    return quoted(phrase) if not is_plain or any(map(is_picture_name, words)) else phrase


def unquoted(text: str) -> str:
    """A text without its quotation marks, if it has any."""
    if text[:1] not in MARKS or not text:
        return text
    return re.sub(rf"\\([\\{MARKS}])", r"\1", text[1:-1])


def number(text: str, place: str) -> int | float:
    """The number that a text is; ``place`` is where, for a QueryError."""
    if not _NUMBER.fullmatch(text):
        raise QueryError(f"{text!r:.60} is not a number: {place:.60}")
    return to_number(text)


def alternatives(value: str, place: str, several: bool = True) -> list[tuple[str, bool]]:
    """The values between commas, each with whether it is a pattern."""
    values: list[list[tuple[str, bool]]] = [[]]
    for part in _VALUE_PART.finditer(value):
        if part["comma"] and several:
            values.append([])
        else:
            text = unquoted(part[0]) if part["quoted"] else part[0]
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


def condition_of(field: str, value: str, place: str) -> Any:
    """The value of a condition as ``parse_filters`` takes it."""
    if sign := re.match("[<>]=?", value):
        ((operand, _),) = alternatives(value[sign.end() :], place, several=False)
        limit = number(operand, place) if field in NUMBER_FIELDS else operand
        return {OPERATORS[sign[0]]: limit}
    values = alternatives(value, place)
    if any(is_pattern for _, is_pattern in values):
        if len(values) > 1:
            raise QueryError(f"a pattern with * or ? stands alone, without commas: {place:.60}")
        return {"wildcard": values[0][0]}
    if field in NUMBER_FIELDS:
        return [text if is_range(text) else number(text, place) for text, _ in values]
    return [text for text, _ in values]


# -- completing the last word ----------------------------------------------------------------------

LIMIT = 12
_BEGINNING = re.compile(r"(?<![^\s+\-])[^\s+\-]")
_SIGN = re.compile(r"(?:^|\s)[+\-]$")


def complete(vocabulary: Vocabulary, text: str, limit: int = LIMIT) -> list[str]:
    """The ways in which a query may go on, as whole queries; phrases that begin so come first.

    A phrase may have several words, so of "a golden re" not only "re" is looked at but also
    "golden re", the longest first: "a golden retriever". A quotation that has not ended is one
    phrase, and after a sign a phrase of several words is put in quotation marks.
    """
    for start in _starts(text):
        typed = text[start:].lstrip('"')
        signed = _SIGN.search(text[:start]) or text[start:] != typed
        found = []
        for phrase in phrases(vocabulary, typed, limit):
            shown = quoted(phrase) if signed and " " in phrase else shown_phrase(phrase)
            found.append(text[:start] + shown)
        if found := [whole for whole in found if whole != text]:
            return found
    return []


def phrases(vocabulary: Vocabulary, typed: str, limit: int = LIMIT) -> list[str]:
    """The phrases that begin as typed, then those with a later word that does; shortest first."""
    form, spoken = normalize(typed), _spoken(vocabulary)
    if not form:
        return []
    whole = [phrase for words, phrase in spoken.items() if words.startswith(form)]
    later = [phrase for words, phrase in spoken.items() if f" {form}" in words]
    found = [*sorted(sorted(whole), key=len), *sorted(sorted(later), key=len)]
    return list(dict.fromkeys(found))[:limit]


def _starts(text: str) -> list[int]:
    """Where the phrase that is being typed may begin, the longest first."""
    if text.count('"') % 2:
        return [text.rindex('"')]
    if not text or text[-1].isspace():
        return []
    begin = text.rfind('"') + 1
    return [begin + place.start() for place in _BEGINNING.finditer(text[begin:])]


@lru_cache(maxsize=4)
def _spoken(vocabulary: Vocabulary) -> dict[str, str]:
    spoken: dict[str, str] = {}
    names = (synset.name.replace("_", " ") for synset in (*vocabulary, *vocabulary.ancestors))
    for phrase in (*names, *(word for word, _ in vocabulary.spoken)):
        spoken.setdefault(normalize(phrase), phrase)
    return spoken
