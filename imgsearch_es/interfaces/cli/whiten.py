"""``imgsearch whiten``: PCA whitening, learnt on the deep features of an index."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, print_json, say


def whiten(
    index: IndexOption = None,
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE", help="Where to write it: a name in .npz.")
    ] = "pca.npz",
    dimensions: Annotated[
        int | None,
        typer.Option(
            "--dimensions", "-d", min=1, show_default="all that vary", help="How many to keep."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    json: JsonOption = False,
) -> None:
    """Learn PCA whitening on the deep features of an index.

    An analyzer uses it by its embedding filter pca_whiten (see
    docs/features.md); the index that it was learnt on stays as it is.
    """
    from imgsearch_es.index import ImageIndex

    with ImageIndex(index) as source:
        learnt = source.learn_whitening(out, dimensions=dimensions, force=force)
    if json:
        print_json(asdict(learnt))
        return
    share = f"{100 * learnt.variance:.1f} % of the variance"
    say(f"{learnt.path}: {learnt.dimensions} -> {learnt.components} dimensions, {share}")
    say(f"learnt on {learnt.pictures:,} pictures; in an analyzer's TOML file:")
    say("")
    say("  [[embedding_filters]]")
    say('  name = "pca_whiten"')
    say(f'  path = "{learnt.path}"')
