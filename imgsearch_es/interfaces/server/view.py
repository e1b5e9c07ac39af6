"""What the page shows: its state as it stands in its URL, and what the templates make of answers.

A link to a page is a link to all of it.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from imgsearch_es.analysis.analyzer import Term
from imgsearch_es.analysis.models import reads_texts
from imgsearch_es.errors import QueryError
from imgsearch_es.interfaces.gallery import value_name as facet_value
from imgsearch_es.interfaces.html import shape as shape
from imgsearch_es.interfaces.html import traces, words
from imgsearch_es.interfaces.server.answers import reason_of
from imgsearch_es.interfaces.server.schemas import What
from imgsearch_es.interfaces.server.uploads import NAME as UPLOAD_NAME
from imgsearch_es.interfaces.server.uploads import Upload
from imgsearch_es.retrieval.conditions import CASELESS, METADATA, WITHIN, shown_value
from imgsearch_es.retrieval.documents import Document
from imgsearch_es.retrieval.facets import (
    ALBUM,
    BOUNDS,
    PLACE,
    YEAR,
    FacetCount,
    Facets,
    check_facets,
    range_of,
    small,
)
from imgsearch_es.retrieval.language import MAX_BOOST, MAX_PARTS, MIN_BOOST
from imgsearch_es.retrieval.queries import Query
from imgsearch_es.retrieval.spans import Exact, box_of_tile, to_box
from imgsearch_es.retrieval.strategies import STRATEGIES
from imgsearch_es.search.hits import Hits
from imgsearch_es.stores.base import IndexSettings
from imgsearch_es.vocabulary.colors import is_color

PAGE_SIZE = 24
LAST_PAGE = 400
"""So many pages are within the 10,000 hits that a search ranks."""
_MONTH = re.compile(r"\d{4}-\d\d")
_OF_TIMELINE = re.compile(r"\d{4}(-\d\d|\.\.\d{4})")
_REGION = re.compile(r"\d(?:\.\d+)?(?:,\d(?:\.\d+)?){3}")
FACET_FIELDS = {
    "top_synset": "Best seen in it",
    "label": "Label",
    "year": "Year",
    "album": "Album",
    "place": "Place",
    "camera": "Camera",
    "format": "Format",
    "width": "Width in pixels",
    "bytes": "File size",
}
_MOST_CHOICES = 64
"""Every link of a page has all of them."""
_CHIPS = 4
_VECTOR = 9
_TELLING = 0.005
"""A synset with a smaller score is 0.00 to a person."""
FACETS_SHOWN = 7
SORTS = {"taken_at": "Newest first", "-taken_at": "Oldest first", "filename": "Name"}
"""What a page may be sorted by that scores nothing."""
PANELS = {"timeline": "Timeline", "map": "Map", "albums": "Albums"}
"""What may be open above the pictures."""
_ROLES = {"image": "Query picture", "like": "Liked", "dislike": "Disliked"}


@dataclass(frozen=True, slots=True)
class State:
    """A page: words, ids of pictures, the region of the one picture in fractions, the strategy.

    ``where`` has the choices of facets, each ``field=value``, and a box of the map as "within";
    ``open`` is one of PANELS; pages count from 1.
    """

    q: str = ""
    image: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    region: str = ""
    where: tuple[str, ...] = ()
    by: str = "auto"
    page: int = 1
    open: str = ""

    @classmethod
    def from_params(cls, params: QueryParams) -> State:
        region, number = params.get("region", ""), params.get("page", "1")
        where = _distinct(params.getlist("where"))
        if len(where) > _MOST_CHOICES:
            raise QueryError(f"a page has at most {_MOST_CHOICES} conditions")
        if region and not _REGION.fullmatch(region):
            raise QueryError("a region is left,top,right,bottom as fractions of the picture")
        if not re.fullmatch(r"\d{1,3}", number) or not 1 <= int(number) <= LAST_PAGE:
            raise QueryError(f"pages are 1 to {LAST_PAGE}")
        return cls(
            q=params.get("q", "").strip(),
            image=_distinct(params.getlist("image")),
            like=_distinct(params.getlist("like")),
            dislike=_distinct(params.getlist("dislike")),
            region=region,
            where=where,
            by=params.get("by", "auto"),
            open=params.get("open", "") if params.get("open") in PANELS else "",
            page=int(number),
        )

    def url(self, path: str = "/", **changes: Any) -> str:
        """The URL of this page with changes; of another first page unless that is the change."""
        changed = replace(self, **{"page": 1, **changes})
        if len(changed.image) != 1 or "image" in changes:
            changed = replace(changed, region=changes.get("region", ""))
        given = {name: getattr(changed, name) for name in _NAMES}
        given = {name: value for name, value in given.items() if value != getattr(_EMPTY, name)}
        query = urlencode(given, doseq=True)
        return f"{path}?{query}" if query else path

    def with_choice(self, field: str, value: str) -> str:
        """The URL with a facet's value chosen, or let go; of ranges one at a time."""
        choice = f"{field}={value}"
        if choice in self.where:
            return self.url(where=tuple(one for one in self.where if one != choice))
        kept = self.where
        if field in _ONE_AT_A_TIME:
            others = _ON_MAPS if field in _ON_MAPS else (field,)
            kept = tuple(one for one in kept if one.partition("=")[0] not in others)
        return self.url(where=(*kept, choice))

    def judged(self, name: str, how: str) -> str:
        """The URL with a picture liked or disliked, or with that taken back."""
        changes: dict[str, Any] = {
            role: tuple(one for one in getattr(self, role) if one != name)
            for role in ("like", "dislike")
        }
        if name not in getattr(self, how):
            changes[how] = (*changes[how], name)
        return self.url(**changes, region=self.region)

    def why(self, name: str) -> str:
        asked = self.url("", region=self.region).lstrip("?")
        return f"/why?{'&'.join(filter(None, [f'picture={name}', asked]))}"

    def without(self, role: str, name: str) -> str:
        left: Any = tuple(one for one in getattr(self, role) if one != name)
        return self.url(**{role: left})

    @property
    def has_pictures(self) -> bool:
        return bool(self.image or self.like or self.dislike)

    @property
    def sort(self) -> str | None:
        """The field that it is sorted by; None where it ranks, as pictures always do."""
        return self.by if self.by in SORTS and not self.has_pictures else None

    @property
    def has_query(self) -> bool:
        """Whether there is something to rank by."""
        return bool(self.q or self.image or self.like)

    def what(self) -> What:
        """The request of the API that asks for the same, without the facets' choices."""
        values = {
            "text": self.q or None,
            "image": self.image,
            "like": self.like,
            "dislike": self.dislike,
            "region": self.region.split(",") if self.region else None,
            "strategy": "auto" if self.by in SORTS else self.by,
            "sort": self.sort,
        }
        try:
            return What.model_validate(values)
        except ValidationError as error:
            raise QueryError(reason_of(error.errors())) from error

    def conditions(self) -> dict[str, Any]:
        """The facets' choices as conditions: any value of a field, and all fields."""
        found: dict[str, Any] = {}
        for choice in self.where:
            field, _, value = choice.partition("=")
            if field in _ON_MAPS:
                if WITHIN in found:
                    raise QueryError("a page is of one part of the map: choose one")
                found[WITHIN] = box_of_tile(value) if field == PLACE else value
                continue
            check_facets([field], 1)
            if field in BOUNDS:
                chosen = range_of(field, value)
                low = "" if chosen.low is None else chosen.low
                value = f"{low}..{'' if chosen.high is None else chosen.high - 1}"
            elif field.startswith(METADATA):
                value = Exact(value)
            found.setdefault(field, []).append(value)
        return found


