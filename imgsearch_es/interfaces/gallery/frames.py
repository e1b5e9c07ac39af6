"""A thumbnail in its frame, or a box that says why there is none."""

from __future__ import annotations

from imgsearch_es.interfaces.markup import Html, tag
from imgsearch_es.pictures.thumbnails import Thumb


def frame(thumb: Thumb, alt: str, role: str = "image") -> Html:
    """A picture with its alternative text; of the query it may be a liked or disliked one."""
    if thumb.data:
        width, height = thumb.size
        # A photo of about the frame's shape (4:3) fills it; another one is shown whole.
        fill = "ig-fill" if 1.25 <= width / height <= 1.55 else None
        image = tag("img", src=thumb.data, alt=alt, width=width, height=height, class_=fill)
        if role == "image":
            return tag("div", image, class_="ig-frame")
        return tag("div", image, class_=f"ig-frame ig-{role}", title=alt)
    why = tag("span", thumb.problem, class_="ig-reason")
    missing = tag("strong", "Not shown")
    return tag("div", missing, " ", why, class_="ig-frame ig-missing", title=thumb.problem)
