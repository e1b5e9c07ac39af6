"""Words and phrases: their one spelling, near misses, and which keys they name, also in a text."""

from __future__ import annotations

import lzma
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import nsmallest
from itertools import count
from operator import itemgetter
from pathlib import Path

from imgsearch_es.errors import QueryError, UnknownWordError

_STOP_WORDS = """
    a an and are as at be being by for from has have his her i in into is it its near next of on
    onto or our out over some that the their them there these they this those to under up very
    was we were which while with my your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that mean nothing alone in a query; within a phrase they do (black and tan coonhound)."""

_APOSTROPHES = frozenset("'’‘‛ʼʻ′`´＇")
_DIACRITICS = re.compile("[\u0300-\u036f]")
_QUOTED = re.compile('"([^"]*)"|([^"]+)')
_QUOTATION_MARKS = str.maketrans("“”„‟«»＂", '"' * 7)
_LONGEST, _CANDIDATES = 80, 40
"""Characters of a phrase that gets suggestions; known words with which each of its is compared."""

# WordNet's rules of detachment for nouns, https://wordnet.princeton.edu/documentation/morphy7wn
_DETACHMENTS = {
    "s": "", "ses": "s", "xes": "x", "zes": "z",
    "ches": "ch", "shes": "sh", "men": "man", "ies": "y",
}  # fmt: skip


@lru_cache(maxsize=4096)
def _is_word_character(character: str) -> bool:
    """Whether a character is part of a word: not a space, control, dash or other punctuation."""
    return character in _APOSTROPHES or unicodedata.category(character)[0] not in "PZC"


_ASCII_FORMS = {
    code: None if c in _APOSTROPHES else c.lower() if _is_word_character(c) else " "
    for code, c in enumerate(map(chr, range(128)))
}


def normalize(text: str) -> str:
    """The one spelling that all variants of a phrase share.

    Compatibility forms, case, accents and apostrophes are dropped; spaces, hyphens, underscores
    and other punctuation are each one space: ``Jack-o’-lantern`` is ``jack o lantern``.
    """
    if text.isascii():
        return " ".join(text.translate(_ASCII_FORMS).split())
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = unicodedata.normalize("NFKC", _DIACRITICS.sub("", text))
    kept = (c if _is_word_character(c) else " " for c in text.casefold() if c not in _APOSTROPHES)
    return " ".join("".join(kept).split())


def word_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every word of a text; hyphens and underscores separate words."""
    ends = [i for i, character in enumerate(text + " ") if not _is_word_character(character)]
    spans = zip((0, *(end + 1 for end in ends)), ends, strict=False)
    return [(start, end) for start, end in spans if normalize(text[start:end])]


def split_quoted(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a text, each with whether it was in quotation marks, straight or not."""
    for quoted, plain in _QUOTED.findall(text.translate(_QUOTATION_MARKS)):
        if quoted.strip() or plain.strip():
            yield (quoted, True) if quoted else (plain, False)


def singulars(phrase: str) -> Iterator[str]:
    """What a normalized phrase may be the plural of, one word changed, last word first."""
    words = phrase.split(" ")
    for position, word in reversed([*enumerate(words)]):
        found = list(_irregular_plurals().get(word, ()))
        if len(word) > 2 and not word.endswith("ss"):
            found += [
                word.removesuffix(suffix) + ending
                for suffix, ending in _DETACHMENTS.items()
                if word.endswith(suffix) and word != suffix
            ]
        for singular in found:
            yield " ".join([*words[:position], singular, *words[position + 1 :]])


@lru_cache(maxsize=1)
def _irregular_plurals() -> Mapping[str, tuple[str, ...]]:
    """WordNet's irregular nouns, plural to singulars."""
    found: dict[str, tuple[str, ...]] = {}
    for line in table("plurals.tsv"):
        plural, singular = line.split("\t")
        found[plural] = (*found.get(plural, ()), singular)
    return found


def table(name: str) -> Iterator[str]:
    """The lines of a table, compressed or not, without its heading."""
    path = Path(__file__).with_name(name)
    with (lzma.open if path.suffix == ".xz" else open)(path, "rt", encoding="utf-8") as file:
        next(file)
        for line in file:
            yield line.rstrip("\n")


