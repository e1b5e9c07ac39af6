"""Indexing: pictures in folders become documents in an index, as fast as the machine allows.

To be read in this order, which is that of the stages; each runs in threads of its own:

    find -> read -> (decoding) -> resolve -> analyze -> write

``run`` holds them together, ``channel`` is what lies between two of them, ``report`` what a run
gives back, ``stopping`` how it is interrupted, ``prune`` how documents without files are removed.
Then: ``wanted_analyzer``, ``progress`` (shown while it runs), ``reindexing``, ``exchange``
(documents in files), ``verifying``, and ``kept_index``, which has them all; ``engines`` and
``ray_driver`` are for a cluster.
"""

from imgsearch_es.indexing.analyze import BATCH_SIZE
from imgsearch_es.indexing.options import DEFAULT_LIMITS, Options
from imgsearch_es.indexing.report import STAGES, IndexReport, Progress
from imgsearch_es.indexing.resolve import Labels, as_labels, folder_label, is_gone
from imgsearch_es.indexing.run import Indexer
from imgsearch_es.indexing.stopping import StoppedError
from imgsearch_es.retrieval.ledger import Rejected

__all__ = [
    "BATCH_SIZE",
    "DEFAULT_LIMITS",
    "STAGES",
    "IndexReport",
    "Indexer",
    "Labels",
    "Options",
    "Progress",
    "Rejected",
    "StoppedError",
    "as_labels",
    "folder_label",
    "is_gone",
]
