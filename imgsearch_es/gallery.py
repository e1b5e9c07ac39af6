"""Results as people look at them: an HTML gallery for notebooks and pages, and matplotlib figures.

The HTML has no script and loads nothing from outside: thumbnails are embedded, and the style sheet
(data/gallery.css) is scoped to one class. Elements are built by ``markup.tag``, which escapes
whatever is not already HTML, so that a file name or a word can never become markup.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from imgsearch_es.errors import ConfigurationError, MissingDependencyError
from imgsearch_es.files import filename
from imgsearch_es.markup import Html, tag
from imgsearch_es.thumbnails import Thumb, embed, thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from imgsearch_es.fusion import PartScore

__all__ = [
    "ExplanationLike",
    "HitLike",
    "HitsLike",
    "QueryLike",
    "TermLike",
    "gallery_html",
    "plot",
    "plot_explanation",
    "thumbnail",
]

QUERY_TERMS = 8
HIT_TERMS = 4
CHANCE = "Chance: pictures that have nothing to do with each other score as much in this index"


class TermLike(Protocol):
    """A synset and its weight."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102


class QueryLike(Protocol):
    """What was asked. ``str(query)`` is a line for a person."""

    @property
    def text(self) -> str | None:
        """The words, None when there are none."""

    @property
    def pictures(self) -> Sequence[str | Image.Image]:
        """Pictures to show: URIs or pictures in memory."""

    @property
    def terms(self) -> Sequence[TermLike]:
        """The weighted synset vector, best first."""


class HitLike(Protocol):
    """One result; ``synsets`` are the document's terms, best first."""

    @property
    def rank(self) -> int: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def uri(self) -> str: ...  # noqa: D102
    @property
    def filename(self) -> str: ...  # noqa: D102
    @property
    def synsets(self) -> Sequence[TermLike]: ...  # noqa: D102
    @property
    def labels(self) -> Sequence[str]: ...  # noqa: D102


class HitsLike(Protocol):
    """Results, best first, with the query and how they were found."""

    @property
    def query(self) -> QueryLike: ...  # noqa: D102
    @property
    def total(self) -> int: ...  # noqa: D102
    @property
    def strategy(self) -> str: ...  # noqa: D102
    @property
    def exact(self) -> bool: ...  # noqa: D102
    @property
    def took_ms(self) -> float: ...  # noqa: D102
    def explain(self, i: int) -> ExplanationLike: ...  # noqa: D102
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[HitLike]: ...


class ExplanationLike(Protocol):
    """The summands of one score: (key, query weight, document score, product)."""

    @property
    def rows(self) -> Sequence[tuple[str, float, float, float]]: ...  # noqa: D102
    @property
    def total(self) -> float: ...  # noqa: D102


Summands = Mapping[str, tuple[float, float]]
"""Query weight and part of the score, by synset."""


def gallery_html(
    hits: HitsLike,
    *,
    columns: int | None = None,
    thumbnail: int = 192,
    standalone: bool = False,
    max_bytes: int = 4_000_000,
) -> str:
    """Hits as HTML: the query first, then a grid of results.

    A picture that cannot be shown is replaced by a box that says why; it is never an error.

    Args:
        hits: what to show.
        columns: at most so many results in a row; None for as many as fit.
        thumbnail: width of a result in CSS pixels, at least.
        standalone: a whole page, with links to the originals, instead of a notebook's fragment.
        max_bytes: limit for all embedded thumbnails together, encoded. Thumbnails get smaller to
            stay below it, and the last ones are left out.

    Raises:
        ConfigurationError: a number is out of range.
    """
    if thumbnail < 1 or max_bytes < 0 or (columns is not None and columns < 1):
        raise ConfigurationError("columns and thumbnail must be at least 1, max_bytes at least 0.")
    results = list(hits)
    pictures = list(hits.query.pictures)
    thumbs = embed([*pictures, *(hit.uri for hit in results)], thumbnail, max_bytes)
    query = _query(hits, len(results), thumbs[: len(pictures)], standalone)
    best = max((hit.score for hit in results), default=0.0)
    cards = [
        _card(hit, thumb, _summands(hits, i), best, standalone)
        for i, (hit, thumb) in enumerate(zip(results, thumbs[len(pictures) :], strict=True))
    ]
    # The narrowest a result may be; on a phone two fit side by side.
    cell = f"min({thumbnail}px, 50% - 8px)"
    if columns is not None:
        cell = f"max(min(120px, 50% - 8px), (100% - {16 * (columns - 1)}px) / {columns})"
    grid = tag("ol", *cards, class_="ig-grid", role="list", style=f"--ig-cell: {cell}")
    body = (query, grid if results else _nothing())
    if standalone:
        return _page(title(hits.query), body)
    name = f"Image search results: {title(hits.query)}"
    return tag("section", _style(), *body, class_="imgsearch-gallery", aria_label=name)


