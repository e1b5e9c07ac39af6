"""Learns PCA whitening on the deep features of an index, for the embedding filter `pca_whiten`.

With the mean m and the covariance C = V D V^T of the features, the largest eigenvalues first, a
feature x becomes D^(-1/2) V^T (x - m): uncorrelated components of variance 1, of which the first
ones are kept (Jégou and Chum 2012, "Negative evidences and co-occurrences in image retrieval: the
benefit of PCA and whitening").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import describe
from imgsearch_es.analysis.embedding_filters import write_whitening
from imgsearch_es.errors import ConfigurationError, ExchangeError
from imgsearch_es.indexing.exchange.rows import chunks
from imgsearch_es.pictures.files import check_folder_of, reason
from imgsearch_es.stores.base import Store, known_settings

_BLOCK = 512
_NEGLIGIBLE = 1e-6
"""Eigenvalues below this part of the largest one are noise of float32, and not divided by."""


@dataclass(frozen=True, slots=True)
class Whitening:
    """What was learnt.

    Attributes:
        path, sha256: of the file.
        pictures: whose deep features it was learnt on.
        dimensions: of the deep features.
        components: that are kept: the dimensions of whitened features.
        variance: how much of the features' variance they hold, 0 to 1.
    """

    path: str
    sha256: str
    pictures: int
    dimensions: int
    components: int
    variance: float


class Moments:
    """Count, mean and covariance of vectors that come some at a time (Chan et al. 1979)."""

    def __init__(self, dimensions: int) -> None:
        self.count = 0
        self.mean = np.zeros(dimensions)
        self._squares = np.zeros((dimensions, dimensions))

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Take vectors of shape (pictures, dimensions)."""
        wide = vectors.astype(np.float64)
        mean = wide.mean(axis=0)
        centered, apart = wide - mean, mean - self.mean
        both = self.count + len(wide)
        self._squares += centered.T @ centered
        self._squares += np.outer(apart, apart) * (self.count * len(wide) / both)
        self.mean = self.mean + apart * (len(wide) / both)
        self.count = both

    def covariance(self) -> NDArray[np.float64]:
        """Of shape (dimensions, dimensions)."""
        return np.asarray(self._squares / max(self.count - 1, 1))


def learn_whitening(
    store: Store,
    path: Path,
    *,
    dimensions: int | None = None,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Whitening:
    """Learn from the deep features of a store; see ``ImageIndex.learn_whitening``."""
    settings = known_settings(store)
    if path.suffix != ".npz":
        raise ConfigurationError(f"{path} is no name for what is learnt: it ends in .npz")
    if path.exists() and not force:
        raise ExchangeError(f"{path} exists; give another name, or force=True (--force)")
    check_folder_of(path, ExchangeError)
    if not settings.embedding_dimensions:
        raise ConfigurationError(f"{store.location} has no deep features to learn from")
    moments = Moments(settings.embedding_dimensions)
    vectors = (d.embedding for d in store.documents() if d.embedding is not None)
    for block in chunks(vectors, _BLOCK):
        moments.add(np.stack(block))
        if progress is not None:
            progress(moments.count)
    components, variance = principal_components(moments, dimensions, store.location)
    try:
        digest = write_whitening(
            path,
            moments.mean,
            components,
            pictures=moments.count,
            variance=variance,
            analyzer=describe(settings.analyzer),
            weights=settings.weights,
        )
    except OSError as error:
        raise ExchangeError(f"cannot write {path}: {reason(error)}") from error
    before, after = components.shape
    return Whitening(str(path), digest, moments.count, before, after, variance)


def principal_components(
    moments: Moments, wanted: int | None, location: str
) -> tuple[NDArray[np.float64], float]:
    """V D^(-1/2) of the largest eigenvalues, shape (dimensions, components), and their share.

    Raises:
        ConfigurationError: there are not as many.
    """
    values, vectors = np.linalg.eigh(moments.covariance())
    values, vectors = values[::-1], vectors[:, ::-1]
    possible = int((values > _NEGLIGIBLE * values[0]).sum()) if values[0] > 0 else 0
    possible = min(possible, moments.count - 1)
    if wanted is not None and wanted < 1:
        raise ConfigurationError(f"dimensions are 1 or more, not {wanted}")
    if possible < 1 or (wanted or 1) > possible:
        raise ConfigurationError(
            f"the {moments.count} deep features of {location} vary in {max(possible, 0)} "
            f"dimensions, and {wanted or 1} are wanted: give fewer dimensions, or learn on more "
            "pictures"
        )
    kept = wanted or possible
    # An eigenvector's sign is of no matter; the largest part is made positive, for equal files.
    largest = np.abs(vectors[:, :kept]).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(kept)])
    components = vectors[:, :kept] * (signs / np.sqrt(values[:kept]))
    share = float(values[:kept].sum() / np.maximum(values, 0).sum())
    return components, min(share, 1.0)
