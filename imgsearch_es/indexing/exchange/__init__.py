"""Documents in files: moving an index, or indexing what was analyzed elsewhere.

``docs/exchange.md`` describes the two formats, JSON Lines and Parquet, for other tools;
``docs/features.md`` the files of deep features alone.
"""

from imgsearch_es.indexing.exchange.documents import (
    ExportReport,
    ImportReport,
    RejectedRow,
    export_documents,
    import_documents,
)
from imgsearch_es.indexing.exchange.features import FeatureExport, export_features, import_features

__all__ = [
    "ExportReport", "FeatureExport", "ImportReport", "RejectedRow", "export_documents",
    "export_features", "import_documents", "import_features",
]  # fmt: skip
