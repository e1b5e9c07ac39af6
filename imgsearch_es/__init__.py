"""Image search with a classifier as the analyzer: pictures become weighted ImageNet synsets.

    from imgsearch_es import ImageIndex

    index = ImageIndex("pets.duckdb", model="efficientnet-lite0")
    index.add("photos/")
    index.search(text="tabby cat")

Importing this loads neither TensorFlow nor matplotlib; the names below are imported when used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time see __getattr__
    from collections.abc import Sequence
    from types import ModuleType

    from IPython.core.interactiveshell import InteractiveShell

    from imgsearch_es.analysis.analyzer import Analysis, Analyzer, Term
    from imgsearch_es.errors import ImgsearchError
    from imgsearch_es.evaluation import Judgements, Run, Topic, compare_scorers, evaluate
    from imgsearch_es.evaluation.judging import judge
    from imgsearch_es.evaluation.sweeps import sweep
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.indexing import IndexReport, folder_label
    from imgsearch_es.pictures.files import Limits
    from imgsearch_es.pictures.images import Picture, open_image
    from imgsearch_es.pictures.manifests import PictureList
    from imgsearch_es.pictures.sources import find_images
    from imgsearch_es.retrieval.documents import Document
    from imgsearch_es.retrieval.feedback import Rocchio
    from imgsearch_es.retrieval.queries import Query
    from imgsearch_es.retrieval.strategies import Fusion
    from imgsearch_es.search.hit import Explanation, Hit
    from imgsearch_es.search.hits import Hits
    from imgsearch_es.vocabulary.synsets import Synset, Vocabulary, imagenet

__version__ = "0.1.0"

_HOMES = {
    name: module
    for module, names in {
        "analysis.analyzer": ("Analysis", "Analyzer", "Term"),
        "errors": ("ImgsearchError",),
        "evaluation": ("Judgements", "Run", "Topic", "compare_scorers", "evaluate"),
        "evaluation.judging": ("judge",),
        "evaluation.sweeps": ("sweep",),
        "index": ("ImageIndex",),
        "indexing": ("IndexReport", "folder_label"),
        "pictures.files": ("Limits",),
        "pictures.images": ("Picture", "open_image"),
        "pictures.manifests": ("PictureList",),
        "pictures.sources": ("find_images",),
        "retrieval.documents": ("Document",),
        "retrieval.feedback": ("Rocchio",),
        "retrieval.queries": ("Query",),
        "retrieval.strategies": ("Fusion",),
        "search.hit": ("Explanation", "Hit"),
        "search.hits": ("Hits",),
        "vocabulary.synsets": ("Synset", "Vocabulary", "imagenet"),
    }.items()
    for name in names
}

__all__ = [
    "Analysis", "Analyzer", "Document", "Explanation", "Fusion", "Hit", "Hits", "ImageIndex",
    "ImgsearchError", "IndexReport", "Judgements", "Limits", "Picture", "PictureList", "Query",
    "Rocchio", "Run", "Synset", "Term", "Topic", "Vocabulary", "__version__", "compare_scorers",
    "evaluate", "find_images", "folder_label", "imagenet", "judge", "open_image", "sweep",
]  # fmt: skip


_MOVED = {
    "clicks": "evaluation.clicks",
    "demo": "pictures.demo",
    "embedding_filters": "analysis.embedding_filters",
    "filters": "analysis.filters",
    "ir_datasets": "evaluation.sharing",
    "judging": "evaluation.judging",
    "kibana": "interfaces.kibana",
    "maps": "interfaces.maps",
    "metric_learning": "learning",
    "models": "analysis.models",
    "mteb": "interfaces.mteb",
    "pyterrier": "interfaces.pyterrier",
    "quantizing": "learning.quantizing",
    "sweeps": "evaluation.sweeps",
}
"""Modules for users that are in a room: they are imported from here as well."""


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register ``%imgsearch``; ``%load_ext imgsearch_es`` calls it."""
    from imgsearch_es.interfaces.notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take ``%imgsearch`` back and close the indexes that it opened."""
    from imgsearch_es.interfaces.notebook.magics import unload

    unload(shell)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


class _Moved:
    """Gives a module that has moved, or one in it, under the name that it had.

    It derives from nothing, as importing ``importlib.abc`` takes longer than the rest of this.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        top, dot, inner = rest.partition(".")
        if package != __name__ or top not in _MOVED:
            return None
        home = f"{__name__}.{_MOVED[top]}{dot}{inner}"
        return ModuleSpec(fullname, self, origin=home)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(str(spec.origin))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run again; the module only gets its own description back."""
        module.__spec__ = module.__spec__ and module.__spec__.loader_state


sys.meta_path.insert(0, _Moved())

if hasattr(sys.modules.get("IPython.core.completer"), "context_matcher"):  # IPython 8.6 or newer
    import_module(f"{__name__}.interfaces.notebook.completion").register()
