"""What is written to Elasticsearch: documents, and the words that an index is taught."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial, partialmethod
from itertools import islice
from typing import Any

import elasticsearch
import numpy as np

from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import StoreError
from imgsearch_es.pictures.files import picture_id
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.dense import direction
from imgsearch_es.retrieval.documents import Document, storable, without_thumbnails
from imgsearch_es.stores.base import WriteReport, known_settings
from imgsearch_es.stores.elastic import fetching, mapping, waiting
from imgsearch_es.stores.elastic.aliased import TRUSTED_SECONDS
from imgsearch_es.stores.elastic.clauses import VISUAL_WORDS
from imgsearch_es.stores.elastic.connection import is_missing_index, translated
from imgsearch_es.stores.elastic.fetching import shown_by
from imgsearch_es.stores.elastic.ledger import ElasticLedger
from imgsearch_es.stores.elastic.reading import Reading
from imgsearch_es.stores.inspecting import Inspected
from imgsearch_es.stores.settings import IndexSettings, fitted

_SENDERS = 4
"""Bulk requests at once, as elasticsearch-py's parallel_bulk has."""
_LEAST_TOGETHER = 64
"""Documents that are not worth two requests."""
_MOST_TOGETHER = 512
"""Documents of one request: about as many as parallel_bulk sends."""
_LOOKED_AT = 2000
"""Deep features compared with a taught word at a time."""
_ATTEMPTS = 10
"""At rewriting documents that others write at the same time."""
_CONFLICT = 409
"""The server's status of a document that has changed."""
_NO_NUMBERS: Mapping[str, tuple[int, int]] = {}


