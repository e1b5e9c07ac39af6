"""What an analyzer says of a picture: weighted terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Term:
    """One synset of a picture (or of a query) with its weight.

    >>> index.get("photos/coffee.jpg").terms[0].key
    'espresso'
    """

    key: str
    """The synset's unique key in the vocabulary."""
    score: float
    """Finite and above zero; a float32 number, so both stores hold the same value."""
    view: int | None = None
    """Of a picture that was analyzed in several views, the one in which this term scored best: an
    index of `imgsearch_es.analysis.views.PARTS`."""


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What an analyzer says of one picture.

    >>> analysis = index.analyze("photos/coffee.jpg")
    >>> analysis.terms[0].key, analysis.embedding.shape
    ('espresso', (1280,))
    """

    terms: tuple[Term, ...]
    """Best first; equal scores in the order of the vocabulary."""
    embedding: NDArray[np.float32] | None
    """The deep feature, of shape (dimensions,), or None."""
    colors: tuple[Term, ...] = ()
    """The shares of its colors, largest first; see `imgsearch_es.analysis.colors`."""
