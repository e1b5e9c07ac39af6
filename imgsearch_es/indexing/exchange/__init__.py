"""Documents in files: moving an index, or indexing what was analyzed elsewhere.

``docs/exchange.md`` describes the two formats, JSON Lines and Parquet, for other tools;
``docs/features.md`` the files of deep features alone.
"""

from imgsearch_es.indexing.exchange.features import FeatureExport, export_features, import_features
from imgsearch_es.indexing.exchange.reading import ImportReport, RejectedRow, import_documents
from imgsearch_es.indexing.exchange.writing import ExportReport, export_documents

__all__ = [
    "ExportReport",
    "FeatureExport",
    "ImportReport",
    "RejectedRow",
    "export_documents",
    "export_features",
    "import_documents",
    "import_features",
]
