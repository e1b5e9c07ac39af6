"""``imgsearch facets``, ``duplicates`` and ``map``: many pictures at a glance."""

from __future__ import annotations

from pathlib import Path

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.declaring import Natural, Positive
from imgsearch_es.interfaces.cli.options import Index, Where, opened
from imgsearch_es.interfaces.cli.output import answer, print_table, say
from imgsearch_es.interfaces.cli.search import short


def facets(
    *,
    words: list[str] | None = None,
    index: Index = None,
    where: Where = None,
    field: list[str] | None = None,
    size: Positive = 10,
) -> None:
    """Count synsets, labels, formats and sizes.

    Of the pictures that the words match and that meet the conditions, or of
    all.

    Options:
        words WORDS: Words and conditions, as in `imgsearch search`.
        --field: What to count: synsets, top_synset, label, format, width, height, bytes,
            metadata.<name>. May be repeated.
        --size: Values of each field.
    """
    from imgsearch_es.retrieval.facets import FACETS

    with opened(index) as target:
        query = target.query(text=" ".join(words)) if words else None
        counted = target.facets(query, field or FACETS, size, where=options.conditions(where))
    answer(counted)
    for name, counts in counted.items():
        if counts:
            rows = [(item["value"], item["count"]) for item in counts]
            print_table((name, "pictures"), rows, right=("pictures",))
        else:
            say(f"{name}: none")


def duplicates(*, index: Index = None, near: float | None = None) -> None:
    """Show groups of pictures that are the same.

    Files with the same bytes; with --near also pictures that look alike. In
    each group the largest picture comes first, with its cosine to the others.

    Options:
        --near: Also pictures whose deep features have at least this cosine, such as 0.95.
    """
    from imgsearch_es.pictures.files import to_path

    with opened(index) as target:
        groups = target.duplicates(near)
    answer([group.to_dict() for group in groups])
    for number, group in enumerate(groups, start=1):
        kind = "the same bytes" if group.exact else "nearly the same"
        say(f"{number}. {len(group.pictures)} pictures, {kind}")
        for document, similarity in zip(group.pictures, group.similarities, strict=True):
            shown = "     " if similarity is None else f"{similarity:.3f}"
            size = f"{document.width} x {document.height}"
            place = short(to_path(document.uri) or document.uri)
            say(f"   {shown}  {size:>11}  {document.bytes / 1024:>8,.0f} KB  {place}")
    extra = sum(len(group.pictures) - 1 for group in groups)
    say(f"{extra} more than one of each, in groups: {len(groups)}" if groups else "none")


def map_(
    *,
    index: Index = None,
    out: Path = Path("map.png"),
    method: str = "tsne",
    color: str = "label",
    where: Where = None,
    limit: int = 5_000,
    thumbnails: Natural = 150,
    seed: Natural = 0,
) -> None:
    """Draw a map of the pictures by their deep features.

    Those with similar features lie near each other.

    Neighborhoods mean something; distances between clusters and their sizes do not.

    Options:
        --out, -o FILE: PNG, SVG or PDF.
        --method: tsne or umap.
        --color: By label (the first) or synset (the best).
        --limit: Pictures at most; of more a random part.
        --thumbnails: Thumbnails at most.
        --seed: Of the layout.
    """
    from imgsearch_es.interfaces.maps import map_collection

    conditions = options.conditions(where)
    with opened(index) as target:
        found = map_collection(
            target, method=method, color=color, where=conditions, limit=limit, seed=seed
        )
    found.save(out, thumbnails=thumbnails)
    rows = zip(found.uris, found.kinds, found.points.tolist(), strict=True)
    pictures = [{"uri": uri, "kind": kind, "point": point} for uri, kind, point in rows]
    answer({"file": str(out), "method": method, "pictures": pictures})
    say(f"{out}: {len(found.uris):,} pictures by {method}, colored by {color}")
