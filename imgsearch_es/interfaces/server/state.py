"""What the page shows, as it stands in its URL: a link to a page is a link to all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from imgsearch_es.errors import QueryError
from imgsearch_es.interfaces.server.answers import reason_of
from imgsearch_es.interfaces.server.schemas import What
from imgsearch_es.retrieval.facets import BOUNDS, check_facets, range_of

PAGE_SIZE = 24
LAST_PAGE = 400
"""So many pages are within the 10,000 hits that a search ranks."""
_REGION = re.compile(r"\d(?:\.\d+)?(?:,\d(?:\.\d+)?){3}")


@dataclass(frozen=True, slots=True)
class State:
    """A page.

    Attributes:
        q: words.
        image, like, dislike: ids of pictures.
        region: left,top,right,bottom of the one picture, as fractions.
        where: choices of facets, each ``field=value``.
        by: the strategy.
        page: from 1.
    """

    q: str = ""
    image: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    dislike: tuple[str, ...] = ()
    region: str = ""
    where: tuple[str, ...] = ()
    by: str = "auto"
    page: int = 1

    @classmethod
    def from_params(cls, params: QueryParams) -> State:
        """Read a URL's parameters.

        Raises:
            QueryError: a parameter makes no sense.
        """
        region, number = params.get("region", ""), params.get("page", "1")
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
            where=_distinct(params.getlist("where")),
            by=params.get("by", "auto"),
            page=int(number),
        )

    def url(self, path: str = "/", **changes: Any) -> str:
        """The URL of this page with changes; of another first page unless that is the change."""
        changed = replace(self, **{"page": 1, **changes})
        if len(changed.image) != 1 or "image" in changes:
            changed = replace(changed, region=changes.get("region", ""))
        given = {
            name: value for name, value in asdict(changed).items() if value != getattr(_EMPTY, name)
        }
        query = urlencode(given, doseq=True)
        return f"{path}?{query}" if query else path

    def with_choice(self, field: str, value: str) -> str:
        """The URL with a facet's value chosen, or let go; of ranges one at a time."""
        choice = f"{field}={value}"
        if choice in self.where:
            return self.url(where=tuple(one for one in self.where if one != choice))
        kept = self.where
        if field in BOUNDS:
            kept = tuple(one for one in kept if not one.startswith(f"{field}="))
        return self.url(where=(*kept, choice))

    def judged(self, name: str, how: str) -> str:
        """The URL with a picture liked or disliked, or with that taken back."""
        liked = tuple(one for one in self.like if one != name)
        disliked = tuple(one for one in self.dislike if one != name)
        if how == "like" and name not in self.like:
            liked = (*liked, name)
        if how == "dislike" and name not in self.dislike:
            disliked = (*disliked, name)
        return self.url(like=liked, dislike=disliked, region=self.region)

    def why(self, name: str) -> str:
        """The URL that tells why a picture was found."""
        asked = self.url("", region=self.region).lstrip("?")
        return f"/why?{'&'.join(filter(None, [f'picture={name}', asked]))}"

    def without(self, role: str, name: str) -> str:
        """The URL without one of the query's pictures."""
        rest = tuple(one for one in getattr(self, role) if one != name)
        changes: dict[str, Any] = {role: rest}
        return self.url(**changes)

    @property
    def has_query(self) -> bool:
        """Whether there is something to rank by."""
        return bool(self.q or self.image or self.like)

    def what(self, **changes: Any) -> What:
        """The request of the API that asks for the same, without the facets' choices.

        Raises:
            QueryError: a parameter makes no sense.
        """
        values = {
            "text": self.q or None,
            "image": self.image,
            "like": self.like,
            "dislike": self.dislike,
            "region": self.region.split(",") if self.region else None,
            "strategy": self.by,
        }
        try:
            return What.model_validate(values | changes)
        except ValidationError as error:
            raise QueryError(reason_of(error.errors())) from error

    def conditions(self) -> dict[str, Any]:
        """The facets' choices as conditions: any value of a field, and all fields.

        Raises:
            QueryError: there is no such facet.
        """
        found: dict[str, Any] = {}
        for choice in self.where:
            field, _, value = choice.partition("=")
            check_facets([field], 1)
            if field not in BOUNDS:
                found.setdefault(field, []).append(value)
                continue
            chosen = range_of(field, value)
            ends = {"gte": chosen.low, "lt": chosen.high}
            found[field] = {sign: end for sign, end in ends.items() if end is not None}
        return found


_EMPTY = State()


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, values)))
