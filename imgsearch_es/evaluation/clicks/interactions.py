"""The interaction log read again: searches with what was clicked of them.

A line that is broken is counted and passed over: a log is written by many, and a crash may cut a
line off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgsearch_es.errors import LogError
from imgsearch_es.evaluation.clicks.log import aside

_NAMED = 20
"""Broken lines that are named; the rest is counted."""


@dataclass(slots=True)
class Shown:
    """One search: what was shown, over all its pages, and what was clicked.

    Attributes:
        search: its id.
        when: the time of its first page, ISO 8601.
        query: what was searched for; empty where the log does not keep it.
        strategy: the way that answered.
        ranks: documents and the ranks at which they were shown, from 1.
        teams: of interleaved hits: documents and whose they are.
        clicks: the documents clicked, each once, in the order of the first clicks.
    """

    search: str
    when: str
    query: str
    strategy: str
    ranks: dict[str, int] = field(default_factory=dict)
    teams: dict[str, str] = field(default_factory=dict)
    clicks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Interactions:
    """All that a log holds.

    Attributes:
        searches: in the order in which they were made.
        stray: clicks of searches that the log does not have, or of pictures that were not shown.
        broken: how many lines cannot be read.
        problems: where the first of them are, and why.
    """

    searches: tuple[Shown, ...]
    stray: int = 0
    broken: int = 0
    problems: tuple[str, ...] = ()


def read_interactions(path: str | os.PathLike[str]) -> Interactions:
    """Read a log, those of its files that were put aside first."""
    reader = _Reader()
    for file in _files(Path(path).expanduser()):
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, start=1):
                    reader.read(line, f"{file}, line {number}")
        except OSError as error:
            raise LogError(f"cannot read {file}: {error.strerror or error}") from error
    return reader.result()


def _files(path: Path) -> Iterator[Path]:
    number = 0
    while aside(path, number + 1).is_file():
        number += 1
    if not number and not path.exists():
        raise LogError(f"there is no log {path}: is it written yet?")
    for old in range(number, 0, -1):
        yield aside(path, old)
    if path.exists():  # a moment after it was put aside there is none
        yield path


class _Reader:
    def __init__(self) -> None:
        self._searches: dict[str, Shown] = {}
        self._clicks: list[tuple[str, str]] = []
        self._broken = 0
        self._problems: list[str] = []

    def read(self, line: bytes, where: str) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            event = row["event"]
            if event == "search":
                self._search(row)
            elif event == "click":
                self._clicks.append((_text(row["search"]), _text(row["document"])))
            else:
                raise ValueError(f"there is no event {event!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._broken += 1
            if len(self._problems) < _NAMED:
                missing = isinstance(error, KeyError)
                self._problems.append(f"{where}: {f'no {error}' if missing else error}")

    def _search(self, row: dict[str, Any]) -> None:
        first, documents = row["first"], [_text(each) for each in row["shown"]]
        teams = row.get("teams") or [None] * len(documents)
        if not isinstance(first, int) or first < 1 or len(teams) != len(documents):
            raise ValueError("the ranks or the teams do not fit what was shown")
        name = _text(row["search"])
        about = _text(row["when"]), str(row.get("query", "")), _text(row["strategy"])
        shown = self._searches.setdefault(name, Shown(name, *about))
        for rank, (document, team) in enumerate(zip(documents, teams, strict=True), start=first):
            shown.ranks.setdefault(document, rank)
            if team is not None:
                shown.teams.setdefault(document, _text(team))

    def result(self) -> Interactions:
        stray = 0
        for search, document in self._clicks:
            shown = self._searches.get(search)
            if shown is None or document not in shown.ranks:
                stray += 1
            elif document not in shown.clicks:
                shown.clicks.append(document)
        return Interactions(
            tuple(self._searches.values()), stray, self._broken, tuple(self._problems)
        )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no name")
    return value
