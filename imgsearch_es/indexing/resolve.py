"""The third stage: is there an analysis already, because the content is known elsewhere?

A file that was moved, and a copy of one, have the hash of a picture that the index holds. They take
over its analysis; a moved one its labels and metadata as well.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgsearch_es.indexing.find import Item
from imgsearch_es.indexing.read import Failed, Outcome, Ready, Unchanged
from imgsearch_es.pictures.files import in_memory, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Known, Store

GROUP_SIZE = 64
"""Pictures per question to the store."""
GROUP_SECONDS = 0.5
"""The longest that the first of a group waits for the others."""

Labels = Sequence[str] | str | Callable[[str], Sequence[str] | str] | None


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A picture with all that its document needs but, perhaps, the analysis.

    Attributes:
        outcome: the picture.
        labels, metadata: what its document shall have.
        stored: the document to change or to copy the analysis from; None when there is none.
    """

    outcome: Ready | Unchanged
    labels: tuple[str, ...]
    metadata: Mapping[str, Any]
    stored: Document | None = None


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

    def resolve(self, groups: Iterable[Sequence[Outcome]]) -> Iterator[list[Resolved | Failed]]:
        """The groups, with what the store has of each picture."""
        for group in groups:
            stored = self._stored(group)
            yield [
                outcome if isinstance(outcome, Failed) else self._resolved(outcome, stored)
                for outcome in group
            ]

    def _stored(self, group: Sequence[Outcome]) -> dict[str, Document]:
        """Documents by what is asked for: content where new, id where only labels are."""
        hashes = [each.picture.sha256 for each in group if isinstance(each, Ready)]
        if self._seen is not None:
            hashes = [sha256 for sha256 in hashes if self._seen.add(sha256)]
        if not self._store.settings():
            return {}
        by_content = self._store.by_content(hashes) if hashes else {}
        relabeled = [
            each.task.item.id
            for each in group
            if isinstance(each, Unchanged) and self._is_relabeled(each)
        ]
        ids = [*by_content.values(), *relabeled]
        found = self._store.get(ids) if ids else {}
        wanted = {sha256: key for sha256, key in by_content.items() if key in found}
        return {
            **{key: found[key] for key in relabeled if key in found},
            **{sha256: found[key] for sha256, key in wanted.items()},
        }

    def _is_relabeled(self, unchanged: Unchanged) -> bool:
        item, known = unchanged.task.item, unchanged.task.known
        wanted = (self._labels_of(item, known), self._metadata_of(item, known))
        return known is not None and wanted != (known.labels, known.metadata)

    def _resolved(self, outcome: Ready | Unchanged, stored: Mapping[str, Document]) -> Resolved:
        item, known = outcome.task.item, outcome.task.known
        if isinstance(outcome, Unchanged):
            found = stored.get(item.id)
        else:
            found = stored.get(outcome.picture.sha256)
            if known is None and outcome.task.before and outcome.task.before.given:
                given = json.loads(outcome.task.before.given)  # it was no picture for a while
                known = Known("", tuple(given["labels"]), given["metadata"])
            if known is None and found is not None and is_gone(found.uri):
                known = Known(found.sha256, found.labels, found.metadata)  # it was moved
        labels, metadata = self._labels_of(item, known), self._metadata_of(item, known)
        return Resolved(outcome, labels, metadata, found)

    def _labels_of(self, item: Item, known: Known | None) -> tuple[str, ...]:
        if item.labels is not None:
            return item.labels
        labels = self._labels(item.uri) if callable(self._labels) else self._labels
        if labels is None:
            return known.labels if known else ()
        return as_labels(labels)

    def _metadata_of(self, item: Item, known: Known | None) -> Mapping[str, Any]:
        if self._metadata is None and not item.metadata:
            return known.metadata if known else {}
        return {**(self._metadata or {}), **item.metadata}


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
