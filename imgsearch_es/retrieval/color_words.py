"""Words that name colors: alone, beside other words, or where a class has the same name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping

from imgsearch_es.retrieval.conditions import shown_value
from imgsearch_es.vocabulary.colors import COLOR, NAMED, is_color
from imgsearch_es.vocabulary.meanings import Resolution
from imgsearch_es.vocabulary.synsets import Vocabulary
from imgsearch_es.vocabulary.words import normalize


def chosen(weights: MutableMapping[str, float], both: Mapping[str, Resolution]) -> Iterator[str]:
    """Take words that name synsets and a color for the color where synsets are asked for besides.

    Alone they are the synsets: "orange" is the fruit, "orange cat" a cat. Gives a hint for each.

    Args:
        weights: of synsets and colors, which are changed.
        both: the words.
    """
    own = {key for found in both.values() for key in found.keys}
    is_beside = any(not is_color(key) and key not in own for key in weights)
    for word, found in both.items():
        synsets = " ".join(f"synset:{shown_value(sense.key)}" for sense in found.senses)
        if not is_beside:
            yield f"{word!r} was taken for {synsets}; {found.color} is the color"
            continue
        heaviest = max(weights.pop(key, 0.0) for key in found.keys)
        weights[found.color] = max(heaviest, weights.get(found.color, 0.0))
        yield f"{word!r} was taken for the color; {synsets} is what else it means"


def described(weights: Collection[str]) -> tuple[str, ...]:
    """The synsets beside which colors are asked for; none where either is missing."""
    synsets = tuple(key for key in weights if not is_color(key))
    return synsets if len(synsets) < len(weights) else ()


def color_key(name: str, vocabulary: Vocabulary) -> str | None:
    """The key of the color of this name; None where there is none, or the index keeps none."""
    return NAMED.get(normalize(name)) if vocabulary.has_colors else None


def why_unknown(word: str, vocabulary: Vocabulary) -> str:
    """What to say of a word that an index without colors does not know; empty of other words."""
    if normalize(word.removeprefix(COLOR)) not in NAMED or vocabulary.has_colors:
        return ""
    return f"{word!r} is a color, and this index keeps none: `imgsearch reindex` adds them"