class Writing(Reading):
    """An index that is read and written."""

    def __init__(self, location: str, **options: Any) -> None:
        super().__init__(location, **options)
        self.ledger = ElasticLedger(lambda: self.client, self._address, self._layout.replicas or 0)

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Several requests at once: while the server works on one, the next is put into JSON."""
        self._look_for_taught()
        settings = known_settings(self)
        self._add_fields()
        taken, refused = storable(documents)
        taken = fitted(taken, settings)
        if self._is_lean:
            taken = without_thumbnails(taken)
        report = WriteReport(len(taken), refused)
        with ThreadPoolExecutor(_SENDERS, "imgsearch-bulk") as senders:
            send = partial(self._send, settings=settings)
            for _, rejected in senders.map(send, _parts(taken)):
                report.stored -= len(rejected)
                report.rejected += rejected
        if self._has_other_words(settings):
            self.finish()
            self._rewrite([document.id for document in taken])
        return report

    def _add_fields(self) -> None:
        """An index made before there were all fields gets those it lacks, if we may change it.

        Not those that follow from a document: they would answer by some, until it is reindexed.
        """
        if lacking := self._lacks - mapping.REBUILT:
            denied = elasticsearch.AuthorizationException
            with translated(self._address), suppress(denied):
                properties = {name: mapping.LATER[name] for name in sorted(lacking)}
                self.client.indices.put_mapping(index=self._index, properties=properties)
                self._lacks -= lacking

    def _send(
        self,
        documents: Sequence[Document],
        settings: IndexSettings,
        unless_changed: Mapping[str, tuple[int, int]] = _NO_NUMBERS,
    ) -> tuple[set[str], list[tuple[str, str]]]:
        """Send documents; those with numbers (see ``change``) only if they are as they were.

        Gives the ids of those that are not, and the URIs of refused ones, with reasons.
        """
        version, shown = self._connection[1], shown_by(settings.vocabulary)

        def action(document: Document) -> dict[str, Any]:
            source = document.to_source(
                settings.vocabulary,
                lambda vector: fetching.sent_vector(vector, version),
                synset_fields=settings.synset_fields,
                lean=self._is_lean,
            )
            source |= shown.fields(document, lean=self._is_lean)
            for name in self._lacks:
                source.pop(name, None)
            if document.embedding is not None and self._neighbors.has_directions:
                source["direction"] = fetching.sent_vector(direction(document.embedding), version)
            if document.embedding is not None and settings.visual_words:
                source[VISUAL_WORDS] = fetching.sent_words(
                    document.embedding, settings.visual_words
                )
            if self._impacts:
                source[fetching.IMPACTS] = fetching.impacts_of(document, self._impacts)
            made: dict[str, Any] = {"_id": document.id, "_source": source}
            if document.id in unless_changed:
                made["_if_seq_no"], made["_if_primary_term"] = unless_changed[document.id]
            return made

        items = {document.id: document for document in documents}
        options = {"chunk_size": len(documents), "require_alias": True}
        with translated(self._address):
            answers = waiting.bulk(self.client, self._written_as, items, action, **options)
        refused = [answer for answer in answers if "error" in answer]
        if any(map(is_missing_index, refused)):
            if self._written_as == self._index:  # a copy that others made
                raise StoreError(
                    f"{self.location} is an index without an alias, and is written to by one: give "
                    "it an alias, and open it by that"
                )
            raise self._gone()
        reasons = {answer["_id"]: waiting.why_not(answer) for answer in refused}
        late = {
            answer["_id"]
            for answer in refused
            if answer["_id"] in unless_changed and answer["status"] == _CONFLICT
        }
        return late, [(items[key].uri, why) for key, why in reasons.items() if key not in late]

    def finish(self) -> None:
        with translated(self._address):
            self.client.indices.refresh(index=self._name)

    def _look_for_taught(self) -> None:
        """Once a second, notice words that another program taught meanwhile."""
        if time.monotonic() >= self._looked_at + TRUSTED_SECONDS:
            self._look_again()

    def _has_other_words(self, settings: IndexSettings) -> bool:
        """Whether words were taught while what was sent took longer than their program waits."""
        self._look_for_taught()
        return known_settings(self) is not settings

    def change_taught(self, change: Callable[[IndexSettings], IndexSettings]) -> None:
        """Remember other taught words; fields for them are added, and never taken away.

        The server keeps what came last of two at once, so it is looked at whether this was kept.
        """
        for _ in range(_ATTEMPTS):
            self._settings = None
            known = known_settings(self)
            self.check_whole()
            settings = change(known)
            if settings == known:
                return
            self._put_settings(settings)
            time.sleep(TRUSTED_SECONDS)  # then all who write know
        raise self._busy()

    def _put_settings(self, settings: IndexSettings) -> None:
        index = self._known_index()
        with translated(self._address):
            indices = self.client.indices
            found = indices.get_mapping(index=index)[index]["mappings"]["properties"]
            known = found.get("synset", {}).get("properties", {})
            new = [k for k in settings.vocabulary.keys if k not in known]
            new = new if settings.synset_fields else []
            properties = {"synset": mapping.term_fields(new, lean=self._is_lean)} if new else {}
            if new:
                limit = mapping.field_limit(len(known) + len(new))
                indices.put_settings(
                    index=index, settings={"index.mapping.total_fields.limit": limit}
                )
            meta = {"imgsearch_es": settings.to_stored()}
            indices.put_mapping(index=index, meta=meta, properties=properties)

    def apply_taught(self, word: TaughtWord, progress: Callable[[int, int], None]) -> int:
        self.finish()
        has, changed, done, total = self._scores_of(word), 0, 0, self.count()
        prints = self.fingerprints(embeddings=True)
        while some := list(islice(prints, _LOOKED_AT)):
            given = [item for item in some if item.embedding is not None]
            scores: dict[str, float] = {}
            if given:
                vectors = np.stack([v for item in given if (v := item.embedding) is not None])
                made = word.scores(vectors).tolist()
                scores = {item.id: s for item, s in zip(given, made, strict=True) if s}
            differ = [x.id for x in some if scores.get(x.id) != has.get(x.id)]
            changed += self._rewrite(differ)
            done += len(some)
            progress(done, max(done, total))
        self.finish()
        return changed

    def _scores_of(self, word: TaughtWord) -> dict[str, float]:
        """The scores of a taught word, by the ids of the documents that have it."""
        filters = (Filter("synsets", "in", (word.key,)),)
        return {
            document.id: term.score
            for document in self.documents(filters)
            for term in document.terms
            if term.key == word.key
        }

    def _rewrite(self, ids: Sequence[str]) -> int:
        report = self.change(ids, replace)
        for uri, reason in report.rejected:
            raise StoreError(f"{uri} cannot be written: {reason}")
        return report.stored

    def change(self, ids: Sequence[str], change: Callable[[Document], Document]) -> WriteReport:
        """By the numbers that the server gives each change: again where somebody else was first."""
        stored, refused, left, late = set[str](), dict[str, str](), [*ids], set[str]()
        asked = set[str]()  # others are written for the sake of a word taught meanwhile
        for _ in range(_ATTEMPTS):
            self._look_for_taught()
            settings = known_settings(self)
            self._add_fields()
            hits = self._as_they_are(left)
            numbers = {hit["_id"]: (hit["_seq_no"], hit["_primary_term"]) for hit in hits}
            old = [fetching.whole_document_of(hit) for hit in hits]
            made = [change(document) for document in old]
            asked |= {a.id for a, b in zip(old, made, strict=True) if a is not b}
            new = fitted(made, settings)
            differ = {b: a.id for a, b in zip(old, new, strict=True) if a is not b}
            # What came too late by its number was written, if its answer was lost.
            stored |= late & ({hit["_id"] for hit in hits} - set(differ.values()))
            taken, unfit = storable(differ)
            late, some = self._send(taken, settings, numbers)
            refused |= dict([*unfit, *some])
            sent = [document for document in taken if document.uri not in refused]
            moved = [document for document in sent if document.id != differ[document]]
            late |= self._leave([differ[document] for document in moved], numbers)
            stored |= {differ[document] for document in sent} - late
            left = [*late]
            if self._has_other_words(settings):
                left = [*ids, *(document.id for document in moved)]
            if not left:
                return WriteReport(len(stored & asked), [*refused.items()])
            self.finish()
        raise self._busy()

    def _as_they_are(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Documents with their numbers, also those written since the server last refreshed."""
        with translated(self._address):
            hits = list(self._numbered(ids))
            if unseen := [*set(ids).difference(hit["_id"] for hit in hits)]:
                there = dict(waiting.sources_by_id(self.client, self._name, unseen, False))
                if there:
                    self.finish()
                    hits += self._numbered([*there])
        return hits

    def repair(self, items: Sequence[tuple[Inspected, Document]]) -> int:
        self._look_for_taught()
        settings = known_settings(self)
        self._add_fields()
        numbers = {item.id: item.was for item, _ in items}
        misnamed = {item.id: right.id for item, right in items if item.id != right.id}
        known = self.known(list(misnamed.values())) if misnamed else {}
        there = known.keys() - misnamed.keys()  # what is misnamed itself makes room
        taken, unfit = storable(
            right for item, right in items if item.id == right.id or right.id not in there
        )
        taken = without_thumbnails(taken) if self._is_lean else taken
        late, refused = self._send(fitted(taken, settings), settings, numbers)
        kept = {picture_id(uri) for uri, _ in [*unfit, *refused]}
        kept |= late
        gone = [old for old, new in misnamed.items() if new not in kept]
        left = self._leave([old for old in gone if old not in misnamed.values()], numbers)
        again = [misnamed[old] for old in left if misnamed[old] not in there]
        late |= set(again)
        if again:  # somebody wrote to what they were made of
            self.remove(again)
        if self._has_other_words(settings):
            self.finish()
            self._rewrite([document.id for document in taken])
        return len(taken) - len(late) - len(refused)

    def _leave(self, ids: Sequence[str], numbers: Mapping[str, tuple[int, int]]) -> set[str]:
        """Delete documents that are as they were; gives those that are not."""
        actions = waiting.deletions(ids)
        for key, action in actions.items():
            action["if_seq_no"], action["if_primary_term"] = numbers[key]
        with translated(self._address):
            answers = waiting.bulk(self.client, self._written_as, actions, dict)
        late = {answer["_id"] for answer in answers if answer["status"] == _CONFLICT}
        for answer in answers:
            if "error" in answer and answer["_id"] not in late:
                why = waiting.why_not(answer)
                raise StoreError(f"{self.location}: a document stays where it was: {why}")
        return late

    def _busy(self) -> StoreError:
        return StoreError(
            f"{self.location} is written to all the time: stop what writes to it, and run this "
            "again"
        )

    _numbered = partialmethod(Reading._of_ids, seq_no_primary_term=True)


def _parts(documents: Sequence[Document]) -> Iterator[Sequence[Document]]:
    """Documents for one request each, fewer towards the end, so that all senders end together."""
    while documents:
        size = len(documents) // (2 * _SENDERS)
        size = min(max(_LEAST_TOGETHER, size), _MOST_TOGETHER)
        yield documents[:size]
        documents = documents[size:]
