"""A search request: every option of a search, declared once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from difflib import get_close_matches
from functools import update_wrapper
from inspect import Parameter, cleandoc, signature
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from imgsearch_es.errors import QueryError
from imgsearch_es.retrieval.feedback import ROCCHIO, Region, Rocchio
from imgsearch_es.retrieval.language import Where
from imgsearch_es.retrieval.strategies import Fusion, StrategyName
from imgsearch_es.search.query_pictures import QueryImages, told_apart
from imgsearch_es.stores.base import Store

VectorLike = Sequence[float] | NDArray[np.floating[Any]]
"""A deep feature: numbers, of shape (dimensions,)."""


class _Indexed(Protocol):
    @property
    def store(self) -> Store: ...


Holder = TypeVar("Holder", bound=_Indexed)
Answer = TypeVar("Answer")
Options = ParamSpec("Options")
Ask = TypeVar("Ask", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class SearchRequest:
    """What to search for: the arguments of ``ImageIndex.search`` and ``query``.

    >>> hits = index.search("motorcycle -helmet", k=3, strategy="sqrt", where="format=JPEG")
    >>> len(hits)
    3

    Attributes:
        image: a picture: a path, URL, bytes, Pillow image, array; or the id or URI of one in
            the index (or a hit), whose stored terms are used so that no model is loaded.
            Of several, the mean counts. Given first and without its name, a string that is no
            file, URL or picture of the index is words: ``search("dog")``, ``search("cat.jpg")``.
        text: words and conditions: ``tabby cat``, ``"golden retriever"``, ``label:pets
            dog^2 +ball -poodle`` (see docs/query-language.md). Added to the picture's synsets, with
            such weights that both have equal say.
        vector: a deep feature, shape (dimensions,), for the strategies dense-*: alone, or as
            one more picture.
        where: conditions on fields: ``{"label": "indoor", "width": {"gte": 800}}``, where a minus
            before a field negates; or a line, ``"label=indoor width>=800"``.
        k: how many hits.
        offset: how many of the best to leave out, for the next page.
        strategy: how to score, see docs/scoring.md: "auto", "impact", "script" and
            "script-filtered" compute formula (1) and give the same hits; "tfidf", "cosine",
            "sqrt" and "bm25" are other formulas; "dense-*" compare deep features instead, and
            "visual-words" the visual words of them. "auto" is "dense-cosine" for an index made from
            a file of features alone.
        parameters: of the formula: k1 and b of "bm25".
        min_score: leave out hits that score less; of a distance give minus the largest. What is a
            good one depends on strategy and collection (docs/scoring.md).
        approximate: for "dense-cosine", "dense-dot" and "dense-euclidean": compare only what an
            index of nearest neighbors gives (``vectors="int8_hnsw"`` or the like; in a file for
            "dense-cosine"), or on Elasticsearch visual words. Faster on many pictures; a hit may
            be missing, so ``hits.exact`` is False. A file without one answers exactly.
        candidates: how many of them, by default 200; more find more, and take longer.
        exclude_self: leave out the query's own pictures; the default for a picture with words.
        like: pictures to search closer to, given as ``image`` is; alone or with the rest.
        dislike: pictures to search further from.
        region: the part of the picture to search for: left, top, right, bottom in pixels of
            the upright picture, or in fractions of it where all four are 1 or less.
        views: also look at the picture's "mirror", "rotations" and "crops", and take the mean.
        feedback: search twice, the second time with this many of the best hits as liked pictures
            (pseudo-relevance feedback).
        rocchio: the weights of the query, the liked and the disliked pictures.
        fuse: parts and their weights, instead of one strategy: ``{"image": 1, "words": 0.5,
            "dense-cosine": 2}`` adds their scores; ``Fusion({...}, method="rrf")`` fuses ranks.
            "image" and "words" are the pictures' and the words' synsets by formula (1); a
            strategy takes both.
        sort: list what meets words and conditions by a field instead of scoring it: "taken_at"
            (newest first), "indexed_at", "width", "height", "bytes", "filename", "uri" or
            "metadata.<name>"; a minus before it reverses the order. Conditions alone are listed by
            "taken_at".
    """

    image: QueryImages | None = None
    text: str | None = None
    _: KW_ONLY
    vector: VectorLike | None = None
    where: Where | None = None
    k: int = 10
    offset: int = 0
    strategy: StrategyName | str = "auto"
    parameters: Mapping[str, float] | None = None
    min_score: float | None = None
    approximate: bool = False
    candidates: int | None = None
    exclude_self: bool | None = None
    like: QueryImages | None = None
    dislike: QueryImages | None = None
    region: Region | None = None
    views: Sequence[str] = ()
    feedback: int = 0
    rocchio: Rocchio = ROCCHIO
    fuse: Mapping[str, float] | Fusion | None = None
    sort: str | None = None


OPTIONS = tuple(signature(SearchRequest).parameters)
"""Their names."""


def shown_as(ask: Ask, function: Callable[..., Any], request: Any, *own: Parameter) -> Ask:
    """``ask`` with the name of a function of a request, and the request's fields in its help."""
    kinds = (cleandoc(kind.__doc__ or "") for kind in getattr(request, "__mro__", ()))
    described = "\n".join(text.partition("Attributes:\n")[2] for text in kinds).rstrip()
    update_wrapper(ask, function)
    taken = [*own, *signature(request).parameters.values()]
    ask.__signature__ = signature(function).replace(parameters=taken)  # type: ignore[attr-defined]
    text, raises, errors = cleandoc(function.__doc__ or "").partition("Raises:\n")
    ask.__doc__ = f"{text.rstrip()}\n\nArgs:\n{described}\n\n{raises}{errors}"
    return ask


def _named(store: Store, args: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by their names; what is first and has none is told by what it is."""
    first, *rest = args
    if len(rest) > 1:
        raise TypeError(f"give options by their names, such as k=10: {rest[1]!r} has none")
    given = dict(zip(OPTIONS[1:], rest, strict=False))
    if first is not None:
        pictures, words = told_apart(store, first)
        given |= {"image": pictures} if pictures or words is None else {}
        if words is not None and given.get("text") is not None:
            raise QueryError(f"{words!r} is no picture: give words once, by text=")
        given |= {} if words is None else {"text": words}
    for name in given.keys() & options.keys():
        if options[name] is not None:
            what = "pictures" if name == "image" else "words"
            raise QueryError(f"{what} are given twice: by {name}= and without; give {name}= alone")
    return {**options, **given}


def _taking(
    request: Callable[Options, SearchRequest],
) -> Callable[
    [Callable[[Holder, SearchRequest], Answer]], Callable[Concatenate[Holder, Options], Answer]
]:
    def decorate(
        method: Callable[[Holder, SearchRequest], Answer],
    ) -> Callable[Concatenate[Holder, Options], Answer]:
        def ask(self: Holder, /, *args: Options.args, **options: Options.kwargs) -> Answer:
            given = _named(self.store, args, options) if args else options
            for name in given.keys() - {*OPTIONS}:
                near = get_close_matches(name, OPTIONS, 1) or OPTIONS
                raise TypeError(f"there is no {name!r} to give; there is {', '.join(near)}")
            return method(self, cast(Any, request)(**given))

        return shown_as(ask, method, request, next(iter(signature(method).parameters.values())))

    return decorate


asks = _taking(SearchRequest)
"""Decorates a method that takes a request: it is called with the request's fields as arguments,
which its signature and its help show."""
