"""Words of other languages: the nouns of a wordnet in WN-LMF, by WordNet 3.0's synsets.

WN-LMF is the form of the Open Multilingual Wordnet, https://globalwordnet.github.io/schemas/. A
synset is WordNet's by its ``ili``, which numbers WordNet 3.0's nouns in order from i35545 on
(globalwordnet/cili, ili-map-pwn30.tab), or by an id that has WordNet 3.0's offset:
``omw-de-02084071-n``, ``eng-30-02084071-n``.
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import IO
from xml.parsers import expat

from imgsearch_es.errors import ConfigurationError
from imgsearch_es.vocabulary.wordnet import nouns

FIRST_NOUN = 35_545
MOST_BYTES, MOST_KEPT, LONGEST, LONGEST_TAG = 1 << 30, 1 << 28, 200, 1 << 20
"""Of a file when it is read, of its senses and synsets (their characters, and 64 for each), of the
characters of a word and the bytes of a tag."""
_ID = re.compile(r"(?:omw-[a-z_-]+|[a-z]{3}-30|pwn-30)-(\d{8})-n", re.IGNORECASE)
_ILI = re.compile(r"i(\d{1,7})")
_BLOCK = 1 << 16
_OPENED: Mapping[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.open, ".xz": lzma.open}  # type: ignore[dict-item]

Lexicon = tuple[tuple[str, str], ...]
"""(word, wnid) of nouns."""


def read_lexicon(path: str | os.PathLike[str]) -> Lexicon:
    """Read the nouns of a WN-LMF file, also compressed; ConfigurationError of any other file."""
    place = Path(path).expanduser()
    try:
        about = place.stat()
        found = _read(place, about.st_mtime_ns, about.st_size)
    except (OSError, EOFError, LookupError, lzma.LZMAError, expat.ExpatError, ValueError) as error:
        raise ConfigurationError(f"the lexicon {place} cannot be read: {error}") from error
    if not found:
        raise ConfigurationError(
            f"the lexicon {place} has no noun of WordNet 3.0: give a wordnet in WN-LMF whose "
            "synsets have an ili, or ids such as omw-de-02084071-n"
        )
    return found


@lru_cache(maxsize=2)
def _read(place: Path, changed_at: int, size: int) -> Lexicon:
    reader, read = _Reader(), 0
    with _OPENED.get(place.suffix.lower(), Path.open)(place, "rb") as file:  # type: ignore[call-arg]
        while block := file.read(_BLOCK):
            read += len(block)
            if read > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES >> 20:,} MB")
            reader.parser.Parse(block, False)
            if read - reader.parser.CurrentByteIndex > LONGEST_TAG:
                raise ValueError(f"it has a tag of more than {LONGEST_TAG >> 20} MB")
    reader.parser.Parse(b"", True)
    return reader.words()


class _Reader:
    """Reads the elements LexicalEntry, Lemma, Sense and Synset; all others are passed over."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EntityDeclHandler = self._refuse
        self._lemma = ""
        self._senses: dict[tuple[str, str], None] = {}
        self._ili: dict[str, str] = {}
        self._kept = 0

    def words(self) -> Lexicon:
        """The nouns that are WordNet's."""
        own = nouns()
        known = set(own)
        found: dict[tuple[str, str], None] = {}
        for word, synset in self._senses:
            number, by_id = _ILI.fullmatch(self._ili.get(synset, "")), _ID.fullmatch(synset)
            place = int(number[1]) - FIRST_NOUN if number else -1
            if 0 <= place < len(own):
                found[word, own[place]] = None
            elif not number and by_id and f"n{by_id[1]}" in known:
                found[word, f"n{by_id[1]}"] = None
        return tuple(found)

    def _start(self, name: str, given: dict[str, str]) -> None:
        if name == "Lemma":
            word = " ".join(given.get("writtenForm", "").replace("_", " ").split())
            is_noun = given.get("partOfSpeech", "n") == "n" and 0 < len(word) <= LONGEST
            self._lemma = word if is_noun else ""
        elif name == "Sense" and self._lemma:
            synset = given.get("synset", "")
            self._senses[self._lemma, synset] = None
            self._count(self._lemma, synset)
        elif name == "Synset" and given.get("ili"):
            self._ili[given.get("id", "")] = given["ili"]
            self._count(given.get("id", ""), given["ili"])

    def _count(self, *kept: str) -> None:
        self._kept += 64 + sum(map(len, kept))
        if self._kept > MOST_KEPT:
            raise ValueError("it has more senses and synsets than any wordnet")

    @staticmethod
    def _refuse(*declared: object) -> None:
        raise ValueError("it declares entities, which no wordnet needs")
