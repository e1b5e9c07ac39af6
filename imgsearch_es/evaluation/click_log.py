"""The interaction log: what was searched for, shown and clicked, in a local file; and read again.

It is off unless a person names a file. It holds no address, account or cookie; what people type can
be personal all the same, so the words may be left out, and only the owner can read the file.

One JSON object a line, in two kinds:

    {"event": "search", "search": "<id>", "when": "<UTC>", "query": "dog", "strategy": "impact",
     "first": 1, "shown": ["<document>", ...]}
    {"event": "click", "search": "<id>", "when": "<UTC>", "document": "<document>"}

A page after the first has ``"continues": "<id>"``; interleaved hits have ``"teams"``.

Several processes may write at once: a line is appended in one write under a lock. A file that is
full is renamed to ``.1``, that one to ``.2`` and so on, and the oldest goes. A line that is broken
is counted and passed over: a crash may cut a line off.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imgsearch_es.errors import ConfigurationError, LogError
from imgsearch_es.pictures.files import check_finite
from imgsearch_es.search.hits import Hits

MAX_BYTES = 50_000_000
OLD_FILES = 4
LONGEST_QUERY = 1_000
"""Characters of a query that are kept."""
_TRIES = 100
_NAMED = 20
"""Broken lines that are named; the rest is counted."""


def open_log(path: str | os.PathLike[str] | None = None) -> InteractionLog | None:
    """The log that a person asked for by an option or by IMGSEARCH_LOG; None when nobody did."""
    place = path or os.environ.get("IMGSEARCH_LOG")
    return InteractionLog(place) if place else None


class InteractionLog:
    """A file to which searches and clicks are appended.

    Args:
        path: of the file; it is made by the first line, readable by its owner alone.
        queries: whether to keep what was searched for: words, and names of pictures.
        max_bytes: how long the file may be before it is put aside.
        old_files: how many files that were put aside are kept.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        queries: bool = True,
        max_bytes: int = MAX_BYTES,
        old_files: int = OLD_FILES,
    ) -> None:
        if max_bytes < 1 or old_files < 1:
            raise ConfigurationError("a log has max_bytes and old_files of at least 1")
        self.path = Path(path).expanduser().absolute()
        self._queries = queries
        self._max_bytes = max_bytes
        self._old_files = old_files

    def shown(self, hits: Hits, *, continues: str | None = None) -> str:
        """Note that these hits were shown; gives the search's id, for ``clicked``.

        A further page of a search ``continues`` the id of its first page.
        """
        return self.write_search(
            query=str(hits.query),
            strategy=_asked(hits),
            shown=[hit.id for hit in hits],
            first=hits[0].rank if len(hits) else hits.query.offset + 1,
            teams=getattr(hits, "teams", ()),
            continues=continues,
        )

    def write_search(
        self,
        *,
        query: str,
        strategy: str,
        shown: Sequence[str],
        first: int = 1,
        teams: Sequence[str | None] = (),
        continues: str | None = None,
    ) -> str:
        """Note a search whose results are no ``Hits``; see ``shown``."""
        search = continues or secrets.token_urlsafe(12)
        row: dict[str, Any] = {"query": query[:LONGEST_QUERY]} if self._queries else {}
        row |= {"strategy": strategy, "first": first, "shown": list(shown)}
        row |= {"teams": list(teams)} if teams else {}
        row |= {"continues": continues} if continues else {}
        self._append("search", search, row)
        return search

    def clicked(self, search: str, document: str) -> None:
        """Note that a picture was clicked."""
        for text in (search, document):
            if not 0 < len(text) <= 200:
                raise LogError("a click names a search and a document by their ids")
        self._append("click", search, {"document": document})

    def _append(self, event: str, search: str, row: Mapping[str, Any]) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = {"event": event, "search": search, "when": now, **row}
        line = f"{json.dumps(row, ensure_ascii=False)}\n".encode("utf-8", "replace")
        try:
            with self._locked(len(line)) as file:
                size = os.fstat(file).st_size
                if size and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # after a line that a crash cut off
                if os.write(file, line) < len(line):
                    os.ftruncate(file, size)
                    raise LogError(f"cannot write {self.path}: there is no room")
        except OSError as error:
            raise LogError(f"cannot write {self.path}: {error.strerror or error}") from error

    @contextmanager
    def _locked(self, more: int) -> Iterator[int]:
        """The file, open and locked, with room for so many bytes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            file = os.open(self.path, flags, 0o600)
            try:
                with suppress(OSError):  # a file system without locks: lines are still appended
                    fcntl.flock(file, fcntl.LOCK_EX)
                size = os.fstat(file).st_size
                if not self._is_current(file):  # another process put it aside meanwhile
                    continue
                if size and size + more > self._max_bytes:
                    self._put_aside()
                    continue
                yield file
                return
            finally:
                os.close(file)
        raise LogError(f"{self.path} is put aside again and again: give it more room (max_bytes)")

    def _is_current(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self.path.stat())
        except FileNotFoundError:
            return False

    def _put_aside(self) -> None:
        """Files are moved up to the first number that is free, as a crash may have left one."""
        kept = range(1, self._old_files)
        free = next((n for n in kept if not _aside(self.path, n).exists()), self._old_files)
        for number in range(free, 0, -1):
            with suppress(FileNotFoundError):
                _aside(self.path, number - 1).replace(_aside(self.path, number))


def _numbers(path: Path) -> list[int]:
    """Of the files that were put aside, the oldest first."""
    named = re.compile(rf"{re.escape(path.name)}\.([1-9][0-9]*)")
    found = (named.fullmatch(file.name) for file in path.parent.glob("*") if file.is_file())
    return sorted((int(one[1]) for one in found if one), reverse=True)


def _aside(path: Path, number: int) -> Path:
    """The log's file of this number; 0 is the one that is written, 1 the newest put aside."""
    return Path(f"{path}.{number}") if number else path


