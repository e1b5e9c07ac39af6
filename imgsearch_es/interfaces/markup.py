"""HTML built from elements; whatever is not already HTML is escaped, so text is never markup."""

from __future__ import annotations

import html

_VOID = frozenset({"br", "img", "meta"})
# Control characters are shown; lone surrogates and characters that reorder text are replaced.
_VISIBLE = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
_VISIBLE |= dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
)


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | int | None) -> Html:
    """An element; children that are not HTML yet, and all attributes, are escaped."""
    opening = name + "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{opening}>")
    content = "".join(c if isinstance(c, Html) else escape(c) for c in children)
    return Html(f"<{opening}>{content}</{name}>")


def escape(text: str) -> str:
    """Text as HTML, fit for content and for a quoted attribute."""
    return html.escape(text.translate(_VISIBLE))
