"""One result: picture, rank, score, name, labels and terms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgsearch_es.interfaces.gallery.explanation import explanation_details
from imgsearch_es.interfaces.gallery.frames import frame
from imgsearch_es.interfaces.gallery.protocols import ExplanationLike, HitLike
from imgsearch_es.interfaces.gallery.terms import hit_chip, notable, summands_of, term_list
from imgsearch_es.interfaces.gallery.texts import link, number, words
from imgsearch_es.interfaces.markup import Html, tag
from imgsearch_es.pictures.thumbnails import Thumb

if TYPE_CHECKING:
    from imgsearch_es.retrieval.fusion import PartScore


def card(
    hit: HitLike, thumb: Thumb, explanation: ExplanationLike, best: float, standalone: bool
) -> Html:
    """A result as an item of a list.

    Args:
        hit: the result.
        thumb: its picture.
        explanation: of its score, to open on a click.
        best: the best score; bars are relative to it.
        standalone: link the picture to its original.
    """
    top = f": {words(hit.synsets[0].key)}" if hit.synsets else ""
    picture = frame(thumb, f"{hit.filename}{top}")
    target = link(hit.uri) if standalone else None
    if target:
        picture = tag("a", picture, class_="ig-open", href=target, title="Open the original")
    labels = tag("div", ", ".join(hit.labels), class_="ig-labels") if hit.labels else Html()
    summands = summands_of(explanation)
    chips = [hit_chip(term, summands) for term in notable(hit.synsets, summands)]
    details = explanation_details(explanation, hit.filename, hit.uri)
    caption = tag(
        "figcaption",
        _line(hit, best),
        _name(hit),
        labels,
        term_list("Parts of the score", _part_chips(hit)),
        term_list("Terms", chips),
        tag("div", details, _copy_button(hit.filename), class_="ig-more"),
    )
    figure = tag("figure", picture, caption)
    return tag("li", figure, value=hit.rank)


def _line(hit: HitLike, best: float) -> Html:
    """Rank, a bar as long as the score is to the best one, and the score."""
    share = hit.score / best if best > 0 and math.isfinite(hit.score / best) else 0.0
    bar = tag("span", style=f"width: {100 * min(max(share, 0.0), 1.0):.1f}%")
    return tag(
        "div",
        tag("span", str(hit.rank), class_="ig-rank", title="Rank"),
        tag("div", bar, class_="ig-bar", aria_hidden="true"),
        tag("span", number(hit.score), class_="ig-score", title=_score_tip(hit)),
        class_="ig-line",
    )


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


def _copy_button(filename: str) -> Html:
    """Copies the URI; hidden where scripts are not run."""
    label = tag("span", f" of {filename}", class_="ig-unseen")
    said = tag("span", role="status")
    return tag("button", "Copy path", label, said, class_="ig-copy", type="button", hidden="")
