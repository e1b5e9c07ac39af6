"""Image search with a classifier as the analyzer: pictures become weighted ImageNet synsets.

    from imgsearch_es import ImageIndex

    index = ImageIndex("pets.duckdb", model="efficientnet-lite0")
    index.add("photos/")
    index.search(text="tabby cat")

Importing this loads neither TensorFlow nor matplotlib; the names below are imported when used.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "Analysis": "analysis",
    "Analyzer": "analysis",
    "Document": "documents",
    "Explanation": "hits",
    "Hit": "hits",
    "Hits": "hits",
    "ImageIndex": "index",
    "ImgsearchError": "errors",
    "IndexReport": "indexing",
    "Limits": "files",
    "Picture": "images",
    "Query": "queries",
    "Synset": "synsets",
    "Term": "analysis",
    "Vocabulary": "synsets",
    "find_images": "sources",
    "folder_label": "indexing",
    "imagenet": "synsets",
    "open_image": "images",
}

__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
