"""``imgsearch map``: the pictures of an index in the plane."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.options import conditions
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, print_json, say


def map_(
    index: IndexOption = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="PNG, SVG or PDF.")
    ] = Path("map.png"),
    method: Annotated[str, typer.Option(help="tsne or umap.")] = "tsne",
    color: Annotated[
        str, typer.Option(help="By label (the first) or synset (the best).")
    ] = "label",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="As of search.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(help="Pictures at most; of more a random part.")] = 5_000,
    thumbnails: Annotated[int, typer.Option(min=0, help="Thumbnails at most.")] = 150,
    seed: Annotated[int, typer.Option(min=0, help="Of the layout.")] = 0,
    json: JsonOption = False,
) -> None:
    """Draw a map of the pictures by their deep features.

    Those with similar features lie near each other.

    Neighborhoods mean something; distances between clusters and their sizes do not.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.interfaces.maps import map_collection

    with ImageIndex(index) as target:
        found = map_collection(
            target,
            method=method,
            color=color,
            where=conditions(where),
            limit=limit,
            seed=seed,
        )
    found.save(out, thumbnails=thumbnails)
    if json:
        rows = zip(found.uris, found.kinds, found.points.tolist(), strict=True)
        pictures = [{"uri": uri, "kind": kind, "point": point} for uri, kind, point in rows]
        print_json({"file": str(out), "method": method, "pictures": pictures})
        return
    say(f"{out}: {len(found.uris):,} pictures by {method}, colored by {color}")
