"""Results as people look at them: an HTML gallery for notebooks and pages.

The HTML loads nothing from outside: thumbnails are embedded, and the style sheet (gallery.css) is
scoped to one class. Its one script (gallery.js) copies a path at a click on "Copy path"; the policy
of a page admits no other. The templates escape all text, so that a file name or a word can never
become markup.
"""

from imgsearch_es.interfaces.gallery.page import SHOWN, VALUES, gallery_html
from imgsearch_es.interfaces.gallery.texts import traces
from imgsearch_es.interfaces.html import number, words
from imgsearch_es.pictures.thumbnails import thumbnail

__all__ = ["SHOWN", "VALUES", "gallery_html", "number", "thumbnail", "traces", "words"]
