"""The fenced blocks of README and docs, as tests see them.

A comment before a block says that tests run it: ``<!-- run -->``, or where it needs a server
``<!-- run on elasticsearch -->``. What it prints is written in a console block below the command,
and for Python in a block without a language right after it. Numbers may differ a little, and
``...`` stands for the rest of a line.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>run[^>]*?) -->\n)?(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)"
    r"^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_PROGRESS = re.compile(r"\d+ (?:of \d+|exported|added, \d+ updated, \d+ rejected)")
"""What a command says that takes more than ten seconds, as on a busy machine."""
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)([,;:?%)]*)")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: where it stands.
        line: of its first line of text, from 1.
        language: "python", "console", ...; "" where none is said.
        text: without the indentation of the fence.
        mark: "run", "run on elasticsearch", or "".
        prints: lines that it promises to print; None where it promises nothing.
    """

    page: Path
    line: int
    language: str
    text: str
    mark: str
    prints: tuple[str, ...] | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block, each on one line."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    matches = list(_FENCE.finditer(text))
    found = []
    for i, match in enumerate(matches):
        body = textwrap.dedent(match["text"])
        prints = None
        if match["language"] == "console":
            printed = body.replace("\\\n", " ").splitlines()
            prints = tuple(line for line in printed if not line.startswith("$ ")) or None
        elif i + 1 < len(matches) and not text[match.end() : matches[i + 1].start()].strip():
            after = matches[i + 1]
            if not after["language"]:
                prints = tuple(after["text"].splitlines())
        line = text.count("\n", 0, match.start("text")) + 1
        mark = match["mark"] or ""
        found.append(Block(page, line, match["language"], body, mark, prints))
    return found


def check_printed(printed: str, promised: tuple[str, ...], where: str) -> None:
    """Compare what was printed with what the page says, word by word."""
    said = [line for line in printed.splitlines() if not _PROGRESS.fullmatch(line)]
    lines = [line.split() for line in said if line.strip(" ─")]
    wanted = [line.split() for line in promised if line.strip(" ─")]
    assert len(lines) == len(wanted), f"{where} prints\n{printed}"
    for words, promise in zip(lines, wanted, strict=True):
        if promise[-1] == "...":
            promise = promise[:-1]
            words = words[: len(promise)]
        assert len(words) == len(promise), f"{where}: {words} for {promise}"
        for word, wish in zip(words, promise, strict=True):
            assert word_is(word, wish), f"{where}: {word} for {wish} in {' '.join(words)}"


def word_is(word: str, wish: str) -> bool:
    """Whether words are the same; the last digits depend on the processor and on TensorFlow."""
    got, want = _NUMBER.fullmatch(word), _NUMBER.fullmatch(wish)
    if got is None or want is None or got[2] != want[2]:
        return word == wish
    return float(got[1]) == pytest.approx(float(want[1]), rel=0.03, abs=0.006)
