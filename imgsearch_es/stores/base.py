"""What an index can do, whether DuckDB or Elasticsearch holds it.

Both stores pass one and the same conformance suite (tests/conformance) and rank exactly alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.terms import TaughtWord
from imgsearch_es.errors import IndexNotFoundError
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.duplicates import Fingerprint
from imgsearch_es.retrieval.facets import Facets
from imgsearch_es.retrieval.ledger import Ledger
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.scoring import Statistics
from imgsearch_es.retrieval.strategies import PartScore
from imgsearch_es.stores.inspecting import Harm, Inspected
from imgsearch_es.stores.settings import IndexSettings as IndexSettings

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing since Python 3.11

READ_SECONDS: ContextVar[float] = ContextVar("READ_SECONDS", default=math.inf)
"""How long a thread that reads waits for who writes, where that is less than the store does."""
ANSWER_SECONDS: ContextVar[float] = ContextVar("ANSWER_SECONDS", default=math.inf)
"""How long it waits for an answer of a server, once, also while another thread is patient."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A document, its score (a float32 number), and what each part of a fused query adds to it."""

    document: Document
    score: float
    parts: tuple[PartScore, ...] = ()


def best_first(found: Iterable[Scored]) -> list[Scored]:
    """Documents in the order of every ranking: the highest score first, ties by id."""
    return sorted(found, key=lambda item: (-item.score, item.document.id))


class Shelf(Protocol):
    """Where documents lie that are read later; it gives the same at any time, and no error."""

    def document(self, place: int) -> Document:
        """The document at a place."""

    def ids(self, places: NDArray[np.integer[Any]]) -> list[str]:
        """The ids of the documents at some places."""


class LazyHits(Sequence[Scored]):
    """Hits whose documents are read when they are first looked at; pickled, they are a tuple."""

    __slots__ = "_known", "_parts", "_places", "_scores", "_shelf"

    def __init__(
        self,
        shelf: Shelf,
        places: NDArray[np.integer[Any]],
        scores: NDArray[np.float32],
        parts: Mapping[int, tuple[PartScore, ...]],
    ) -> None:
        self._shelf, self._places, self._scores, self._parts = shelf, places, scores, parts
        self._known: dict[int, Scored] | None = None

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Ids and scores."""
        return list(zip(self._shelf.ids(self._places), self._scores.tolist(), strict=True))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, i: int) -> Scored: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Scored]: ...
    def __getitem__(self, i: int | slice) -> Scored | Sequence[Scored]:
        if isinstance(i, slice):
            return tuple(self[n] for n in range(len(self))[i])
        n = range(len(self))[i]
        known = self._known = self._known or {}
        if n not in known:
            place, score = int(self._places[n]), float(self._scores[n])
            known[n] = Scored(self._shelf.document(place), score, self._parts.get(place, ()))
        return known[n]

    def __reduce__(self) -> tuple[type, tuple[tuple[Scored, ...]]]:
        return tuple, (tuple(self),)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a store answers.

    Attributes:
        hits: highest score first, ties by id.
        total: how many documents are ranked, by scores above 0; a lower bound where
            ``total_is_exact`` is False (Elasticsearch counts to 10,000).
        terms, part_terms: the query's synsets, and those of each part of a fused query, as the
            formula weighted them.
        average_length: mean length of the collection's documents, where the formula uses it.
        strategy: the way that gave the answer, for example "impact".
        exact: True when the hits and their order are certainly those of the formula.
        means: by which means that is known, for a person.
        took_ms: milliseconds that the store worked.
        windows: how many, each wider, were rescored until the answer was certain; 0 without.
    """

    hits: Sequence[Scored]
    total: int
    total_is_exact: bool = True
    terms: tuple[Term, ...] = ()
    average_length: float = 0.0
    strategy: str
    exact: bool
    means: str
    took_ms: float = 0.0
    part_terms: tuple[tuple[Term, ...], ...] = ()
    windows: int = 0

    @property
    def ranking(self) -> list[tuple[str, float]]:
        """Ids and scores of the hits; quicker than they are where documents were not read yet."""
        hits = self.hits
        if isinstance(hits, LazyHits):
            return hits.ranking
        return [(hit.document.id, hit.score) for hit in hits]


