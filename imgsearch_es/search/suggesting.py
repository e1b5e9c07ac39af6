"""How a word that is being typed may go on: words of an index with their counts, labels, files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from imgsearch_es.retrieval.conditions import Filter, is_field, shown_value
from imgsearch_es.retrieval.facets import MAX_VALUES, VALUE_FIELDS
from imgsearch_es.retrieval.queries import Query, Selection
from imgsearch_es.retrieval.tokens import phrases, shown_phrase
from imgsearch_es.stores.base import Store
from imgsearch_es.vocabulary.synsets import Vocabulary
from imgsearch_es.vocabulary.words import normalize

LIMIT = 12
_FILES = 3
_SHORTEST = 3
"""Characters from which on files and misspellings are looked for."""
_WORDS = 100
"""Phrases that are counted."""
_LONGEST = 8
"""Words of a phrase that others came before."""
_OFFERED = ("label", "taken", "camera", "lens", "keyword", "caption", "name", "format", "width",
            "height", "near")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What may take the place of what was typed.

    ``kind`` is "word", "taught" (a word that the index was taught), "label", "file" or "field";
    ``count`` of words how many pictures show it best, of values how many have it.
    """

    text: str
    kind: str
    count: int | None


def suggestions(store: Store, vocabulary: Vocabulary, typed: str, limit: int) -> list[Suggestion]:
    """How a word or phrase goes on; those first that begin so and that the index has most of."""
    field, colon, begun = typed.strip().lstrip('"+-').partition(":")
    if colon:
        field = {"keyword": "keywords"}.get(field, field)
        found = _files(store, begun) if field == "name" else _values(store, field, begun)
        return list(found)[:limit]
    if not field:
        return []
    others = [
        *_values(store, "label", field),
        *(Suggestion(f"{name}:", "field", None) for name in _OFFERED if name.startswith(field)),
        *(_files(store, field) if len(field) >= _SHORTEST else ()),
    ]
    words = _counted(store, vocabulary, phrases(vocabulary, field, _WORDS))
    form = normalize(field)
    words.sort(key=lambda item: (not normalize(item.text).startswith(form), -(item.count or 0)))
    if not (words or others) and " " in field:  # perhaps without its first word
        rest = " ".join(field.split(" ")[1:][-_LONGEST:])
        return suggestions(store, vocabulary, rest, limit)
    if not (words or others) and len(field) >= _SHORTEST:
        words = _counted(store, vocabulary, vocabulary.suggest(field, limit))
    return [*words[: max(limit - len(others), limit // 2)], *others][:limit]


def _counted(store: Store, vocabulary: Vocabulary, found: Iterable[str]) -> list[Suggestion]:
    """Phrases, one for the same synsets."""
    facet = store.facets(Selection(), ["top_synset"], MAX_VALUES)["top_synset"]
    counts = {item["value"]: item["count"] for item in facet}
    seen: dict[tuple[str, ...], Suggestion] = {}
    for phrase in found:
        keys = vocabulary.named_by(phrase)
        below = {term for key in keys for term in vocabulary.hyponyms(key)}
        kind = "word" if vocabulary.taught_keys.isdisjoint(keys) else "taught"
        count = sum(counts.get(term, 0) for term in below)
        seen.setdefault(keys, Suggestion(shown_phrase(phrase), kind, count))
    return list(seen.values())


def _values(store: Store, field: str, begun: str) -> Iterator[Suggestion]:
    """Values of a field that begin so, in any case."""
    if field not in VALUE_FIELDS or not is_field(field):  # months and places are facets alone
        return
    form = partial(unicodedata.normalize, "NFC")
    begun = form(begun.strip('"')).casefold()
    for item in store.facets(Selection(), [field], MAX_VALUES)[field]:
        if form(item["value"]).casefold().startswith(begun):
            kind = "label" if field == "label" else "field"
            yield Suggestion(f"{field}:{shown_value(item['value'])}", kind, item["count"])


def _files(store: Store, begun: str) -> Iterator[Suggestion]:
    """Files whose name begins so."""
    if any(character in begun for character in '*?"') or not 0 < len(begun) <= LIMIT * 8:
        return
    named = (Filter("filename", "wildcard", (f"{begun}*",)),)
    hits = store.search(Query((), filters=named, sort="filename", k=_FILES)).hits
    names = dict.fromkeys(hit.document.filename for hit in hits)
    yield from (Suggestion(f"name:{shown_value(name)}", "file", None) for name in names)
