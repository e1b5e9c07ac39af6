"""The third stage: is there an analysis already, because the content is known elsewhere?

A file that was moved, and a copy of one, have the hash of a picture that the index holds. They take
over its analysis; a moved one its labels and metadata as well.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from imgsearch_es.indexing.find import Found
from imgsearch_es.indexing.read import Failed, Outcome, Ready, Unchanged
from imgsearch_es.pictures.files import in_memory, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Known, Store

GROUP_SIZE = 64
"""Pictures per question to the store."""
GROUP_SECONDS = 0.5
"""The longest that the first of a group waits for the others."""

Labels = Sequence[str] | str | Callable[[str], Sequence[str] | str] | None


class Resolver:
    """Asks the store for what need not be analyzed.

    Args:
        store: the index; it need not exist.
        labels: what to call the pictures that have no labels of their own; None leaves what is
            stored.
        metadata: fields for every picture, below those of its own; None leaves what is stored.
        is_new: the index had no document when the run began; then the store need be asked only
            for contents that came before in this run.
    """

    def __init__(
        self,
        store: Store,
        labels: Labels,
        metadata: Mapping[str, Any] | None,
        *,
        is_new: bool = False,
    ) -> None:
        self._store = store
        self._seen = _Contents() if is_new else None
        self._labels = labels
        self._metadata = metadata

    def resolve(self, groups: Iterable[list[Outcome]]) -> Iterator[list[Outcome]]:
        """The groups; each picture then has all that its document needs but the analysis."""
        for group in groups:
            stored = self._stored(group)
            for outcome in group:
                if not isinstance(outcome, Failed):
                    self._complete(outcome, stored)
            yield group

    def _stored(self, group: Sequence[Outcome]) -> dict[str, Document]:
        """Documents by what is asked for: content where new, id where only labels are."""
        hashes = [each.picture.sha256 for each in group if isinstance(each, Ready)]
        if self._seen is not None:
            hashes = [sha256 for sha256 in hashes if self._seen.add(sha256)]
        if not self._store.settings():
            return {}
        by_content = self._store.by_content(hashes) if hashes else {}
        relabeled = [
            each.found.id
            for each in group
            if isinstance(each, Unchanged) and self._is_relabeled(each.found)
        ]
        ids = [*by_content.values(), *relabeled]
        found = self._store.get(ids) if ids else {}
        wanted = {sha256: key for sha256, key in by_content.items() if key in found}
        return {
            **{key: found[key] for key in relabeled if key in found},
            **{sha256: found[key] for sha256, key in wanted.items()},
        }

    def _is_relabeled(self, found: Found) -> bool:
        known = found.known
        return known is not None and self._named(found, known) != (known.labels, known.metadata)

    def _complete(self, outcome: Ready | Unchanged, documents: Mapping[str, Document]) -> None:
        found = outcome.found
        known = found.known
        if isinstance(outcome, Unchanged):
            found.stored = documents.get(found.id)
        else:
            found.stored = stored = documents.get(outcome.picture.sha256)
            if known is None and found.before and found.before.given:
                given = json.loads(found.before.given)  # it was no picture for a while
                known = Known("", tuple(given["labels"]), given["metadata"])
            if known is None and stored is not None and is_gone(stored.uri):
                known = Known(stored.sha256, stored.labels, stored.metadata)  # it was moved
        found.labels, found.metadata = self._named(found, known)

    def _named(self, found: Found, known: Known | None) -> tuple[tuple[str, ...], dict[str, Any]]:
        """The labels and metadata that a document shall have: its own, those given or as before."""
        labels, metadata = found.labels, {**(self._metadata or {}), **found.metadata}
        if labels is None:
            given = self._labels(found.uri) if callable(self._labels) else self._labels
            before = known.labels if known else ()
            labels = before if given is None else as_labels(given)
        if self._metadata is None and not found.metadata:
            metadata = dict(known.metadata) if known else {}
        return labels, metadata


class _Contents:
    """Which hashes may have been added: a Bloom filter of two probes in 2 MB.

    (B. H. Bloom: Space/time trade-offs in hash coding with allowable errors. CACM 13(7), 1970.)
    A million pictures make one answer in seventy wrong, which costs a question to the store.
    """

    _BITS = 24

    def __init__(self) -> None:
        self._bits = bytearray(1 << (self._BITS - 3))

    def add(self, sha256: str) -> bool:
        """Add a hash; whether it may have been there."""
        number = int(sha256[:16], 16)
        there = True
        for place in (number, number >> self._BITS):
            byte, bit = divmod(place % (1 << self._BITS), 8)
            there = there and bool(self._bits[byte] >> bit & 1)
            self._bits[byte] |= 1 << bit
        return there


def as_labels(labels: Sequence[str] | str) -> tuple[str, ...]:
    """One label or several, as several."""
    return (labels,) if isinstance(labels, str) else tuple(labels)


def folder_label(uri: str) -> tuple[str, ...]:
    """The name of the folder that a picture is in, as its label."""
    path = to_path(uri)
    name = path.parent.name if path else uri.rpartition("/")[0].rpartition("/")[2]
    return (os.fsencode(name).decode("utf-8", "replace"),) if name else ()


def is_gone(uri: str) -> bool:
    """Whether a local file is certainly no longer there; what cannot be reached is not gone."""
    path = to_path(uri)
    if in_memory(uri) or path is None:
        return False
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def is_no_file(uri: str) -> bool:
    """Whether a folder, a FIFO or the like is where a picture's URI says that its file is."""
    path = to_path(uri)
    try:
        return path is not None and not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