@dataclass(frozen=True, slots=True)
class Known:
    """What indexing needs to know of a stored document: has its content or its naming changed?

    And reindexing, of its text, which a second pass may have read meanwhile.
    """

    sha256: str
    labels: tuple[str, ...]
    metadata: Mapping[str, Any]
    text: str | None = None

    @classmethod
    def readable(cls, sha256: object, given: object, metadata: object, text: object) -> Known:
        """What can be read of what others may have written; ``verify`` tells of the rest."""
        labels = given if isinstance(given, list) else [given]
        return cls(
            sha256 if isinstance(sha256, str) else "",
            tuple(label for label in labels if isinstance(label, str)),
            metadata if isinstance(metadata, dict) else {},
            text if isinstance(text, str) else None,
        )

    @property
    def is_named(self) -> bool:
        """Whether people said something of it."""
        return bool(self.labels or self.metadata)

    def joined(self, other: Known | Document) -> Known:
        """With what people said of another one, where they said nothing else of this."""
        labels = tuple(dict.fromkeys([*self.labels, *other.labels]))
        return replace(self, labels=labels, metadata={**other.metadata, **self.metadata})


SAME = 100
"""Documents of one content that are told of."""


@dataclass(slots=True)
class WriteReport:
    """What became of written documents: how many were stored, and (uri, reason) of the others."""

    stored: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)


