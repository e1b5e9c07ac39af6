"""The eleven basic color terms, which words of a query name beside synsets.

After Berlin and Kay, "Basic Color Terms: Their Universality and Evolution", 1969. A color's key has
a colon, which no key of a synset has.
"""

from __future__ import annotations

from imgsearch_es.vocabulary.wordnet import Synset

COLORS = (
    "black", "white", "red", "green", "yellow", "blue", "brown", "orange", "pink", "purple", "gray",
)  # fmt: skip
COLOR = "color:"
"""How their keys begin."""
COLOR_SYNSETS = tuple(
    Synset(COLOR + name, "", name, (name, "grey") if name == "gray" else (name,), "a color", None)
    for name in COLORS
)
NAMED = {lemma: synset.key for synset in COLOR_SYNSETS for lemma in synset.lemmas}
"""The key of each color by its word."""


def is_color(key: str) -> bool:
    """Whether this is the key of a color, and not of a synset."""
    return key.startswith(COLOR)
