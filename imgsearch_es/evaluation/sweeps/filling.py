"""An index for one setting: the terms that its filters make of kept posteriors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from imgsearch_es.evaluation.sweeps.grid import Setting
from imgsearch_es.evaluation.sweeps.posteriors import Posteriors
from imgsearch_es.index import ImageIndex
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.stores.embedded.store import EmbeddedStore

POSTING_BYTES = 10
"""A term's number (2 bytes), a document's (4) and a score (4)."""
FEATURE_BYTES = 4
"""A float32 number."""


@dataclass(frozen=True, slots=True)
class Filled:
    """An index that was made for a setting.

    Attributes:
        index: open; its file is in a temporary folder.
        terms: mean number of terms per picture.
        dimensions: of the deep feature; 0 without one.
        file_bytes: of the whole file, per picture.
    """

    index: ImageIndex
    terms: float
    dimensions: int
    file_bytes: float

    def compared_bytes(self, *, synsets: bool, features: bool) -> float:
        """Bytes per picture of what is compared: postings, deep features or both, uncompressed."""
        return synsets * self.terms * POSTING_BYTES + features * self.dimensions * float(
            FEATURE_BYTES
        )


def fill(posteriors: Posteriors, setting: Setting, path: Path, *, features: bool) -> Filled:
    """Make the index of a setting.

    Args:
        posteriors: of all pictures.
        setting: its term filters.
        path: of the file, which does not exist yet.
        features: put the deep features into it, too.
    """
    filters = setting.chain.term_filters(setting.top_k)
    analyzer = posteriors.analyzer(filters, features=features)
    settings: IndexSettings = posteriors.settings(analyzer)
    store = EmbeddedStore(path)
    store.create(settings)
    terms = documents = 0
    for some, scores in posteriors.documents():
        made = [
            replace(document, terms=kept, embedding=document.embedding if features else None)
            for document, kept in zip(some, analyzer.to_terms(scores), strict=True)
        ]
        store.write(made)
        documents += len(made)
        terms += sum(len(document.terms) for document in made)
    store.finish()
    size = path.stat().st_size / documents
    store.close()
    index = ImageIndex(path, analyzer=analyzer)
    return Filled(index, terms / documents, settings.embedding_dimensions, size)
