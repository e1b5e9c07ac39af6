"""What a search box is made of: buttons, the hits to judge, and facets to narrow them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anywidget
import ipywidgets as widgets
from markupsafe import Markup

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.interfaces.gallery import (
    SHOWN,
    VALUES,
    cards_of,
    facet_groups,
    parts,
    script,
)
from imgsearch_es.interfaces.html import shape
from imgsearch_es.pictures.thumbnails import embed
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.search.hit import Hit
from imgsearch_es.search.hits import Hits

CELL_PIXELS = 190
"""The least width of a result of 4:3."""
MAX_BYTES = 2_000_000
"""Of all thumbnails together."""


def buttons(parts: Sequence[Any]) -> Any:
    """Widgets in a row that breaks where it is too long."""
    layout = widgets.Layout(
        display="flex", flex_flow="row wrap", grid_gap="6px", align_items="center"
    )
    return widgets.Box(list(parts), layout=layout)


def button(
    name: str, do: Callable[[], None], *, icon: str = "", style: str = "", tooltip: str = ""
) -> Any:
    """A button that does something; its tooltip is its name unless another is given."""
    made = widgets.Button(
        description=name,
        icon=icon,
        button_style=style,
        tooltip=tooltip or name,
        layout=widgets.Layout(width="auto"),
    )
    made.on_click(lambda clicked: do())
    return made


def set_visible(widget: Any, yes: bool) -> None:
    """Show a widget, or take it out of sight."""
    widget.layout.display = None if yes else "none"


class LargeView(anywidget.AnyWidget):
    """Shows a result large when a person clicks on it; itself it is not to be seen."""

    _esm = f"{script()}\nexport default {{ render() {{}} }};\n"


class ResultGrid:
    """Hits to judge; ``more`` is called with the number of one, to search for what is like it."""

    def __init__(self, changed: Callable[[], None], more: Callable[[int], None]) -> None:
        self._changed = changed
        self._more = more
        self.cells: list[Cell] = []
        self.cards: list[Markup] = []
        self._rows = widgets.Box().add_class("ig-grid")
        layout = widgets.Layout(flex="1 1 420px", width="auto", min_width="0", overflow="visible")
        self.widget = widgets.VBox([self._rows], layout=layout)
        for name in ("imgsearch-gallery", "ig-part-of"):
            self.widget.add_class(name)

    def show(self, hits: Hits | None) -> None:
        before, self.cells, self.cards = self.cells, [], []
        if hits is not None:
            thumbs = embed([hit.uri for hit in hits], CELL_PIXELS, MAX_BYTES)
            self.cards = cards_of(hits, thumbs)
            self.cells = [
                Cell(card, hits[i], self._changed, partial(self._more, i))
                for i, card in enumerate(self.cards)
            ]
        self._rows.children = tuple(cell.widget for cell in self.cells)
        for cell in before:
            for widget in (*cell.buttons.children, *cell.widget.children, cell.widget):
                widget.close()

    @property
    def liked(self) -> list[int]:
        """The numbers of the liked hits, from 0."""
        return [i for i, cell in enumerate(self.cells) if cell.like.value]

    @property
    def disliked(self) -> list[int]:
        """The numbers of the disliked hits, from 0."""
        return [i for i, cell in enumerate(self.cells) if cell.dislike.value]


class Cell:
    """A card with its buttons: like, dislike, and search for more of its kind."""

    def __init__(
        self, card: str, hit: Hit, changed: Callable[[], None], more: Callable[[], None]
    ) -> None:
        self._changed = changed
        self.card = widgets.HTML(str(parts().one(card)))
        goes = f"{hit.filename}: the next search goes"
        self.like = _toggle("Like", "thumbs-up", f"Like {goes} closer to it")
        self.dislike = _toggle("Dislike", "thumbs-down", f"Dislike {goes} further from it")
        self.more = button("More like it", more, tooltip=f"Search for more like {hit.filename}")
        self.more.layout = _flex()
        self.like.observe(lambda change: self._judged(change, self.dislike), "value")
        self.dislike.observe(lambda change: self._judged(change, self.like), "value")
        self.buttons = buttons([self.like, self.dislike, self.more])
        tall = widgets.Layout(justify_content="space-between", overflow="visible")
        self.widget = widgets.VBox([self.card, self.buttons], layout=tall)
        for name in ("ig-card", *shape(hit.document).split()):
            self.widget.add_class(name)

    def _judged(self, change: Any, other: Any) -> None:
        if change["new"]:
            other.value = False  # a hit cannot be both
        self.like.button_style = "success" if self.like.value else ""
        self.dislike.button_style = "danger" if self.dislike.value else ""
        self._changed()


def _toggle(name: str, icon: str, tooltip: str) -> Any:
    return widgets.ToggleButton(description=name, icon=icon, tooltip=tooltip, layout=_flex())


def _flex() -> Any:
    return widgets.Layout(width="auto", flex="1 1 auto", margin="0")


class Narrowing:
    """A button for each value of a facet, and for each condition of the query to take it back."""

    def __init__(
        self, narrow: Callable[[tuple[Filter, ...]], None], widen: Callable[[Filter], None]
    ) -> None:
        self._narrow = narrow
        self._widen = widen
        self.conditions = buttons([])
        self.facets = widgets.VBox(layout=widgets.Layout(flex="0 1 190px", overflow="visible"))

    def show(self, hits: Hits | None) -> None:
        """Show what narrows these hits, and what did."""
        before = self.facets.children + self.conditions.children
        filters = () if hits is None else hits.query.filters
        self.conditions.children = [
            button(str(one), partial(self._widen, one), icon="times", tooltip="Take back")
            for one in filters
        ]
        self.facets.children = [] if hits is None else self._counted(hits)
        for widget in before:
            widget.close()

    def _counted(self, hits: Hits) -> list[Any]:
        try:
            counted = hits.facets(SHOWN, VALUES)
        except ImgsearchError:  # where facets cannot be counted, hits are shown all the same
            return []
        shown: list[Any] = []
        for field, counts in facet_groups(counted):
            shown.append(widgets.HTML(str(parts().strong(field))))
            for item in counts:
                name, chosen = f"{item['text']} ({item['count']:,})", item["chosen"]
                tooltip = f"Only these: {' '.join(map(str, chosen))}"
                shown.append(button(name, partial(self._narrow, chosen), tooltip=tooltip))
        return shown
