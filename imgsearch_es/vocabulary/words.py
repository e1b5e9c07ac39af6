"""Words and phrases: one spelling for all variants, singulars of plurals, and near misses."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import nsmallest
from itertools import count
from operator import itemgetter
from pathlib import Path

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
_LONGEST = 80
"""Longer phrases than this, in characters, get no suggestions."""

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
    spans: list[tuple[int, int]] = []
    start = 0
    for position, character in enumerate(text + " "):
        if not _is_word_character(character):
            if normalize(text[start:position]):
                spans.append((start, position))
            start = position + 1
    return spans


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
    table: dict[str, tuple[str, ...]] = {}
    path = Path(__file__).with_name("plurals.tsv")
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        plural, singular = line.split("\t")
        table[plural] = (*table.get(plural, ()), singular)
    return table


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

    A phrase is near when, without its spaces, it resembles the one sought, or when it has words
    that resemble those sought. Resemblance is difflib's ratio, computed only for the candidates
    that share the most pairs of letters.
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

    def _near(self, word: str, candidates: int = 40) -> dict[str, float]:
        """The known words and joined phrases that resemble a word, with how much."""
        from difflib import SequenceMatcher

        pairs = _pairs(word)
        shared = Counter(entry for pair in pairs for entry in self._postings.get(pair, ()))
        matcher = SequenceMatcher(autojunk=False, b=word)
        near = {}
        for entry in nsmallest(
            candidates, shared, key=lambda e: (-shared[e] / (len(pairs) + len(e) + 1), e)
        ):
            matcher.set_seq1(entry)
            swapped = 0.85 if len(entry) == len(word) and sorted(entry) == sorted(word) else 0.0
            if (score := max(matcher.ratio(), swapped)) >= 0.75:
                near[entry] = score
        return near


def _pairs(word: str) -> set[str]:
    padded = f" {word} "
    return {padded[i : i + 2] for i in range(len(padded) - 1)}