class Store(Protocol):
    """An index of documents; its location is a path or a URL without credentials."""

    location: str
    ledger: Ledger
    """The pictures that could not be indexed."""
    keeps_thumbnails: bool = False
    """Whether documents keep theirs."""
    not_compared: str = ""
    """What ``inspect`` does not compare, and why."""

    def settings(self) -> IndexSettings | None:
        """What the index remembers; None when it does not exist yet."""

    def stored_settings(self) -> IndexSettings | None:
        """What the index remembers, although an older version may have written it."""

    def renew(self) -> None:
        """Look again at an index that may have been rebuilt; IndexRebuiltError is raised before."""

    def create(self, settings: IndexSettings) -> None:
        """Create the index; StoreError if it exists."""

    def write(self, documents: Sequence[Document]) -> WriteReport:
        """Add documents, or replace those of the same ids; those refused are in the report.

        Their taught words are those that ``fitted`` gives.
        """

    def change(self, ids: Sequence[str], change: Callable[[Document], Document]) -> WriteReport:
        """Write what ``change`` makes of those of these ids that exist, as they are just then.

        It is called again for what others write meanwhile, and gives back what shall stay as it is.
        What has another id takes the place of the document: an id that is none of these.
        """

    def patient(self) -> AbstractContextManager[Callable[[], None]]:
        """Within this block, wait for a server or file; what it gives, when called, ends that."""

    def finish(self) -> None:
        """Make all that was written searchable, and lay it out well; call after a run."""

    def change_taught(self, change: Callable[[IndexSettings], IndexSettings]) -> None:
        """Remember what ``change`` makes of the settings; it changes taught words alone.

        Others may change them at the same time: ``change`` is called again where they did, and must
        give settings back as they are that say what they shall. From now on ``write`` gives
        documents the taught words of these settings.
        """

    def apply_taught(self, word: TaughtWord, progress: Callable[[int, int], None]) -> int:
        """Give the documents that fit a taught word its term, and take it from all others.

        In bounded steps, so that others search meanwhile; it may be done again. Tells documents
        looked at and all documents. Gives how many documents were changed.
        """

    def remove(self, ids: Sequence[str]) -> int:
        """Remove documents; unknown ids are ignored. Gives how many were removed."""

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these ids that exist, by id."""

    def known(self, ids: Sequence[str]) -> dict[str, Known]:
        """Hash, labels and metadata of those of these ids that exist, by id."""

    def by_content(self, hashes: Sequence[str]) -> dict[str, dict[str, str]]:
        """Of each of these sha256 the first SAME documents: URIs by ids; found after a refresh."""

    def below(self, prefix: str) -> list[tuple[str, str]]:
        """(id, uri) of all documents whose URI begins with ``prefix``."""

    def matching(self, query: Query) -> list[str]:
        """The ids of all documents that ``query`` matches, whatever k says."""

    def count(self, query: Query | None = None) -> int:
        """How many documents there are, or count for a query: ``queries.counted``."""

    def stats(self) -> dict[str, Any]:
        """Documents, bytes on disk, the best synsets with their counts, and the like."""

    def statistics(self, keys: Sequence[str]) -> Statistics:
        """What scoring may know of the collection, with the frequencies of these synsets."""

    def sample(self, size: int) -> list[Document]:
        """The documents with the smallest ids, in order of id, with their embeddings.

        Ids are hashes, so this is a random sample, and the same one in every store.
        """

    def features(self) -> dict[str, str]:
        """What the store runs on and can do, for a person; needs no index."""

    def search(self, query: Query) -> SearchResult:
        """Rank documents by formula (1)."""

    def search_many(self, queries: Sequence[Query]) -> list[SearchResult]:
        """What ``search`` answers to each query, with far fewer requests or openings of a file."""

    def approximable(self) -> tuple[str, ...]:
        """The strategies that this index can answer approximately; others it answers exactly."""

    def pages(self, query: Query) -> Iterator[SearchResult]:
        """All that a query matches from its offset on, best first, ``query.k`` at a time.

        Documents written meanwhile do not appear and shift nothing. On a file, those removed
        meanwhile are left out, and the others are shown as they are when their page is read.
        """

    def facets(self, query: Selection, fields: Sequence[str], size: int) -> Facets:
        """Count the values, or ranges, of fields over the pictures that a query matches.

        A picture matches when it meets the query's conditions and shares a synset with it, or, for
        the strategies dense-*, has a deep feature; of a fusion, when it has one of the parts. A
        Selection that is no query matches what meets it. See ``queries.counted``.
        """

    def fingerprints(self, *, embeddings: bool) -> Iterator[Fingerprint]:
        """Hash and, if asked for, deep feature of every document, some at a time."""

    def documents(self, filters: Sequence[Filter] = ()) -> Iterator[Document]:
        """Every document that meets conditions, in no certain order, some at a time.

        What is written meanwhile may be among them or not; a document that is replaced meanwhile
        comes once.
        """

    def beside(self) -> Self:
        """The store of a new index, to replace this one; it may exist, from an earlier attempt."""

    def delete(self) -> None:
        """Delete the index with all that is in it; none there is no error."""

    def mark(self) -> str:
        """A text that is another one after documents were written or removed."""

    def replace(self, new: Self, mark: str, *, keep: bool) -> bool:
        """Put ``new``, which ``beside`` gave, in the place of this index, in one step.

        Nothing happens, and the answer is False, when this index was written to since it had
        ``mark``. With ``keep`` the replaced index stays under another name.
        """

    def glance(self) -> list[Harm]:
        """What counts and the like say against the index as a whole; cheap beside ``inspect``."""

    def inspect(self) -> Iterator[Inspected]:
        """Every document with all that the store keeps of it, compared; see ``documents``."""

    def repair(self, items: Sequence[tuple[Inspected, Document]]) -> int:
        """Put documents in the place of what was inspected, where that is still what is there.

        What has another id than its document is taken out, also where that is there already. Gives
        how many documents were written.
        """

    def mend(self) -> None:
        """Put right what ``glance`` found and what no writing of a document would."""

    def close(self) -> None:
        """Let go of files and connections."""


def known_settings(store: Store) -> IndexSettings:
    """What an index remembers; IndexNotFoundError if it does not exist."""
    settings = store.settings()
    if settings is None:
        raise IndexNotFoundError(
            f"there is no index at {store.location}; `imgsearch index` or add() makes one"
        )
    return settings
