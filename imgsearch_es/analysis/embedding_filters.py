"""The built-in parts of an analyzer that deep features pass through, in the order they are named.

As other filters they are frozen dataclasses whose fields are their options. One that was learnt
keeps what it learnt in a file, of which the index records ``path`` and ``sha256`` (`LearntFilter`)
and compares the second: another file in its place is refused, as other weights are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.analysis.configuration import LearntFile, digest_of
from imgsearch_es.analysis.plugins import create_part
from imgsearch_es.errors import AnalyzerError, WeightsError
from imgsearch_es.pictures.files import replacing

EMBEDDING_FILTERS = "imgsearch_es.embedding_filters"

Vectors = NDArray[np.float32]


class EmbeddingFilter(Protocol):
    """A step after the model, for its deep feature."""

    def dimensions(self, given: int) -> int:
        """How long a deep feature of this length becomes; an AnalyzerError if it does not fit."""

    def __call__(self, vectors: Vectors) -> Vectors:
        """Give new deep features of shape (pictures, dimensions); each row depends on no other."""


@dataclass(frozen=True)
class LearntFilter(LearntFile):
    """Base of filters that read what they do from a file: ``path``, and ``sha256`` of its bytes."""

    what: ClassVar[str] = "an embedding filter"


@dataclass(frozen=True)
class L2Normalize:
    """Scale each deep feature to length 1; zero stays zero. The dot product becomes the cosine."""

    def dimensions(self, given: int) -> int:
        return given

    def __call__(self, vectors: Vectors) -> Vectors:
        wide = vectors.astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)


@dataclass(frozen=True)
class PCAWhiten(LearntFilter):
    """Whiten deep features by principal components that ``imgsearch whiten`` learnt.

    y = D^(-1/2) V^T (x - mean), with the largest eigenvalues D and the eigenvectors V of the
    collection's covariance (Jégou and Chum 2012).
    """

    def dimensions(self, given: int) -> int:
        """As many as components were kept."""
        before, after = self._learnt["components"].shape
        if given != before:
            raise AnalyzerError(
                f"pca_whiten: {self.path} takes deep features of {before} dimensions, not {given}"
            )
        return int(after)

    def __call__(self, vectors: Vectors) -> Vectors:
        self.dimensions(vectors.shape[1])
        learnt = self._learnt
        centered = vectors.astype(np.float64) - learnt["mean"]
        # Each row on its own, so that a picture's feature does not depend on its batch.
        rows = [row @ learnt["components"] for row in centered]
        return np.asarray(rows, dtype=np.float32).reshape(len(vectors), -1)

    @cached_property
    def _learnt(self) -> dict[str, NDArray[np.float64]]:
        return read_whitening(Path(self.path))


def write_whitening(
    path: Path, mean: NDArray[np.float64], components: NDArray[np.float64], **notes: object
) -> str:
    """Write the file of `PCAWhiten`, an .npz without pickle, whole or not at all; gives its sha256.

    The mean has the shape (dimensions,), V D^(-1/2) (dimensions, components). Notes are numbers,
    texts or arrays of them.
    """
    arrays = {name: np.asarray(value) for name, value in notes.items()}
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez(file, mean=mean, components=components, **cast(Any, arrays))
    return digest_of(path)


def read_whitening(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read "mean" and "components" that `write_whitening` wrote; never unpickles."""
    wrong = f"{path} is no file of pca_whiten (an .npz that `imgsearch whiten` wrote)"
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {name: np.asarray(file[name], np.float64) for name in ("mean", "components")}
    except Exception as error:  # a foreign file raises anything
        raise WeightsError(f"{wrong}: {error}") from error
    mean, components = found["mean"], found["components"]
    if components.ndim != 2 or mean.shape != components.shape[:1] or not components.size:
        raise WeightsError(f"{wrong}: its arrays have shapes {mean.shape}, {components.shape}")
    if not all(np.isfinite(array).all() for array in found.values()):
        raise WeightsError(f"{wrong}: it holds numbers that are not finite")
    return found


def create_embedding_filter(config: Mapping[str, Any]) -> EmbeddingFilter:
    """Build an embedding filter; see `create_part`. One whose file is another is a WeightsError."""
    return cast(EmbeddingFilter, create_part(EMBEDDING_FILTERS, "embedding filter", config))


def run_embedding_filters(filters: tuple[EmbeddingFilter, ...], vectors: Vectors) -> Vectors:
    """Run embedding filters one after the other, and see that each keeps its promise."""
    for part in filters:
        who = f"the embedding filter {type(part).__name__}"
        wanted = (len(vectors), part.dimensions(vectors.shape[1]))
        vectors = np.ascontiguousarray(part(vectors), dtype=np.float32)
        if vectors.shape != wanted:
            raise AnalyzerError(f"{who} gives shape {vectors.shape}, where it promised {wanted}")
        if not np.isfinite(vectors).all():
            raise AnalyzerError(f"{who} gives a number that is not finite")
    return vectors
