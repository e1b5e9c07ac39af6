"""What a gallery shows: anything that has these attributes, such as ``Hits``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


class TermLike(Protocol):
    """A synset and its weight."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102


class QueryLike(Protocol):
    """What was asked. ``str(query)`` is a line for a person."""

    @property
    def text(self) -> str | None:
        """The words, None when there are none."""

    @property
    def pictures(self) -> Sequence[str | Image.Image]:
        """Pictures to show: URIs or pictures in memory."""

    @property
    def terms(self) -> Sequence[TermLike]:
        """The weighted synset vector, best first."""


class HitLike(Protocol):
    """One result; ``synsets`` are the document's terms, best first."""

    @property
    def rank(self) -> int: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def uri(self) -> str: ...  # noqa: D102
    @property
    def filename(self) -> str: ...  # noqa: D102
    @property
    def synsets(self) -> Sequence[TermLike]: ...  # noqa: D102
    @property
    def labels(self) -> Sequence[str]: ...  # noqa: D102


class HitsLike(Protocol):
    """Results, best first, with the query and how they were found."""

    @property
    def query(self) -> QueryLike: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def strategy(self) -> str: ...  # noqa: D102
    @property
    def exact(self) -> bool: ...  # noqa: D102
    @property
    def took_ms(self) -> float: ...  # noqa: D102
    def explain(self, i: int) -> ExplanationLike: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[HitLike]: ...


class ExplanationLike(Protocol):
    """The summands of one score: (key, query weight, document score, product)."""

    @property
    def rows(self) -> Sequence[tuple[str, float, float, float]]: ...  # noqa: D102
    @property
    def total(self) -> float: ...  # noqa: D102