def plot(hits: HitsLike, *, columns: int = 5, figsize: tuple[float, float] | None = None) -> Figure:
    """Hits as a matplotlib figure: the query on top, then a grid titled by score.

    The figure does not belong to pyplot: a notebook shows it once, nothing has to be closed.

    Args:
        hits: what to show.
        columns: results in a row.
        figsize: width and height in inches; None for a size that fits the rows.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        ConfigurationError: ``columns`` is less than 1.
    """
    if columns < 1:
        raise ConfigurationError("columns must be at least 1.")
    try:
        from imgsearch_es.plots import plot_hits
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return plot_hits(hits, columns, figsize)


def plot_explanation(explanation: ExplanationLike) -> Figure:
    """The summands of one score as horizontal bars, largest first, with their factors.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from imgsearch_es.plots import plot_summands
    except ModuleNotFoundError as error:
        raise no_matplotlib() from error
    return plot_summands(explanation)


def number(value: float) -> str:
    """A score for reading: three decimals, fewer for large ones, exponent for tiny ones."""
    size = abs(value)
    if not math.isfinite(value) or size == 0:
        return f"{value:g}"
    if size < 0.0005:
        return f"{value:.1e}"
    return f"{value:.{3 if size < 10 else 2 if size < 100 else 1}f}".replace("-", "−")


def words(key: str) -> str:
    """A synset's key for reading: ``golden_retriever`` is "golden retriever"."""
    return key.replace("_", " ")


