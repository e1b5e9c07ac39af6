"""``imgsearch facets`` and ``duplicates``: many pictures at a glance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgsearch_es.interfaces.cli import options
from imgsearch_es.interfaces.cli.output import IndexOption, JsonOption, print_json, print_table, say
from imgsearch_es.interfaces.cli.search import WhereOption, WordsArgument, _short

if TYPE_CHECKING:
    from imgsearch_es.retrieval.duplicates import DuplicateGroup


def facets(
    words: WordsArgument = None,
    index: IndexOption = None,
    where: WhereOption = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            show_default=False,
            help="What to count: synsets, top_synset, label, format, width, height, bytes, "
            "metadata.<name>. May be repeated.",
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Values of each field.")] = 10,
    json: JsonOption = False,
) -> None:
    """Count synsets, labels, formats and sizes.

    Of the pictures that the words match and that meet the conditions, or of
    all.
    """
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.retrieval.facets import FACETS

    with ImageIndex(index) as target:
        query = target.query(text=" ".join(words)) if words else None
        counted = target.facets(query, field or FACETS, size, where=options.conditions(where))
    if json:
        print_json(counted)
        return
    for name, counts in counted.items():
        if counts:
            rows = [(item["value"], item["count"]) for item in counts]
            print_table((name, "pictures"), rows, right=("pictures",))
        else:
            say(f"{name}: none")


def duplicates(
    index: IndexOption = None,
    near: Annotated[
        float | None,
        typer.Option(
            show_default=False,
            help="Also pictures whose deep features have at least this cosine, such as 0.95.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show groups of pictures that are the same.

    Files with the same bytes; with --near also pictures that look alike. In
    each group the largest picture comes first, with its cosine to the others.
    """
    from imgsearch_es.index import ImageIndex

    with ImageIndex(index) as target:
        groups = target.duplicates(near)
    if json:
        print_json([group.to_dict() for group in groups])
        return
    for number, group in enumerate(groups, start=1):
        _print_group(number, group)
    extra = sum(len(group.pictures) - 1 for group in groups)
    say(f"{extra} more than one of each, in groups: {len(groups)}" if groups else "none")


def _print_group(number: int, group: DuplicateGroup) -> None:
    from imgsearch_es.pictures.files import to_path

    kind = "the same bytes" if group.exact else "nearly the same"
    say(f"{number}. {len(group.pictures)} pictures, {kind}")
    for document, similarity in zip(group.pictures, group.similarities, strict=True):
        shown = "     " if similarity is None else f"{similarity:.3f}"
        size = f"{document.width} x {document.height}"
        place = _short(to_path(document.uri) or document.uri)
        say(f"   {shown}  {size:>11}  {document.bytes / 1024:>8,.0f} KB  {place}")