def safe_keys(labels: Sequence[str]) -> list[str]:
    """One distinct key per label that Elasticsearch takes as field and feature name.

    A key has ``_`` for what has a meaning there; it is 1 to 200 characters long and differs from
    all others by more than case. Labels that would share a key are all numbered.
    """
    keys = [_safe_key(label) for label in labels]
    holders = Counter(key.casefold() for key in keys)
    taken = set(holders)
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(1))
    for position, key in enumerate(keys):
        if holders[key.casefold()] > 1:
            suffixes = (f"_{number}" for number in numbers[key.casefold()])
            numbered = (key[: 200 - len(suffix)] + suffix for suffix in suffixes)
            keys[position] = next(name for name in numbered if name.casefold() not in taken)
            taken.add(keys[position].casefold())
    return keys


def _safe_key(label: str) -> str:
    text = unicodedata.normalize("NFKC", label)
    unsafe = (c in '.*,^"\\:()<>{}' or unicodedata.category(c)[0] in "CZ" for c in text)
    text = "".join("_" if bad else c for c, bad in zip(text, unsafe, strict=True))
    return re.sub("_{2,}", "_", text)[:200].strip("_") or "label"


class Spelling:
    """Finds the known phrases nearest to a misspelled or partial one.

    A phrase is near when, without its spaces, it resembles the one sought, or has words that
    resemble those sought: by difflib's ratio, for those that share the most pairs of letters.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._phrases: dict[str, str] = {}
        for phrase in phrases:
            self._phrases.setdefault(normalize(phrase), phrase)
        self._holders: defaultdict[str, set[str]] = defaultdict(set)  # word -> phrases with it
        self._joined: dict[str, str] = {}  # phrase without spaces -> phrase
        for form in filter(None, self._phrases):
            self._joined.setdefault(form.replace(" ", ""), form)
            for word in form.split(" "):
                self._holders[word].add(form)
        self._postings: defaultdict[str, list[str]] = defaultdict(list)  # pair of letters -> words
        for entry in {**self._holders, **self._joined}:
            for pair in _pairs(entry):
                self._postings[pair].append(entry)

    def rank(self, phrase: str) -> list[tuple[float, str]]:
        """(resemblance from 0.75 to 1, known phrase), best first."""
        form = normalize(phrase)
        if not 0 < len(form) <= _LONGEST:
            return []
        near = self._near(form.replace(" ", "")).items()
        scores = {self._joined[entry]: score for entry, score in near if entry in self._joined}
        words = form.split(" ")
        by_words: defaultdict[str, float] = defaultdict(float)
        for word in words:
            best: dict[str, float] = {}
            for entry, score in sorted(self._near(word).items(), key=itemgetter(1)):
                best |= dict.fromkeys(self._holders.get(entry, ()), score)
            for holder, score in best.items():
                by_words[holder] += score
        for holder, total in by_words.items():
            scores[holder] = max(scores.get(holder, 0.0), 0.9 * total / len(words))
        ranked = sorted((-score, len(form), form) for form, score in scores.items())
        return [(-score, self._phrases[form]) for score, _, form in ranked if -score >= 0.75]

    def _near(self, word: str) -> dict[str, float]:
        """The known words and joined phrases that resemble a word, with how much."""
        from difflib import SequenceMatcher

        pairs = _pairs(word)
        shared = Counter(entry for pair in pairs for entry in self._postings.get(pair, ()))
        matcher = SequenceMatcher(autojunk=False, b=word)
        near = {}
        for entry in nsmallest(
            _CANDIDATES, shared, key=lambda e: (-shared[e] / (len(pairs) + len(e) + 1), e)
        ):
            matcher.set_seq1(entry)
            swapped = 0.85 if len(entry) == len(word) and sorted(entry) == sorted(word) else 0.0
            if (score := max(matcher.ratio(), swapped)) >= 0.75:
                near[entry] = score
        return near


def _pairs(word: str) -> set[str]:
    padded = f" {word} "
    return {padded[i : i + 2] for i in range(len(padded) - 1)}


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
        self._written = {*map(_inner, (*self._exact, *self._spoken))}  # found so, even over commas
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
            if quoted:
                known = self.find(part) or self.find_near(part)
                found.append(known or Match(part.strip(), (), "unknown"))
            else:
                found += self._phrases(part)
        if not found:
            raise _no_words(text)
        return found

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


def _inner(text: str) -> str:
    """From the first word to the last, without what stands around them, such as parentheses."""
    spans: _Spans = () if text[:1].isalnum() and text[-1:].isalnum() else word_spans(text)
    return _slice(text, spans, 0, len(spans)) if spans else text


def _is_broken(text: str, spans: _Spans, start: int, end: int) -> bool:
    """Whether something stronger than a space, hyphen or dot separates the words of a phrase."""
    gaps = (text[spans[i][1] : spans[i + 1][0]] for i in range(start, end - 1))
    return any(gap.translate(_WEAK_SEPARATORS).strip() for gap in gaps)
