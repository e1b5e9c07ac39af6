"""``imgsearch hardest``: the queries that a strategy answers worst, with their galleries."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from imgsearch_es.errors import EvaluationError
from imgsearch_es.interfaces.cli.evaluating import (
    JudgementsOption,
    QueriesOption,
    QueryPicturesOption,
)
from imgsearch_es.interfaces.cli.options import given
from imgsearch_es.interfaces.cli.output import (
    IndexOption,
    JsonOption,
    console,
    print_json,
    print_table,
    say,
)


def hardest(
    index: IndexOption = None,
    judgements: JudgementsOption = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            metavar="SYSTEM", show_default="auto", help="A strategy, or a fusion such as a=1+b=2."
        ),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(show_default="the judgements' first", help="P@10, nDCG@10, AP, RR, ..."),
    ] = None,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="How many queries.")] = 10,
    k: Annotated[int, typer.Option("-k", "--k", min=1, help="Hits in a gallery.")] = 12,
    queries: QueriesOption = None,
    pictures: QueryPicturesOption = None,
    run: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Instead of a strategy: another program's run."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Write a page with the galleries."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the queries that were answered worst."""
    from imgsearch_es.evaluation import evaluate
    from imgsearch_es.evaluation.hardest import hardest as find
    from imgsearch_es.index import ImageIndex
    from imgsearch_es.interfaces.gallery.hardest import summary

    if run is not None and strategy is not None:
        raise EvaluationError("--run is in place of --strategy: leave one of them out")
    asked = given(judgements=judgements, measures=measure, queries=queries, pictures=pictures)
    systems: tuple[str, ...] = () if run is not None else (strategy or "auto",)
    with ImageIndex(index) as target:
        with nullcontext() if json else console().status("searching ..."):
            found = evaluate(target, systems=systems, runs=[run] if run else (), **asked)
        worst = find(target, found, n=n, k=k)
    page = None if html is None else worst.to_html(html)
    if json:
        print_json(worst.to_dict() | {"page": None if page is None else str(page)})
        return
    rows = [(f"{query.figure:.4f}", query.name, query.problem or summary(query)) for query in worst]
    print_table((worst.measure, "query", "relevant pictures"), rows, right=(worst.measure,))
    say(f"the hardest {len(worst)} of {worst.of} queries for {worst.system}")
    if page is not None:
        say(f"galleries: {page}")
