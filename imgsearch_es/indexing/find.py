"""The first stage: find pictures, and ask the store what it knows of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypedDict
from unicodedata import normalize
from urllib.parse import unquote_to_bytes

from imgsearch_es.analysis.analyzer import Analysis
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.errors import ConfigurationError, ImageError, MissingDependencyError, pip_install
from imgsearch_es.indexing.report import IndexReport, Stages
from imgsearch_es.pictures.archives import split_uri
from imgsearch_es.pictures.files import (
    Limits,
    in_memory,
    picture_id,
    to_path,
    to_uri,
    url_path,
)
from imgsearch_es.pictures.images import ImageSource, Picture
from imgsearch_es.pictures.manifests import PictureList, find_entries
from imgsearch_es.pictures.sources import TableRow, is_table, table_rows
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import Rejected, naming
from imgsearch_es.stores.base import Known, Store

Labels = Sequence[str] | str | Callable[[str], Sequence[str] | str] | None
Metadata = Mapping[str, Any] | Callable[[str], Mapping[str, Any]] | None
DEFAULT_LIMITS = Limits()
NAMED_AGAIN = "named again with other labels or metadata"
"""What a report calls pictures of which a second list, or row, says something else."""
_AHEAD = 65_536
"""Names found before they are needed, so that the number of pictures is soon known ..."""
_FEW_AHEAD = 32
"""... but only so many pictures from memory, which take some."""


class AddOptions(TypedDict, total=False):
    """Fields of `Options`, as arguments of ``ImageIndex.add``."""

    labels: Labels
    metadata: Metadata
    prune: bool
    retry: bool
    batch_size: int | None
    workers: int | None
    limits: Limits
    video: bool


@dataclass(frozen=True, slots=True)
class Options:
    """How to run.

    Attributes:
        labels: what to call the pictures that their list gives no label: one label, several,
            or a function of the URI (see ``folder_label``). None leaves the labels that are
            stored.
        metadata: a person's own fields for each of them, JSON values, or a function of the URI;
            a list's come first.
        prune: also remove documents below the folders named whose files are gone.
        retry: also try pictures again that were rejected before and have not changed.
        batch_size: pictures per forward pass; by default 32.
        workers: processes that decode; by default as many as the model can use, at most one
            per core. With Ray: actors, each with a model.
        limits: the largest picture to accept.
        engine: where pictures are analyzed: "local" or "ray".
        runtime: what runs the model there; see `Analyzer`.
        video: also index one frame of each video; takes the extra ``video``.
    """

    labels: Labels = None
    metadata: Metadata = None
    prune: bool = False
    retry: bool = False
    batch_size: int | None = None
    workers: int | None = None
    limits: Limits = DEFAULT_LIMITS
    engine: str = "local"
    runtime: str | None = None
    video: bool = False

    def __post_init__(self) -> None:
        if self.labels is not None and not callable(self.labels):
            object.__setattr__(self, "labels", as_labels(self.labels))  # perhaps of an iterator
        for name in ("batch_size", "workers"):
            number = getattr(self, name)
            if number is not None and not (isinstance(number, int) and number >= 1):
                raise ConfigurationError(f"{name} is a whole number from 1 on, not {number!r}")
        if self.engine not in ("local", "ray"):
            raise ConfigurationError(f"there is no engine {self.engine!r}; known are local and ray")
        missing = [package for package in ("ray", "pyarrow") if find_spec(package) is None]
        if self.engine == "ray" and missing:
            raise MissingDependencyError(
                f"the engine ray needs a package that is not installed ({missing[0]}): "
                + pip_install("ray")
            )


@dataclass(slots=True, eq=False)
class Found:
    """A picture on its way through the stages, with what each of them adds.

    Once it is read, it is decoded, rejected, or neither, because the index has its content.

    Attributes:
        picture, data: one from memory, opened already, or the bytes of its file; let go once read.
        labels, metadata: what its source says of it, None and empty where it says nothing; once
            resolved, what its document shall have.
        keeps: of "labels" and "metadata", those that its document keeps as people gave them.
        joins: those that it adds to what its content brings from another place.
        known, before: its document, in short, and its entry in the ledger.
        decoded: what the model is given; once it is analyzed, without pixels.
        as_before: it was rejected, and not even tried again.
        stored: the document to change or to copy the analysis from.
        reused: the document was made without a forward pass of its own.
        moved: the id of the document of the same content whose file is gone.
    """

    uri: str
    picture: Picture | None = None
    data: bytes | None = None
    error: str | None = None
    labels: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keeps: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    known: Known | None = None
    before: Rejected | None = None
    decoded: Decoded | None = None
    rejected: Rejected | None = None
    as_before: bool = False
    stored: Document | None = None
    analysis: Analysis | None = None
    document: Document | None = None
    reused: bool = False
    moved: str | None = None

    @property
    def id(self) -> str:
        """The id of its document."""
        return picture_id(self.uri)

    def instead(self, now: Document | Known, made: Document) -> Document:
        """What was made of it, with what others said meanwhile of its document."""
        kept = [*self.keeps, "text"] if now.sha256 == made.sha256 else self.keeps
        values = {name: getattr(now, name) for name in kept}
        both = Known("", made.labels, made.metadata).joined(now)
        values |= {name: getattr(both, name) for name in self.joins}
        return replace(made, **values)


class Finder:
    """Finds pictures.

    Attributes:
        ahead: so many may be found before they are needed.
        found, total: how many are; and in all, None where only the end of the walk tells.
    """

    def __init__(
        self,
        sources: Sequence[ImageSource | PictureList],
        open_memory: Callable[[ImageSource], Found],
        report: IndexReport,
        *,
        videos: bool = False,
    ) -> None:
        places = [source for source in sources if isinstance(source, str | os.PathLike)]
        lists = [source for source in sources if isinstance(source, PictureList)]
        self._errors: list[ImageError] = []
        self._entries = find_entries(
            places, lists, on_error=self._errors.append, on_other=report.pass_over, videos=videos
        )
        self._in_memory = [s for s in sources if not isinstance(s, str | os.PathLike | PictureList)]
        self._tables: list[Any] = [source for source in self._in_memory if is_table(source)]
        self._may_repeat = bool(lists or self._in_memory)  # folders and archives do not
        self._open_memory = open_memory
        self._on_other = report.pass_over
        self._stages = report.stages
        self.ahead = _FEW_AHEAD if self._in_memory else _AHEAD
        self.found = 0
        self.total = None if places or lists else self._in_all()

    def items(self) -> Iterator[Found]:
        """The pictures, as they are found; reads no file."""
        found = self._find()
        while True:
            with self._stages.measure("find"):
                item = next(found, None)
            if item is None:
                break
            self.found += 1
            yield item
        self.total = self.found

    def _find(self) -> Iterator[Found]:
        """Each picture once: as a table or list names it, which may say something of it."""
        seen: dict[int, int] = {}
        for found in chain(self._in_hand(), self._at_places()):
            if not self._may_repeat:
                yield found
                continue
            key, said = int(found.id[:16], 16), naming(found.labels or (), found.metadata)
            if found.error or key not in seen:
                seen[key] = hash(said)
                yield found
                continue
            if said and hash(said) != seen[key]:
                self._on_other(NAMED_AGAIN)
            if self.total is not None:
                self.total -= 1

    def _at_places(self) -> Iterator[Found]:
        for entry in self._entries:
            yield from self._broken()
            yield Found(entry.uri, error=entry.error, labels=entry.labels, metadata=entry.metadata)
        yield from self._broken()

    def _in_all(self) -> int | None:
        """How many pictures from memory there are, where that is known before they are read."""
        if not self._in_memory or not all(hasattr(table, "__len__") for table in self._tables):
            return None
        return len(self._in_memory) - len(self._tables) + sum(map(len, self._tables))

    def _in_hand(self) -> Iterator[Found]:
        """Pictures from memory and from tables, whose rows may name files."""
        rows = (TableRow(one, None, {}) for one in self._in_memory if not is_table(one))
        tables = (table_rows(table, self._on_other) for table in self._tables)
        for row in chain(rows, *tables):
            try:
                is_path = isinstance(row.image, str)
                found = Found(to_uri(row.image)) if is_path else self._open_memory(row.image)
                found.labels, found.metadata = row.labels, row.metadata
                yield found
            except ImageError as error:
                yield Found(error.uri, error=error.reason)

    def _broken(self) -> Iterator[Found]:
        while self._errors:
            error = self._errors.pop(0)
            yield Found(error.uri, error=error.reason)


def look_up(store: Store, groups: Iterable[Sequence[Found]], stages: Stages) -> Iterator[Found]:
    """Ask the store what it knows of each picture, many at a time."""
    for group in groups:
        with stages.measure("find"):
            if store.settings():
                ids = [found.id for found in group]
                known = store.known(ids)
                before = {entry.id: entry for entry in store.ledger.read(ids)}
                for key, found in zip(ids, group, strict=True):
                    found.known, found.before = known.get(key), before.get(key)
        yield from group


def as_labels(labels: Sequence[str] | str) -> tuple[str, ...]:
    """One label or several, as several; those of a set in the same order in each process.

    Accents are composed (Unicode's NFC): a folder's name on a Mac and what one types are one label.
    """
    if isinstance(labels, Mapping):
        raise ConfigurationError("labels are a text or several; by URI they are a function of it")
    if not isinstance(labels, Iterable):
        raise ConfigurationError(f"labels are a text or several, not {labels!r}")
    if isinstance(labels, set | frozenset):
        labels = sorted(labels, key=str)
    several = (labels,) if isinstance(labels, str) else labels
    return tuple(normalize("NFC", one) if isinstance(one, str) else one for one in several)


def folder_label(uri: str) -> tuple[str, ...]:
    """The name of the folder that a picture is in, as its label; in a tar file perhaps that of it.

    >>> folder_label("/photos/cats/tom.jpg")
    ('cats',)
    """
    path, inside = to_path(uri), split_uri(uri)
    if path is not None:
        name = os.fsencode(path.parent.name).decode("utf-8", "replace")
    elif inside is not None:
        member, archive = inside
        if "/" not in member:
            return folder_label(archive)
        name = member.split("/")[-2]
    else:
        folders = url_path(uri).partition("://")[2].split("/")[1:-1]  # the first is a host
        name = unquote_to_bytes(folders[-1]).decode("utf-8", "replace") if folders else ""
    return (name,) if name else ()


_DRIVES = re.compile(r"/(home|mnt|Volumes|net|media(/[^/]+)?|run/media(/[^/]+)?)?")
"""Folders of which a whole one may be missing: that of a drive, or of another machine's user."""


def looks_unmounted(uri: str) -> bool:
    """Whether a file that is gone may be on a drive that is not mounted, or on another machine."""
    path = to_path(uri)
    return path is None or unmounted(path) is not None


def unmounted(path: Path) -> Path | None:
    """The folder of a file that is gone, if its drive may not be mounted.

    So where its folder is empty, or one that systems make for a drive or a user is missing.
    """
    for below, folder in pairwise([path, *path.parents]):
        if not folder.is_dir():
            continue
        if below != path and _DRIVES.fullmatch(str(folder)):
            return below
        try:
            return folder if next(folder.iterdir(), None) is None else None
        except OSError:
            return folder
    return Path(path.anchor)


def is_gone(uri: str) -> bool:
    """Whether a local file is certainly no longer there; what cannot be reached is not gone."""
    path = to_path(uri)
    if in_memory(uri) or path is None:
        return False
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)
    return False
