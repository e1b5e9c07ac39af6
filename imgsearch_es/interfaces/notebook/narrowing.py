"""Facets beside the hits of a search box, to narrow them, and the conditions to take back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from imgsearch_es.errors import ImgsearchError
from imgsearch_es.interfaces.gallery.facets import SHOWN, VALUES, field_name, value_name
from imgsearch_es.interfaces.gallery.page import parts
from imgsearch_es.interfaces.notebook.parts import button, buttons, close_all
from imgsearch_es.retrieval.conditions import Filter
from imgsearch_es.retrieval.facets import conditions_of
from imgsearch_es.search.hits import Hits


class Narrowing:
    """A button for each value of a facet, and for each condition of the query.

    Attributes:
        facets, conditions: to show.

    Args:
        narrow: called with a field and one of its values.
        widen: called with a condition.
    """

    def __init__(self, narrow: Callable[[str, str], None], widen: Callable[[Filter], None]) -> None:
        self._narrow = narrow
        self._widen = widen
        self.conditions = buttons([])
        self.facets = widgets.VBox(layout=widgets.Layout(flex="0 1 190px", overflow="visible"))

    def show(self, hits: Hits | None) -> None:
        """Show what narrows these hits, and what did."""
        before = self.facets.children + self.conditions.children
        filters = () if hits is None else hits.query.filters
        self.conditions.children = tuple(map(self._condition, filters))
        self.facets.children = () if hits is None else tuple(self._counted(hits))
        close_all(before)

    def _counted(self, hits: Hits) -> list[Any]:
        try:
            counted = hits.facets(SHOWN, VALUES)
        except ImgsearchError:  # where facets cannot be counted, hits are shown all the same
            return []
        shown: list[Any] = []
        for field, counts in counted.items():
            if len(counts) > 1:
                shown.append(widgets.HTML(str(parts().strong(field_name(field)))))
                shown += [self._facet(field, item["value"], item["count"]) for item in counts]
        return shown

    def _facet(self, field: str, value: str, count: int) -> Any:
        name = value_name(field, value)
        tooltip = f"Only these: {' '.join(map(str, conditions_of(field, value)))}"
        return button(f"{name} ({count:,})", lambda: self._narrow(field, value), tooltip=tooltip)

    def _condition(self, condition: Filter) -> Any:
        return button(
            str(condition), lambda: self._widen(condition), icon="times", tooltip="Take back"
        )
