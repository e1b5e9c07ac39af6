"""The search box of ``index.browse()``: words, a picture, likes and dislikes, facets and pages.

What is shown is always the answer to one `Query`; every button makes a new one of it, so each step
can be taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from imgsearch_es.completion import complete
from imgsearch_es.conditions import Filter
from imgsearch_es.errors import ImgsearchError, QueryError
from imgsearch_es.facets import conditions_of
from imgsearch_es.gallery.facets import SHOWN, VALUES, field_name
from imgsearch_es.gallery.head import query_head
from imgsearch_es.gallery.page import style
from imgsearch_es.gallery.texts import words as readable
from imgsearch_es.hits import Hits
from imgsearch_es.markup import tag
from imgsearch_es.notebook.result_grid import ResultGrid, buttons, gallery_part
from imgsearch_es.queries import MAX_RESULTS, STRATEGIES, Query
from imgsearch_es.synsets import Vocabulary, imagenet
from imgsearch_es.thumbnails import embed

if TYPE_CHECKING:
    from imgsearch_es.index import ImageIndex

PICTURE_PIXELS = 112
PICTURE_BYTES = 400_000


class SearchBox:
    """A search box for notebooks; as the last line of a cell it shows itself.

    Attributes:
        hits: what is shown; None before the first search.
        widget: all of it, an ``ipywidgets.VBox``.
        words, strategy, upload, results: the parts that a program may read or set.

    Args:
        index: what to search.
        text: words to begin with.
        k: hits on a page.
        strategy: to begin with.

    Raises:
        QueryError: there is no such strategy, or k is out of range.
    """

    def __init__(
        self, index: ImageIndex, text: str = "", *, k: int = 12, strategy: str = "auto"
    ) -> None:
        if strategy not in STRATEGIES:
            raise QueryError(
                f"there is no strategy {strategy!r}; there are {', '.join(STRATEGIES)}"
            )
        if not 1 <= k <= MAX_RESULTS:
            raise QueryError(f"a page has 1 to {MAX_RESULTS} hits, not {k}")
        self._index = index
        self._k = k
        self._picture: Any = None
        self._past: list[Hits] = []
        self.hits: Hits | None = None
        self._make_inputs(text, strategy)
        self._make_outputs()
        middle = widgets.Layout(display="flex", flex_flow="row wrap", grid_gap="24px")
        self.widget = widgets.VBox(
            [
                widgets.HTML(style()),
                buttons([self.words, self.search_button, self.upload, self.strategy]),
                self.message,
                self.head,
                buttons([self.back, self.no_picture, self.refine_button]),
                self.conditions,
                widgets.Box([self.results.widget, self.facets], layout=middle),
                buttons([self.previous, self.place, self.next]),
            ]
        )
        self._show(None)
        if text:
            self.search()

    def _make_inputs(self, text: str, strategy: str) -> None:
        self.words = widgets.Combobox(
            value=text,
            placeholder="tabby cat, dog -poodle, label:pets",
            ensure_option=False,
            tooltip="Words and conditions to search for",
            layout=widgets.Layout(flex="1 1 260px", width="auto"),
        )
        self.words.observe(lambda change: self._complete(), "value")
        self.words.on_msg(lambda widget, content, buffers: self._entered(content))
        self.search_button = _button("Search", self.search, icon="search", style="primary")
        self.upload = widgets.FileUpload(accept="image/*", description="Picture")
        self.upload.observe(lambda change: self._uploaded(), "value")
        self.strategy = widgets.Dropdown(
            options=list(STRATEGIES),
            value=strategy,
            tooltip="How to score",
            layout=widgets.Layout(width="auto"),
        )
        self.strategy.observe(lambda change: self._search_again(), "value")

    def _make_outputs(self) -> None:
        self.message = widgets.HTML()
        self.head = widgets.HTML()
        self.back = _button("Back", self.go_back, icon="arrow-left")
        self.no_picture = _button("Without the picture", self._remove_picture, icon="times")
        self.refine_button = _button("Refine", self.refine, icon="sliders", style="primary")
        self.results = ResultGrid(self._show_marks, self.more_like)
        self.conditions = buttons([])
        self.facets = widgets.VBox(layout=widgets.Layout(flex="0 1 190px", overflow="visible"))
        self.previous = _button("Previous", lambda: self.turn(-1), icon="chevron-left")
        self.next = _button("Next", lambda: self.turn(1), icon="chevron-right")
        self.place = widgets.Label()

    # -- what a person does --------------------------------------------------------------------

    def search(self) -> None:
        """Search for the words and the picture, by the strategy chosen."""
        text = self.words.value.strip()
        if not text and self._picture is None:
            self._say("What to search for? Type words, or give a picture.")
            return
        options = {"k": self._k, "strategy": self.strategy.value}
        self._answer(lambda: self._index.query(self._picture, text or None, **options))

    def refine(self) -> None:
        """Search closer to the liked hits and further from the disliked ones."""
        hits, liked, disliked = self.hits, self.results.liked, self.results.disliked
        if hits is not None:
            self._try(lambda: hits.refine(liked, disliked, k=self._k))

    def more_like(self, i: int) -> None:
        """Search by one of the hits, counted from 0, instead of words."""
        if self.hits is not None:
            self._picture, self.words.value = self.hits[i].id, ""
            self.search()

    def turn(self, pages: int) -> None:
        """Turn pages, forward or back."""
        if self.hits is not None:
            query = self.hits.query
            offset = max(query.offset + pages * self._k, 0)
            self._answer(lambda: replace(query, offset=offset))

    def narrow(self, field: str, value: str) -> None:
        """Keep only what has this value of a facet."""
        if self.hits is not None:
            query = self.hits.query
            added = tuple(c for c in conditions_of(field, value) if c not in query.filters)
            self._answer(lambda: replace(query, filters=query.filters + added, offset=0))

    def widen(self, condition: Filter) -> None:
        """Take a condition back."""
        if self.hits is not None:
            query = self.hits.query
            left = tuple(each for each in query.filters if each != condition)
            self._answer(lambda: replace(query, filters=left, offset=0))

    def go_back(self) -> None:
        """Show again what was there before the last step."""
        if self._past:
            self._show(self._past.pop())

    # -- inside --------------------------------------------------------------------------------

    def _answer(self, build: Callable[[], Query]) -> None:
        self._try(lambda: self._index.search_many([build()])[0])

    def _try(self, step: Callable[[], Hits]) -> None:
        """Take a step; what is shown stays when it fails, with the reason above it."""
        self.search_button.disabled = True
        try:
            hits = step()
        except ImgsearchError as error:
            self._say(str(error))
            return
        finally:
            self.search_button.disabled = False
        if self.hits is not None:
            self._past.append(self.hits)
        self._show(hits)

    def _show(self, hits: Hits | None) -> None:
        self.hits = hits
        self.message.value = ""
        self.results.show(hits)
        self.head.value = "" if hits is None else gallery_part(_head(hits))
        if hits is not None and not len(hits):
            self._say("No picture matches. Try a broader word or fewer conditions.")
        self._show_marks()
        self._show_facets()
        self._show_place()
        _visible(self.back, bool(self._past))
        _visible(self.no_picture, self._picture is not None)

    def _show_marks(self) -> None:
        liked, disliked = len(self.results.liked), len(self.results.disliked)
        self.refine_button.description = f"Refine: {liked} liked, {disliked} disliked"
        _visible(self.refine_button, bool(liked or disliked))

    def _show_place(self) -> None:
        hits = self.hits
        if hits is None or not len(hits):
            total, first, last = 0, 0, 0
        else:
            total, first, last = hits.total, hits[0].rank, hits[len(hits) - 1].rank
        self.place.value = f"{first:,} to {last:,} of {total:,}" if total else ""
        self.previous.disabled = first <= 1
        self.next.disabled = last >= min(total, MAX_RESULTS - self._k)
        for each in (self.previous, self.place, self.next):
            _visible(each, total > last or first > 1)

    def _show_facets(self) -> None:
        _close(self.facets.children + self.conditions.children)
        self.facets.children = self.conditions.children = ()
        if self.hits is None:
            return
        self.conditions.children = tuple(map(self._condition, self.hits.query.filters))
        try:
            counted = self.hits.facets(SHOWN, VALUES)
        except ImgsearchError:  # where facets cannot be counted, hits are shown all the same
            return
        shown: list[Any] = []
        for field, counts in counted.items():
            if len(counts) > 1:
                shown.append(widgets.HTML(tag("strong", field_name(field))))
                shown += [self._facet(field, item["value"], item["count"]) for item in counts]
        self.facets.children = tuple(shown)

    def _condition(self, condition: Filter) -> Any:
        return _button(
            str(condition), lambda: self.widen(condition), icon="times", tooltip="Take back"
        )

    def _facet(self, field: str, value: str, count: int) -> Any:
        name = readable(value) if "synset" in field else value
        tooltip = f"Only these: {' '.join(map(str, conditions_of(field, value)))}"
        return _button(f"{name} ({count:,})", lambda: self.narrow(field, value), tooltip=tooltip)

    def _complete(self) -> None:
        self.words.options = complete(self._vocabulary(), self.words.value)

    def _vocabulary(self) -> Vocabulary:
        try:
            return self._index.vocabulary
        except ImgsearchError:  # there is no index yet; the search will say so
            return imagenet()

    def _entered(self, content: Any) -> None:
        """Enter was pressed in the box."""
        if content.get("event") == "submit":
            self.search()

    def _uploaded(self) -> None:
        if self.upload.value:
            self._picture = bytes(self.upload.value[0]["content"])
            self.search()

    def _search_again(self) -> None:
        """The strategy was changed."""
        if self.hits is not None:
            self.search()

    def _remove_picture(self) -> None:
        self._picture = None
        self.upload.value = ()
        _visible(self.no_picture, False)
        if self.words.value.strip():
            self.search()

    def _say(self, sentence: str) -> None:
        self.message.value = tag("p", sentence, role="alert", style="margin: 4px 0")

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        return f"SearchBox({self._index!r})"


def _head(hits: Hits) -> Any:
    thumbs = embed(list(hits.query.pictures), PICTURE_PIXELS, PICTURE_BYTES)
    return query_head(hits, len(hits), thumbs, standalone=False)


def _button(
    name: str, do: Callable[[], None], *, icon: str = "", style: str = "", tooltip: str = ""
) -> Any:
    button = widgets.Button(
        description=name,
        icon=icon,
        button_style=style,
        tooltip=tooltip or name,
        layout=widgets.Layout(width="auto"),
    )
    button.on_click(lambda clicked: do())
    return button


def _visible(widget: Any, yes: bool) -> None:
    widget.layout.display = None if yes else "none"


def _close(closed: tuple[Any, ...]) -> None:
    for widget in closed:
        widget.close()
