"""Filling an index with made-up documents."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice

from imgsearch_es.retrieval.documents import Document
from imgsearch_es.stores.base import IndexSettings, Store
from imgsearch_es.vocabulary.synsets import Vocabulary

NO_ANALYZER = {"model": {"name": "synthetic"}, "image_filters": [], "term_filters": []}


def fill(
    store: Store,
    documents: Iterable[Document],
    vocabulary: Vocabulary,
    *,
    dimensions: int = 0,
    words: int = 0,
    batch: int = 5000,
) -> float:
    """Create the index and write all documents, so many at a time; gives the seconds of writing.

    Those with deep features have so many visual ``words``.
    """
    settings = IndexSettings(NO_ANALYZER, "sha256:none", vocabulary, dimensions)
    store.create(settings.with_visual_words(words))
    started = time.perf_counter()
    rest = iter(documents)
    while some := list(islice(rest, batch)):
        store.write(some)
    store.finish()
    return time.perf_counter() - started
