"""Results as people look at them: an HTML gallery for notebooks and pages.

The HTML has no script and loads nothing from outside: thumbnails are embedded, and the style sheet
(gallery.css) is scoped to one class. Elements are built by ``markup.tag``, which escapes whatever
is not already HTML, so that a file name or a word can never become markup.
"""

from imgsearch_es.interfaces.gallery.page import document, gallery_html
from imgsearch_es.interfaces.gallery.protocols import (
    ExplanationLike,
    HitLike,
    HitsLike,
    QueryLike,
    TermLike,
)
from imgsearch_es.interfaces.gallery.texts import number, title, words
from imgsearch_es.pictures.thumbnails import thumbnail

__all__ = [
    "ExplanationLike",
    "HitLike",
    "HitsLike",
    "QueryLike",
    "TermLike",
    "document",
    "gallery_html",
    "number",
    "thumbnail",
    "title",
    "words",
]
