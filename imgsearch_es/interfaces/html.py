"""HTML of the templates that galleries, the page and notebooks share; text is never markup."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

from imgsearch_es.retrieval.spans import marked
from imgsearch_es.vocabulary.colors import COLOR

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

# Control characters are shown; lone surrogates and characters that reorder text are replaced.
_VISIBLE = {code: 0x2400 + code for code in range(32)} | {127: 0x2421}
_VISIBLE |= dict.fromkeys(
    [*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0xD800, 0xE000)], 0xFFFD
)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader

    def visible(value: object) -> object:
        return value.translate(_VISIBLE) if type(value) is str else value

    made = Environment(
        loader=PackageLoader("imgsearch_es.interfaces"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=visible,
    )
    made.filters.update(number=number, words=words, width=width, share=share, marked=marked)
    return made


def render(template: str, **values: Any) -> Markup:
    """A template filled in; what is not ``Markup`` is escaped, and its control characters shown."""
    from markupsafe import Markup

    return Markup(_templates().get_template(template).render(values))  # noqa: S704


def macros(template: str) -> Any:
    """What a template defines, to be called with values for a part of a page each."""
    return _templates().get_template(template).module


def number(value: float) -> str:
    """A score for reading: three decimals, fewer for large ones, exponent for tiny ones."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}".replace("-", "−")


def words(key: str) -> str:
    """A key for reading: ``golden_retriever`` is "golden retriever", ``color:red`` "red"."""
    return key.removeprefix(COLOR).replace("_", " ")


def share(value: float, full: float) -> float:
    """Percent of the full scale, 0 to 100."""
    found = value / full if full > 0 and math.isfinite(value / full) else 0.0
    return round(100 * min(max(found, 0.0), 1.0), 1)


def width(value: float, full: float) -> str:
    """A bar's style: as long as a value is to the full scale."""
    return f"width: {share(value, full):.1f}%"
