"""The hits of a search box as widgets: each a card of the gallery with buttons below it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from imgsearch_es.interfaces.gallery.page import cards_of, parts
from imgsearch_es.interfaces.notebook.parts import buttons, close_all
from imgsearch_es.pictures.thumbnails import embed
from imgsearch_es.search.hits import Hits

CELL_PIXELS = 190
"""The narrowest that a result may be."""
MAX_BYTES = 2_000_000
"""Of all thumbnails together."""


class ResultGrid:
    """Hits to judge.

    Attributes:
        widget: to show.
        cells: one for each hit, in their order.

    Args:
        changed: called when a hit is liked or disliked, or no longer.
        more: called with the number of a hit, from 0, to search for what is like it.
    """

    def __init__(self, changed: Callable[[], None], more: Callable[[int], None]) -> None:
        self._changed = changed
        self._more = more
        self.cells: list[Cell] = []
        columns = f"repeat(auto-fill, minmax(min({CELL_PIXELS}px, 45%), 1fr))"
        layout = widgets.Layout(
            grid_template_columns=columns, grid_gap="20px 14px", flex="1 1 420px"
        )
        self.widget = widgets.GridBox(layout=layout)

    def show(self, hits: Hits | None) -> None:
        """Show these hits instead of those before."""
        before, self.cells = self.cells, []
        if hits is not None:
            thumbs = embed([hit.uri for hit in hits], CELL_PIXELS, MAX_BYTES)
            self.cells = [
                Cell(card, hits[i].filename, i, self._changed, self._more)
                for i, card in enumerate(cards_of(hits, thumbs))
            ]
        self.widget.children = tuple(cell.widget for cell in self.cells)
        for cell in before:
            cell.close()

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
        self,
        card: str,
        filename: str,
        i: int,
        changed: Callable[[], None],
        more: Callable[[int], None],
    ) -> None:
        self._told = changed
        self.card = widgets.HTML(str(parts().one(card)))
        self.like = _toggle("Like", "thumbs-up", filename)
        self.dislike = _toggle("Dislike", "thumbs-down", filename)
        self.more = widgets.Button(
            description="More like it", tooltip=f"Search for more like {filename}", layout=_flex()
        )
        self.like.observe(lambda change: self._judged(change, self.dislike), "value")
        self.dislike.observe(lambda change: self._judged(change, self.like), "value")
        self.more.on_click(lambda button: more(i))
        self._buttons = buttons([self.like, self.dislike, self.more])
        tall = widgets.Layout(justify_content="space-between", overflow="visible")
        self.widget = widgets.VBox([self.card, self._buttons], layout=tall)

    def close(self) -> None:
        """Take the widgets from the notebook."""
        close_all((*self._buttons.children, self._buttons, self.card, self.widget))

    def _judged(self, change: Any, other: Any) -> None:
        if change["new"]:
            other.value = False  # a hit cannot be both
        self.like.button_style = "success" if self.like.value else ""
        self.dislike.button_style = "danger" if self.dislike.value else ""
        self._told()


def _toggle(name: str, icon: str, filename: str) -> Any:
    tooltip = f"{name} {filename}: the next search goes " + (
        "closer to it" if name == "Like" else "further from it"
    )
    return widgets.ToggleButton(description=name, icon=icon, tooltip=tooltip, layout=_flex())


def _flex() -> Any:
    return widgets.Layout(width="auto", flex="1 1 auto", margin="0")
