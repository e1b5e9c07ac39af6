"""Indexing: pictures in folders become documents in an index, as fast as the machine allows.

To be read in this order, which is that of the stages; each runs in threads of its own:

    find -> read -> (decoding) -> resolve.Resolver -> write.BatchAnalyzer -> write.Writer

``run`` holds them together by channels (``read``), and gives back a ``report``, which is shown
while it runs; ``gone`` removes what is no longer there, and ``ray_engine`` is for a cluster. Then
``photos`` (what documents keep beside the analysis), ``wanted_analyzer``, ``exchange`` (documents
in files), ``reindexing``, ``relocating``, ``verifying``, ``whitening`` (learnt from deep
features), and ``kept_index``, which has most of it.
"""

from imgsearch_es.indexing.find import (
    DEFAULT_LIMITS,
    Labels,
    Options,
    as_labels,
    folder_label,
    is_gone,
)
from imgsearch_es.indexing.report import STAGES, IndexReport, Progress
from imgsearch_es.indexing.run import Indexer, StoppedError
from imgsearch_es.indexing.write import BATCH_SIZE
from imgsearch_es.retrieval.ledger import Rejected

__all__ = [
    "BATCH_SIZE", "DEFAULT_LIMITS", "STAGES", "IndexReport", "Indexer", "Labels", "Options",
    "Progress", "Rejected", "StoppedError", "as_labels", "folder_label", "is_gone",
]  # fmt: skip
