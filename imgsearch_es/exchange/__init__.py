"""Documents in files: moving an index, or indexing what was analyzed elsewhere.

``docs/exchange.md`` describes the two formats, JSON Lines and Parquet, for other tools.
"""

from imgsearch_es.exchange.reading import ImportReport, RejectedRow, import_documents
from imgsearch_es.exchange.writing import ExportReport, export_documents

__all__ = [
    "ExportReport",
    "ImportReport",
    "RejectedRow",
    "export_documents",
    "import_documents",
]
