"""The embedding filter ``head``: deep features pass through a trained head."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from imgsearch_es.analysis.embedding_filters import LearntFilter, Vectors
from imgsearch_es.analysis.models.networks import is_parallel
from imgsearch_es.errors import AnalyzerError
from imgsearch_es.learning.head import apply_head, load_head

if TYPE_CHECKING:
    import keras

_loading = threading.Lock()


@dataclass(frozen=True)
class Head(LearntFilter):
    """Give the embedding that a head (``imgsearch train``) makes of each deep feature."""

    def dimensions(self, given: int) -> int:
        """As many as the head's last layer has units."""
        network = self._network
        before, after = network.inputs[0].shape[1], network.outputs[0].shape[1]
        if before != given:
            raise AnalyzerError(
                f"head: {self.path} takes deep features of {before} dimensions, not {given}; it "
                "was trained on those of another analyzer"
            )
        return int(after)

    def __call__(self, vectors: Vectors) -> Vectors:
        """Give the embeddings."""
        after = self.dimensions(vectors.shape[1])
        # Each row on its own, so that a picture's feature does not depend on its batch.
        rows = [apply_head(self._network, row[None])[0] for row in vectors]
        return np.asarray(rows, dtype=np.float32).reshape(len(vectors), after)

    @cached_property
    def _network(self) -> keras.Model:
        with _loading:
            network = load_head(self.path)
        if is_parallel(network):
            raise AnalyzerError(
                f"head: {self.path} has a shallow network, which sees pixels, so it is no filter "
                f'but an option of the deep feature: [embedding] parallel = "{self.path}"'
            )
        return network