def _page(title: str, body: Iterable[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("title", f"{title} – imgsearch"),
        _style(),
    )
    main = tag("body", tag("main", *body), class_="imgsearch-gallery ig-page")
    return f"<!doctype html>\n{tag('html', head, main, lang='en')}\n"


def _style() -> Html:
    return tag("style", Html(_css()))


@cache
def _css() -> str:
    return (files("imgsearch_es") / "data" / "gallery.css").read_text(encoding="utf-8")


def title(query: QueryLike) -> str:
    """A line for a person; synsets given as such have no words, and are named themselves."""
    shown = str(query).removeprefix("words: ")
    return shown or ", ".join(words(term.key) for term in query.terms[:3])


def _query(hits: HitsLike, shown: int, thumbs: Sequence[Thumb], standalone: bool) -> Html:
    query = hits.query
    roles = getattr(query, "roles", ()) or ["image"] * len(thumbs)
    pictures = [
        _frame(thumb, f"{_ROLES[role]} {_basename(source)}".strip(), role)
        for source, role, thumb in zip(query.pictures, roles, thumbs, strict=True)
    ]
    # A heading in a notebook's output would enter the notebook's table of contents.
    about = tag(
        "div",
        tag("p", "Query", class_="ig-eyebrow"),
        tag("h1" if standalone else "p", title(query), class_="ig-words", dir="auto"),
        _terms("Terms of the query", _query_chips(query.terms)),
        tag("p", _summary(hits, shown), class_="ig-summary"),
        class_="ig-about",
    )
    shelf = tag("div", *pictures, class_="ig-pictures") if pictures else Html()
    return tag("div", shelf, about, class_="ig-query")


def _query_chips(terms: Sequence[TermLike]) -> list[Html]:
    """The leading terms with at least 1 % of the best one's weight, then how many more."""
    least = 0.01 * max((abs(term.score) for term in terms), default=0.0)
    count = sum(abs(term.score) >= least for term in terms[:QUERY_TERMS])
    chips = [
        _chip(term.key, term.score, f"{term.key}: weight {number(term.score)}", "ig-shared")
        for term in terms[:count]
    ]
    if rest := terms[count:]:
        more = ", ".join(f"{term.key} {number(term.score)}" for term in rest[:50])
        chips.append(tag("li", f"+{len(rest)} more", title=more))
    return chips


def _summary(hits: HitsLike, shown: int) -> str:
    matches = f"{hits.total:,} match{'' if hits.total == 1 else 'es'}"
    took = f"{hits.took_ms:.1f}" if hits.took_ms < 100 else f"{hits.took_ms:,.0f}"
    parts = (
        matches if shown >= hits.total else f"{shown:,} of {matches}",
        hits.strategy,
        "exact" if hits.exact else "approximate",
        f"{took} ms",
    )
    return " · ".join(part for part in parts if part)


def _nothing() -> Html:
    return tag(
        "p",
        tag("strong", "No picture matches this query."),
        " Try a broader word (“dog” stands for every breed), fewer filters, or a picture.",
        class_="ig-empty",
    )


def _card(hit: HitLike, thumb: Thumb, summands: Summands, best: float, standalone: bool) -> Html:
    top = f": {words(hit.synsets[0].key)}" if hit.synsets else ""
    picture = _frame(thumb, f"{hit.filename}{top}")
    link = _link(hit.uri) if standalone else None
    if link:
        picture = tag("a", picture, class_="ig-open", href=link, title="Open the original")
    is_chance = getattr(hit, "is_chance", False)
    share = hit.score / best if best > 0 and math.isfinite(hit.score / best) else 0.0
    bar = tag("span", style=f"width: {100 * min(max(share, 0.0), 1.0):.1f}%")
    line = tag(
        "div",
        tag("span", str(hit.rank), class_="ig-rank", title="Rank"),
        tag("div", bar, class_="ig-bar", aria_hidden="true"),
        tag("span", number(hit.score), class_="ig-score", title=_score_tip(hit)),
        tag("span", "chance", class_="ig-chance-mark") if is_chance else Html(),
        class_="ig-line",
    )
    labels = tag("div", ", ".join(hit.labels), class_="ig-labels") if hit.labels else Html()
    chips = [_hit_chip(term, summands) for term in _notable(hit.synsets, summands)]
    parts = _terms("Parts of the score", _part_chips(hit))
    caption = tag("figcaption", line, _name(hit), labels, parts, _terms("Terms", chips))
    figure = tag("figure", picture, caption)
    if is_chance:
        return tag("li", figure, value=hit.rank, class_="ig-chance", title=CHANCE)
    return tag("li", figure, value=hit.rank)


def _score_tip(hit: HitLike) -> str:
    """The score with all its digits; of a fused query with what its parts add."""
    sums = " + ".join(f"{part.name} {part.contribution:.4g}" for part in _parts(hit))
    return f"Score {hit.score:.9g}" + (f" = {sums}" if sums else "")


def _part_chips(hit: HitLike) -> list[Html]:
    """What each part of a fused query adds to the score, and how on hover."""
    chips = []
    for part in _parts(hit):
        how = "not found by it"
        if part.score is not None:
            rank = "" if part.rank is None else f", rank {part.rank}"
            how = f"weight {number(part.weight)}, score {number(part.score)}{rank}"
        tip = f"{part.name}: {how}, adds {number(part.contribution)}"
        value = tag("span", number(part.contribution), class_="ig-weight")
        key = tag("span", part.name, class_="ig-key")
        chips.append(tag("li", key, " ", value, class_="ig-part", title=tip))
    return chips


def _parts(hit: HitLike) -> Sequence[PartScore]:
    parts: Sequence[PartScore] = getattr(hit, "parts", ())
    return parts


def _name(hit: HitLike) -> Html:
    """The file's name; selecting it (one click) selects the whole URI, for copying."""
    folder = hit.uri.removesuffix(hit.filename)
    hidden = Html()
    if folder != hit.uri:
        hidden = tag("span", folder, class_="ig-folder", aria_hidden="true")
    return tag("div", hidden, tag("bdi", hit.filename), class_="ig-name", title=hit.uri)


def _summands(hits: HitsLike, i: int) -> Summands:
    """What each synset adds to the i-th score, and how; where ranks are fused, to its part's."""
    explanation = hits.explain(i)
    part_rows = getattr(explanation, "part_rows", {})
    if not part_rows:
        return {key: (weight, part) for key, weight, _, part in explanation.rows}
    added: dict[str, tuple[float, float]] = {}
    for name, factor, score, _ in explanation.rows:
        rows = part_rows.get(name, ())
        of_score = math.isclose(math.fsum(row[3] for row in rows), score, rel_tol=1e-6)
        for key, weight, _, product in rows:
            share = factor if of_score else 1.0
            before = added.get(key, (0.0, 0.0))
            added[key] = before[0] + share * weight, before[1] + share * product
    return added


def _notable(terms: Sequence[TermLike], summands: Summands) -> list[TermLike]:
    """The best term and those that make the score, else the next best; best first."""
    rest = sorted(
        range(1, len(terms)),
        key=lambda i: -abs(summands.get(terms[i].key, (0.0, 0.0))[1]),
    )
    return [terms[i] for i in sorted([0, *rest][:HIT_TERMS])] if terms else []


def _hit_chip(term: TermLike, summands: Summands) -> Html:
    if term.key not in summands:
        return _chip(term.key, term.score, f"{term.key}: {number(term.score)}", "")
    weight, part = summands[term.key]
    if math.isclose(part, weight * term.score, rel_tol=1e-6):
        product = f"{number(weight)} × {number(term.score)} = {number(part)}"
        tip = f"{term.key}: {product} (query × picture)"
    else:
        tip = f"{term.key}: adds {number(part)}"
    return _chip(term.key, term.score, tip, "ig-shared")


def _chip(key: str, score: float, tip: str, tone: str) -> Html:
    text = tag("mark", words(key)) if tone else tag("span", words(key), class_="ig-key")
    digits = "<0.01" if 0 < score < 0.005 else f"{score:.2f}".replace("-", "−")
    value = tag("span", digits, class_="ig-weight")
    return tag("li", text, " ", value, class_=tone or None, title=tip)


def _terms(label: str, chips: Sequence[Html]) -> Html:
    if not chips:
        return Html()
    return tag("ul", *chips, class_="ig-terms", role="list", aria_label=label)


_ROLES = {"image": "Query picture", "like": "Liked picture", "dislike": "Disliked picture"}


def _frame(thumb: Thumb, alt: str, role: str = "image") -> Html:
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


def _link(uri: str) -> str | None:
    """A link to a file or web page; None for a URI that a browser should not be sent to."""
    if uri.lower().startswith(("http://", "https://", "file://")):
        return uri
    return Path(uri).as_uri() if Path(uri).is_absolute() else None


def _basename(source: str | Image.Image) -> str:
    return filename(source) if isinstance(source, str) else ""


def no_matplotlib() -> MissingDependencyError:
    """What to say where a figure was asked for and cannot be drawn."""
    return MissingDependencyError(
        "plots need matplotlib, which is not installed. "
        'Install it with: pip install "imgsearch-es[notebook]"'
    )
