"""Looks words and phrases up: which keys they name or come near, alone or in running text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from imgsearch_es.errors import QueryError, UnknownWordError
from imgsearch_es.vocabulary.words import (
    STOP_WORDS,
    Spelling,
    normalize,
    singulars,
    split_quoted,
    word_spans,
)

# What may separate the words of one phrase, beside spaces.
_WEAK_SEPARATORS = dict.fromkeys(map(ord, "-_.\u2010\u2011\u2012\u2013"))
_Spans = Sequence[tuple[int, int]]
_READ = 32
"""Words of a text in which near misses of several words are looked for."""


@dataclass(frozen=True)
class Match:
    """What a phrase names: the keys, and how.

    ``how`` is "plural" or the table in which it was found; "near" where it names nothing, but comes
    near to the keys, by ``weights``; and "unknown" where there are no keys.
    """

    phrase: str
    keys: tuple[str, ...]
    how: str
    weights: tuple[float, ...] = ()


class Lexicon:
    """Finds phrases in tables of (text, key), whatever their case, accents and hyphens.

    A key written exactly is found first. ``spoken`` are the phrases to suggest; ``near`` gives the
    keys to which a normalized phrase comes near, with weights, and ``alike`` phrases to suggest.
    """

    def __init__(
        self,
        keys: Iterable[str],
        tables: Mapping[str, Iterable[tuple[str, str]]],
        spoken: Iterable[str],
        *,
        near: Callable[[str], Mapping[str, float]] = lambda form: {},
        alike: Callable[[str], Sequence[str]] = lambda word: (),
    ) -> None:
        self._exact = {key: (key,) for key in keys}
        self._tables = {how: _table(pairs) for how, pairs in tables.items()}
        self._spoken = tuple(spoken)
        self._near, self._alike = near, alike
        self._written = {*self._exact, *self._spoken}  # found so, even over commas
        self._longest = max(
            form.count(" ") + 1 for table in self._tables.values() for form in table
        )

    def find(self, phrase: str) -> Match | None:
        """What a word or phrase names: the exact key, by the tables, by these for its singular."""
        phrase = phrase.strip()
        if phrase in self._exact:
            return Match(phrase, self._exact[phrase], "key")
        form = _form(phrase)
        if found := self._look_up(form):
            return Match(phrase, found[1], found[0])
        if form.count(" ") < self._longest:
            for singular in singulars(form):
                if found := self._look_up(singular):
                    return Match(phrase, found[1], "plural")
        return None

    def find_near(self, phrase: str) -> Match | None:
        """What a word or phrase comes near."""
        form = _form(phrase)
        forms = (form, *singulars(form)) if form.count(" ") < self._longest else ()
        for one in forms:
            if near := self._near(one):
                return Match(phrase.strip(), tuple(near), "near", tuple(near.values()))
        return None

    def find_one(self, phrase: str) -> Match:
        """What a word or phrase names; see ``Vocabulary.resolve``."""
        if found := self.find(phrase) or self.find_near(phrase):
            return found
        if not phrase.strip():
            raise _no_words(phrase)
        raise UnknownWordError(phrase.strip(), self.suggest(phrase))

    def find_all(self, text: str) -> list[Match]:
        """What the phrases of a text name, in order; see ``Vocabulary.resolve_text``."""
        found: list[Match] = []
        for part, quoted in split_quoted(text):
            found.extend([self._quoted(part)] if quoted else self._phrases(part))
        if not found:
            raise _no_words(text)
        return found

    def _quoted(self, part: str) -> Match:
        try:
            return self.find_one(part)
        except UnknownWordError as error:
            return Match(error.word, (), "unknown")

    def suggest(self, word: str, limit: int = 3) -> tuple[str, ...]:
        """Known phrases that are alike, then those that resemble a word or contain it."""
        spelled = (phrase for _, phrase in self._spelling.rank(word)[:limit])
        return tuple(dict.fromkeys([*self._alike(word), *spelled]))[:limit]

    def _look_up(self, form: str) -> tuple[str, tuple[str, ...]] | None:
        found = ((how, table[form]) for how, table in self._tables.items() if form in table)
        return next(found, None)

    def _phrases(self, text: str) -> Iterator[Match]:
        """What the phrases of an unquoted text name, greedily from the left."""
        spans = word_spans(text)
        start = 0
        while start < len(spans):
            if longest := self._longest_at(text, spans, start):
                match, start = longest
                yield match
            elif _is_stop_word(_slice(text, spans, start, start + 1)):
                start += 1
            else:
                match, start = self._near_at(text, spans, start)
                yield match

    def _longest_at(self, text: str, spans: _Spans, start: int) -> tuple[Match, int] | None:
        """What the longest phrase from a word on names, and the word after it."""
        for end in range(min(len(spans), start + self._longest), start, -1):
            phrase = _slice(text, spans, start, end)
            if phrase not in self._written and _is_broken(text, spans, start, end):
                continue
            match = self.find(phrase)
            # Alone, a stop word counts only where it is itself a key or label ("on", "off"),
            # not as the lemma that "being" is of organism.
            if match and (match.how in ("key", "name") or not _is_stop_word(phrase)):
                return match, end
        return None

    def _near_at(self, text: str, spans: _Spans, start: int) -> tuple[Match, int]:
        """What the longest phrase from an unknown word on comes near; else the word alone."""
        end = start + 1
        while (
            end < min(len(spans), start + self._longest)
            and not _is_broken(text, spans, start, end + 1)
            and not self._longest_at(text, spans, end)
        ):
            end += 1
        phrases = [(_slice(text, spans, start, stop), stop) for stop in range(end, start, -1)]
        for phrase, stop in phrases:
            if match := self.find_near(phrase):
                return match, stop
        # A near miss may have several words; of a long text nobody waits for its suggestions.
        for phrase, stop in phrases[:-1] if len(spans) <= _READ else ():
            if _is_stop_word(_slice(text, spans, stop - 1, stop)):
                continue
            if (ranked := self._spelling.rank(phrase)) and ranked[0][0] > 0.85:
                return Match(phrase, (), "unknown"), stop
        word, stop = phrases[-1]
        return Match(word, (), "unknown"), stop

    @cached_property
    def _spelling(self) -> Spelling:
        return Spelling(self._spoken)


def _no_words(text: str) -> QueryError:
    return QueryError(f"there is no word to search for in {text!r}; write one, such as 'tabby cat'")


def _form(text: str) -> str:
    return normalize(text) or text.strip()  # a label may be all punctuation


def _table(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    table: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for text, key in pairs:
        table[_form(text)][key] = None
    return {form: tuple(keys) for form, keys in table.items()}


def _is_stop_word(word: str) -> bool:
    return normalize(word) in STOP_WORDS


def _slice(text: str, spans: _Spans, start: int, end: int) -> str:
    return text[spans[start][0] : spans[end - 1][1]]


def _is_broken(text: str, spans: _Spans, start: int, end: int) -> bool:
    """Whether something stronger than a space, hyphen or dot separates the words of a phrase."""
    gaps = (text[spans[i][1] : spans[i + 1][0]] for i in range(start, end - 1))
    return any(gap.translate(_WEAK_SEPARATORS).strip() for gap in gaps)