def _asked(hits: Hits) -> str:
    """The strategy that was asked for, by its short name; stores name the way they took."""
    query = hits.query
    if hasattr(hits, "teams"):
        return hits.strategy
    if query.fusion is not None:
        parts = "+".join(f"{name}={weight:g}" for name, weight in query.fusion.weights.items())
        return f"{parts}:rrf" if query.fusion.is_ranked else parts
    numbers = (f":{name}={value:g}" for name, value in sorted(query.parameters.items()))
    return query.strategy + "".join(numbers)


@dataclass(slots=True)
class Shown:
    """One search: what was shown, over all its pages, and what was clicked.

    Attributes:
        query: what was searched for; empty where the log does not keep it.
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
        broken: how many lines cannot be read; ``problems`` says of the first where and why.
    """

    searches: tuple[Shown, ...]
    stray: int = 0
    broken: int = 0
    problems: tuple[str, ...] = ()


def read_interactions(path: str | os.PathLike[str]) -> Interactions:
    """Read a log, those of its files that were put aside first."""
    searches: dict[str, Shown] = {}
    clicks: list[tuple[str, str]] = []
    problems: list[str] = []
    stray = broken = 0
    for where, line in _lines(Path(path).expanduser().absolute()):
        try:
            row = json.loads(line)
            event = row["event"]
            if event == "search":
                _read_search(row, searches)
            elif event == "click":
                clicks.append((_text(row["search"]), _text(row["document"])))
            else:
                raise ValueError(f"there is no event {event!r}")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            broken += 1
            if broken <= _NAMED:
                missing = isinstance(error, KeyError)
                problems.append(f"{where}: {f'no {error}' if missing else error}")
    for search, document in clicks:
        shown = searches.get(search)
        if shown is None or document not in shown.ranks:
            stray += 1
        elif document not in shown.clicks:
            shown.clicks.append(document)
    return Interactions(tuple(searches.values()), stray, broken, tuple(problems))


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines that are not blank, oldest file first, each with where it stands."""
    numbers = _numbers(path)
    if not numbers and not path.exists():
        raise LogError(f"there is no log {path}: is it written yet?")
    for file in (_aside(path, number) for number in (*numbers, 0)):
        try:
            check_finite(file)
            with file.open("rb") as lines:
                for count, line in enumerate(lines, start=1):
                    if line.strip():
                        yield f"{file}, line {count}", line
        except OSError as error:
            if file != path or path.exists():  # a moment after it was put aside there is none
                raise LogError(f"cannot read {file}: {error.strerror or error}") from error


def _read_search(row: dict[str, Any], searches: dict[str, Shown]) -> None:
    first, shown = row["first"], row["shown"]
    teams = row.get("teams") or [None] * len(shown)
    fits = type(first) is int and first > 0 and len(teams) == len(shown)
    if not (fits and isinstance(shown, list) and isinstance(teams, list)):
        raise ValueError("the ranks or the teams do not fit what was shown")
    documents = list(map(_text, shown))
    names = [None if team is None else _text(team) for team in teams]
    name = _text(row["search"])
    about = _text(row["when"]), str(row.get("query", "")), _text(row["strategy"])
    search = searches.setdefault(name, Shown(name, *about))
    for rank, (document, team) in enumerate(zip(documents, names, strict=True), start=first):
        search.ranks.setdefault(document, rank)
        if team is not None:
            search.teams.setdefault(document, team)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is no name")
    return value
