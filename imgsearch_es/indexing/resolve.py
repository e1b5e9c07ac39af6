"""The third stage: ask the store for the analysis of a content that it knows, and where it was.

A copy of a file takes over its analysis; a file that was moved its labels and metadata as well. So
does one whose name another file has by now, as where files are numbered anew: what people said of
a picture goes with it. Until that is at its new place the old one keeps it, too: a run may stop at
any moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imgsearch_es.analysis.configuration import digest_of
from imgsearch_es.analysis.decoding import Decoded
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.indexing.find import (
    Found,
    Labels,
    Metadata,
    as_labels,
    is_gone,
    looks_unmounted,
)
from imgsearch_es.pictures.files import filename, in_memory, picture_id, to_path
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import Known, Store

_SETTLED_TOGETHER = 500
_BYTES = 1 << 21


class Resolver:
    """Asks the store for what need not be analyzed, and where a content comes from.

    Where the index ``is_new``, it is asked only for contents that came before in this run.
    """

    def __init__(self, store: Store, labels: Labels, metadata: Metadata, *, is_new: bool) -> None:
        self._store = store
        self._seen = bytearray(_BYTES) if is_new else None
        self._labels = labels
        self._metadata = metadata
        self._at_place = set[str]()
        self._taken: dict[str, str] = {}
        """By id of a place the id of that where its content and what was said of it went on to."""
        self._left: dict[str, dict[str, Known]] = {}
        """What people said of contents whose places others took in this run, by content and id."""
        self._moved_on = bytearray(_BYTES)
        """Contents that were at other places, perhaps with nothing said of them."""
        self._joined: dict[str, tuple[Known, Known, tuple[str, ...]]] = {}
        """By id what was said of the content before and of that now, and what of it is joined."""

    def resolve(self, groups: Iterable[list[Found]]) -> Iterator[list[Found]]:
        """The groups; each picture then has all that its document needs but the analysis."""
        for group in groups:
            taken = [found for found in group if not found.rejected]
            copies = self._copies(taken)
            stored = self._stored(taken, copies)
            origins = self._origins(group, copies)
            for found in taken:
                self._complete(found, stored, origins.get(found.id))
            yield group

    def settle(self) -> None:
        """When all is written: what went on with a picture goes from where another one is now.

        Not where the picture did not get to its new place: the run was stopped, or it was refused.
        """

        def changed(now: Document) -> Document:
            before, said, joins = self._joined[now.id]
            labels = set(before.labels).difference(said.labels) if "labels" in joins else set()
            names = before.metadata.keys() - said.metadata if "metadata" in joins else set()
            return replace(
                now,
                labels=tuple(each for each in now.labels if each not in labels),
                metadata={name: v for name, v in now.metadata.items() if name not in names},
            )

        for part in chunks(sorted(self._taken.keys() & self._joined.keys()), _SETTLED_TOGETHER):
            there = self._store.known([self._taken[key] for key in part])
            hashes = {key: there[to].sha256 for key in part if (to := self._taken[key]) in there}
            done = [key for key, now in hashes.items() if now == self._joined[key][0].sha256]
            self._store.change(done, changed)

    def _copies(self, group: Sequence[Found]) -> Mapping[str, Mapping[str, str]]:
        """The documents of contents that are new where they are."""
        hashes = [found.decoded.sha256 for found in group if found.decoded]
        if self._seen is not None:
            hashes = [sha256 for sha256 in hashes if _add(self._seen, sha256)]
        return self._store.by_content(hashes) if hashes and self._store.settings() else {}

    def _stored(
        self, group: Sequence[Found], copies: Mapping[str, Mapping[str, str]]
    ) -> dict[str, Document]:
        """Documents by content where that is new, by id where only labels or metadata are."""
        keys = {sha256: next(iter(same)) for sha256, same in copies.items()}
        for found in group:
            known = None if found.decoded else found.known
            if known and self._named(found, known) != (known.labels, known.metadata):
                keys[found.id] = found.id
        stored = self._store.get(list(keys.values())) if keys else {}
        return {asked: stored[key] for asked, key in keys.items() if key in stored}

    def _origins(
        self, group: Sequence[Found], copies: Mapping[str, Mapping[str, str]]
    ) -> dict[str, tuple[str, Known]]:
        """By id of a picture where its content was: in a file that is gone, or has another now."""
        places: dict[str, tuple[str, str, str]] = {}
        origins: dict[str, tuple[str, Known]] = {}
        for found in group:
            decoded, known = found.decoded, found.known
            there = decoded or found.rejected
            if known and there and there.sha256 not in {"", known.sha256}:
                _add(self._moved_on, known.sha256)
                if known.is_named:
                    self._left.setdefault(known.sha256, {})[found.id] = known
            if decoded is None or (known and known.sha256 == decoded.sha256):
                continue
            sha256, name = decoded.sha256, filename(found.uri)
            left = self._left.get(sha256, {})
            uris = dict.fromkeys(left, "")
            for key, uri in copies.get(sha256, {}).items():
                if self._has_left(key, uri, decoded):
                    uris[key] = uri
            uris.pop(found.id, None)
            if uris:
                order = [(key in self._taken, filename(uris[key]) != name, key) for key in uris]
                key = min(order)[2]
                places[found.id] = key, uris[key], sha256
                if len(uris) > 1 or key in left or not is_gone(uris[key]):
                    self._taken[key] = found.id
                _add(self._moved_on, sha256)
            elif _may_have(self._moved_on, sha256):
                origins[found.id] = "", Known(sha256, (), {})
        now = self._store.known([key for key, _, _ in places.values()]) if places else {}
        for found_id, (key, uri, sha256) in places.items():
            said = now.get(key)
            if said is None or said.sha256 != sha256:  # another one is there by now
                said = self._left.get(sha256, {}).get(key, Known(sha256, (), {}))
            origins[found_id] = uri, said
        return origins

    def _complete(
        self, found: Found, documents: Mapping[str, Document], origin: tuple[str, Known] | None
    ) -> None:
        known, decoded = found.known, found.decoded
        found.stored = documents.get(decoded.sha256 if decoded else found.id)
        uri, said = origin or ("", None)
        if known is None and found.before and (given := found.before.said):
            known = Known("", *given)  # it was no picture for a while
            known = said.joined(known) if said else known
        elif said and (known is None or said.is_named):
            known = said
            if uri and is_gone(uri) and not looks_unmounted(uri):
                found.moved = picture_id(uri)
        found.labels, found.metadata = self._named(found, known)
        found.joins = found.keeps if said and found.known else ()
        if known is not found.known and found.known:
            found.keeps = ()
        if said and found.joins and found.known and found.known.is_named:
            self._joined[found.id] = found.known, said, found.joins

    def _has_left(self, key: str, uri: str, content: Decoded) -> bool:
        """Whether a document's content is certainly no longer where it was."""
        path = to_path(uri)
        if key in self._at_place or path is None or in_memory(uri):
            return False
        try:
            if path.stat().st_size != content.bytes:
                return True
            is_there = digest_of(path) == content.sha256
        except OSError:
            return is_gone(uri)
        self._at_place |= {key} if is_there else set()
        return not is_there

    def _named(self, found: Found, known: Known | None) -> tuple[tuple[str, ...], dict[str, Any]]:
        """What a document shall have: its own, those given or as before."""
        own = self._metadata(found.uri) if callable(self._metadata) else self._metadata
        labels, metadata = found.labels, {**(own or {}), **found.metadata}
        found.keeps = ()
        if labels is None:
            given = self._labels(found.uri) if callable(self._labels) else self._labels
            before = known.labels if known else ()
            labels = before if given is None else as_labels(given)
            found.keeps += ("labels",) if given is None else ()
        if own is None and not found.metadata:
            metadata = dict(known.metadata) if known else {}
            found.keeps += ("metadata",)
        return labels, metadata


def _add(seen: bytearray, sha256: str) -> bool:
    """Add a hash to a Bloom filter of two probes in 2 MB; whether it may have been there.

    (B. H. Bloom: Space/time trade-offs in hash coding with allowable errors. CACM 13(7), 1970.)
    A million pictures make one answer in seventy wrong, which costs a question to the store.
    """
    there = _may_have(seen, sha256)
    for byte, bit in _probes(seen, sha256):
        seen[byte] |= bit
    return there


def _may_have(seen: bytearray, sha256: str) -> bool:
    return all(seen[byte] & bit for byte, bit in _probes(seen, sha256))


def _probes(seen: bytearray, sha256: str) -> Iterator[tuple[int, int]]:
    number = hash(sha256)  # of a harmed document it is any text
    for place in (number, number >> 24):
        byte, bit = divmod(place % (8 * len(seen)), 8)
        yield byte, 1 << bit
