"""Watching folders: an index is kept current as files come, change, move and go.

The watch begins before the first synchronization, so that nothing slips between the two. Files
still being written are tried again. While a folder is gone nothing of it is removed.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from imgsearch_es.errors import ConfigurationError, SourceError, StoreError, needed
from imgsearch_es.index import ImageIndex
from imgsearch_es.indexing import Labels, StoppedError
from imgsearch_es.indexing.find import is_gone, looks_unmounted
from imgsearch_es.indexing.gone import missing, prune, remove_gone, strike_out
from imgsearch_es.indexing.write import is_no_file
from imgsearch_es.pictures.files import beginnings, picture_id, reason, to_path, to_uri
from imgsearch_es.pictures.places import absolute
from imgsearch_es.pictures.sources import EXTENSIONS, VIDEOS, is_picture
from imgsearch_es.retrieval.ledger import now, reasons

T = TypeVar("T")

_PATIENCE_SECONDS = 600.0
"""How long an index that cannot be reached is tried again."""
_TICK_SECONDS = 0.25
_RETRIES = 5
"""A picture that cannot be read is tried again after 1, 2, 4, ... seconds."""
_LONGEST_PAUSE = 30.0
_LOST_SECONDS = 5.0
"""How often everything is looked at while changes cannot be followed: less often where it takes
long. As reading a file may be a change that cannot be told, none is read where all looks as before.
"""
_FEW = 16
"""So many places are asked for one by one."""
_SYNCHRONIZE_SECONDS = 3600.0
"""How often everything is looked at again: of very many changes a system may lose some, and
watchfiles tells nothing of names that are no UTF-8."""


@dataclass(slots=True)
class WatchReport:
    """What happened since the watch began; the numbers are those of ``IndexReport``, added up."""

    added: int = 0
    updated: int = 0
    removed: int = 0
    rejected: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rejected": reasons(self.rejected.items())}

    def __str__(self) -> str:
        return (
            f"{self.added} added, {self.updated} updated, {self.removed} removed, "
            f"{len(self.rejected)} rejected"
        )


class Watcher:
    """Keeps an index current with folders; ``tell`` takes a sentence when something happens."""

    def __init__(
        self,
        index: ImageIndex,
        folders: Sequence[str | os.PathLike[str]],
        *,
        labels: Labels = None,
        video: bool = False,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._index, self._labels, self._video, self._tell = index, labels, video, tell
        self._folders = [Path(absolute(folder)) for folder in folders]
        for folder in self._folders:
            if not folder.is_dir():
                raise ConfigurationError(f"{folder} is no folder to watch")
        self._changes: SimpleQueue[set[str] | Exception] = SimpleQueue()
        self._unreadable: dict[str, tuple[int, float]] = {}
        self._is_over = False  # and no event, whose lock a signal handler would wait for
        self._pause = 0.0
        self._was_lost = False
        self._seen: dict[Path, bytes] = {}
        self.report = WatchReport()

    def stop(self) -> None:
        """End ``run`` after what it is doing; a signal handler may call it (see `Ending`)."""
        self._is_over = True

    def run(self) -> WatchReport:
        """Synchronize, then follow changes until ``stop``; StoreError if that fails for long."""
        while not self._is_over:
            there = self._identities()
            present = [folder for folder, known in there.items() if known]
            for folder in there.keys() - set(present):
                what = "may not be read" if folder.exists() else "is gone"
                self._tell(f"{folder} {what}: nothing of it is removed until it is back")
            with _told(present, self._changes):
                began = time.monotonic()
                for folder in present:
                    state = _state(folder)
                    if not (self._was_lost and self._seen.get(folder) == state):
                        self._patiently(self._synchronize, folder)
                        self._seen[folder] = state
                    if self._is_over:
                        return self.report
                self._was_lost = False
                self._pause = max(_LOST_SECONDS, 10 * (time.monotonic() - began))
                self._tell(f"watching {', '.join(map(str, self._folders))}: {self.report}")
                self._follow(there)
        return self.report

    def _follow(self, there: dict[Path, tuple[int, int] | None]) -> None:
        """Until the watch ends, a folder goes or comes, or it is time to look at everything."""
        waiting: set[str] = set()
        end = time.monotonic() + _SYNCHRONIZE_SECONDS
        while not self._is_over and time.monotonic() < end:
            if self._identities() != there:
                return
            try:
                found = self._changes.get(timeout=_TICK_SECONDS)
                if isinstance(found, Exception):
                    self._tell(f"looking at everything, as changes were not told: {reason(found)}")
                    self._was_lost = True
                    self._rest(self._pause)
                    return
                waiting |= found
            except Empty:
                waiting |= {
                    uri
                    for uri, (tries, when) in self._unreadable.items()
                    if tries <= _RETRIES and when <= time.monotonic() and os.path.lexists(uri)
                }
                if waiting and self._identities() == there:
                    before = str(self.report)
                    self._patiently(self._take, waiting)
                    if str(self.report) != before:
                        self._tell(str(self.report))
                    waiting = set()

    def _identities(self) -> dict[Path, tuple[int, int] | None]:
        return {folder: _identity(folder) for folder in self._folders}

    def _patiently(self, act: Callable[[T], None], what: T) -> None:
        """Bring the index up to date, again and again while its store fails."""
        give_up, pause = time.monotonic() + _PATIENCE_SECONDS, 0.5
        while True:
            try:
                return act(what)
            except StoreError as error:
                if time.monotonic() + pause > give_up or self._is_over:
                    raise
                self._tell(f"trying again in {pause:g} s: {error}")
                self._rest(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over and time.monotonic() < end:
            time.sleep(min(_TICK_SECONDS, seconds))

    def _synchronize(self, folder: Path) -> None:
        """Bring the index up to date with a folder; an empty one may be a missing mount."""
        try:
            if any(folder.iterdir()):
                store, absent = self._index.store, missing(self._index.store, [folder])
                self._add([folder])
                if not self._is_over:
                    rejected = self._rejected([to_uri(folder)])
                    self.report.removed += prune(store, [folder], absent, rejected, self._tell)
            elif self._index.exists and self._below(folder):
                self._tell(f"{folder} is empty and may be a missing disk: nothing is removed")
        except SourceError as error:  # it went just now, or looks as if it had
            self._tell(str(error))
        except OSError as error:
            self._tell(f"cannot list {folder}: {error}")

    def _take(self, told: set[str]) -> None:
        """Add what is there, then remove what is not: a file that moved keeps its analysis."""
        paths = {path.rstrip("/") for path in told}
        kinds = EXTENSIONS | VIDEOS if self._video else EXTENSIONS
        found = [path for path in sorted(paths) if _is_wanted(path, self._folders, kinds)]
        # Of what a link leads to, the walk of the whole folder says what is found elsewhere in it.
        links = [Path(path) for path in found if _leads_on(path)]
        whole = [each for each in self._folders if any(each in link.parents for link in links)]
        try:
            if found:
                self._add([*whole, *found])
            is_calm = all(map(os.path.lexists, found))
        except SourceError:
            is_calm = False
        if not is_calm:  # one vanished: it may have moved on, and what was said of it goes with it
            self._changes.put(told)
            return
        if self._is_over or not self._index.exists:
            return
        gone = {path for path in paths if not os.path.lexists(path)}
        # One of which nobody told that it went may be on a drive that did.
        gone -= {p for p in gone if f"{p}/" not in told and looks_unmounted(to_uri(p))}
        uris = [*map(to_uri, sorted(gone)), *self._below_any(gone)]
        # Of a folder that was moved away, of whose name there is another one already, or a file.
        folders = {path for path in paths if os.path.isdir(path) or f"{path}/" in told}  # noqa: PTH112
        folders -= gone
        there = self._below_any(folders)
        uris += [uri for uri in there if is_gone(uri) and not looks_unmounted(uri)]
        if folders or gone:
            prefixes = [prefix for folder in self._folders for prefix in beginnings(folder)]
            strike_out(self._index.store, prefixes, looks_unmounted)
        rejected = self._rejected(uris)
        # Of a picture whose place a folder, a FIFO or the like has taken; not of those in there.
        uris += [uri for uri in map(to_uri, sorted(paths)) if is_no_file(uri)]
        if uris:
            ids = list(dict.fromkeys(map(picture_id, uris)))
            self.report.removed += remove_gone(self._index.store, ids, self._tell)
            self._index.store.ledger.remove(list(map(picture_id, rejected)))
        for uri in rejected:
            del self.report.rejected[uri]

    def _add(self, sources: Sequence[str | Path]) -> None:
        """Callers look whether the watch is over: a file that moved may not be added yet."""
        started, known = now(), self._rejected([to_uri(source) for source in sources])
        try:
            report = self._index.add(
                sources, labels=self._labels, video=self._video, progress=False
            )
        except StoppedError as stopped:  # it may not have come to all
            left = {entry.uri for entry in self._index.rejected()}
            report, known = stopped.report, [uri for uri in known if uri not in left]
        self.report.added += report.added
        self.report.updated += report.updated
        self.report.removed += report.removed
        for uri in known:
            del self.report.rejected[uri]
        for entry in report.rejected:
            uri = entry.uri
            self.report.rejected[uri] = entry.reason
            if entry.rejected_at < started:  # the ledger knows it, and it has not changed
                self._unreadable.pop(uri, None)
                continue
            tries, _ = self._unreadable.get(uri, (0, 0.0))
            self._unreadable[uri] = tries + 1, time.monotonic() + 2.0**tries
            if not tries:
                self._tell(f"rejected {uri}: {entry.reason}")
        for uri in self._unreadable.keys() - self.report.rejected.keys():
            del self._unreadable[uri]

    def _below(self, folder: str | Path) -> list[str]:
        below = self._index.store.below
        return [uri for prefix in beginnings(folder) for _, uri in below(prefix)]

    def _below_any(self, places: set[str]) -> list[str]:
        """As each question looks at all documents, one is asked where the places are many."""
        if len(places) <= _FEW:
            return [uri for place in sorted(places) for uri in self._below(place)]
        inside = (uri for folder in self._folders for uri in self._below(folder))
        return [uri for uri in inside if _is_among(os.fspath(to_path(uri) or uri), places)]

    def _rejected(self, uris: Sequence[str]) -> list[str]:
        """Those of these, and those below these, that were rejected."""
        places = set(uris)
        return [uri for uri in self.report.rejected if _is_among(uri, places)]


@contextmanager
def _told(folders: Sequence[Path], changes: SimpleQueue[set[str] | Exception]) -> Iterator[None]:
    """A thread puts the paths of changes into a queue, with a slash behind what went.

    Where they cannot be told, as the system has no more watches or a name is not in UTF-8, it puts
    the error there and ends.
    """
    watchfiles = needed("watchfiles", "watching needs watchfiles", "watch")
    ready, end = threading.Event(), threading.Event()
    at_once = {"rust_timeout": 1, "yield_on_timeout": True, "stop_event": end}

    def pass_on() -> None:
        try:
            for batch in watchfiles.watch(
                *folders,
                watch_filter=None,
                debounce=1000,  # what comes within a second is taken together
                rust_timeout=200,
                yield_on_timeout=True,
                stop_event=end,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):  # the first one comes at once or after a time-out
                if not ready.is_set():  # while denials are ignored, so is that no watch was left
                    next(watchfiles.watch(*folders, recursive=False, **at_once))
                if batch:
                    named = ((how, _walked(path, folders)) for how, path in batch)
                    went = watchfiles.Change.deleted
                    changes.put({f"{path}/" if how == went else path for how, path in named})
                ready.set()
        except (OSError, RuntimeError) as error:
            changes.put(error)
        finally:
            ready.set()

    thread = threading.Thread(target=pass_on, name="imgsearch-watch", daemon=True)
    if folders:
        thread.start()
        ready.wait()
    try:
        yield
    finally:
        end.set()
        if folders:
            thread.join()


def _leads_on(path: str) -> bool:
    """Whether it is a link to a folder, or a folder with such a link in it."""
    inside = (f"{top}/{name}" for top, below, _ in os.walk(path) for name in below)
    return os.path.isdir(path) and any(map(os.path.islink, [path, *inside]))  # noqa: PTH112


def _walked(path: str, folders: Sequence[Path]) -> str:
    """The name by which the walk of a folder finds it, where the system tells that of a link."""
    head, _, name = path.rpartition("/")
    for folder in folders:
        if folder in Path(path).parents:
            root, real = os.path.realpath(folder), os.path.realpath(head)
            inside = real.removeprefix(root)
            if f"{real}/".startswith(f"{root}/") and "/." not in inside:
                return f"{folder}{inside}/{name}"
    return path


def _is_among(place: str, places: set[str]) -> bool:
    """Whether a place is one of these, or below one of them."""
    while place and place not in places:
        place = place.rpartition("/")[0]
    return bool(place)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder is at a path, if any; one that was unmounted or replaced is another.

    None also of one that may not be read, as its changes are not told.
    """
    try:
        info = folder.stat()
    except OSError:
        return None
    if not os.access(folder, os.R_OK | os.X_OK):
        return None
    return (info.st_dev, info.st_ino) if stat.S_ISDIR(info.st_mode) else None


def _state(folder: Path) -> bytes:
    """A digest of what is below a folder, by name, size and time of change: nothing is read."""
    digest = hashlib.blake2b()
    visited = set()
    for top, below, names in os.walk(folder, followlinks=True):
        if (here := _identity(Path(top))) in visited:
            below.clear()  # links lead in circles
            continue
        visited.add(here)
        below.sort()
        for name in sorted(names):
            path = f"{top}/{name}"
            try:
                info = os.stat(path)  # noqa: PTH116 - a million of them
            except OSError:
                continue
            facts = (path, info.st_size, info.st_mtime_ns, info.st_ino)
            digest.update(repr(facts).encode())
    return digest.digest()


def _is_wanted(path: str, folders: Sequence[Path], kinds: frozenset[str]) -> bool:
    """As the walk of a folder would decide: no hidden names, and of files pictures only.

    And no folder that cannot be listed, lest the others wait for it.
    """
    place = Path(path)
    inside = [place.relative_to(folder).parts for folder in folders if folder in place.parents]
    if not inside or any(part.startswith(".") for part in inside[0]):
        return False
    try:
        if place.is_dir():
            os.scandir(place).close()
            return True
        return place.is_file() and is_picture(path, kinds)
    except OSError:
        return False