_EMPTY = State()
_ON_MAPS = (PLACE, WITHIN)
_ONE_AT_A_TIME = (*BOUNDS, *_ON_MAPS)
_NAMES = tuple(each.name for each in fields(State))


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, values)))


def chips(document: Document, asked: Collection[str]) -> list[Term]:
    """A picture's best synsets, first those, and the colors, that the query has."""
    colors = (term for term in document.colors if term.key in asked)
    ordered = sorted(
        (*document.terms, *colors), key=lambda term: (term.key not in asked, -term.score)
    )
    return ([term for term in ordered if term.score >= _TELLING] or ordered[:1])[:_CHIPS]


def vector(terms: Sequence[Term]) -> list[Term]:
    """What a query with pictures is: its heaviest terms."""
    return [term for term in terms if term.score >= _TELLING][:_VECTOR]


def cut(hits: Hits) -> int | None:
    """After how many pictures those begin that show a trace at most; None where there are none."""
    return hits.total if hits.ranked > hits.total else None


def struck(hint: str, left_out: Sequence[str]) -> Markup:
    """A hint; the word that it says was left out is struck through."""
    for word in left_out:
        name = f"{word!r:.60}"
        if hint.startswith(name):
            return Markup("<del>{}</del>{}").format(word, hint[len(name) :])
    return escape(hint)


def share_url(query: Query, state: State) -> str | None:
    """A link that says what was seen in an uploaded picture, instead of naming the upload.

    Uploads are forgotten, and are nobody else's; their synsets with weights are words of the
    query language. None where the page's own URL does, or where this would not give the same.
    """
    uploaded = any(map(UPLOAD_NAME.fullmatch, (*state.image, *state.like, *state.dislike)))
    if not uploaded or query.filters or query.is_dense or not 0 < len(query.terms) <= MAX_PARTS:
        return None
    if any(is_color(term.key) for term in query.terms):  # beside synsets it would be weighted
        return None
    if not all(MIN_BOOST <= term.score <= MAX_BOOST for term in query.terms):
        return None
    text = " ".join(f"synset:{shown_value(term.key)}^{term.score:.7g}" for term in query.terms)
    return state.url(q=text, image=(), like=(), dislike=(), region="")


