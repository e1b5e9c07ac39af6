"""Small parts that the widgets are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as widgets


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


def close_all(closed: tuple[Any, ...]) -> None:
    """Take widgets from the notebook for good."""
    for widget in closed:
        widget.close()
