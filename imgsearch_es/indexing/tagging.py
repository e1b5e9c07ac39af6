"""The synsets of an index's pictures, written into XMP sidecars for photo programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from imgsearch_es.pictures.files import to_path
from imgsearch_es.pictures.sidecars import HIERARCHY, SUBJECT, SidecarError, tag
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.ledger import reasons
from imgsearch_es.retrieval.traces import TRACE, most_trace
from imgsearch_es.stores.base import Store, known_settings
from imgsearch_es.vocabulary.synsets import Vocabulary

Tell = Callable[[str, Sequence[str]], None]
"""Called with the path of a picture whose sidecar changes, and its words."""


@dataclass(slots=True)
class TagReport:
    """What was written.

    Attributes:
        pictures: how many were looked at.
        written: sidecars that changed, or would change.
        refused: (uri, reason) of pictures that got none.
    """

    pictures: int = 0
    written: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "refused": reasons(self.refused)}


def write_sidecars(
    store: Store, filters: Sequence[Filter], *, dry_run: bool, tell: Tell
) -> TagReport:
    """See ``ImageIndex.tag``."""
    settings = known_settings(store)
    vocabulary, report = settings.vocabulary, TagReport()
    trace = TRACE if settings.has_posteriors else 0.0
    for document in store.documents(filters):
        report.pictures += 1
        path = to_path(document.uri)
        if path is None or not path.is_file():
            why = "no file of this machine" if path is None else "the file is gone"
            report.refused.append((document.uri, why))
            continue
        words = words_of(document, vocabulary, trace)
        try:
            if tag(path, words, is_raw=document.format == "RAW", dry_run=dry_run):
                report.written += 1
                tell(str(path), words[SUBJECT])
        except SidecarError as error:
            report.refused.append((document.uri, str(error)))
    return report


def words_of(document: Document, vocabulary: Vocabulary, trace: float) -> dict[str, list[str]]:
    """What a picture has more of than a trace, best first: the words, and what is above each."""
    keys = [
        term.key
        for term in sorted(document.terms, key=lambda term: -term.score)
        if term.key in vocabulary and term.score > most_trace(vocabulary, [term.key], trace)
    ]
    paths = (_path(key, vocabulary) for key in keys)
    return {
        SUBJECT: [vocabulary[key].title for key in keys],
        HIERARCHY: ["|".join(path) for path in paths if len(path) > 1],
    }


def _path(key: str, vocabulary: Vocabulary) -> list[str]:
    """A synset below its hypernyms, but those that stand above half of the vocabulary."""
    known = {synset.key: synset for synset in (vocabulary[key], *vocabulary.hypernyms(key))}
    path = [key]
    while (above := vocabulary.parents.get(path[-1])) and 2 * len(
        vocabulary.hyponyms(above[0])
    ) < len(vocabulary):
        path.append(above[0])
    return [known[each].title.replace("|", "/") for each in reversed(path)]