def alt_of(document: Document) -> str:
    """What a screen reader says of a picture: what is seen in it, and its name."""
    seen = ", ".join(words(term.key) for term in document.terms[:2])
    return f"{seen}: {document.filename}" if seen else document.filename


def example(picture: Document | Upload, role: str) -> dict[str, str]:
    """A picture of the query."""
    if isinstance(picture, Upload):
        name, alt, version = "your picture", "your picture", picture.id[:12]
    else:
        name, alt, version = picture.filename, alt_of(picture), picture.sha256[:12]
    about = {"id": picture.id, "role": role, "name": name, "alt": f"{_ROLES[role]}: {alt}"}
    size = {"width": str(picture.width), "height": str(picture.height)}
    return {**about, "version": version, **size}


def facet_groups(counted: Facets, state: State) -> list[tuple[str, list[FacetCount], set[str]]]:
    """Fields with their counts, the chosen values first; fields that say nothing are left out."""
    groups = []
    for field, counts in counted.items():
        chosen = {one.partition("=")[2] for one in state.where if one.startswith(f"{field}=")}
        if field == YEAR:
            chosen = {one for one in chosen if not _OF_TIMELINE.fullmatch(one)}
        if field in CASELESS:  # a value is shown as it was chosen
            same = {small(one): one for one in chosen}
            names = (same.get(small(item["value"]), item["value"]) for item in counts)
            counts = [
                {"value": n, "count": item["count"]} for n, item in zip(names, counts, strict=True)
            ]
        known = {item["value"] for item in counts}
        gone: list[FacetCount] = [{"value": one, "count": 0} for one in sorted(chosen - known)]
        values = sorted([*counts, *gone], key=lambda item: item["value"] not in chosen)
        if len(values) > 1 or chosen:
            groups.append((field, values, chosen))
    return groups


def title_of(field: str) -> str:
    """What a facet is called; a person's own field by its own name."""
    field = PLACE if field == WITHIN else field
    return FACET_FIELDS.get(field, field.removeprefix(METADATA))


def value_name(field: str, value: str) -> str:
    """What a value of a facet, or a part of the map, is called."""
    if field == ALBUM:
        return value.rpartition("/")[2]
    if field in _ON_MAPS:
        south, west, north, east = box_of_tile(value) if field == PLACE else to_box(value)
        if west > east:
            east += 360
        y, x = (south + north) / 2, ((west + east) / 2 + 180) % 360 - 180
        return f"{abs(y):.0f}° {'NS'[y < 0]}, {abs(x):.0f}° {'EW'[x < 0]}"
    if field == YEAR and _MONTH.fullmatch(value):
        return f"{calendar.month_name[int(value[5:]) % 13]} {value[:4]}"
    if field == YEAR:
        return value.replace("..", "–")
    return facet_value(field, value)


def summary(hits: Hits, state: State) -> dict[str, Any]:
    """Where in the ranking this page is."""
    first = (state.page - 1) * PAGE_SIZE + 1
    last = min(LAST_PAGE, math.ceil(hits.ranked / PAGE_SIZE))
    return {
        "first": first,
        "last": first + len(hits) - 1,
        "total": f"{hits.total:,}" + ("" if hits.total_is_exact else "+"),
        "traces": traces(hits),
        "pages": last,
        "previous": state.url(page=state.page - 1, region=state.region) if state.page > 1 else None,
        "next": state.url(page=state.page + 1, region=state.region) if state.page < last else None,
    }


def ways(settings: IndexSettings, state: State, query: Query | None) -> list[tuple[str, str]]:
    """Names and labels of what a page can be ranked or sorted by: all that can take its query.

    Conditions alone rank nothing.
    """
    has_words = query is not None and bool(query.text)
    ranks = query is not None and (query.sort is None or bool(query.terms))
    reads = settings.has_model and reads_texts(settings.analyzer["model"]["name"])
    by_picture_alone = bool(state.image or state.like) and not has_words
    found = []
    for way in STRATEGIES.values() if ranks else ():
        can = settings.has_model
        if way.is_dense:
            can = settings.embedding_dimensions > 0 and (reads or by_picture_alone)
            can = can and (settings.visual_words > 0 or not way.by_words)
        if can and way.label:
            found.append((way.name, way.label))
    return found + ([] if state.has_pictures else list(SORTS.items()))
